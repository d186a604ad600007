"""The classification task: what the engine needs to train ``SubclassNetwork`` on a table of cells.

``make_task`` gives the five functions of one run, ``make_data`` the arrays that all runs share, and ``make_run_inputs`` the rows
and constants in which runs differ. Everything that is fitted to data is fitted to the training rows of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.rows import map_row_blocks, plain_rows, stack_rows, take_rows
from jaxephys.engine.task import Key, RowSet, RunInputs, Task, Variables
from jaxephys.evaluation import metrics
from jaxephys.evaluation.splits import Split
from jaxephys.patchseq.losses import effective_number_weights, focal, inverse_frequency_weights, weighted_mean
from jaxephys.patchseq.network.classifier import NetworkOutput, NetworkSwitches, SubclassNetwork
from jaxephys.patchseq.network.heads import ARCFACE_SCALE, arcface_logits
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.oversampling import smote_rows
from jaxephys.patchseq.preprocessing import Scale, apply_scale, fit_signed_log, fit_z_score, missing_flags
from jaxephys.schemas.feature_table import FeatureTable

BLOCK = 256  # cells that are scored at a time
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
    "baseline": Variant(attention=False),
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
    scale : ZScore or SignedLog
        Scale fitted to the training rows of the run, in the packed layout.
    switches : NetworkSwitches
        Parts of the network that the run uses.
    gamma : array of shape (run,)
        Exponent of the focal loss.
    class_weight : array of shape (run, class)
        Weight of each class in the loss.
    by_accuracy : bool array of shape (run,)
        Whether accuracy, instead of macro-F1, selects the epoch where ``TrainConfig.monitor`` is "selection".
    """

    scale: Scale
    switches: NetworkSwitches
    gamma: Float[AnyArray, "*run"]
    class_weight: Float[AnyArray, "*run class"]
    by_accuracy: Bool[AnyArray, "*run"]


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


def make_task(network: SubclassNetwork) -> Task:
    """Return the functions with which the engine trains a network on cells.

    Parameters
    ----------
    network : SubclassNetwork
        The network, without parameters.

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
        rngs = None if key is None else {"dropout": key}
        switches, train = batch.constants.switches, key is not None
        output = network.apply(variables, batch.x, batch.missing, switches, train=train, rngs=rngs)
        return cast(NetworkOutput, output)  # without mutable collections, apply returns the output only

    def loss(variables: Variables, batch: CellBatch, key: Key):
        constants, output = batch.constants, apply(variables, batch, key)
        with_margin = arcface_logits(output.cosine, batch.label)
        logits = jnp.where(constants.switches.arcface, with_margin, output.linear)
        row_losses = focal(logits, batch.label, constants.gamma)
        value = weighted_mean(row_losses, batch.weight * constants.class_weight[batch.label])
        correct = (jnp.argmax(logits, axis=-1) == batch.label).astype(jnp.float32)
        return value, ({}, {"accuracy": weighted_mean(correct, batch.weight)})

    def outputs(variables: Variables, batch: CellBatch) -> Prediction:
        output = apply(variables, batch, None)
        logits = jnp.where(batch.constants.switches.arcface, ARCFACE_SCALE * output.cosine, output.linear)
        return Prediction(jax.nn.softmax(logits, axis=-1), output.attention, output.pooled)

    def validate(
        variables: Variables, data: CellData, constants: CellConstants, rows: RowSet
    ) -> dict[str, Float[Array, ""]]:
        def probability(block: RowSet) -> Float[Array, "row class"]:
            return outputs(variables, gather(data, constants, block, None)).probability

        predicted = map_row_blocks(probability, rows, BLOCK)
        scores = metrics.classification_scores(data.label[rows.index], predicted, rows.weight)
        return scores | {"selection": jnp.where(constants.by_accuracy, scores["accuracy"], scores["macro_f1"])}

    return Task(init, gather, loss, outputs, validate)


def make_data(table: FeatureTable, layout: RaggedLayout) -> CellData:
    """Return the arrays of a table that all runs share.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Cells, with or without labels.
    layout : RaggedLayout
        Layout of the network.

    Returns
    -------
    CellData
        Features in the layout and class codes.
    """
    label = np.zeros(len(table), np.int32) if table.label is None else table.codes()
    return CellData(layout.pack(table.values), label)


def make_run_inputs(
    table: FeatureTable,
    layout: RaggedLayout,
    splits: Sequence[Split],
    variants: Sequence[Variant],
    seeds: Sequence[int],
    *,
    signed_log: bool = False,
) -> RunInputs:
    """Return the rows and constants of every run.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Labelled cells.
    layout : RaggedLayout
        Layout of the network.
    splits : sequence of Split, one per run
        Training and validation rows; the test rows are not used.
    variants : sequence of Variant, one per run
        The variant of each run.
    seeds : sequence of int, one per run
        Seed of SMOTE.
    signed_log : bool, default False
        Scale features by their signed logarithm; otherwise to mean 0 and sd 1.

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
    codes, fit_scale = table.codes(), fit_signed_log if signed_log else fit_z_score
    for split, variant, seed in zip(splits, variants, seeds, strict=True):
        key = (split.train.tobytes(), variant.smote, seed if variant.smote else None)
        if key not in prepared:
            scale, rows = fit_scale(table.values[split.train]), plain_rows(split.train)
            if variant.smote:
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
            )
        )
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *constants)
    return RunInputs(stack_rows(train), stack_rows(validation), stacked)


def pack_scale(scale: Scale, layout: RaggedLayout) -> Scale:
    """Return a scale of table columns in the layout of a network.

    Parameters
    ----------
    scale : ZScore or SignedLog
        Scale with one entry per table column.
    layout : RaggedLayout
        The layout.

    Returns
    -------
    ZScore or SignedLog
        The scale with one entry per packed value; it maps the padding 0 to 0.
    """
    neutral = {"sd": 1.0, "unit": 1.0}
    packed = {name: layout.pack(column, neutral.get(name, 0.0)) for name, column in scale._asdict().items()}
    return scale._replace(**packed)
