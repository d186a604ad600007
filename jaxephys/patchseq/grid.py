"""Grids of Patch-seq models: train the ablation, tabular networks and baselines on all splits, and collect their predictions.

``train_grid`` trains the networks of one grid. ``ComparisonNetworks`` and ``train_baselines`` add models to a
``ModelComparison``. All runs of a network architecture (variants x splits x initial weights) are one program.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

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
from jaxephys.evaluation.splits import Split, SplitKey, draw_splits, k_folds
from jaxephys.patchseq.classical_models import CLASSICAL_MODELS, make_classical_model
from jaxephys.patchseq.estimator import PatchSeqClassifier
from jaxephys.patchseq.network.classifier import SubclassNetwork, TabularNetwork
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.preprocessing import Scale, fit_signed_log, fit_z_score
from jaxephys.patchseq.published import COMPONENT_FOREST, Ablation, Protocol, draw_notebook_splits
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
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from jaxephys.schemas.feature_table import FeatureTable

INNER_FOLDS = 5  # in which a baseline that trains on all but the test rows is calibrated
SELECTED_VARIANT = "attention"  # trained several times per split, averaged and saved
ATTENTION_ENSEMBLE = "attention ensemble"
TOKEN = 64  # values that each family is projected to
WITHOUT_NETWORKS, NETWORKS_ALONE = " without networks", ", networks alone"  # suffixes of the parts of an ensemble
CLASSICAL_ENSEMBLE = "classical ensemble"
OFFSETS = " + offsets"


@dataclass(frozen=True)
class SplitSettings(Settings):
    """Settings of the experiments that compare models on the same splits of a table."""

    folds: tuple[Literal["cell", "donor"], ...] = ("cell", "donor")
    """Unit of the splits: single cells, or all cells of a donor together."""
    seeds: int = 10
    """Number of draws of the splits."""
    notebook_splits: bool = False
    """Draw single cells as the released notebooks do, with their seeds (mouse 23, human 9, transfer 36 and up)."""

    def draw_splits(self, table: FeatureTable, first_seed: int, n_folds: int | None = None) -> dict[SplitKey, Split]:
        """Draw the splits of a table.

        Parameters
        ----------
        table : FeatureTable of n_cells
            Labelled cells.
        first_seed : int
            First seed of the notebook's splits; ours have the seeds 0, 1, ...
        n_folds : int, optional
            Number of folds of each draw; without it each draw is a single split into 60, 20 and 20 %.

        Returns
        -------
        dict of SplitKey to Split
            The splits.

        Raises
        ------
        ValueError
            If donors are to be held out in the notebook's splits.
        """
        if not self.notebook_splits:
            return draw_splits(table, self.folds, self.seeds, n_folds)
        if self.folds != ("cell",):
            raise ValueError("the notebooks hold out single cells: give --folds cell, or --no-notebook-splits")
        return draw_notebook_splits(table, self.seeds, first_seed, n_folds)


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


class NetworkRecord(NamedTuple):
    """What a row of a report was trained with.

    Parameters
    ----------
    network : str
        The architecture in words.
    variant : Variant or None
        Pooling, head and loss; None for a network that has no such choice.
    fit_scale : callable
        The function that fitted the scale of the features.
    config : TrainConfig
        Settings of the training.
    """

    network: str
    variant: Variant | None
    fit_scale: Callable[[np.ndarray], Scale]
    config: TrainConfig


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
    records : dict of str to NetworkRecord
        What each model was trained with, filled by the methods.
    ours : TrainedGrid, optional
        The ablation with our encoder, stored by ``train_ablations``.
    """

    folder: RunFolder
    comparison: ModelComparison
    settings: ComparisonSettings
    records: dict[str, NetworkRecord] = field(default_factory=dict)
    ours: TrainedGrid | None = None

    def train_ablations(self, protocol: Protocol) -> Float[np.ndarray, "class family"]:
        """Train the ablation with our encoder, as published and, on request, by the rules of the released code.

        Parameters
        ----------
        protocol : Protocol
            The networks as published, and as released, which are trained where ``settings.released`` is set.

        Returns
        -------
        array of shape (class, family)
            Mean attention of our networks to each family, for the test cells of each class.
        """
        comparison, kind = self.comparison, self.comparison.kinds[0]
        trained = self.ours = self._train_ablation(Ablation())
        grid = trained.result.grid
        selected = grid.where(variant=SELECTED_VARIANT)
        self._add_mean(ATTENTION_ENSEMBLE, trained.keys, selected, trained.prediction.probability)
        comparison.add_average_ensemble(ATTENTION_ENSEMBLE, (ATTENTION_ENSEMBLE,))
        self.records[ATTENTION_ENSEMBLE] = self.records[SELECTED_VARIANT]
        self._train_ablation(protocol.published)
        if self.settings.released:
            self._train_ablation(protocol.released)
        return class_attention(comparison, trained, grid.where(variant=SELECTED_VARIANT, folds=kind)).mean(axis=0)

    def save_ensemble(self) -> None:
        """Save the attention ensemble of the first kind of split and first draw as ``model/``; all hosts take part.

        Raises
        ------
        ValueError
            If no network was trained.
        """
        if self.ours is None:
            raise ValueError("there is no ensemble to save: call train_ablations first")
        grid, draw = self.ours.result.grid, self.ours.keys[0].seed
        runs = grid.where(variant=SELECTED_VARIANT, folds=self.comparison.kinds[0], draw=draw)
        save_model(self.folder, self.comparison, self.ours, runs)

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
        data = devices.put_on_devices(CellData(table.values, self.comparison.codes), len(grid))
        task = make_tabular_task(network, table.values.shape[1])
        result = self.folder.fit(task, data, inputs, grid, config, name.replace(" ", "_"))
        probability = predict(task, data, result.best, _held_out_rows(run_splits), inputs.constants)
        self._add_mean(name, keys, range(len(grid)), probability)
        self.records[name] = NetworkRecord("multilayer perceptron", None, fit_scale, config)

    def _train_ablation(self, ablation: Ablation) -> TrainedGrid:
        """Train the variants on every split as one program, and add them to the comparison.

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
        config, suffix = TrainConfig(max_epochs=settings.max_epochs, **ablation.training), ablation.prefix.strip()
        fit_scale = ablation.fit_scale
        trained = train_grid(
            self.folder, self.comparison, grid, keys, variants, hidden, token, config, suffix, fit_scale=fit_scale
        )
        for name, variant in ablation.variants.items():
            model, runs = ablation.prefix + name, grid.where(variant=name, member=0)
            self._add_mean(model, keys, runs, trained.prediction.probability)
            self.records[model] = NetworkRecord(describe_network(hidden, token), variant, fit_scale, config)
            if ablation.prior_power and variant.arcface:
                self.comparison.add_prior_weighted(model, model, ablation.prior_power)
        return trained

    def _add_mean(
        self, name: str, keys: Sequence[SplitKey], runs: range | Int[np.ndarray, "some"], probability: np.ndarray
    ) -> None:
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
    *,
    fit_scale: Callable[[np.ndarray], Scale] | None = None,
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
        Number of values that our encoder projects each family to. None selects the published encoder.
    config : TrainConfig
        Settings of the training.
    name : str, default ""
        Suffix of the files of a second grid in the folder.
    fit_scale : callable, optional
        Fits the scale of the features to the training cells of each run; by default ``fit_signed_log`` for our encoder and
        ``fit_z_score`` for the published one, the scales of the estimator.

    Returns
    -------
    TrainedGrid
        The runs and their predictions.
    """
    table, splits = comparison.table, [comparison.splits[key] for key in keys]
    layout = RaggedLayout.from_widths(table.widths)
    network = SubclassNetwork(layout, len(comparison.classes), hidden, token=token)
    fit_scale = fit_scale or (fit_z_score if token is None else fit_signed_log)
    inputs = make_run_inputs(table, splits, variants, grid.column("seed"), fit_scale=fit_scale)
    task, data = make_task(network), devices.put_on_devices(make_data(table), len(grid))
    training = {field: getattr(config, field) for field in ("max_epochs", "patience", "batch_size", "learning_rate")}
    template = PatchSeqClassifier(hidden=hidden, token=token, **training).run_template(inputs, table, variants)
    result = folder.fit(task, data, inputs, grid, config, name, template=template)
    prediction = predict(task, data, result.best, _held_out_rows(splits), inputs.constants)
    return TrainedGrid(network, task, data, list(keys), inputs, result, prediction)


def describe_network(hidden: int, token: int | None) -> str:
    """Return the architecture of a ``SubclassNetwork`` or ``TwoSpeciesNetwork`` in words.

    Parameters
    ----------
    hidden : int
        Hidden units of the LSTM in each direction.
    token : int or None
        Number of values that our encoder projects each family to; None for the published encoder.

    Returns
    -------
    str
        Such as "published encoder, BiLSTM of 2 x 128".

    Examples
    --------
    >>> describe_network(128, None), describe_network(64, 32)
    ('published encoder, BiLSTM of 2 x 128', 'our encoder (32 values a family), BiLSTM of 2 x 64')
    """
    encoder = "published encoder" if token is None else f"our encoder ({token} values a family)"
    return f"{encoder}, BiLSTM of 2 x {hidden}"


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


def add_ensembles(
    comparison: ModelComparison,
    name: str,
    members: Sequence[str],
    networks: Container[str] = (),
    *,
    classical: Sequence[str] = (),
    baselines: Sequence[str] = (),
) -> None:
    """Add an average ensemble, its parts, and baselines that are averaged and given class offsets in the same way.

    Whether a gain is due to the networks, to averaging or to the offsets can then be read from one table.

    Parameters
    ----------
    comparison : ModelComparison
        The comparison, with the calibration rows of all models that are named here.
    name : str
        Name of the ensemble.
    members : sequence of str
        Models that it averages.
    networks : container of str, default ()
        Those of them that are networks. Where there are others as well, both parts are added: ``"<name> without networks"`` and
        ``"<name>, networks alone"``.
    classical : sequence of str, default ()
        Models without a network that ``"classical ensemble"`` averages; by default it is not added.
    baselines : sequence of str, default ()
        Models that get class offsets, as the ensembles do, under ``"<model> + offsets"``.
    """
    ensembles = {name: members}
    alone = [member for member in members if member in networks]
    if alone and len(alone) < len(members):
        others = [member for member in members if member not in networks]
        ensembles |= {f"{name}{WITHOUT_NETWORKS}": others, f"{name}{NETWORKS_ALONE}": alone}
    if classical:
        ensembles[CLASSICAL_ENSEMBLE] = classical
    for ensemble, models in ensembles.items():
        comparison.add_average_ensemble(ensemble, models)
    for model in (*ensembles, *baselines):
        comparison.add_class_offsets(f"{model}{OFFSETS}", model)


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
