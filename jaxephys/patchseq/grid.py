"""Grids of Patch-seq models: train the ablation, tabular networks and baselines on all splits, and collect their predictions.

``train_grid`` trains the networks of one grid. ``ComparisonNetworks`` and ``train_baselines`` add models to a
``ModelComparison``. All runs of a network architecture (variants x splits x initial weights) are one program.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int
from sklearn.pipeline import Pipeline

from jaxephys.engine import devices
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import RowSet, RunInputs, Task
from jaxephys.evaluation.baselines import fit_predict_proba, make_baseline
from jaxephys.evaluation.comparison import CalibrationRows, ModelComparison
from jaxephys.evaluation.splits import Split, SplitKey, k_folds
from jaxephys.patchseq.classical_models import CLASSICAL_MODELS, make_classical_model
from jaxephys.patchseq.estimator import PatchSeqClassifier
from jaxephys.patchseq.network.classifier import SubclassNetwork, TabularNetwork
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.preprocessing import Scale
from jaxephys.patchseq.sparse_components import family_widths, make_component_forest
from jaxephys.patchseq.task import (
    ABLATION,
    CellData,
    Prediction,
    Variant,
    make_data,
    make_run_inputs,
    make_tabular_inputs,
    make_tabular_task,
    make_task,
)
from jaxephys.patchseq.transfer_task import TransferData
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from jaxephys.schemas.feature_table import FeatureTable

Data = TypeVar("Data", CellData, TransferData)
INNER_FOLDS = 5  # in which a baseline that trains on all but the test rows is calibrated
SELECTED_VARIANT = "attention"  # trained several times per split, averaged and saved
ATTENTION_ENSEMBLE = "attention ensemble"
COMPONENT_FOREST = "components + forest"  # the published baseline
TOKEN = 64  # values that each family is projected to


@dataclass(frozen=True)
class SplitSettings(Settings):
    """Settings of the experiments that compare models on the same splits of a table."""

    folds: tuple[Literal["cell", "donor"], ...] = ("cell", "donor")
    """Unit of the splits: single cells, or all cells of a donor together."""
    seeds: int = 10
    """Number of draws of the splits."""


@dataclass(frozen=True)
class ComparisonSettings(SplitSettings):
    """Settings of the experiments that compare all models on one table."""

    members: int = 5
    """Number of networks of an ensemble, which differ in their initial weights."""
    hidden: int = 64
    """Hidden units of our LSTM in each direction; the published one has twice as many."""
    max_epochs: int = 50
    """Largest number of epochs of the ablation; a run stops after 7 without a better validation score."""
    released: bool = False
    """Also train the published ablation by the rules of the released code."""

    def number_of_runs(self, n_splits: int, *, tabular: int) -> int:
        """Return how many networks are trained.

        Parameters
        ----------
        n_splits : int
            Number of splits.
        tabular : int
            Number of kinds of tabular networks.

        Returns
        -------
        int
            The number of runs.
        """
        ablations = 3 if self.released else 2
        return n_splits * (ablations * len(ABLATION) + self.members - 1 + tabular * self.members)


@dataclass(frozen=True)
class Ablation:
    """The variants of the published ablation, with our encoder or the published one.

    Parameters
    ----------
    prefix : str, default ""
        Beginning of the names of the models.
    variants : mapping of str to Variant
        Variants by name.
    token_encoder : bool, default True
        Use our encoder with signed-log features; otherwise the published encoder with z-scores.
    prior_power : float, default 0.0
        The probabilities of ArcFace variants are multiplied by this power of the class frequencies of the training cells.
    """

    prefix: str = ""
    variants: Mapping[str, Variant] = field(default_factory=lambda: ABLATION)
    token_encoder: bool = True
    prior_power: float = 0.0


class TrainedGrid(NamedTuple):
    """The trained networks of a grid, with the predictions of each run for cells that it was not trained on.

    Parameters
    ----------
    network : SubclassNetwork
        Architecture of the runs.
    task : Task
        Task of the runs.
    data : CellData
        Cells of the table.
    keys : list of SplitKey
        The split of each run.
    inputs : RunInputs
        Rows and constants of the runs.
    result : FitResult
        Result of the training.
    prediction : Prediction of arrays of shape (run, row, ...)
        Predictions for the test cells of the split, followed by its validation cells.
    """

    network: SubclassNetwork
    task: Task
    data: CellData
    keys: list[SplitKey]
    inputs: RunInputs
    result: FitResult
    prediction: Prediction


@dataclass
class ComparisonNetworks:
    """The networks of an experiment that compares all models on one table of cells.

    Parameters
    ----------
    folder : RunFolder
        The run folder; each grid of networks has checkpoints of its own.
    comparison : ModelComparison
        The comparison that the networks are added to.
    settings : ComparisonSettings
        Settings of the experiment.
    """

    folder: RunFolder
    comparison: ModelComparison
    settings: ComparisonSettings

    def train_ablations(self, released: Ablation) -> Float[np.ndarray, "class family"]:
        """Train the ablation with our encoder, with the published one and, on request, by the rules of the released code.

        The attention ensemble of the first kind of split and seed is saved as ``model/``.

        Parameters
        ----------
        released : Ablation
            The rules of the released code, used where ``settings.released`` is set.

        Returns
        -------
        array of shape (class, family)
            Mean attention of our networks to each family, for the test cells of each class.
        """
        comparison, kind = self.comparison, self.comparison.kinds[0]
        trained = self._train_ablation(Ablation())
        grid = trained.result.grid
        selected = grid.where(variant=SELECTED_VARIANT)
        self._add_mean(ATTENTION_ENSEMBLE, trained.keys, selected, trained.prediction.probability)
        comparison.add_average_ensemble(ATTENTION_ENSEMBLE, (ATTENTION_ENSEMBLE,))
        save_model(self.folder, comparison, trained, grid.where(variant=SELECTED_VARIANT, folds=kind, draw=0))
        self._train_ablation(Ablation("published ", token_encoder=False))
        if self.settings.released:
            self._train_ablation(released, monitor="selection")
        return class_attention(comparison, trained, grid.where(variant=SELECTED_VARIANT, folds=kind)).mean(axis=0)

    def train_tabular(self, name: str, fit_scale: Callable[[np.ndarray], Scale], config: TrainConfig) -> None:
        """Train tabular networks on every split and add their mean to the comparison.

        Parameters
        ----------
        name : str
            Name of the model.
        fit_scale : callable
            Fits the scale of the features, such as ``fit_signed_log``.
        config : TrainConfig
            Settings of the training.
        """
        table, splits, members = self.comparison.table, self.comparison.splits, self.settings.members
        levels = [(*key, member) for key in splits for member in range(members)]
        grid = RunGrid(("folds", "draw", "fold", "seed"), tuple(levels))
        keys = [SplitKey(run["folds"], run["draw"], run["fold"]) for run in grid]
        run_splits = [splits[key] for key in keys]
        inputs = make_tabular_inputs(table, run_splits, fit_scale)
        network = TabularNetwork(len(self.comparison.classes))
        data = put_on_devices(CellData(table.values, self.comparison.codes), len(grid))
        task = make_tabular_task(network, table.values.shape[1])
        result = self.folder.fit(task, data, inputs, grid, config, name.replace(" ", "_"))
        probability = predict(task, data, result.best, _held_out_rows(run_splits), inputs.constants)
        self._add_mean(name, keys, range(len(grid)), probability)

    def _train_ablation(self, ablation: Ablation, **changes: Any) -> TrainedGrid:
        """Train the variants on every split as one program, with changes of the config, and add them to the comparison.

        The attention variant of our encoder has ``settings.members`` runs per split.
        """
        settings, names = self.settings, ("variant", "folds", "draw", "fold", "member", "seed")
        levels = [
            (variant, *key, member, key.seed + 1000 * member)
            for variant in ablation.variants
            for key in self.comparison.splits
            for member in range(settings.members if ablation.token_encoder and variant == SELECTED_VARIANT else 1)
        ]
        grid = RunGrid(names, tuple(levels))
        keys = [SplitKey(run["folds"], run["draw"], run["fold"]) for run in grid]
        hidden, token = (settings.hidden, TOKEN) if ablation.token_encoder else (2 * settings.hidden, None)
        variants = [ablation.variants[name] for name in grid.column("variant")]
        config, suffix = TrainConfig(max_epochs=settings.max_epochs, **changes), ablation.prefix.strip()
        trained = train_grid(self.folder, self.comparison, grid, keys, variants, hidden, token, config, suffix)
        for name, variant in ablation.variants.items():
            model, runs = ablation.prefix + name, grid.where(variant=name, member=0)
            self._add_mean(model, keys, runs, trained.prediction.probability)
            if ablation.prior_power and variant.arcface:
                self.comparison.add_prior_weighted(model, model, ablation.prior_power)
        return trained

    def _add_mean(self, name: str, keys: Sequence[SplitKey], runs: Iterable[int], probability: np.ndarray) -> None:
        """Add a model: on each split the mean of the runs that belong to it."""
        for key, split in self.comparison.splits.items():
            mean = probability[[run for run in runs if keys[run] == key]].mean(axis=0)
            test, validation = np.split(mean[: len(split.test) + len(split.validation)], [len(split.test)])
            self.comparison.add(name, key, test, CalibrationRows(split.validation, validation))


def train_grid(
    folder: RunFolder,
    comparison: ModelComparison,
    grid: RunGrid,
    keys: Sequence[SplitKey],
    variants: Sequence[Variant],
    hidden: int,
    token: int | None,
    config: TrainConfig,
    name: str = "",
) -> TrainedGrid:
    """Train one network architecture for every run of a grid as one program, and predict the cells that are left out.

    Parameters
    ----------
    folder : RunFolder
        The run folder.
    comparison : ModelComparison
        The cells and their splits. No model is added.
    grid : RunGrid
        The runs, with the factor ``seed``.
    keys : sequence of SplitKey
        The split of each run.
    variants : sequence of Variant
        The variant of each run.
    hidden : int
        Hidden units of the LSTM in each direction.
    token : int or None
        Number of values that our encoder projects each family to, after scaling features by signed logarithms. None selects
        the published encoder and z-scores.
    config : TrainConfig
        Settings of the training.
    name : str, default ""
        Suffix of the files of a second grid in the folder.

    Returns
    -------
    TrainedGrid
        The runs and their predictions.
    """
    table, splits = comparison.table, [comparison.splits[key] for key in keys]
    layout, signed_log = RaggedLayout.from_widths(table.widths), token is not None
    network = SubclassNetwork(layout, len(comparison.classes), hidden, token=token)
    inputs = make_run_inputs(table, splits, variants, grid.column("seed"), signed_log=signed_log)
    task, data = make_task(network), put_on_devices(make_data(table), len(grid))
    result = folder.fit(task, data, inputs, grid, config, name)
    prediction = predict(task, data, result.best, _held_out_rows(splits), inputs.constants)
    return TrainedGrid(network, task, data, list(keys), inputs, result, prediction)


def put_on_devices(data: Data, n_runs: int) -> Data:
    """Copy the cells to the devices once, for the training and all predictions of a grid.

    Parameters
    ----------
    data : pytree of arrays
        Data that all runs share.
    n_runs : int
        Number of runs of the grid.

    Returns
    -------
    pytree of arrays
        The data on every device that has runs. Training and prediction use these copies.
    """
    devices.use_all_cores()
    mesh = devices.make_mesh(len(devices.local_run_indices(n_runs)))
    return devices.put_on_mesh(data, mesh, split=False)


def baseline_makers(names: Iterable[str], table: FeatureTable) -> dict[str, Callable[[int], Pipeline]]:
    """Return functions that create unfitted baselines.

    Parameters
    ----------
    names : iterable of str
        Names of ``make_baseline``, of ``CLASSICAL_MODELS``, or ``COMPONENT_FOREST``.
    table : FeatureTable of n_cells
        The cells; the component forest needs the widths of the families.

    Returns
    -------
    dict of str to callable
        Functions from a seed to a scikit-learn pipeline, by the name of the model.
    """
    makers = {}
    for name in names:
        if name == COMPONENT_FOREST:
            makers[name] = partial(make_component_forest, family_widths(table))
        else:
            makers[name] = partial(make_classical_model if name in CLASSICAL_MODELS else make_baseline, name)
    return makers


def train_baselines(
    folder: RunFolder,
    comparison: ModelComparison,
    baselines: Mapping[str, Callable[[int], Pipeline]],
    *,
    with_validation: bool,
    cross_calibrated: Container[str] = (),
) -> None:
    """Fit scikit-learn models on every split and add them to a comparison.

    Parameters
    ----------
    folder : RunFolder
        The run folder.
    comparison : ModelComparison
        The comparison that the models are added to.
    baselines : mapping of str to callable
        Functions from a seed to an unfitted pipeline, by the name of the model.
    with_validation : bool
        Train on the validation cells too; these models select nothing. Otherwise the validation cells calibrate them.
    cross_calibrated : container of str, default ()
        Names of the models that, with ``with_validation``, are calibrated by inner folds: copies that are trained without
        a cell predict it.
    """
    values, codes, n_classes = comparison.table.values, comparison.codes, len(comparison.classes)
    for name, make in baselines.items():
        for key, split in track_splits(folder, comparison, name):
            train, validation = split.train, split.validation
            if with_validation:
                rows = np.sort(np.concatenate([train, validation]))
                probability = fit_predict_proba(make(key.seed), values, codes, rows, split.test, n_classes)
                calibration = _cross_calibration(comparison, make, key, rows) if name in cross_calibrated else None
            else:
                query = np.concatenate([split.test, validation])
                both = fit_predict_proba(make(key.seed), values, codes, train, query, n_classes)
                probability, calibration = np.split(both, [len(split.test)])
                calibration = CalibrationRows(validation, calibration)
            comparison.add(name, key, probability, calibration)


def track_splits(folder: RunFolder, comparison: ModelComparison, name: str) -> Iterator[tuple[SplitKey, Split]]:
    """Iterate over the splits of a comparison with a progress bar, and print the time that this took.

    Parameters
    ----------
    folder : RunFolder
        The run folder.
    comparison : ModelComparison
        The comparison.
    name : str
        Title of the bar: the model that is fitted.

    Yields
    ------
    key : SplitKey
        Kind, seed and fold.
    split : Split
        The rows.
    """
    start = time.perf_counter()
    yield from folder.track(comparison.splits.items(), name)
    folder.print(f"{name}: {len(comparison.splits)} splits in {time.perf_counter() - start:.0f} s")


def save_model(
    folder: RunFolder, comparison: ModelComparison, trained: TrainedGrid, runs: Int[np.ndarray, "some"]
) -> None:
    """Write an ensemble of some runs as ``model/``.

    Parameters
    ----------
    folder : RunFolder
        The run folder.
    comparison : ModelComparison
        The cells and their splits.
    trained : TrainedGrid
        The trained networks.
    runs : int array
        Indices of the runs of the ensemble.
    """
    model = PatchSeqClassifier(hidden=trained.network.hidden, token=trained.network.token, seeds=len(runs))
    splits = [comparison.splits[key] for key in trained.keys]
    model.keep_runs(trained.result, trained.inputs, comparison.table, splits, runs)  # predicts: all hosts take part
    if folder.is_first_host:
        model.save(folder.path / "model", overwrite=True)


def class_attention(
    comparison: ModelComparison, trained: TrainedGrid, runs: Int[np.ndarray, "some"]
) -> Float[np.ndarray, "some class family"]:
    """Return the attention of runs to each family, the mean over the test cells of each class.

    Parameters
    ----------
    comparison : ModelComparison
        The cells and their splits.
    trained : TrainedGrid
        The trained networks.
    runs : int array
        Indices of the runs.

    Returns
    -------
    array of shape (run, class, family)
        Mean attention weights.
    """
    means = []
    for run in runs:
        test = comparison.splits[trained.keys[run]].test
        attention, codes = trained.prediction.attention[run, : len(test)], comparison.codes[test]
        means.append([attention[codes == code].mean(axis=0) for code in range(len(comparison.classes))])
    return np.array(means)


def _held_out_rows(splits: Sequence[Split]) -> RowSet:
    """The test rows of each run, followed by its validation rows."""
    return stack_rows([plain_rows(np.concatenate([split.test, split.validation])) for split in splits])


def _cross_calibration(
    comparison: ModelComparison, make: Callable, key: SplitKey, rows: Int[np.ndarray, "some"]
) -> CalibrationRows:
    """Predict each of the rows by a model trained on the others, in inner folds of the same kind as the split."""
    table, codes, n_classes = comparison.table, comparison.codes[rows], len(comparison.classes)
    groups = None if key.kind == "cell" or table.donor is None else table.donor[rows]
    probability = np.zeros((len(rows), n_classes), np.float32)
    for fold in k_folds(codes, INNER_FOLDS, key.seed, groups=groups):
        train = np.concatenate([fold.train, fold.validation])
        model = make(key.seed)
        probability[fold.test] = fit_predict_proba(model, table.values[rows], codes, train, fold.test, n_classes)
    return CalibrationRows(rows, probability)
