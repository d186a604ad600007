"""The Patch-seq task: what binds table, network and losses into the five functions that the engine trains."""

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
from jaxephys.engine.rows import over_blocks, plain_rows, stack_rows, take_rows
from jaxephys.engine.task import Key, RowSet, RunInputs, Task, Variables
from jaxephys.evaluation import metrics
from jaxephys.evaluation.splits import Split
from jaxephys.patchseq.losses import effective_number_weights, focal, inverse_frequency_weights, weighted_mean
from jaxephys.patchseq.network.classifier import Readout, SubclassNetwork, Switches
from jaxephys.patchseq.network.heads import ARC_SCALE, arcface_logits
from jaxephys.patchseq.network.ragged_layout import Staircase
from jaxephys.patchseq.oversampling import smote_rows
from jaxephys.patchseq.preprocessing import Scale, fit_signed_log, fit_z_score, flags, scaled
from jaxephys.schemas.feature_table import FeatureTable

BLOCK = 256  # cells scored at a time


@dataclass(frozen=True)
class Variant:
    """What tells one arm of a comparison from another. All arms train in one program."""

    attention: bool = True  # False: the output of the last family stands for the cell
    arcface: bool = False  # False: softmax
    smote: bool = False  # fill the smaller classes with synthetic training cells
    gamma: float = 0.0  # of the focal loss; 0 is cross-entropy
    weights: str = "none"  # of the classes: "none", "inverse" frequency or "effective" number
    selection: str = "macro_f1"  # the validation score that selects the epoch, where the plan monitors "selection"

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise ValueError(f"selection by {self.selection!r} is unknown: choose one of {', '.join(SELECTIONS)}")
        if self.weights not in CLASS_WEIGHTS:
            raise ValueError(f"class weights {self.weights!r} are unknown: choose one of {', '.join(CLASS_WEIGHTS)}")


SELECTIONS = ("macro_f1", "accuracy")
CLASS_WEIGHTS = {
    "none": lambda counts: np.ones(len(counts), np.float32),
    "inverse": inverse_frequency_weights,
    "effective": effective_number_weights,
}

LADDER = {
    "baseline": Variant(attention=False),
    "attention": Variant(),
    "attention+smote": Variant(smote=True),
    "arcface+smote": Variant(arcface=True, smote=True, gamma=2.0, weights="effective"),
}


class Cells(NamedTuple):
    """The data: once on the device."""

    packed: Float[AnyArray, "cell packed"]
    label: Int[AnyArray, "cell"]


class CellConstants(NamedTuple):
    """In which runs differ: the scale of their own training rows, and the variant as numbers."""

    scale: Scale  # in the packed layout
    switches: Switches
    gamma: Float[AnyArray, "*run"]
    class_weight: Float[AnyArray, "*run class"]
    by_accuracy: Bool[AnyArray, "*run"]  # what selects the epoch, where the plan monitors "selection"


class CellBatch(NamedTuple):
    x: Float[AnyArray, "row packed"]
    missing: Float[AnyArray, "row packed"]
    label: Int[AnyArray, "row"]
    weight: Float[AnyArray, "row"]
    constants: CellConstants


class Prediction(NamedTuple):
    """What a run says of cells."""

    probability: Float[AnyArray, "*run row class"]
    attention: Float[AnyArray, "*run row family"]
    embedding: Float[AnyArray, "*run row pooled"]


def make_task(network: SubclassNetwork) -> Task:
    """The five functions of one run."""

    def init(key: Key) -> Variables:
        switches, nothing = Switches(jnp.asarray(True), jnp.asarray(False)), jnp.zeros((1, network.stairs.size))
        return dict(network.init(key, nothing, nothing, switches, train=False))

    def gather(data: Cells, constants: CellConstants, rows: RowSet, key: Key | None) -> CellBatch:
        del key  # nothing is drawn
        real = rows.weight[:, None] > 0  # padding points at row 0, which may be a test row
        x, missing = (
            jnp.where(real, take_rows(data.packed, rows, partial(seen, scale=constants.scale)), 0.0)
            for seen in (scaled, flags)
        )
        return CellBatch(x, missing, data.label[rows.index], rows.weight, constants)

    def read(variables: Variables, batch: CellBatch, key: Key | None) -> Readout:
        rngs = None if key is None else {"dropout": key}
        switches, train = batch.constants.switches, key is not None
        readout = network.apply(variables, batch.x, batch.missing, switches, train=train, rngs=rngs)
        return cast(Readout, readout)  # without mutables, apply returns the output alone

    def loss(variables: Variables, batch: CellBatch, key: Key):
        constants, readout = batch.constants, read(variables, batch, key)
        margined = arcface_logits(readout.cosine, batch.label)
        logits = jnp.where(constants.switches.arcface, margined, readout.linear)
        rows = focal(logits, batch.label, constants.gamma)
        value = weighted_mean(rows, batch.weight * constants.class_weight[batch.label])
        right = (jnp.argmax(logits, axis=-1) == batch.label).astype(jnp.float32)
        return value, ({}, {"accuracy": weighted_mean(right, batch.weight)})

    def outputs(variables: Variables, batch: CellBatch) -> Prediction:
        readout = read(variables, batch, None)
        logits = jnp.where(batch.constants.switches.arcface, ARC_SCALE * readout.cosine, readout.linear)
        return Prediction(jax.nn.softmax(logits, axis=-1), readout.attention, readout.pooled)

    def validate(
        variables: Variables, data: Cells, constants: CellConstants, rows: RowSet
    ) -> dict[str, Float[Array, ""]]:
        def probability(some: RowSet) -> Float[Array, "row class"]:
            return outputs(variables, gather(data, constants, some, None)).probability

        predicted = over_blocks(probability, rows, BLOCK)
        scores = metrics.classification_scores(data.label[rows.index], predicted, rows.weight)
        return scores | {"selection": jnp.where(constants.by_accuracy, scores["accuracy"], scores["macro_f1"])}

    return Task(init, gather, loss, outputs, validate)


def make_data(table: FeatureTable, stairs: Staircase, classes: np.ndarray | None = None) -> Cells:
    label = np.zeros(len(table), np.int32) if table.label is None else table.codes(classes)
    return Cells(stairs.pack(table.values), label)


def make_runs(
    table: FeatureTable,
    stairs: Staircase,
    splits: Sequence[Split],
    variants: Sequence[Variant],
    seeds: Sequence[int],
    *,
    logged: bool = False,
) -> RunInputs:
    """The row tables and constants of every run. All that is fitted to data here is fitted to training rows.

    ``logged``: features are scaled by their signed logarithm, otherwise to mean 0 and sd 1.
    """
    train, valid, constants = [], [], []
    prepared: dict[tuple, tuple] = {}  # variants share their fold's scale, and SMOTE's draw
    codes, fit_scale = table.codes(), fit_signed_log if logged else fit_z_score
    for split, variant, seed in zip(splits, variants, seeds, strict=True):
        key = (split.train.tobytes(), variant.smote, seed if variant.smote else None)
        if key not in prepared:
            scale, rows = fit_scale(table.values[split.train]), plain_rows(split.train)
            if variant.smote:
                rows = smote_rows(scaled(table.values, scale), codes, split.train, seed)
            prepared[key] = (rows, packed_scale(scale, stairs))
        rows, scale = prepared[key]
        # Counted after SMOTE, as published: with SMOTE the classes are even and class weights do nothing.
        counts = np.bincount(codes[rows.index], minlength=len(table.classes))
        train.append(rows)
        valid.append(plain_rows(split.validation))
        constants.append(
            CellConstants(
                scale,
                Switches(np.bool_(variant.attention), np.bool_(variant.arcface)),
                np.float32(variant.gamma),
                CLASS_WEIGHTS[variant.weights](counts),
                np.bool_(variant.selection == "accuracy"),
            )
        )
    return RunInputs(stack_rows(train), stack_rows(valid), jax.tree.map(lambda *leaves: np.stack(leaves), *constants))


def packed_scale(scale: Scale, stairs: Staircase) -> Scale:
    """The scale of the columns in the layout of the network; where a family has no column, 0 stays 0."""
    neutral = {"sd": 1.0, "unit": 1.0}
    packed = {name: stairs.pack(column, neutral.get(name, 0.0)) for name, column in scale._asdict().items()}
    return scale._replace(**packed)
