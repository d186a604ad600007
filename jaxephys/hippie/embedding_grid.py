"""Embeddings for probes: networks that never see a test unit, one fit for all folds and seeds of a data set.

    pretrain    without labels, on all other data sets and the unlabelled units of this one: a network an objective and seed
    folds       from there, on the training units of a fold with their labels: a network an objective, fold and seed

A data set that shares recordings with the one tested leaves the pool with it, by the registry of data_prep. Both objectives
have the same networks, units, epochs and batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from data_prep.units.registry import find, held_out
from data_prep.units.table import UnitsError
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, take_runs, transplant
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.evaluation.splits import Split, check_split
from jaxephys.hippie.benchmark import HEAD, SHUFFLED, Benchmark, Said, ask_probe
from jaxephys.hippie.combined_table import names_of
from jaxephys.hippie.feature_views import views_of
from jaxephys.hippie.network.cvae import LENGTHS, ConditionalVAE
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.probes import as_blocks
from jaxephys.hippie.task import OURS, PUBLISHED, Objective, even_batches, make_data, make_runs, make_task
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

OBJECTIVES = ("ours", "published")
BATCH, VALIDATION = 64, 0.15
Embedding = Callable[[int, int], np.ndarray]  # by seed and fold, of all units of the benchmark


@dataclass(frozen=True)
class Networks:
    """What is trained, whatever the data set."""

    trunk: str
    width: int
    latent: int
    seeds: int
    pretraining: int
    epochs: int
    contrast: float

    @classmethod
    def of(cls, settings: Any) -> Networks:
        """What the settings of an experiment ask for."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})

    def objective(self, name: str) -> Objective:
        """Labels that are shuffled are learnt as the true ones are."""
        return PUBLISHED if name == "published" else replace(OURS, contrast=self.contrast)


class Grid:
    """The networks of one data set. Its units stand first in the data, then those of the pool."""

    def __init__(self, bench: Benchmark, tables: Mapping[str, UnitTable], networks: Networks) -> None:
        self.bench, self.networks, self.own = bench, networks, len(bench.table)
        every = [recorded(bench.name, bench.table), *pool_of(bench, tables)]
        names_of(every)  # no unit stands twice
        known = np.any(bench.table.present, axis=0).tolist()
        lengths = tuple(item for item, there in zip(LENGTHS.items(), known, strict=True) if there)
        self.data = make_data(every, Preparation(lengths=lengths))
        usable = np.flatnonzero(self.data.present.any(axis=1))
        self.pool = usable[usable >= self.own]
        own: Any = {"sources": len(TECHNOLOGIES), "classes": len(bench.classes), "trunk": networks.trunk}
        network: Any = ConditionalVAE(lengths, networks.latent, networks.width, **own)
        self.task = make_task(network)
        seeds = range(networks.seeds)
        self.first = RunGrid.cross(objective=OBJECTIVES, seed=seeds)
        tested = [(name, seed) for name in OBJECTIVES for seed in seeds] + [(SHUFFLED, 0)]
        levels = [(name, fold, seed) for name, seed in tested for fold in bench.folds]
        self.second = RunGrid(("objective", "fold", "seed"), tuple(levels))

    @property
    def runs(self) -> int:
        return len(self.second) + len(self.first) * bool(len(self.pool))

    def train(self, folder: RunFolder) -> dict[str, Embedding]:
        """The embedding by objective. No test unit is in a training or validation part, with a label or without."""
        start = None
        if len(self.pool):
            nobody = np.full(len(self.data.source), -1, np.int32)
            splits = [halved(self.pool, run["seed"]) for run in self.first]
            pretrained = self._fit(folder, "pretrain", self.first, splits, nobody, None)
            start = self._started(pretrained)
        splits = [self._split(run["fold"], run["seed"]) for run in self.second]
        labels = np.stack([self._labels(run) for run in self.second])
        result = self._fit(folder, "folds", self.second, splits, labels, start)
        rows = stack_rows([plain_rows(np.arange(self.own))] * len(self.second))
        mu = np.asarray(predict(self.task, self.data, result.best, rows).mu, float)
        place = {level: run for run, level in enumerate(self.second.levels)}
        return {name: lambda seed, fold, name=name: mu[place[name, fold, seed]] for name in (*OBJECTIVES, SHUFFLED)}

    def _fit(
        self,
        folder: RunFolder,
        phase: str,
        axis: RunGrid,
        splits: Sequence[Split],
        labels: np.ndarray,
        start: Any,
    ) -> FitResult:
        size = even_batches([len(split.train) for split in splits], BATCH)
        objectives = [self.networks.objective(run["objective"]) for run in axis]
        runs = make_runs(labels, splits, objectives, batch_size=size)
        epochs = self.networks.pretraining if phase == "pretrain" else self.networks.epochs
        plan = TrainConfig(epochs, None, monitor="loss", mode="min", batch_size=size, weight_decay=0.01, clip_norm=1.0)
        name = f"{self.bench.name}_{phase}"
        result = folder.fit(name, self.task, self.data, runs, axis, plan, name, start)
        return result

    def _started(self, pretrained: FitResult) -> Any:
        """The pretrained weights of each run's objective and seed. The count of steps begins anew."""
        named = {(run["objective"], run["seed"]): place for place, run in enumerate(pretrained.grid)}
        places = [
            named["ours" if run["objective"] == SHUFFLED else run["objective"], run["seed"]] for run in self.second
        ]
        weights = transplant(take_runs(pretrained.best, places))
        return {**weights, "tally": {"variance": weights["tally"]["variance"]}}

    def _labels(self, run: Mapping[str, Any]) -> np.ndarray:
        own = self.bench.shuffled(run["seed"]) if run["objective"] == SHUFFLED else self.bench.codes
        return np.concatenate([own, np.full(len(self.data.source) - self.own, -1)])

    def _split(self, fold: int, seed: int) -> Split:
        train, test = self.bench.split(fold)
        split = halved(train, seed, self.bench.codes[train])._replace(test=test)
        return check_split(split, name=f"{self.bench.name}, fold {fold}")


def halved(rows: np.ndarray, seed: int, codes: np.ndarray | None = None) -> Split:
    """A part of the rows selects the epoch."""
    train, valid = train_test_split(rows, test_size=VALIDATION, random_state=seed, stratify=codes)
    return Split(np.sort(train), np.sort(valid), np.array([], int))


def pool_of(bench: Benchmark, tables: Mapping[str, UnitTable]) -> list[UnitTable]:
    """What else may be learnt from: units of the data set trained on that stand in no fold, and a table of every other set.

    Of a data set that is only tested, and of what shares recordings with either, nothing.
    """
    source = bench.sets[0]
    outside = np.flatnonzero(~np.isin(tables[source].name, bench.names))
    found = {source: recorded(source, tables[source].rows(outside))} if len(outside) else {}
    others = {other: table for other, table in tables.items() if other not in bench.sets}
    gone = held_out(bench.sets) if others else frozenset()
    for other, table in others.items():
        dataset = find(other)
        if dataset.name not in gone:
            found.setdefault(dataset.name, recorded(other, table))
    return list(found.values())


def recorded(name: str, table: UnitTable) -> UnitTable:
    """With the technology that the registry tells, where the table does not tell its own."""
    try:
        return table if (table.technology >= 0).any() else table.recorded_with(find(name).technology)
    except UnitsError:  # a table of the user's own
        return table


def ask_embedded(bench: Benchmark, embedded: Mapping[str, Embedding], seeds: int) -> dict[str, Said]:
    """Probes on the embeddings of each objective, and our head with ours as one more block."""
    every = range(seeds)
    asked = [(name, "ours") for name in ("knn", "linear", "mlp")] + [(name, "published") for name in ("knn", "linear")]
    said = {f"{name} on {whose}": ask_probe(bench, name, embedded[whose], every) for name, whose in asked}
    views, widths = as_blocks(views_of(bench.table.raw))
    latent = embedded["ours"](0, bench.folds[0]).shape[1]

    def joined(seed: int, fold: int) -> np.ndarray:
        return np.concatenate([views, embedded["ours"](seed, fold)], axis=1)

    said[f"{HEAD} + ours"] = ask_probe(bench, "kernel", joined, every, (*widths, latent))
    said[f"knn on ours, {SHUFFLED}"] = ask_probe(bench, "knn", embedded[SHUFFLED], range(1), codes=bench.shuffled)
    return said
