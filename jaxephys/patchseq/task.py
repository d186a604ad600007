"""The classification tasks: what the engine needs to train ``SubclassNetwork`` or ``TabularNetwork`` on a table of cells.

``make_task`` gives the five functions of one run, ``make_data`` the arrays that all runs share, and ``make_run_inputs`` the rows
and constants in which runs differ; ``make_tabular_task`` and ``make_tabular_inputs`` are those of the multilayer perceptron,
whose data are ``CellData`` in the order of the table. Everything that is fitted to data is fitted to the training rows of the
run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.compile_cache import memoize
from jaxephys.engine.rows import map_row_blocks, plain_rows, stack_inputs, take_rows
from jaxephys.engine.task import Backend, Key, RowSet, RunInputs, Task, Variables
from jaxephys.evaluation import metrics
from jaxephys.evaluation.splits import Split
from jaxephys.patchseq.losses import (
    effective_number_weights,
    focal,
    inverse_frequency_weights,
    weighted_accuracy,
    weighted_mean,
)
from jaxephys.patchseq.network.classifier import (
    NetworkOutput,
    NetworkSwitches,
    SubclassNetwork,
    TabularNetwork,
    TwoSpeciesNetwork,
)
from jaxephys.patchseq.network.dropout import DEFAULT_RATES, DropoutRates
from jaxephys.patchseq.network.forms import choose_form
from jaxephys.patchseq.network.heads import ARCFACE_SCALE, arcface_logits
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.preprocessing import Scale, apply_scale, fit_signed_log, fit_z_score, missing_flags
from jaxephys.schemas.feature_table import FeatureTable

N = TypeVar("N", SubclassNetwork, TwoSpeciesNetwork, TabularNetwork)
BLOCK = 256  # cells that are scored at a time
LABEL_SMOOTHING = 0.05  # transcriptomic types are not certain either
SELECTIONS = ("macro_f1", "accuracy")
CLASS_WEIGHTS = {
    "none": lambda counts: np.ones(len(counts), np.float32),
    "inverse": inverse_frequency_weights,
    "effective": effective_number_weights,
}


@dataclass(frozen=True)
class Variant:
    """The choices in which the variants of an ablation differ. All variants are trained in one program.

    Parameters
    ----------
    attention : bool, default True
        Pool the families by attention; False pools with fixed weights (see ``SubclassNetwork``).
    arcface : bool, default False
        Use the ArcFace head instead of the softmax head.
    smote : bool, default False
        Add synthetic training cells to the smaller classes.
    gamma : float, default 0.0
        Exponent of the focal loss; 0 is cross-entropy.
    weights : {"none", "inverse", "effective"}, default "none"
        Class weights of the loss: equal, by inverse frequency, or by the effective number of cells.
    selection : {"macro_f1", "accuracy"}, default "macro_f1"
        Validation score that selects the epoch, where ``TrainConfig.monitor`` is "selection".

    Raises
    ------
    ValueError
        If ``weights`` or ``selection`` is unknown.
    """

    attention: bool = True
    arcface: bool = False
    smote: bool = False
    gamma: float = 0.0
    weights: str = "none"
    selection: str = "macro_f1"

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise ValueError(f"selection by {self.selection!r} is unknown: choose one of {', '.join(SELECTIONS)}")
        if self.weights not in CLASS_WEIGHTS:
            raise ValueError(f"class weights {self.weights!r} are unknown: choose one of {', '.join(CLASS_WEIGHTS)}")


ABLATION = {  # the four variants of the published ablation
    "bilstm": Variant(attention=False),
    "attention": Variant(),
    "attention+smote": Variant(smote=True),
    "arcface+smote": Variant(arcface=True, smote=True, gamma=2.0, weights="effective"),
}


class CellData(NamedTuple):
    """The cells of a table, stored on the device once for all runs.

    Parameters
    ----------
    packed : array of shape (cell, packed)
        Features in the order of the network's layout, not scaled, NaN where a value is missing.
    label : array of int, shape (cell,)
        Class of each cell; zeros for a table without labels.
    """

    packed: Float[AnyArray, "cell packed"]
    label: Int[AnyArray, "cell"]


class CellConstants(NamedTuple):
    """The constants in which runs differ.

    Parameters
    ----------
    scale : ZScore, LogZScore or SignedLog
        Scale fitted to the training rows of the run, in the packed layout.
    switches : NetworkSwitches
        Parts of the network that the run uses.
    gamma : array of shape (run,)
        Exponent of the focal loss.
    class_weight : array of shape (run, class)
        Weight of each class in the loss.
    by_accuracy : bool array of shape (run,)
        Whether accuracy, instead of macro-F1, selects the epoch where ``TrainConfig.monitor`` is "selection".
    dropout : array of shape (run,)
        Rate of the dropout before the softmax head.
    input_dropout : array of shape (run,)
        Rate of the dropout of the inputs, which only our encoder has.
    """

    scale: Scale
    switches: NetworkSwitches
    gamma: Float[AnyArray, "*run"]
    class_weight: Float[AnyArray, "*run class"]
    by_accuracy: Bool[AnyArray, "*run"]
    dropout: Float[AnyArray, "*run"]
    input_dropout: Float[AnyArray, "*run"]


class CellBatch(NamedTuple):
    """The rows of one step of one run.

    Parameters
    ----------
    x : array of shape (row, packed)
        Scaled features.
    missing : array of shape (row, packed)
        1 where a value is missing in a flagged column.
    label : array of int, shape (row,)
        Class of each row.
    weight : array of shape (row,)
        Weight of each row; 0 for padding.
    constants : CellConstants
        The constants of the run.
    """

    x: Float[AnyArray, "row packed"]
    missing: Float[AnyArray, "row packed"]
    label: Int[AnyArray, "row"]
    weight: Float[AnyArray, "row"]
    constants: CellConstants


class Prediction(NamedTuple):
    """Predictions of a trained network for rows of cells.

    Parameters
    ----------
    probability : array of shape (run, row, class)
        Class probabilities.
    attention : array of shape (run, row, family)
        Weights of the families; they sum to 1.
    embedding : array of shape (run, row, 2 * hidden)
        The pooled vector before the head.
    """

    probability: Float[AnyArray, "*run row class"]
    attention: Float[AnyArray, "*run row family"]
    embedding: Float[AnyArray, "*run row pooled"]


class TabularConstants(NamedTuple):
    """The constants in which runs of a tabular network differ.

    Parameters
    ----------
    scale : ZScore, SignedLog or Quantiles
        Scale fitted to the training rows of the run.
    dropout : array of shape (run,)
        Rate of the dropout after each hidden layer.
    input_dropout : array of shape (run,)
        Rate of the dropout of the inputs.
    label_smoothing : array of shape (run,)
        Share of the target that is spread over all classes.
    """

    scale: Scale
    dropout: Float[AnyArray, "*run"]
    input_dropout: Float[AnyArray, "*run"]
    label_smoothing: Float[AnyArray, "*run"]


class TabularBatch(NamedTuple):
    """The rows of one step of one run.

    Parameters
    ----------
    x : array of shape (row, 2 * column)
        Scaled features, then the flags of missing values.
    label : array of int, shape (row,)
        Class of each row.
    weight : array of shape (row,)
        Weight of each row; 0 for padding.
    constants : TabularConstants
        The constants of the run.
    """

    x: Float[Array, "row column"]
    label: Int[Array, "row"]
    weight: Float[Array, "row"]
    constants: TabularConstants


@memoize
def make_task(network: SubclassNetwork) -> Task:
    """Return the functions with which the engine trains a network on cells.

    Parameters
    ----------
    network : SubclassNetwork
        The network, without parameters. Equal networks share one task, so that their programs are compiled once.

    Returns
    -------
    Task
        ``init``, ``gather``, ``loss``, ``outputs`` (a ``Prediction``) and ``validate`` of one run, on ``CellData`` and
        ``CellConstants``. Validation scores are those of ``classification_scores``, and "selection".
    """

    def init(key: Key) -> Variables:
        switches, nothing = NetworkSwitches(jnp.asarray(True), jnp.asarray(False)), jnp.zeros((1, network.layout.size))
        return dict(network.init(key, nothing, nothing, switches, train=False))

    def gather(data: CellData, constants: CellConstants, rows: RowSet, key: Key | None) -> CellBatch:
        del key  # no random numbers are needed
        is_row = rows.weight[:, None] > 0  # padding points at row 0, which may be a test row
        x, missing = (
            jnp.where(is_row, take_rows(data.packed, rows, partial(transform, scale=constants.scale)), 0.0)
            for transform in (apply_scale, missing_flags)
        )
        return CellBatch(x, missing, data.label[rows.index], rows.weight, constants)

    def apply(variables: Variables, batch: CellBatch, key: Key | None) -> NetworkOutput:
        constants = batch.constants
        rates = DropoutRates(constants.dropout, constants.input_dropout)
        return apply_network(network, variables, key, batch.x, batch.missing, constants.switches, rates)

    def loss(variables: Variables, batch: CellBatch, key: Key):
        constants, output = batch.constants, apply(variables, batch, key)
        with_margin = arcface_logits(output.cosine, batch.label)
        logits = jnp.where(constants.switches.arcface, with_margin, output.linear)
        row_losses = focal(logits, batch.label, constants.gamma)
        value = weighted_mean(row_losses, batch.weight * constants.class_weight[batch.label])
        return value, ({}, {"accuracy": weighted_accuracy(logits, batch.label, batch.weight)})

    def outputs(variables: Variables, batch: CellBatch) -> Prediction:
        output = apply(variables, batch, None)
        logits = jnp.where(batch.constants.switches.arcface, ARCFACE_SCALE * output.cosine, output.linear)
        return Prediction(jax.nn.softmax(logits, axis=-1), output.attention, output.pooled)

    def validate(
        variables: Variables, data: CellData, constants: CellConstants, rows: RowSet
    ) -> dict[str, Float[Array, ""]]:
        def probability(block: RowSet) -> Float[Array, "row class"]:
            return outputs(variables, gather(data, constants, block, None)).probability

        return validation_scores(probability, data.label, rows, constants.by_accuracy)

    def for_backend(backend: Backend) -> Task:
        return make_task(network_for_backend(network, backend))

    searchable = ("gamma", *searchable_rates(network))
    return Task(init, gather, loss, outputs, validate, for_backend=for_backend, searchable=searchable)


def searchable_rates(network: SubclassNetwork | TwoSpeciesNetwork) -> tuple[str, ...]:
    """Return the names of the dropout rates that a network uses.

    Parameters
    ----------
    network : SubclassNetwork or TwoSpeciesNetwork
        The network.

    Returns
    -------
    tuple of str
        Names of fields of ``CellConstants`` or ``TransferConstants``. The published encoder drops no inputs.
    """
    return ("dropout",) if network.token is None else ("dropout", "input_dropout")


def network_for_backend(network: N, backend: Backend) -> N:
    """Return a network with its operations in the form that suits a backend.

    Parameters
    ----------
    network : SubclassNetwork, TwoSpeciesNetwork or TabularNetwork
        The network.
    backend : Backend
        What its programs are compiled for.

    Returns
    -------
    flax module
        The network with the form of ``choose_form``. Its parameters have the same names and shapes.
    """
    return network.copy(form=choose_form(backend.platform, backend.precision))


def apply_network(network: nn.Module, variables: Variables, key: Key | None, *inputs: Any) -> Any:
    """Apply a network to a batch, with dropout in training and without it in prediction.

    Parameters
    ----------
    network : flax module
        Its call has the keyword argument ``train``.
    variables : dict
        Variables of one run.
    key : key or None
        Random numbers of the dropout; None in prediction.
    *inputs : pytree of arrays
        Inputs of the network.

    Returns
    -------
    pytree of arrays
        Output of the network.
    """
    return _jitted_apply(network)(variables, key, *inputs)


@memoize
def _jitted_apply(network: nn.Module) -> Callable[..., Any]:
    """The network as a function that is traced once for each shape, where the engine traces a training step several times."""

    def apply(variables: Variables, key: Key | None, *inputs: Any) -> Any:
        return network.apply(variables, *inputs, train=key is not None, rngs=None if key is None else {"dropout": key})

    return jax.jit(apply)


def validation_scores(
    probability: Callable[[RowSet], Array], label: Int[AnyArray, "cell"], rows: RowSet, by_accuracy: Bool[AnyArray, ""]
) -> dict[str, Float[Array, ""]]:
    """Score the validation rows of a run, a block of rows at a time.

    Parameters
    ----------
    probability : callable
        Class probabilities of a block of rows, shape (row, class).
    label : array of int, shape (cell,)
        Class of each cell.
    rows : RowSet
        The validation rows.
    by_accuracy : bool scalar array
        Whether accuracy, instead of macro-F1, is the score "selection".

    Returns
    -------
    dict of str to scalar array
        The metrics of ``classification_scores``, and "selection".
    """
    predicted = map_row_blocks(probability, rows, BLOCK)
    scores = metrics.classification_scores(label[rows.index], predicted, rows.weight)
    return scores | {"selection": jnp.where(by_accuracy, scores["accuracy"], scores["macro_f1"])}


def make_data(table: FeatureTable) -> CellData:
    """Return the arrays of a table that all runs share.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Cells, with or without labels.

    Returns
    -------
    CellData
        Features in the layout of networks for this table, and class codes.
    """
    label = np.zeros(len(table), np.int32) if table.label is None else table.codes()
    return CellData(RaggedLayout.from_widths(table.widths).pack(table.values), label)


def make_run_inputs(
    table: FeatureTable,
    splits: Sequence[Split],
    variants: Sequence[Variant],
    seeds: Sequence[int],
    *,
    fit_scale: Callable[[np.ndarray], Scale] = fit_z_score,
    dropout: float = DEFAULT_RATES.hidden,
) -> RunInputs:
    """Return the rows and constants of every run.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Labelled cells.
    splits : sequence of Split, one per run
        Training and validation rows; the test rows are not used.
    variants : sequence of Variant, one per run
        The variant of each run.
    seeds : sequence of int, one per run
        Seed of SMOTE.
    fit_scale : callable, default fit_z_score
        Fits a scale to the features of training cells, shape (row, column).
    dropout : float, default 0.2
        Rate of the dropout before the softmax head.

    Returns
    -------
    RunInputs
        Row tables and ``CellConstants``, stacked over runs.

    Notes
    -----
    Class weights are counted after SMOTE, as published: with SMOTE the classes are even and the weights have no effect.
    """
    train, validation, constants = [], [], []
    prepared: dict[tuple, tuple] = {}  # variants share the scale of their fold, and the samples of SMOTE
    codes, layout = table.codes(), RaggedLayout.from_widths(table.widths)
    for split, variant, seed in zip(splits, variants, seeds, strict=True):
        key = (split.train.tobytes(), variant.smote, seed if variant.smote else None)
        if key not in prepared:
            scale, rows = fit_scale(table.values[split.train]), plain_rows(split.train)
            if variant.smote:
                from jaxephys.patchseq.oversampling import smote_rows  # imbalanced-learn is imported in 0.7 s

                rows = smote_rows(apply_scale(table.values, scale), codes, split.train, seed)
            prepared[key] = (rows, pack_scale(scale, layout))
        rows, scale = prepared[key]
        counts = np.bincount(codes[rows.index], minlength=len(table.classes))
        train.append(rows)
        validation.append(plain_rows(split.validation))
        constants.append(
            CellConstants(
                scale,
                NetworkSwitches(np.bool_(variant.attention), np.bool_(variant.arcface)),
                np.float32(variant.gamma),
                CLASS_WEIGHTS[variant.weights](counts),
                np.bool_(variant.selection == "accuracy"),
                np.float32(dropout),
                np.float32(DEFAULT_RATES.inputs),
            )
        )
    return stack_inputs(train, validation, constants)


def pack_scale(scale: Scale, layout: RaggedLayout) -> Scale:
    """Return a scale of table columns in the layout of a network.

    Parameters
    ----------
    scale : ZScore, LogZScore or SignedLog
        Scale with one entry per table column.
    layout : RaggedLayout
        The layout.

    Returns
    -------
    ZScore, LogZScore or SignedLog
        The scale with one entry per packed value; it maps the padding 0 to 0.
    """
    neutral = {"sd": 1.0, "unit": 1.0}
    packed = {name: layout.pack(column, neutral.get(name, 0.0)) for name, column in scale._asdict().items()}
    return scale._replace(**packed)


@memoize
def make_tabular_task(network: TabularNetwork, n_columns: int) -> Task:
    """Return the functions with which the engine trains a tabular network.

    Parameters
    ----------
    network : TabularNetwork
        The network, without parameters.
    n_columns : int
        Number of features of the table.

    Returns
    -------
    Task
        The functions of one run, on ``CellData`` and ``TabularConstants``; ``outputs`` are class probabilities of shape (row, class).
    """

    def init(key: Key) -> Variables:
        return dict(network.init(key, jnp.zeros((1, 2 * n_columns)), train=False))

    def gather(data: CellData, constants: TabularConstants, rows: RowSet, key: Key | None) -> TabularBatch:
        del key  # no random numbers are needed
        values, scale = data.packed[rows.index], constants.scale
        x = jnp.concatenate([apply_scale(values, scale), missing_flags(values, scale)], axis=1)
        x = jnp.where(rows.weight[:, None] > 0, x, 0.0)  # padding points at row 0, which may be a test row
        return TabularBatch(x, data.label[rows.index], rows.weight, constants)

    def apply(variables: Variables, batch: TabularBatch, key: Key | None) -> Float[Array, "row class"]:
        rates = DropoutRates(batch.constants.dropout, batch.constants.input_dropout)
        return apply_network(network, variables, key, batch.x, rates)

    def loss(variables: Variables, batch: TabularBatch, key: Key):
        logits, smoothing = apply(variables, batch, key), batch.constants.label_smoothing
        n_classes = logits.shape[-1]
        target = (1 - smoothing) * jax.nn.one_hot(batch.label, n_classes) + smoothing / n_classes
        row_losses = -(target * jax.nn.log_softmax(logits)).sum(axis=-1)
        accuracy = weighted_accuracy(logits, batch.label, batch.weight)
        return weighted_mean(row_losses, batch.weight), ({}, {"accuracy": accuracy})

    def outputs(variables: Variables, batch: TabularBatch) -> Float[Array, "row class"]:
        return jax.nn.softmax(apply(variables, batch, None))

    def validate(
        variables: Variables, data: CellData, constants: TabularConstants, rows: RowSet
    ) -> dict[str, Float[Array, ""]]:
        predicted = outputs(variables, gather(data, constants, rows, None))
        return metrics.classification_scores(data.label[rows.index], predicted, rows.weight)

    def for_backend(backend: Backend) -> Task:
        return make_tabular_task(network_for_backend(network, backend), n_columns)

    searchable = ("dropout", "input_dropout", "label_smoothing")
    return Task(init, gather, loss, outputs, validate, for_backend=for_backend, searchable=searchable)


def make_tabular_inputs(
    table: FeatureTable, splits: Sequence[Split], fit_scale: Callable[[np.ndarray], Scale] = fit_signed_log
) -> RunInputs:
    """Return the rows and the scale of every run.

    Parameters
    ----------
    table : FeatureTable of n_cells
        The cells.
    splits : sequence of Split, one per run
        Training and validation rows; the test rows are not used.
    fit_scale : callable, default fit_signed_log
        Fits a scale to the features of training cells, shape (row, column).

    Returns
    -------
    RunInputs
        Row tables and ``TabularConstants``, stacked over runs. Runs with the same training rows share a scale.
    """
    train = {split.train.tobytes(): split.train for split in splits}
    fitted = {key: fit_scale(table.values[rows]) for key, rows in train.items()}
    defaults = (DEFAULT_RATES.hidden, DEFAULT_RATES.inputs, LABEL_SMOOTHING)
    constants = [TabularConstants(fitted[split.train.tobytes()], *map(np.float32, defaults)) for split in splits]
    return stack_inputs(
        [plain_rows(split.train) for split in splits], [plain_rows(split.validation) for split in splits], constants
    )
