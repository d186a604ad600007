"""Embeddings for a benchmark: the networks of a data set are trained in stages, each stage one fit for all objectives, folds and seeds.

`jaxephys.hippie.protocol.make_stages` gives the stages of the settings. By default there are two, which use no test unit:

    pretrain    without labels, on all other data sets and the unlabelled units of this one: one network per objective and seed
    folds       from there, on the training units of a fold with their labels: one network per objective, fold and seed

The published protocol pretrains on the data set itself and adds ``fine_tune``, and the curves of test units take part in all stages.
Data sets that share recordings with the tested one are excluded from pretraining. All objectives have the same networks, units, epochs
and batches. Start with `EmbeddingGrid`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from jaxephys.engine.grid import RunGrid
from jaxephys.evaluation.splits import Split
from jaxephys.hippie.benchmark import SHUFFLED, Benchmark, EmbeddingFunction
from jaxephys.hippie.class_table import with_class_table
from jaxephys.hippie.datasets import FindDataset, RelatedDatasets, available_modalities
from jaxephys.hippie.grid import TrainedGrid, train_grid
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.protocol import EmbeddingSettings, Stage, make_stages
from jaxephys.hippie.task import OBJECTIVES, Objective, initial_from_runs, make_data
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.schemas.unit_table import UnitTable


class EmbeddingGrid:
    """The networks of one benchmark. In the data, the units of the benchmark come first, then those for pretraining.

    Parameters
    ----------
    benchmark : Benchmark
        Labelled units and folds.
    others : sequence of UnitTable
        Units for pretraining, see `Benchmark.pretraining_tables`.
    settings : EmbeddingSettings
        Settings of the networks and of their stages.

    Raises
    ------
    ValueError
        If no stage has an epoch and a unit to train on.
    """

    def __init__(self, benchmark: Benchmark, others: Sequence[UnitTable], settings: EmbeddingSettings) -> None:
        self.benchmark, self.settings, self.n_units = benchmark, settings, len(benchmark.table)
        self.tables = [benchmark.table, *others]
        self.lengths = available_modalities([benchmark.table])
        usable = np.flatnonzero(make_data(self.tables, Preparation(lengths=self.lengths)).present.any(axis=1))
        included = settings.pretrain_on in ("same", "all")
        self.pretraining_rows = usable if included else usable[usable >= self.n_units]
        stages = [stage for stage in make_stages(settings) if len(self.pretraining_rows) or not stage.pretraining]
        if not stages:
            raise ValueError(f"no stage trains the networks of {benchmark.name}: give more epochs, or more data sets")
        self.stages = {stage: self._run_grid(stage) for stage in stages}

    @property
    def n_runs(self) -> int:
        """Number of trainings of all stages."""
        return sum(map(len, self.stages.values()))

    def train(self, folder: RunFolder) -> dict[str, EmbeddingFunction]:
        """Train all networks. No label of a test unit is used, and no curve of one unless ``settings.uses_test_curves``.

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
        first, *others = self.stages
        last, trained = first, self._train(folder, first)
        for stage in others:
            last, trained = stage, self._train(folder, stage, self._initial(stage, last, trained))
        mu = trained.embed(self.n_units).astype(float)
        runs = self._runs_by_level(last)

        def embedding(name: str) -> EmbeddingFunction:
            used = name if last.labels else self._start(name)
            return lambda seed, fold: mu[runs[(used, fold, seed) if last.by_fold else (used, seed)]]

        return {name: embedding(name) for name in (*self.settings.objectives, SHUFFLED)}

    def split(self, fold: int, seed: int) -> Split:
        """Return the rows of a run that is trained with labels.

        Parameters
        ----------
        fold : int
            Fold that is tested.
        seed : int
            Seed of the validation rows.

        Returns
        -------
        Split
            Rows of the benchmark. In the transductive protocol the test rows are among the training rows, without their labels.
        """
        train, test = self.benchmark.split(fold)
        split = self._hold_out(train, seed, self.benchmark.codes[train])
        if self.settings.transductive:
            return split._replace(train=np.sort(np.concatenate([split.train, test])))
        return split._replace(test=test)

    def labels(self, stage: Stage) -> np.ndarray:
        """Return the classes that the decoder receives in a stage.

        Parameters
        ----------
        stage : Stage
            One of `stages`.

        Returns
        -------
        int array (n_runs, n_units)
            Class of each unit of all tables. Units that have no label, or whose label is not used, have
            ``settings.unlabelled_class``.
        """
        grid = self.stages[stage]
        labels = np.full((len(grid), sum(map(len, self.tables))), self.settings.unlabelled_class)
        if not stage.labels:
            return labels
        for row, run in zip(labels, grid, strict=True):
            shuffled = run["objective"] == SHUFFLED
            codes = self.benchmark.shuffled_codes(run["seed"]) if shuffled else self.benchmark.codes
            train, _ = self.benchmark.split(run["fold"])
            row[train] = codes[train]
        return labels

    def _start(self, objective: str) -> str:
        """Objective of the networks that a run starts from. Labels are shuffled under the first objective."""
        return self.settings.objectives[0] if objective == SHUFFLED else objective

    def _run_grid(self, stage: Stage) -> RunGrid:
        seeds, objectives = range(self.settings.seeds), self.settings.objectives
        if not stage.by_fold:
            return RunGrid.cross(objective=objectives, seed=seeds)
        runs = [(name, seed) for name in objectives for seed in seeds] + [(SHUFFLED, 0)] * stage.labels
        levels = [(name, fold, seed) for name, seed in runs for fold in self.benchmark.folds]
        return RunGrid(("objective", "fold", "seed"), tuple(levels))

    def _train(self, folder: RunFolder, stage: Stage, initial: Any = None) -> TrainedGrid:
        grid, settings = self.stages[stage], self.settings
        rate = settings.learning_rate * (1.0 if stage.pretraining else settings.fine_tuning_rate)
        objectives = [self._objective(name, stage) for name in grid.column("objective")]
        conditioned = any(objective.conditioned for objective in objectives)
        return train_grid(
            folder,
            self.tables,
            grid,
            [self._stage_split(stage, run) for run in grid],
            objectives,
            replace(settings, max_epochs=stage.epochs, learning_rate=rate),
            f"{self.benchmark.name}_{stage.name}",
            labels=self.labels(stage),
            initial=initial,
            lengths=self.lengths,
            classes=len(self.benchmark.classes) if conditioned else 0,
        )

    def _stage_split(self, stage: Stage, run: Mapping[str, Any]) -> Split:
        if stage.labels:
            return self.split(run["fold"], run["seed"])
        if stage.pretraining:
            return self._hold_out(self.pretraining_rows, run["seed"])
        if stage.by_fold:
            train, test = self.benchmark.split(run["fold"])
            return self._hold_out(train, run["seed"])._replace(test=test)
        return self._hold_out(np.arange(self.n_units), run["seed"])

    def _objective(self, name: str, stage: Stage) -> Objective:
        objective = OBJECTIVES[self._start(name)]
        if self._start(name) == "ours":
            objective = replace(objective, contrast=self.settings.contrast)
        augmented = not stage.labels or self.settings.supervised_augmentation
        return objective if augmented else replace(objective, augmentation="off")

    def _initial(self, stage: Stage, before: Stage, trained: TrainedGrid) -> Any:
        """Variables of the networks from which the runs of a stage continue."""
        runs, grid = self._runs_by_level(before), self.stages[stage]
        starts = [
            (self._start(run["objective"]), *([run["fold"]] if before.by_fold else []), run["seed"]) for run in grid
        ]
        initial = initial_from_runs(trained.result.best, [runs[start] for start in starts])
        n_classes = trained.network.classes
        if stage.labels and self.settings.redraw_classes and n_classes:
            return with_class_table(trained.network, initial, n_classes, grid.seeds)[1]
        return initial

    def _runs_by_level(self, stage: Stage) -> dict[tuple[Any, ...], int]:
        return {levels: run for run, levels in enumerate(self.stages[stage].levels)}

    def _hold_out(self, rows: np.ndarray, seed: int, codes: np.ndarray | None = None) -> Split:
        """Draw validation rows, which select the epoch, stratified by class if there are classes."""
        share = self.settings.validation
        train, validation = train_test_split(rows, test_size=share, random_state=seed, stratify=codes)
        return Split(np.sort(train), np.sort(validation), np.array([], int))


def make_embedding_grids(
    benchmarks: Sequence[Benchmark],
    tables: Mapping[str, UnitTable],
    find_dataset: FindDataset,
    related_datasets: RelatedDatasets,
    settings: EmbeddingSettings,
) -> list[EmbeddingGrid]:
    """Return the networks of several benchmarks.

    Parameters
    ----------
    benchmarks : sequence of Benchmark
        The benchmarks.
    tables, find_dataset, related_datasets : see `Benchmark.pretraining_tables`
        All data sets, and their registry.
    settings : EmbeddingSettings
        Settings of the networks.

    Returns
    -------
    list of EmbeddingGrid
        One for each benchmark; none if the width of the networks is 0.
    """
    registry = (find_dataset, related_datasets, settings.pretrain_on)
    return [
        EmbeddingGrid(benchmark, benchmark.pretraining_tables(tables, *registry), settings)
        for benchmark in benchmarks
        if settings.width
    ]
