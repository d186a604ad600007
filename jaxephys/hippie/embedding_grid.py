"""Embeddings for a benchmark: networks that are not trained on any test unit, one fit for all folds and seeds of a data set.

    pretrain    without labels, on all other data sets and the unlabelled units of this one: one network per objective and seed
    folds       from there, on the training units of a fold with their labels: one network per objective, fold and seed

Data sets that share recordings with the tested one are excluded from pretraining. Both objectives have the same networks, units,
epochs and batches. Start with `EmbeddingGrid`; `evaluate_embeddings` evaluates probes on the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from jaxephys.engine.fit import FitResult, initial_variables, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.evaluation.splits import Split, check_split
from jaxephys.hippie.benchmark import (
    KERNEL_CLASSIFIER,
    SHUFFLED,
    Benchmark,
    FindDataset,
    FoldProbabilities,
    evaluate_probe,
)
from jaxephys.hippie.combined_table import combined_unit_names
from jaxephys.hippie.feature_views import compute_feature_views
from jaxephys.hippie.grid import NetworkSettings, available_modalities, fit_grid
from jaxephys.hippie.network.cvae import ConditionalVAE
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.pretraining import RelatedDatasets, pretraining_tables
from jaxephys.hippie.probes import join_blocks
from jaxephys.hippie.task import OURS, PUBLISHED, Objective, make_data, make_task
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

OBJECTIVES = ("ours", "published")
EMBEDDING_NAMES = {"ours": "our embedding", "published": "published embedding"}
VALIDATION = 0.15
EmbeddingFunction = Callable[[int, int], np.ndarray]  # seed, fold -> embedding of all units of the benchmark


@dataclass(frozen=True)
class EmbeddingSettings(NetworkSettings):
    """Settings of the networks of an experiment, and number of seeds of its forests and inner folds. A width of 0 trains no network."""

    pretraining: int = 30
    """Epochs on all other data sets."""
    contrast: float = 160.0
    """Weight of the contrastive loss on labels of training units."""

    def objective(self, name: str) -> Objective:
        """Return the objective of a level of the grid.

        Parameters
        ----------
        name : str
            "published", "ours", or ``SHUFFLED``, which is ours.

        Returns
        -------
        Objective
            The objective.
        """
        return PUBLISHED if name == "published" else replace(OURS, contrast=self.contrast)


class EmbeddingGrid:
    """The networks of one benchmark. In the data, the units of the benchmark come first, then those for pretraining.

    Parameters
    ----------
    benchmark : Benchmark
        Labelled units and folds.
    tables : mapping of str to UnitTable
        All data sets, by the name of their folder.
    settings : EmbeddingSettings
        Settings of the networks.
    find_dataset : callable
        Registry of data sets.
    related_datasets : callable
        Returns the names of data sets that share recordings with some others.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        tables: Mapping[str, UnitTable],
        settings: EmbeddingSettings,
        find_dataset: FindDataset,
        related_datasets: RelatedDatasets,
    ) -> None:
        self.benchmark, self.settings, self.n_units = benchmark, settings, len(benchmark.table)
        combined = [benchmark.table, *pretraining_tables(benchmark, tables, find_dataset, related_datasets)]
        combined_unit_names(combined)  # raises an error if a unit occurs twice
        lengths = available_modalities([benchmark.table])
        self.data = make_data(combined, Preparation(lengths=lengths))
        usable = np.flatnonzero(self.data.present.any(axis=1))
        self.pretraining_rows = usable[usable >= self.n_units]
        options: Any = {"sources": len(TECHNOLOGIES), "classes": len(benchmark.classes), "trunk": settings.trunk}
        network: Any = ConditionalVAE(lengths, settings.latent, settings.width, **options)
        self.task = make_task(network)
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
            unlabelled = np.full(len(self.data.source), -1, np.int32)
            splits = [_hold_out_stratified(self.pretraining_rows, run["seed"]) for run in self.pretraining_grid]
            pretrained = self._fit(
                folder, "pretrain", self.pretraining_grid, splits, unlabelled, self.settings.pretraining
            )
            initial = self._pretrained_variables(pretrained)
        splits = [self.split(run["fold"], run["seed"]) for run in self.fold_grid]
        labels = np.stack([self._labels(run) for run in self.fold_grid])
        result = self._fit(folder, "folds", self.fold_grid, splits, labels, self.settings.epochs, initial)
        rows = stack_rows([plain_rows(np.arange(self.n_units))] * len(self.fold_grid))
        mu = np.asarray(predict(self.task, self.data, result.best, rows).mu, float)
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
        split = _hold_out_stratified(train, seed, self.benchmark.codes[train])._replace(test=test)
        return check_split(split, name=f"{self.benchmark.name}, fold {fold}")

    def _fit(
        self,
        folder: RunFolder,
        phase: str,
        grid: RunGrid,
        splits: Sequence[Split],
        labels: np.ndarray,
        epochs: int,
        initial: Any = None,
    ) -> FitResult:
        objectives, name = [self.settings.objective(run["objective"]) for run in grid], f"{self.benchmark.name}_{phase}"
        return fit_grid(folder, self.task, self.data, grid, splits, objectives, labels, epochs, name, initial)[1]

    def _pretrained_variables(self, pretrained: FitResult) -> Any:
        """Return the pretrained variables of the objective and seed of each run, without the count of steps."""
        index = {(run["objective"], run["seed"]): number for number, run in enumerate(pretrained.grid)}
        runs = [
            index["ours" if run["objective"] == SHUFFLED else run["objective"], run["seed"]] for run in self.fold_grid
        ]
        variables = initial_variables(take_runs(pretrained.best, runs))
        return {**variables, "tally": {"variance": variables["tally"]["variance"]}}

    def _labels(self, run: Mapping[str, Any]) -> np.ndarray:
        shuffled = run["objective"] == SHUFFLED
        codes = self.benchmark.shuffled_codes(run["seed"]) if shuffled else self.benchmark.codes
        return np.concatenate([codes, np.full(len(self.data.source) - self.n_units, -1)])


def _hold_out_stratified(rows: np.ndarray, seed: int, codes: np.ndarray | None = None) -> Split:
    """Draw validation rows, which select the epoch."""
    train, validation = train_test_split(rows, test_size=VALIDATION, random_state=seed, stratify=codes)
    return Split(np.sort(train), np.sort(validation), np.array([], int))


def evaluate_embeddings(
    benchmark: Benchmark, embeddings: Mapping[str, EmbeddingFunction], seeds: int
) -> dict[str, FoldProbabilities]:
    """Evaluate probes on embeddings, and the kernel classifier with our embedding as one more block.

    Parameters
    ----------
    benchmark : Benchmark
        Labelled units and folds.
    embeddings : mapping of str to callable
        Result of `EmbeddingGrid.train`.
    seeds : int
        Number of seeds.

    Returns
    -------
    dict of FoldProbabilities
        Probabilities by model.
    """
    all_seeds = range(seeds)
    probes = [(name, "ours") for name in ("knn", "linear", "mlp")] + [(name, "published") for name in ("knn", "linear")]
    probabilities = {
        f"{name} on {EMBEDDING_NAMES[objective]}": evaluate_probe(benchmark, name, embeddings[objective], all_seeds)
        for name, objective in probes
    }
    views, widths = join_blocks(compute_feature_views(benchmark.table.raw))
    latent = embeddings["ours"](0, benchmark.folds[0]).shape[1]

    def views_and_embedding(seed: int, fold: int) -> np.ndarray:
        return np.concatenate([views, embeddings["ours"](seed, fold)], axis=1)

    probabilities[f"{KERNEL_CLASSIFIER} + embedding"] = evaluate_probe(
        benchmark, "kernel", views_and_embedding, all_seeds, (*widths, latent)
    )
    probabilities[f"knn on {EMBEDDING_NAMES['ours']}, {SHUFFLED}"] = evaluate_probe(
        benchmark, "knn", embeddings[SHUFFLED], range(1), codes=benchmark.shuffled_codes
    )
    return probabilities
