"""Many networks trained on units as one grid: folds, training, scores of the test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import KFold

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict, score
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import RunInputs, Task, Variables
from jaxephys.evaluation.scores import Score
from jaxephys.evaluation.splits import Split, check_split, hold_out_validation
from jaxephys.hippie.combined_table import combined_unit_names
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.network.cvae import LENGTHS, ConditionalVAE
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.probes import KNNProbe
from jaxephys.hippie.task import Objective, UnitArrays, even_batch_size, make_data, make_run_inputs, make_task
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

BATCH_SIZE, VALIDATION = 64, 0.1
FOLDS, FOLD_SEED = 5, 42  # the published ones
ALL_MODALITIES = tuple(LENGTHS.items())


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """Settings of the networks that the experiments train."""

    seeds: int = 5
    """Networks per fold, or per fold and variant."""
    trunk: Literal["dense", "resnet"] = "dense"
    """Type of encoders and decoders; the published ResNets are for tens of thousands of units."""
    width: int = 16
    """Channels of the first layer; a dense trunk has eight times as many hidden units."""
    latent: int = 30
    """Number of latent dimensions."""
    epochs: int = 100
    """Largest number of epochs; the best one is selected on validation rows."""


@dataclass(frozen=True)
class TrainedGrid:
    """The trained networks of a grid, each with its own rows.

    Parameters
    ----------
    network : ConditionalVAE
        Their architecture.
    task : Task
        Their task.
    data : UnitArrays
        All units.
    preparation : Preparation
        Preprocessing of the units.
    names : array of str (n_units,)
        Names of the units.
    splits : list of Split
        Rows of each run.
    inputs : RunInputs
        Inputs of the training.
    result : FitResult
        Result of the training.
    """

    network: ConditionalVAE
    task: Task
    data: UnitArrays
    preparation: Preparation
    names: np.ndarray
    splits: list[Split]
    inputs: RunInputs
    result: FitResult

    def embed(self) -> np.ndarray:
        """Embed every unit in the latent space of every run.

        Returns
        -------
        array (n_runs, n_units, latent)
            Posterior means.
        """
        rows = stack_rows([plain_rows(np.arange(len(self.data.source)))] * len(self.splits))
        return np.asarray(predict(self.task, self.data, self.result.best, rows).mu)

    def test_scores(self, variables: Variables | None = None, n_runs: int | None = None) -> dict[str, np.ndarray]:
        """Score the test rows of every run, with the names of `jaxephys.hippie.task.HippieTask.validate`.

        Parameters
        ----------
        variables : dict, optional
            Variables with a leading run axis; by default those of the best epochs.
        n_runs : int, optional
            Score only the test rows of the first runs.

        Returns
        -------
        dict of arrays (n_runs,)
            Scores by metric.
        """
        splits = self.splits[:n_runs]
        rows = stack_rows([plain_rows(split.test) for split in splits])
        constants = take_runs(self.inputs.constants, np.arange(len(splits)))
        return score(self.task, self.data, self.result.best if variables is None else variables, rows, constants)

    def neighbor_accuracy(self, codes: np.ndarray) -> np.ndarray:
        """Return the test accuracy of k nearest neighbors on the embedding of each run.

        Parameters
        ----------
        codes : int array (n_units,)
            Class of each unit.

        Returns
        -------
        array (n_runs,)
            Balanced accuracy on the test rows. k is chosen on training and validation rows; latent dimensions that the objective of the
            run does not use are left out.
        """
        accuracies = []
        used, seeds = self.inputs.constants.objective.latent, self.result.grid.column("seed")
        for mu, latent, seed, split in zip(self.embed(), used, seeds, self.splits, strict=True):
            mu, known = mu[:, : int(latent) or None], np.union1d(split.train, split.validation)
            probe = KNNProbe(seed=seed).fit(mu[known], codes[known])
            accuracies.append(balanced_accuracy_score(codes[split.test], probe.predict(mu[split.test])))
        return np.array(accuracies)

    def estimator(self, indices: Sequence[int], **parameters: Any) -> Hippie:
        """Return some of the runs as a fitted estimator, for instance to save it.

        Parameters
        ----------
        indices : sequence of int
            Runs.
        **parameters
            Parameters of `Hippie` other than sizes.

        Returns
        -------
        Hippie
            The fitted estimator.
        """
        sizes: Any = {"latent": self.network.latent, "width": self.network.width, "trunk": self.network.trunk}
        modalities = [name for name, _ in self.network.modalities]
        model = Hippie(**sizes, modalities=modalities, seeds=len(indices), **parameters)
        parts = (self.network, self.preparation, self.data, self.names, self.splits)
        return model.keep_runs(self.result, *parts, np.asarray(indices))


def available_modalities(tables: Sequence[UnitTable]) -> tuple[tuple[str, int], ...]:
    """Return the modalities that any unit has.

    Parameters
    ----------
    tables : sequence of UnitTable
        Units.

    Returns
    -------
    tuple of (str, int)
        Names and the lengths that networks read.
    """
    present = np.any([table.present.any(axis=0) for table in tables], axis=0).tolist()
    return tuple(item for item, available in zip(ALL_MODALITIES, present, strict=True) if available)


def k_fold_splits(usable: np.ndarray, seeds: int) -> dict[tuple[int, int], Split]:
    """Divide units into the published folds. They are the same for every seed, which draws the validation rows.

    Parameters
    ----------
    usable : int array
        Rows to divide.
    seeds : int
        Number of seeds.

    Returns
    -------
    dict of Split
        Rows by (seed, fold).
    """
    splits = {}
    for fold, (rest, test) in enumerate(KFold(FOLDS, shuffle=True, random_state=FOLD_SEED).split(usable)):
        for seed in range(seeds):
            split = hold_out_validation(usable[rest], VALIDATION, [seed, fold], usable[test])
            splits[seed, fold] = check_split(split, name=f"seed {seed}, fold {fold}")
    return splits


def splits_of_folds(grid: RunGrid, fold: np.ndarray, validation: float) -> list[Split]:
    """Return the rows of each run of a grid in the folds of a benchmark. The seed of a run draws its validation rows.

    Parameters
    ----------
    grid : RunGrid
        Runs with the factors seed and fold.
    fold : int array (n_units,)
        Fold that tests each unit.
    validation : float
        Share of validation rows among the others.

    Returns
    -------
    list of Split
        Rows of each run.
    """
    splits = []
    for run in grid:
        tested, seed = run["fold"], run["seed"]
        rest, test = np.flatnonzero(fold != tested), np.flatnonzero(fold == tested)
        split = hold_out_validation(rest, validation, [seed, tested], test)
        splits.append(check_split(split, name=f"seed {seed}, fold {tested}"))
    return splits


def metric_scores(
    experiment: str,
    train_on: str,
    test_on: str,
    grid: RunGrid,
    splits: Sequence[Split],
    values: Mapping[str, np.ndarray],
    variant: str | None = None,
) -> list[Score]:
    """Return scores of the runs of a grid as rows of a score table.

    Parameters
    ----------
    experiment, train_on, test_on : str
        Columns of the score table.
    grid : RunGrid
        Runs with the factors seed and fold, and variant unless it is given.
    splits : sequence of Split
        Rows of each run.
    values : mapping of str to array (n_runs,)
        Values by metric.
    variant : str, optional
        Variant of all runs.

    Returns
    -------
    list of Score
        Finite values.
    """
    scores = []
    for metric, column in values.items():
        for run, split, value in zip(grid, splits, column, strict=True):
            if np.isfinite(value):
                key = (experiment, variant or run["variant"], train_on, test_on, run["seed"], run["fold"], "test")
                scores.append(Score(*key, metric, float(value), len(split.test)))
    return scores


def train_grid(
    folder: RunFolder,
    tables: Sequence[UnitTable],
    grid: RunGrid,
    splits: Sequence[Split],
    objectives: Sequence[Objective],
    settings: NetworkSettings,
    name: str,
    *,
    epochs: int | None = None,
    labels: np.ndarray | None = None,
    initial: Any = None,
    lengths: tuple[tuple[str, int], ...] = (),
) -> TrainedGrid:
    """Train one network architecture for every run of a grid as one program.

    Parameters
    ----------
    folder : RunFolder
        Folder for checkpoints and history.
    tables : sequence of UnitTable
        Units.
    grid : RunGrid
        The runs, with the factor ``seed``.
    splits : sequence of Split
        Rows of each run, counted over all tables.
    objectives : sequence of Objective
        Objective of each run.
    settings : NetworkSettings
        Size of the networks and number of epochs.
    name : str
        Name of the grid in the folder.
    epochs : int, optional
        Largest number of epochs, if it is not that of the settings.
    labels : int array (n_units,), optional
        Class of each unit; -1 if unknown. A run receives those of its training rows.
    initial : dict, optional
        Variables to start from, with a leading run axis.
    lengths : tuple of (str, int)
        Modalities of the networks, if they must read more than these units have.

    Returns
    -------
    TrainedGrid
        The trained networks.
    """
    preparation = Preparation(lengths=lengths or available_modalities(tables))
    data = make_data(tables, preparation)
    sources = len(TECHNOLOGIES) if lengths or (data.source >= 0).any() else 0
    codes = np.full(len(data.source), -1, np.int32) if labels is None else labels
    classes = int(codes.max()) + 1 if any(objective.conditioned for objective in objectives) else 0
    options: Any = {"sources": sources, "classes": classes, "trunk": settings.trunk}
    network: Any = ConditionalVAE(preparation.lengths, settings.latent, settings.width, **options)
    task, epochs = make_task(network), settings.epochs if epochs is None else epochs
    inputs, result = fit_grid(folder, task, data, grid, splits, objectives, codes, epochs, name, initial)
    names = combined_unit_names(tables)
    return TrainedGrid(network, task, data, preparation, names, list(splits), inputs, result)


def fit_grid(
    folder: RunFolder,
    task: Task,
    data: UnitArrays,
    grid: RunGrid,
    splits: Sequence[Split],
    objectives: Sequence[Objective],
    labels: np.ndarray,
    epochs: int,
    name: str,
    initial: Any = None,
) -> tuple[RunInputs, FitResult]:
    """Train the networks of a task for every run of a grid.

    Parameters
    ----------
    folder : RunFolder
        Folder for checkpoints and history.
    task : Task
        Task of the networks.
    data : UnitArrays
        All units.
    grid : RunGrid
        The runs, with the factor ``seed``.
    splits : sequence of Split
        Rows of each run.
    objectives : sequence of Objective
        Objective of each run.
    labels : int array (n_units,) or (n_runs, n_units)
        Class of each unit; -1 if unknown. A run receives those of its training rows.
    epochs : int
        Largest number of epochs; the best one is selected on validation rows.
    name : str
        Name of the grid in the folder.
    initial : dict, optional
        Variables to start from, with a leading run axis.

    Returns
    -------
    inputs : RunInputs
        Rows and constants of the runs.
    result : FitResult
        Result of the training.
    """
    size = even_batch_size([len(split.train) for split in splits], BATCH_SIZE)
    inputs = make_run_inputs(labels, splits, objectives, batch_size=size)
    config = TrainConfig(epochs, None, monitor="loss", mode="min", batch_size=size, weight_decay=0.01, clip_norm=1.0)
    return inputs, folder.fit(task, data, inputs, grid, config, name, initial)
