"""Grids of Patch-seq models: train the ablation, tabular networks and baselines on all splits, and collect their predictions.

``draw_splits`` makes the splits of a table, ``train_ablations``, ``train_tabular`` and ``train_baselines`` add models to a
``ModelComparison``. All runs of a network architecture (variants x splits x initial weights) are one program.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from rich.progress import track
from sklearn.pipeline import Pipeline

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import RunInputs, Task
from jaxephys.evaluation.baselines import fit_predict_proba, make_baseline
from jaxephys.evaluation.comparison import CalibrationRows, ModelComparison, SplitKey
from jaxephys.evaluation.splits import Split, hold_out, k_folds
from jaxephys.patchseq.classical_models import CLASSICAL_MODELS, make_classical_model
from jaxephys.patchseq.estimator import PatchSeqClassifier
from jaxephys.patchseq.network.classifier import SubclassNetwork
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.network.tabular import TabularNetwork
from jaxephys.patchseq.preprocessing import Scale
from jaxephys.patchseq.sparse_components import family_widths, make_component_forest
from jaxephys.patchseq.tabular_task import make_tabular_data, make_tabular_inputs, make_tabular_task
from jaxephys.patchseq.task import ABLATION, Variant, make_data, make_run_inputs, make_task
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from jaxephys.schemas.feature_table import FeatureTable

INNER_FOLDS = 5  # in which a baseline that trains on all but the test rows is calibrated
SELECTED_VARIANT = "attention"  # trained several times per split, averaged and saved
ATTENTION_ENSEMBLE = "attention ensemble"
COMPONENT_FOREST = "components + forest"  # the published baseline
TOKEN = 64  # values that each family is projected to


@dataclass(frozen=True)
class ComparisonSettings(Settings):
    """Settings of the experiments that compare all models on one table."""

    folds: tuple[Literal["cell", "donor"], ...] = ("cell", "donor")
    """What is held out: single cells, or all cells of a donor."""
    seeds: int = 10
    """Number of draws of the splits."""
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
    """A trained grid with the predictions of each run for cells that it was not trained on.

    Parameters
    ----------
    grid : RunGrid
        The runs.
    keys : list of SplitKey
        The split of each run.
    result : FitResult
        Result of the training.
    inputs : RunInputs
        Rows and constants of the runs.
    prediction : pytree of arrays of shape (run, row, ...)
        Outputs of the task for the test cells of the split, followed by its validation cells.
    """

    grid: RunGrid
    keys: list[SplitKey]
    result: FitResult
    inputs: RunInputs
    prediction: Any


def draw_splits(
    table: FeatureTable, kinds: Sequence[str], seeds: int, n_folds: int | None = None
) -> dict[SplitKey, Split]:
    """Draw the stratified splits of a table.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Labelled cells.
    kinds : sequence of {"cell", "donor"}
        What is held out: single cells, or all cells of a donor.
    seeds : int
        Number of draws of each kind; the seeds are 0, 1, ...
    n_folds : int, optional
        Number of folds of each draw. Without it each draw is a single split into 60 % training, 20 % validation and 20 %
        test cells.

    Returns
    -------
    dict of SplitKey to Split
        The splits.

    Raises
    ------
    ValueError
        If donors are to be held out of a table without donors, or a class is too small.
    """
    splits = {}
    for kind in kinds:
        if kind == "donor" and table.donor is None:
            raise ValueError("the table has no donors: use --folds cell, or give a table with donors")
        groups = table.donor if kind == "donor" else None
        for seed in range(seeds):
            if n_folds is None:
                drawn = [hold_out(table.codes(), seed, groups=groups)]
            else:
                drawn = k_folds(table.codes(), n_folds, seed, groups=groups)
            splits |= {SplitKey(kind, seed, fold): split for fold, split in enumerate(drawn)}
    return splits


def train_ablations(
    folder: RunFolder, comparison: ModelComparison, settings: ComparisonSettings, released: Ablation
) -> Float[np.ndarray, "class family"]:
    """Train the ablation with our encoder, with the published one and, on request, by the rules of the released code.

    The attention ensemble of the first kind of split and seed is saved as ``model/``.

    Parameters
    ----------
    folder : RunFolder
        The run folder.
    comparison : ModelComparison
        The comparison that the models are added to.
    settings : ComparisonSettings
        Settings of the experiment.
    released : Ablation
        The rules of the released code, used where ``settings.released`` is set.

    Returns
    -------
    array of shape (class, family)
        Mean attention of our networks to each family, for the test cells of each class.
    """
    config = TrainConfig(max_epochs=settings.max_epochs)
    trained = train_ablation(folder, comparison, Ablation(), config, settings)
    selected = trained.grid.where(variant=SELECTED_VARIANT)
    _add_mean_of_runs(comparison, ATTENTION_ENSEMBLE, trained, selected, trained.prediction.probability)
    comparison.add_average_ensemble(ATTENTION_ENSEMBLE, (ATTENTION_ENSEMBLE,))
    _save_model(folder, comparison, trained, settings)
    train_ablation(folder, comparison, Ablation("published ", token_encoder=False), config, settings)
    if settings.released:
        train_ablation(folder, comparison, released, replace(config, monitor="selection"), settings)
    return _mean_attention(comparison, trained)


def train_ablation(
    folder: RunFolder,
    comparison: ModelComparison,
    ablation: Ablation,
    config: TrainConfig,
    settings: ComparisonSettings,
) -> TrainedGrid:
    """Train the variants of an ablation on every split as one program, and add them to a comparison.

    Parameters
    ----------
    folder : RunFolder
        The run folder.
    comparison : ModelComparison
        The comparison that the variants are added to, by ``ablation.prefix`` and the name of the variant.
    ablation : Ablation
        The variants and their encoder.
    config : TrainConfig
        Settings of the training.
    settings : ComparisonSettings
        Size of the network and number of members.

    Returns
    -------
    TrainedGrid
        The runs and their predictions. The attention variant of our encoder has ``settings.members`` runs per split.
    """
    levels = [
        (variant, *key, member, key.seed + 1000 * member)
        for variant in ablation.variants
        for key in comparison.splits
        for member in range(settings.members if ablation.token_encoder and variant == SELECTED_VARIANT else 1)
    ]
    grid = RunGrid(("variant", "folds", "draw", "fold", "member", "seed"), tuple(levels))
    splits = [comparison.splits[key] for key in _split_keys(grid)]
    variants = [ablation.variants[name] for name in grid.column("variant")]
    table, layout = comparison.table, RaggedLayout.from_widths(comparison.table.widths)
    seeds, signed_log = grid.column("seed"), ablation.token_encoder
    inputs = make_run_inputs(table, layout, splits, variants, seeds, signed_log=signed_log)
    network = partial(SubclassNetwork, layout, len(comparison.classes))
    task = make_task(network(settings.hidden, token=TOKEN) if signed_log else network(2 * settings.hidden))
    data, name = make_data(table, layout), ablation.prefix.strip()
    trained = _train_grid(folder, comparison, name, task, data, inputs, grid, config)
    for name, variant in ablation.variants.items():
        model, runs = ablation.prefix + name, grid.where(variant=name, member=0)
        _add_mean_of_runs(comparison, model, trained, runs, trained.prediction.probability)
        if ablation.prior_power and variant.arcface:
            comparison.add_prior_weighted(model, model, ablation.prior_power)
    return trained


def train_tabular(
    folder: RunFolder,
    comparison: ModelComparison,
    name: str,
    fit_scale: Callable[[np.ndarray], Scale],
    config: TrainConfig,
    members: int,
) -> None:
    """Train tabular networks on every split and add their mean to a comparison.

    Parameters
    ----------
    folder : RunFolder
        The run folder.
    comparison : ModelComparison
        The comparison that the model is added to.
    name : str
        Name of the model.
    fit_scale : callable
        Fits the scale of the features, such as ``fit_signed_log``.
    config : TrainConfig
        Settings of the training.
    members : int
        Number of networks per split, which differ in their initial weights.
    """
    levels = [(*key, member) for key in comparison.splits for member in range(members)]
    grid = RunGrid(("folds", "draw", "fold", "seed"), tuple(levels))
    splits = [comparison.splits[key] for key in _split_keys(grid)]
    inputs = make_tabular_inputs(comparison.table, splits, fit_scale)
    network = TabularNetwork(len(comparison.classes))
    task, data = make_tabular_task(network, comparison.table.values.shape[1]), make_tabular_data(comparison.table)
    trained = _train_grid(folder, comparison, name.replace(" ", "_"), task, data, inputs, grid, config)
    _add_mean_of_runs(comparison, name, trained, range(len(grid)), trained.prediction)


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
    hidden = not folder.console.is_terminal
    for name, make in baselines.items():
        start = time.perf_counter()
        splits = comparison.splits.items()
        for key, split in track(splits, name, console=folder.console, disable=hidden, transient=True):
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
        folder.print(f"{name}: {len(comparison.splits)} splits in {time.perf_counter() - start:.0f} s")


def _train_grid(
    folder: RunFolder,
    comparison: ModelComparison,
    name: str,
    task: Task,
    data: Any,
    inputs: RunInputs,
    grid: RunGrid,
    config: TrainConfig,
) -> TrainedGrid:
    keys = _split_keys(grid)
    result = folder.fit(name or "ablation", task, data, inputs, grid, config, name)
    splits = [comparison.splits[key] for key in keys]
    rows = stack_rows([plain_rows(np.concatenate([split.test, split.validation])) for split in splits])
    return TrainedGrid(grid, keys, result, inputs, predict(task, data, result.best, rows, inputs.constants))


def _split_keys(grid: RunGrid) -> list[SplitKey]:
    return [SplitKey(run["folds"], run["draw"], run["fold"]) for run in grid]


def _add_mean_of_runs(
    comparison: ModelComparison, name: str, trained: TrainedGrid, runs: Iterable[int], probability: np.ndarray
) -> None:
    """Add a model: on each split the mean of the runs that belong to it."""
    for key, split in comparison.splits.items():
        mean = probability[[run for run in runs if trained.keys[run] == key]].mean(axis=0)
        test, validation = np.split(mean[: len(split.test) + len(split.validation)], [len(split.test)])
        comparison.add(name, key, test, CalibrationRows(split.validation, validation))


def _save_model(
    folder: RunFolder, comparison: ModelComparison, trained: TrainedGrid, settings: ComparisonSettings
) -> None:
    """Write ``model/``: an ensemble of the attention networks of all folds of the first seed."""
    runs: Int[np.ndarray, "run"] = trained.grid.where(variant=SELECTED_VARIANT, folds=comparison.kinds[0], draw=0)
    model = PatchSeqClassifier(hidden=settings.hidden, token=TOKEN, seeds=len(runs))
    splits = [comparison.splits[key] for key in trained.keys]
    model.keep_runs(trained.result, trained.inputs, comparison.table, splits, runs)  # predicts: all hosts take part
    if folder.is_first_host:
        model.save(folder.path / "model", overwrite=True)


def _mean_attention(comparison: ModelComparison, trained: TrainedGrid) -> Float[np.ndarray, "class family"]:
    """Mean over the test cells of each class, then over the runs of the first kind of split."""
    means = []
    for run in trained.grid.where(variant=SELECTED_VARIANT, folds=comparison.kinds[0]):
        test = comparison.splits[trained.keys[run]].test
        attention, codes = trained.prediction.attention[run, : len(test)], comparison.codes[test]
        means.append([attention[codes == code].mean(axis=0) for code in range(len(comparison.classes))])
    return np.mean(means, axis=0)


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
