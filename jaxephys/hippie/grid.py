"""What the experiments on units share: folds, and a grid of networks that is trained on them in one fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import KFold

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import RunInputs, Task
from jaxephys.evaluation.splits import Split, check_split
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.network.cvae import LENGTHS, ConditionalVAE
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.task import Objective, Units, even_batches, make_data, make_runs, make_task
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

BATCH, VALIDATION = 64, 0.1
FOLDS, FOLD_SEED = 5, 42  # the published ones
KNOWN = tuple(LENGTHS.items())


@dataclass(frozen=True)
class Trained:
    """The networks of a grid, each on rows of its own."""

    network: ConditionalVAE
    task: Task
    data: Units
    preparation: Preparation
    names: np.ndarray
    splits: list[Split]
    runs: RunInputs
    result: FitResult

    def embed(self) -> np.ndarray:
        """mu [run, unit, latent] of every unit, in each run's own network."""
        rows = stack_rows([plain_rows(np.arange(len(self.data.source)))] * len(self.splits))
        return np.asarray(predict(self.task, self.data, self.result.best, rows).mu)

    def model(self, places: Sequence[int], **parameters: Any) -> Hippie:
        """Some of the runs as the user's object, to be saved."""
        own: Any = {"latent": self.network.latent, "width": self.network.width, "trunk": self.network.trunk}
        modalities = [name for name, _ in self.network.modalities]
        model = Hippie(**own, modalities=modalities, seeds=len(places), **parameters)
        parts = (self.network, self.preparation, self.data, self.names, self.splits)
        return model.adopt(self.result, *parts, np.asarray(places))


def modalities_of(tables: Sequence[UnitTable]) -> tuple[tuple[str, int], ...]:
    """Those that any unit has, with the lengths that networks read."""
    known = np.any([table.present.any(axis=0) for table in tables], axis=0).tolist()
    return tuple(item for item, there in zip(KNOWN, known, strict=True) if there)


def cut_folds(usable: np.ndarray, seeds: int) -> dict[tuple[int, int], Split]:
    """Seed and fold -> rows. The folds are the published ones for every seed, which draws the validation rows."""
    splits = {}
    for fold, (rest, test) in enumerate(KFold(FOLDS, shuffle=True, random_state=FOLD_SEED).split(usable)):
        for seed in range(seeds):
            order = np.random.default_rng([seed, fold]).permutation(usable[rest])
            count = max(2, round(VALIDATION * len(order)))
            split = Split(np.sort(order[count:]), np.sort(order[:count]), usable[test])
            splits[seed, fold] = check_split(split, name=f"seed {seed}, fold {fold}")
    return splits


def train_grid(
    folder: RunFolder,
    name: str,
    tables: Sequence[UnitTable],
    splits: Sequence[Split],
    axis: RunGrid,
    objectives: Sequence[Objective],
    *,
    latent: int,
    width: int,
    trunk: str,
    epochs: int,
    labels: np.ndarray | None = None,
    start: Any = None,
    lengths: tuple[tuple[str, int], ...] = (),
) -> Trained:
    """One fit. ``labels`` [unit], -1 unknown: a run learns those of its training rows; ``start``: weights, a run each.

    ``lengths``: the modalities of the networks, where they must be able to read more than these units have.
    """
    preparation = Preparation(lengths=lengths or modalities_of(tables))
    data = make_data(tables, preparation)
    sources = len(TECHNOLOGIES) if lengths or (data.source >= 0).any() else 0
    codes = np.full(len(data.source), -1, np.int32) if labels is None else labels
    classes = int(codes.max()) + 1 if any(objective.conditioned for objective in objectives) else 0
    own: Any = {"sources": sources, "classes": classes, "trunk": trunk}
    network: Any = ConditionalVAE(preparation.lengths, latent, width, **own)
    task = make_task(network)
    size = even_batches([len(split.train) for split in splits], BATCH)
    plan = TrainConfig(epochs, None, monitor="loss", mode="min", batch_size=size, weight_decay=0.01, clip_norm=1.0)
    runs = make_runs(codes, splits, objectives, batch_size=size)
    result = folder.fit(name, task, data, runs, axis, plan, name, start)
    names = np.concatenate([table.name for table in tables])
    return Trained(network, task, data, preparation, names, list(splits), runs, result)
