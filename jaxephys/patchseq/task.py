"""The Patch-seq task: what binds table, network and losses into the five functions that the engine trains."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxephys import metrics
from jaxephys.dims import AnyArray
from jaxephys.engine.rows import Split, over_blocks, plain_rows, stack_rows, take_rows
from jaxephys.engine.types import Key, RowSet, Runs, Task, Variables
from jaxephys.patchseq.data import FamilyTable
from jaxephys.patchseq.heads import ARC_SCALE, arcface_logits
from jaxephys.patchseq.losses import effective_number_weights, focal, inverse_frequency_weights, weighted_mean
from jaxephys.patchseq.network import Readout, SubclassNetwork, Switches
from jaxephys.patchseq.smote import smote_rows
from jaxephys.patchseq.staircase import Staircase

BLOCK = 256  # cells scored at a time


@dataclass(frozen=True)
class Variant:
    """What tells one arm of a comparison from another. All arms train in one program."""

    attention: bool = True  # False: the output of the last family stands for the cell
    arcface: bool = False  # False: softmax
    smote: bool = False  # fill the smaller classes with synthetic training cells
    gamma: float = 0.0  # of the focal loss; 0 is cross-entropy
    weights: str = "none"  # of the classes: "none", "inverse" frequency or "effective" number

    def __post_init__(self) -> None:
        if self.weights not in CLASS_WEIGHTS:
            raise ValueError(f"class weights {self.weights!r} are unknown: choose one of {', '.join(CLASS_WEIGHTS)}")


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

    fill: Float[AnyArray, "*run packed"]  # the median of the training cells, where a value is missing
    mean: Float[AnyArray, "*run packed"]
    sd: Float[AnyArray, "*run packed"]
    switches: Switches
    gamma: Float[AnyArray, "*run"]
    class_weight: Float[AnyArray, "*run class"]


class CellBatch(NamedTuple):
    x: Float[AnyArray, "row packed"]
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
        switches = Switches(jnp.asarray(True), jnp.asarray(False))
        return dict(network.init(key, jnp.zeros((1, network.stairs.size)), switches, train=False))

    def gather(data: Cells, constants: CellConstants, rows: RowSet, key: Key | None) -> CellBatch:
        del key  # nothing is drawn
        x = (take_rows(data.packed, rows, constants.fill) - constants.mean) / constants.sd
        x = jnp.where(rows.weight[:, None] > 0, x, 0.0)  # padding points at row 0, which may be a test row
        return CellBatch(x, data.label[rows.index], rows.weight, constants)

    def read(variables: Variables, batch: CellBatch, key: Key | None) -> Readout:
        rngs = None if key is None else {"dropout": key}
        readout = network.apply(variables, batch.x, batch.constants.switches, train=key is not None, rngs=rngs)
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
        return metrics.classification_scores(data.label[rows.index], predicted, rows.weight)

    return Task(init, gather, loss, outputs, validate)


def make_data(table: FamilyTable, stairs: Staircase, classes: np.ndarray | None = None) -> Cells:
    label = np.zeros(len(table), np.int32) if table.label is None else table.codes(classes)
    return Cells(stairs.pack(table.values), label)


def make_runs(
    table: FamilyTable, stairs: Staircase, splits: Sequence[Split], variants: Sequence[Variant], seeds: Sequence[int]
) -> Runs:
    """The row tables and constants of every run. All that is fitted to data here is fitted to training rows."""
    train, valid, constants = [], [], []
    prepared: dict[tuple, tuple] = {}  # variants share their fold's scale, and SMOTE's draw
    codes = table.codes()
    for split, variant, seed in zip(splits, variants, seeds, strict=True):
        key = (split.train.tobytes(), variant.smote, seed if variant.smote else None)
        if key not in prepared:
            fill = median_of(table.values[split.train])
            values = np.where(np.isnan(table.values), fill, table.values)
            mean, sd = scale_of(values[split.train])
            rows = (
                smote_rows((values - mean) / sd, codes, split.train, seed) if variant.smote else plain_rows(split.train)
            )
            prepared[key] = (rows, fill, mean, sd)
        rows, fill, mean, sd = prepared[key]
        # Counted after SMOTE, as published: with SMOTE the classes are even and class weights do nothing.
        counts = np.bincount(codes[rows.index], minlength=len(table.classes))
        train.append(rows)
        valid.append(plain_rows(split.validation))
        constants.append(
            CellConstants(
                stairs.pack(fill),
                stairs.pack(mean),
                stairs.pack(sd, fill=1.0),
                Switches(np.bool_(variant.attention), np.bool_(variant.arcface)),
                np.float32(variant.gamma),
                CLASS_WEIGHTS[variant.weights](counts),
            )
        )
    return Runs(stack_rows(train), stack_rows(valid), jax.tree.map(lambda *leaves: np.stack(leaves), *constants))


def median_of(values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "column"]:
    """Median of what is there in each column; 0 where nothing is."""
    there = ~np.isnan(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value: that is the case below
        median = np.nanmedian(values, axis=0)
    return np.where(there.any(axis=0), median, 0.0).astype(np.float32)


def scale_of(
    values: Float[np.ndarray, "row column"],
) -> tuple[Float[np.ndarray, "column"], Float[np.ndarray, "column"]]:
    """Mean and population sd of each column; a constant column keeps sd 1."""
    mean, sd = values.mean(axis=0), values.std(axis=0)
    return mean, np.where(sd < 1e-6, 1.0, sd).astype(np.float32)
