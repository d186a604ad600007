"""Many networks trained on units as one grid: folds, training, scores of the test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import KFold

from jaxephys.engine import devices
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict, score
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import RunInputs, Task, Variables
from jaxephys.evaluation.scores import Score
from jaxephys.evaluation.splits import Split, check_split, hold_out_validation
from jaxephys.hippie.datasets import available_modalities, combined_unit_names
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.network.cvae import LENGTHS, ConditionalVAE
from jaxephys.hippie.preprocessing import Preparation
from jaxephys.hippie.probes import KNNProbe
from jaxephys.hippie.protocol import NetworkSettings, StagedSettings
from jaxephys.hippie.task import (
    Objective,
    UnitArrays,
    even_batch_size,
    fill_missing,
    initial_from_runs,
    make_data,
    make_run_inputs,
    make_task,
    warm_up_steps,
)
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

FOLDS, FOLD_SEED = 5, 42  # the published ones
ALL_MODALITIES = tuple(LENGTHS.items())


@runtime_checkable
class TrainingSettings(Protocol):
    """What `train_config` reads of the settings of an experiment; each is a field or a property there.

    Parameters
    ----------
    *args, **kwargs
        Fields of the settings.
    """

    @property
    def batch_size(self) -> int:
        """Units of a step."""
        ...

    @property
    def even_batches(self) -> bool:
        """Adjust the batch size so that the last batch of an epoch is not small."""
        ...

    @property
    def patience(self) -> int | None:
        """A run stops after this number of epochs without a lower validation loss; None: never."""
        ...

    @property
    def min_delta(self) -> float:
        """Smallest improvement of the validation loss that counts."""
        ...

    @property
    def learning_rate(self) -> float:
        """Learning rate of AdamW."""
        ...

    @property
    def weight_decay(self) -> float:
        """Weight decay of AdamW."""
        ...


@dataclass(frozen=True)
class TrainedGrid:
    """The trained networks of a grid, each with its own rows.

    Parameters
    ----------
    network : ConditionalVAE
        Their architecture.
    preparation : Preparation
        Preprocessing of the units.
    data : UnitArrays
        All units.
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
    preparation: Preparation
    data: UnitArrays
    names: np.ndarray
    splits: list[Split]
    inputs: RunInputs
    result: FitResult

    @property
    def task(self) -> Task:
        """Task of the networks."""
        return make_task(self.network)

    def embed(self, n_units: int | None = None) -> np.ndarray:
        """Embed units in the latent space of every run.

        Parameters
        ----------
        n_units : int, optional
            Embed only the first units.

        Returns
        -------
        array (n_runs, n_units, latent)
            Posterior means.
        """
        rows = stack_rows([plain_rows(np.arange(len(self.names))[:n_units])] * len(self.splits))
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

    def estimator(self, indices: Sequence[int]) -> Hippie:
        """Return some of the runs as a fitted estimator, for instance to save it.

        Parameters
        ----------
        indices : sequence of int
            Runs.

        Returns
        -------
        Hippie
            The fitted estimator.
        """
        network: Any = self.network
        modalities = [name for name, _ in network.modalities]
        sizes = {"width": network.width, "trunk": network.trunk, "modalities": modalities}
        model = Hippie(network.latent, **sizes, seeds=len(indices))
        parts = (network, self.preparation, self.data, self.names, self.splits)
        return model.keep_runs(self.result, *parts, np.asarray(indices))


def k_fold_splits(usable: np.ndarray, seeds: int, validation: float = 0.1) -> dict[tuple[int, int], Split]:
    """Divide units into the published folds. They are the same for every seed, which draws the validation rows.

    Parameters
    ----------
    usable : int array
        Rows to divide.
    seeds : int
        Number of seeds.
    validation : float
        Share of validation rows among those that are not tested.

    Returns
    -------
    dict of Split
        Rows by (seed, fold).
    """
    splits = {}
    for fold, (rest, test) in enumerate(KFold(FOLDS, shuffle=True, random_state=FOLD_SEED).split(usable)):
        for seed in range(seeds):
            splits[seed, fold] = hold_out_validation(usable[rest], validation, [seed, fold], usable[test])
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
    labels: np.ndarray | None = None,
    initial: Any = None,
    lengths: tuple[tuple[str, int], ...] = (),
    classes: int | None = None,
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
        Size of the networks, and how they are trained.
    name : str
        Name of the grid in the folder.
    labels : int array (n_units,) or (n_runs, n_units), optional
        Class of each unit; -1 if unknown. A run receives those of its training rows, and with ``settings.noisy_validation`` those of its
        validation rows.
    initial : dict, optional
        Variables to start from, with a leading run axis.
    lengths : tuple of (str, int)
        Modalities of the networks, if they must read more than these units have.
    classes : int, optional
        Number of classes that the decoder can receive; by default that of the labels, or 0 if no objective uses them.

    Returns
    -------
    TrainedGrid
        The trained networks.

    Raises
    ------
    ValueError
        If a unit is in two parts of a split, or two tables have a unit of the same name.
    """
    for index, split in enumerate(splits):
        check_split(split, name=f"run {index}")
    names = combined_unit_names(tables)
    preparation = Preparation(intervals=settings.intervals, lengths=lengths or available_modalities(tables))
    data = make_data(tables, preparation)
    if settings.missing == "constant":
        data = fill_missing(data)
    data = devices.put_on_devices(data, len(grid))
    sources = len(TECHNOLOGIES) if lengths or (data.source >= 0).any() else 0
    codes = np.full(len(names), -1, np.int32) if labels is None else labels
    if classes is None:
        classes = int(codes.max()) + 1 if any(objective.conditioned for objective in objectives) else 0
    options: Any = {"sources": sources, "classes": classes, "trunk": settings.trunk}
    options["mask_token"] = settings.missing == "token"
    latent = settings.latent_size(len(preparation.lengths))
    network: Any = ConditionalVAE(preparation.lengths, latent, settings.width, **options)
    config = train_config(settings, network, splits, objectives, settings.max_epochs)
    inputs = make_run_inputs(
        codes, splits, objectives, batch_size=config.batch_size, label_validation=settings.noisy_validation
    )
    task = make_task(network, objectives, noisy_validation=settings.noisy_validation)
    fields = ("max_epochs", "patience", "batch_size", "learning_rate", "weight_decay")
    model = Hippie(**{field: getattr(config, field) for field in fields})
    template = model.run_template(network, preparation, names, splits, objectives)
    result = folder.fit(task, data, inputs, grid, config, name, initial, template)
    return TrainedGrid(network, preparation, data, names, list(splits), inputs, result)


def train_config(
    settings: TrainingSettings,
    network: ConditionalVAE,
    splits: Sequence[Split],
    objectives: Sequence[Objective],
    max_epochs: int,
) -> TrainConfig:
    """Return the settings of the engine for a grid of networks.

    Parameters
    ----------
    settings : TrainingSettings
        How the networks are trained.
    network : ConditionalVAE
        Their architecture.
    splits : sequence of Split
        Rows of each run; the numbers of training rows determine the batch size, if it is to be even, and the warm-up.
    objectives : sequence of Objective
        Objective of each run, or the one of all.
    max_epochs : int
        Largest number of epochs, which may be that of a stage.

    Returns
    -------
    TrainConfig
        Settings that select the epoch by the validation loss.
    """
    n_rows = [len(split.train) for split in splits]
    size = even_batch_size(n_rows, settings.batch_size) if settings.even_batches else settings.batch_size
    return TrainConfig(
        max_epochs,
        settings.patience,
        settings.min_delta,
        monitor="loss",
        mode="min",
        batch_size=size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        clip_norm=1.0,
        warmup_steps=warm_up_steps(network, objectives, max_epochs * -(-max(n_rows) // size)),
    )


def pretrain(
    folder: RunFolder, tables: Sequence[UnitTable], objective: Objective, settings: StagedSettings
) -> TrainedGrid:
    """Train one network per seed on all units of some data sets, without labels.

    Parameters
    ----------
    folder : RunFolder
        Folder for checkpoints and history.
    tables : sequence of UnitTable
        Units. Those of some tables may lack a modality; the networks read all.
    objective : Objective
        Objective of all networks.
    settings : StagedSettings
        Settings of the networks.

    Returns
    -------
    TrainedGrid
        The networks, with the factor seed.
    """
    grid = RunGrid.cross(seed=range(settings.seeds))
    units = np.arange(sum(map(len, tables)))
    splits = [hold_out_validation(units, settings.validation, seed) for seed in grid.column("seed")]
    longer = replace(settings, max_epochs=settings.pretraining)
    objectives = [objective] * len(grid)
    return train_grid(folder, tables, grid, splits, objectives, longer, "pretrain", lengths=ALL_MODALITIES)


def fine_tuning_variables(grid: RunGrid, pretrained: TrainedGrid, variant: str) -> Any:
    """Return the initial variables of runs of which one variant is pretrained and the others are not.

    Parameters
    ----------
    grid : RunGrid
        Runs with the factors variant and seed.
    pretrained : TrainedGrid
        Pretrained networks, one for each seed from 0.
    variant : str
        The variant that starts from the pretrained network of its seed. The others start from new random variables.

    Returns
    -------
    dict
        Variables with a leading run axis, without the count of steps.
    """
    task, seeds = pretrained.task, sorted(set(grid.column("seed")))
    new: Variables = jax.vmap(lambda seed: task.init(jax.random.key(seed)))(np.array(seeds) + 1000)
    stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), jax.device_get(new), pretrained.result.best)
    indices = [run["seed"] + len(seeds) * (run["variant"] == variant) for run in grid]
    return initial_from_runs(stacked, indices)
