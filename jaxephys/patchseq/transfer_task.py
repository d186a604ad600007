"""The transfer task: one encoder learns from the cells of two species, with a classification head for each.

    loss = CE_human + alpha CE_mouse,   each the class-weighted mean over the cells of that species in the batch

``alpha`` is a constant of the run: with 0 only human cells count, so that a grid over alpha and its control are one program.
Runs without rows of one species (pretraining, fine-tuning) are the same task; the term without cells is 0.

A step of joint training has one batch of each species, and the human cells start again until the mouse cells are used up. A row of
its table is therefore a pair, a mouse cell with a human cell as its partner; `make_transfer_task` with ``paired`` gathers both.

Deviation: a human cell may be in a batch twice, since the repeated cells are shuffled as a whole, and pairs stay together through
the epochs. The last incomplete batch is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.compile_cache import memoize
from jaxephys.engine.rows import Rows, plain_rows, stack_inputs
from jaxephys.engine.task import Backend, Key, RowSet, RunInputs, Task, Variables
from jaxephys.patchseq.losses import cross_entropy, inverse_frequency_weights, weighted_accuracy, weighted_mean
from jaxephys.patchseq.network.classifier import SpeciesOutputs, TwoSpeciesNetwork
from jaxephys.patchseq.network.dropout import DEFAULT_RATES, DropoutRates
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.preprocessing import Scale, apply_scale, fit_z_score, missing_flags
from jaxephys.patchseq.task import apply_network, network_for_backend, pack_scale, searchable_rates, validation_scores
from jaxephys.schemas.feature_table import FeatureTable

MOUSE = "mouse"


@dataclass(frozen=True)
class TransferRun:
    """The cells that one run is trained and validated on.

    Parameters
    ----------
    validation : array of int
        Indices of the cells that select the epoch: human ones, or mouse ones in pretraining.
    human, mouse : array of int, default empty
        Indices of the training cells of each species.
    alpha : float, default 1.0
        Weight of the mouse cells in the loss.
    by_accuracy : bool, default False
        Select the epoch by accuracy, as the published network of human cells only does; otherwise by macro-F1.
    """

    validation: Rows
    human: Rows = field(default_factory=lambda: np.array([], np.int32))
    mouse: Rows = field(default_factory=lambda: np.array([], np.int32))
    alpha: float = 1.0
    by_accuracy: bool = False


class SpeciesConstants(NamedTuple):
    """Constants that are fitted to the training cells of one species.

    Parameters
    ----------
    scale : ZScore or LogZScore
        Scale in the packed layout.
    class_weight : array of shape (run, class)
        Inverse-frequency weight of each class in the loss.
    """

    scale: Scale
    class_weight: Float[AnyArray, "*run class"]


class TransferConstants(NamedTuple):
    """The constants in which runs differ.

    Parameters
    ----------
    human, mouse : SpeciesConstants
        Scale and class weights of each species.
    alpha : array of shape (run,)
        Weight of the mouse cells in the loss.
    by_accuracy : bool array of shape (run,)
        Whether accuracy, instead of macro-F1, selects the epoch.
    dropout : array of shape (run,)
        Rate of the dropout before each head.
    input_dropout : array of shape (run,)
        Rate of the dropout of the inputs, which only our encoder has.
    """

    human: SpeciesConstants
    mouse: SpeciesConstants
    alpha: Float[AnyArray, "*run"]
    by_accuracy: Bool[AnyArray, "*run"]
    dropout: Float[AnyArray, "*run"]
    input_dropout: Float[AnyArray, "*run"]


class TransferData(NamedTuple):
    """The cells of both species, stored on the device once for all runs.

    Parameters
    ----------
    packed : array of shape (cell, packed)
        Features in the order of the network's layout, not scaled, NaN where a value is missing.
    label : array of int, shape (cell,)
        Class of each cell.
    mouse : bool array of shape (cell,)
        Whether the cell is from a mouse.
    """

    packed: Float[AnyArray, "cell packed"]
    label: Int[AnyArray, "cell"]
    mouse: Bool[AnyArray, "cell"]


class TransferBatch(NamedTuple):
    """The rows of one step of one run.

    Parameters
    ----------
    x : array of shape (row, packed)
        Features, each cell scaled by its own species.
    missing : array of shape (row, packed)
        1 where a value is missing in a flagged column.
    label : array of int, shape (row,)
        Class of each row.
    mouse : bool array of shape (row,)
        Whether the row is from a mouse.
    weight : array of shape (row,)
        Weight of each row; 0 for padding.
    class_weight : array of shape (row,)
        Weight of the row's class within its species.
    constants : TransferConstants
        The constants of the run.
    """

    x: Float[Array, "row packed"]
    missing: Float[Array, "row packed"]
    label: Int[Array, "row"]
    mouse: Bool[Array, "row"]
    weight: Float[Array, "row"]
    class_weight: Float[Array, "row"]
    constants: TransferConstants


@memoize
def make_transfer_task(network: TwoSpeciesNetwork, paired: bool = False) -> Task:
    """Return the functions with which the engine trains a network of two species.

    Parameters
    ----------
    network : TwoSpeciesNetwork
        The network, without parameters.
    paired : bool, default False
        A training row is a pair of cells (see ``training_rows``), so that a step has ``batch_size`` cells of each species.
        Rows of validation and prediction are single cells.

    Returns
    -------
    Task
        The functions of one run, on ``TransferData`` and ``TransferConstants``; ``outputs`` are the probabilities of both
        heads (``SpeciesOutputs``). Validation uses the head of each cell's own species and includes "selection".
    """

    def init(key: Key) -> Variables:
        nothing = jnp.zeros((1, network.layout.size))
        return dict(network.init(key, nothing, nothing, train=False))

    def gather(data: TransferData, constants: TransferConstants, rows: RowSet, key: Key | None) -> TransferBatch:
        if paired and key is not None:
            rows = join_pairs(rows)
        values, label, mouse = data.packed[rows.index], data.label[rows.index], data.mouse[rows.index]
        human_part, mouse_part = constants.human, constants.mouse
        scale = jax.tree.map(lambda a, b: jnp.where(mouse[:, None], b, a), human_part.scale, mouse_part.scale)
        is_row = rows.weight[:, None] > 0  # padding points at row 0, which may be a test row
        x, missing = (jnp.where(is_row, transform(values, scale), 0.0) for transform in (apply_scale, missing_flags))
        class_weight = jnp.where(mouse, mouse_part.class_weight[label], human_part.class_weight[label])
        return TransferBatch(x, missing, label, mouse, rows.weight, class_weight, constants)

    def apply(variables: Variables, batch: TransferBatch, key: Key | None) -> SpeciesOutputs:
        rates = DropoutRates(batch.constants.dropout, batch.constants.input_dropout)
        return apply_network(network, variables, key, batch.x, batch.missing, rates)

    def loss(variables: Variables, batch: TransferBatch, key: Key):
        logits = select_head(apply(variables, batch, key), batch.mouse)
        row_losses, weight = cross_entropy(logits, batch.label), batch.weight * batch.class_weight
        human, mouse = (weighted_mean(row_losses, weight * member) for member in (~batch.mouse, batch.mouse))
        accuracy = weighted_accuracy(logits, batch.label, batch.weight)
        return human + batch.constants.alpha * mouse, ({}, {"accuracy": accuracy})

    def outputs(variables: Variables, batch: TransferBatch) -> SpeciesOutputs:
        return jax.tree.map(jax.nn.softmax, apply(variables, batch, None))

    def validate(
        variables: Variables, data: TransferData, constants: TransferConstants, rows: RowSet
    ) -> dict[str, Float[Array, ""]]:
        def probability(block: RowSet) -> Float[Array, "row class"]:
            return select_head(outputs(variables, gather(data, constants, block, None)), data.mouse[block.index])

        return validation_scores(probability, data.label, rows, constants.by_accuracy)

    def for_backend(backend: Backend) -> Task:
        return make_transfer_task(network_for_backend(network, backend), paired)

    searchable = searchable_rates(network)
    return Task(init, gather, loss, outputs, validate, for_backend=for_backend, searchable=searchable)


def select_head(output: SpeciesOutputs, mouse: Bool[Array, "row"]) -> Float[Array, "row class"]:
    """Return for each row the output of the head of its own species; the other head receives no gradient from the row.

    Parameters
    ----------
    output : SpeciesOutputs
        Outputs of both heads, shape (row, class).
    mouse : bool array of shape (row,)
        Whether the row is from a mouse.

    Returns
    -------
    array of shape (row, class)
        The selected outputs.
    """
    return jnp.where(mouse[:, None], output.mouse, output.human)


def make_transfer_data(table: FeatureTable) -> TransferData:
    """Return the arrays of a table of two species that all runs share.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Labelled cells of both species.

    Returns
    -------
    TransferData
        Features in the layout, class codes and species.
    """
    return TransferData(RaggedLayout.from_widths(table.widths).pack(table.values), table.codes(), is_mouse(table))


def is_mouse(table: FeatureTable) -> Bool[np.ndarray, "cell"]:
    """Return which cells of a table are from a mouse.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Cells of both species.

    Returns
    -------
    bool array of shape (cell,)
        True for mouse cells.

    Raises
    ------
    ValueError
        If all cells, or none, are from a mouse.
    """
    mouse = np.zeros(len(table), bool) if table.species is None else table.species == MOUSE
    if mouse.all() or not mouse.any():
        raise ValueError(f"{mouse.sum()} of {len(table)} cells are from a mouse: give a table of both species")
    return mouse


def human_cells_first(table: FeatureTable, *, sncg_as_lamp5: bool = False) -> FeatureTable:
    """Sort the cells of a table by species.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Labelled cells of both species.
    sncg_as_lamp5 : bool, default False
        Replace the labels by the text column ``subclass5`` with Sncg cells as Lamp5, as the released code does.

    Returns
    -------
    FeatureTable
        Human cells, then mouse cells, each in the order of the table.
    """
    if sncg_as_lamp5:
        names = table.about["subclass5"]
        table = table.with_label(np.where(names == "Sncg", "Lamp5", names))
    return table.rows(np.argsort(is_mouse(table), kind="stable"))


def make_transfer_inputs(
    table: FeatureTable,
    runs: Sequence[TransferRun],
    *,
    fit_scale: Callable[[np.ndarray], Scale] = fit_z_score,
    dropout: float = DEFAULT_RATES.hidden,
) -> RunInputs:
    """Return the rows and constants of every run.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Labelled cells of both species.
    runs : sequence of TransferRun
        The cells and settings of each run.
    fit_scale : callable, default fit_z_score
        Fits a scale to the features of training cells of one species, shape (row, column).
    dropout : float, default 0.2
        Rate of the dropout before each head.

    Returns
    -------
    RunInputs
        Row tables and ``TransferConstants``, stacked over runs. Scale and class weights of a species are fitted to the
        training cells of that species in the run.
    """
    fitted: dict[bytes, SpeciesConstants] = {}  # runs share the cells of their fold, or of their seed
    for rows in (rows for run in runs for rows in (run.human, run.mouse)):
        if rows.tobytes() not in fitted:
            fitted[rows.tobytes()] = fit_species(table, rows, fit_scale)
    constants = [
        TransferConstants(
            fitted[run.human.tobytes()],
            fitted[run.mouse.tobytes()],
            np.float32(run.alpha),
            np.bool_(run.by_accuracy),
            np.float32(dropout),
            np.float32(DEFAULT_RATES.inputs),
        )
        for run in runs
    ]
    return stack_inputs([training_rows(run) for run in runs], [plain_rows(run.validation) for run in runs], constants)


def training_rows(run: TransferRun) -> RowSet:
    """Return the training rows: pairs of a mouse and a human cell, or the cells of the only species.

    Parameters
    ----------
    run : TransferRun
        The cells of a run.

    Returns
    -------
    RowSet
        Rows of weight 1. A pair has the mouse cell as ``index`` and the human cell as ``partner``; the cells of the species with
        fewer of them are repeated.
    """
    if not len(run.human) or not len(run.mouse):
        return plain_rows(np.concatenate([run.human, run.mouse]))
    length = max(len(run.human), len(run.mouse))
    return plain_rows(np.resize(run.mouse, length))._replace(partner=np.resize(run.human, length).astype(np.int32))


def join_pairs(rows: RowSet) -> RowSet:
    """Return pairs of cells as single rows: the cells of ``index``, followed by those of ``partner``.

    Parameters
    ----------
    rows : RowSet of n_pairs
        Pairs of ``training_rows``.

    Returns
    -------
    RowSet of 2 * n_pairs
        Rows with the weight of their pair.
    """
    index = jnp.concatenate([rows.index, rows.partner])
    return RowSet(index, jnp.tile(rows.weight, 2), index, jnp.tile(rows.mix, 2))


def fit_species(
    table: FeatureTable, rows: Rows, fit_scale: Callable[[np.ndarray], Scale] = fit_z_score
) -> SpeciesConstants:
    """Fit scale and class weights to training cells of one species.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Labelled cells.
    rows : array of int
        Indices of the training cells; none in a run without cells of the species, which gets neutral constants.
    fit_scale : callable, default fit_z_score
        Fits the scale.

    Returns
    -------
    SpeciesConstants
        Scale in the packed layout and class weights.
    """
    n_classes = len(table.classes)
    values = table.values[rows] if len(rows) else np.zeros((1, table.values.shape[1]), np.float32)
    counts = np.bincount(table.codes()[rows], minlength=n_classes) if len(rows) else np.ones(n_classes)
    layout = RaggedLayout.from_widths(table.widths)
    return SpeciesConstants(pack_scale(fit_scale(values), layout), inverse_frequency_weights(counts))
