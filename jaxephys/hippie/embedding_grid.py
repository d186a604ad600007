"""Embeddings for a benchmark: networks that are not trained on any test unit, one fit for all folds and seeds of a data set.

    pretrain    without labels, on all other data sets and the unlabelled units of this one: one network per objective and seed
    folds       from there, on the training units of a fold with their labels: one network per objective, fold and seed

Data sets that share recordings with the tested one are excluded from pretraining. Both objectives have
the same networks, units, epochs and batches. Start with `EmbeddingGrid`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.splits import Split
from jaxephys.hippie.benchmark import SHUFFLED, Benchmark, EmbeddingFunction
from jaxephys.hippie.datasets import available_modalities
from jaxephys.hippie.grid import NetworkSettings, TrainedGrid, train_grid
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.task import OURS, PUBLISHED, initial_from_runs, make_data
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.schemas.unit_table import UnitTable

OBJECTIVES = ("ours", "published")
VALIDATION = 0.15


@dataclass(frozen=True)
class EmbeddingSettings(NetworkSettings):
    """Settings of the networks of an experiment, and number of seeds of its forests and inner folds. A width of 0 trains no network."""

    pretraining: int = 30
    """Epochs on all other data sets."""
    contrast: float = 160.0
    """Weight of the contrastive loss on labels of training units."""


class EmbeddingGrid:
    """The networks of one benchmark. In the data, the units of the benchmark come first, then those for pretraining.

    Parameters
    ----------
    benchmark : Benchmark
        Labelled units and folds.
    others : sequence of UnitTable
        Units for pretraining, see `Benchmark.pretraining_tables`.
    settings : EmbeddingSettings
        Settings of the networks.
    """

    def __init__(self, benchmark: Benchmark, others: Sequence[UnitTable], settings: EmbeddingSettings) -> None:
        self.benchmark, self.settings, self.n_units = benchmark, settings, len(benchmark.table)
        self.tables = [benchmark.table, *others]
        self.lengths = available_modalities([benchmark.table])
        usable = np.flatnonzero(make_data(self.tables, Preparation(lengths=self.lengths)).present.any(axis=1))
        self.pretraining_rows = usable[usable >= self.n_units]
        seeds = range(settings.seeds)
        self.pretraining_grid = RunGrid.cross(objective=OBJECTIVES, seed=seeds)
        objectives = [(name, seed) for name in OBJECTIVES for seed in seeds] + [(SHUFFLED, 0)]
        levels = [(name, fold, seed) for name, seed in objectives for fold in benchmark.folds]
        self.fold_grid = RunGrid(("objective", "fold", "seed"), tuple(levels))

    @property
    def n_runs(self) -> int:
        """Number of trainings of both phases."""
        return len(self.fold_grid) + len(self.pretraining_grid) * bool(len(self.pretraining_rows))

    def train(self, folder: RunFolder) -> dict[str, EmbeddingFunction]:
        """Train all networks. No test unit is in a training or validation set, with a label or without.

        Parameters
        ----------
        folder : RunFolder
            Folder for checkpoints and history.

        Returns
        -------
        dict of callable
            For each objective, and for shuffled labels, a function of seed and fold that returns the embedding of all units of the
            benchmark, an array (n_units, latent).
        """
        initial = None
        if len(self.pretraining_rows):
            splits = [_hold_out(self.pretraining_rows, run["seed"]) for run in self.pretraining_grid]
            settings = replace(self.settings, max_epochs=self.settings.pretraining)
            pretrained = self._train(folder, "pretrain", settings, self.pretraining_grid, splits)
            runs = {levels: run for run, levels in enumerate(self.pretraining_grid.levels)}
            starts = [
                "ours" if objective == SHUFFLED else objective for objective in self.fold_grid.column("objective")
            ]
            indices = [runs[start] for start in zip(starts, self.fold_grid.column("seed"), strict=True)]
            initial = initial_from_runs(pretrained.result.best, indices)
        splits = [self.split(run["fold"], run["seed"]) for run in self.fold_grid]
        labels = np.full((len(splits), sum(map(len, self.tables))), -1)
        for row, run in zip(labels, self.fold_grid, strict=True):
            shuffled = run["objective"] == SHUFFLED
            row[: self.n_units] = self.benchmark.shuffled_codes(run["seed"]) if shuffled else self.benchmark.codes
        trained = self._train(folder, "folds", self.settings, self.fold_grid, splits, labels=labels, initial=initial)
        mu = trained.embed(self.n_units).astype(float)
        index = {levels: run for run, levels in enumerate(self.fold_grid.levels)}
        return {name: lambda seed, fold, name=name: mu[index[name, fold, seed]] for name in (*OBJECTIVES, SHUFFLED)}

    def split(self, fold: int, seed: int) -> Split:
        """Return the rows of a run of the second phase.

        Parameters
        ----------
        fold : int
            Fold that is tested.
        seed : int
            Seed of the validation rows.

        Returns
        -------
        Split
            Rows of the benchmark.
        """
        train, test = self.benchmark.split(fold)
        return _hold_out(train, seed, self.benchmark.codes[train])._replace(test=test)

    def _train(
        self,
        folder: RunFolder,
        phase: str,
        settings: EmbeddingSettings,
        grid: RunGrid,
        splits: Sequence[Split],
        **options: Any,
    ) -> TrainedGrid:
        ours = replace(OURS, contrast=self.settings.contrast)  # also with shuffled labels
        objectives = [PUBLISHED if objective == "published" else ours for objective in grid.column("objective")]
        options |= {"lengths": self.lengths, "classes": len(self.benchmark.classes)}
        name = f"{self.benchmark.name}_{phase}"
        return train_grid(folder, self.tables, grid, splits, objectives, settings, name, **options)


def _hold_out(rows: np.ndarray, seed: int, codes: np.ndarray | None = None) -> Split:
    """Draw validation rows, which select the epoch, stratified by class if there are classes."""
    train, validation = train_test_split(rows, test_size=VALIDATION, random_state=seed, stratify=codes)
    return Split(np.sort(train), np.sort(validation), np.array([], int))
