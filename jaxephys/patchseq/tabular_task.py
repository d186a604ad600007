"""The task of the tabular network: what binds table, scaling and network into the five functions that the engine trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import Key, RowSet, RunInputs, Task, Variables
from jaxephys.evaluation import metrics
from jaxephys.evaluation.splits import Split
from jaxephys.patchseq.losses import weighted_mean
from jaxephys.patchseq.network.tabular import TabularNetwork
from jaxephys.patchseq.preprocessing import Scale, fit_signed_log, flags, scaled
from jaxephys.schemas.feature_table import FeatureTable

SMOOTHING = 0.05  # of the labels: transcriptomic types are not certain either


class Columns(NamedTuple):
    """The data: once on the device, missing values as NaN."""

    values: Float[AnyArray, "cell column"]
    label: Int[AnyArray, "cell"]


class ColumnBatch(NamedTuple):
    x: Float[Array, "row column"]
    label: Int[Array, "row"]
    weight: Float[Array, "row"]


def make_tabular_task(network: TabularNetwork, columns: int) -> Task:
    """The five functions of one run on a table of so many columns."""

    def init(key: Key) -> Variables:
        return dict(network.init(key, jnp.zeros((1, 2 * columns)), train=False))

    def gather(data: Columns, scale: Scale, rows: RowSet, key: Key | None) -> ColumnBatch:
        del key  # nothing is drawn
        values = data.values[rows.index]
        x = jnp.concatenate([scaled(values, scale), flags(values, scale)], axis=1)
        x = jnp.where(rows.weight[:, None] > 0, x, 0.0)  # padding points at row 0, which may be a test row
        return ColumnBatch(x, data.label[rows.index], rows.weight)

    def loss(variables: Variables, batch: ColumnBatch, key: Key):
        logits = cast(Array, network.apply(variables, batch.x, train=True, rngs={"dropout": key}))
        target = smoothed(batch.label, logits.shape[-1])
        rows = -(target * jax.nn.log_softmax(logits)).sum(axis=-1)
        right = (jnp.argmax(logits, axis=-1) == batch.label).astype(jnp.float32)
        return weighted_mean(rows, batch.weight), ({}, {"accuracy": weighted_mean(right, batch.weight)})

    def outputs(variables: Variables, batch: ColumnBatch) -> Float[Array, "row class"]:
        return jax.nn.softmax(cast(Array, network.apply(variables, batch.x, train=False)))

    def validate(variables: Variables, data: Columns, scale: Scale, rows: RowSet) -> dict[str, Float[Array, ""]]:
        predicted = outputs(variables, gather(data, scale, rows, None))
        return metrics.classification_scores(data.label[rows.index], predicted, rows.weight)

    return Task(init, gather, loss, outputs, validate)


def smoothed(label: Int[Array, "row"], classes: int) -> Float[Array, "row class"]:
    """(1 - s) for the label, s shared by all."""
    return (1 - SMOOTHING) * jax.nn.one_hot(label, classes) + SMOOTHING / classes


def make_columns(table: FeatureTable, classes: np.ndarray | None = None) -> Columns:
    label = np.zeros(len(table), np.int32) if table.label is None else table.codes(classes)
    return Columns(table.values, label)


def make_tabular_runs(
    table: FeatureTable, splits: Sequence[Split], fit_scale: Callable[[np.ndarray], Scale] = fit_signed_log
) -> RunInputs:
    """The rows and the scale of every run; runs that share their training rows share its scale."""
    fitted: dict[bytes, Scale] = {}
    for split in splits:
        if (key := split.train.tobytes()) not in fitted:
            fitted[key] = fit_scale(table.values[split.train])
    scales = [fitted[split.train.tobytes()] for split in splits]
    return RunInputs(
        stack_rows([plain_rows(split.train) for split in splits]),
        stack_rows([plain_rows(split.validation) for split in splits]),
        jax.tree.map(lambda *leaves: np.stack(leaves), *scales),
    )
