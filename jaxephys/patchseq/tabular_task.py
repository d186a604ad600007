"""The task of ``TabularNetwork``: a multilayer perceptron on all features of a table.

The three functions correspond to those of ``task``: ``make_tabular_task``, ``make_tabular_data``, ``make_tabular_inputs``.
"""

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
from jaxephys.patchseq.preprocessing import Scale, apply_scale, fit_signed_log, missing_flags
from jaxephys.schemas.feature_table import FeatureTable

LABEL_SMOOTHING = 0.05  # transcriptomic types are not certain either


class TabularData(NamedTuple):
    """The cells of a table, stored on the device once for all runs.

    Parameters
    ----------
    values : array of shape (cell, column)
        Features, not scaled, NaN where a value is missing.
    label : array of int, shape (cell,)
        Class of each cell; zeros for a table without labels.
    """

    values: Float[AnyArray, "cell column"]
    label: Int[AnyArray, "cell"]


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
    """

    x: Float[Array, "row column"]
    label: Int[Array, "row"]
    weight: Float[Array, "row"]


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
        The functions of one run, on ``TabularData`` and a scale; ``outputs`` are class probabilities of shape (row, class).
    """

    def init(key: Key) -> Variables:
        return dict(network.init(key, jnp.zeros((1, 2 * n_columns)), train=False))

    def gather(data: TabularData, scale: Scale, rows: RowSet, key: Key | None) -> TabularBatch:
        del key  # no random numbers are needed
        values = data.values[rows.index]
        x = jnp.concatenate([apply_scale(values, scale), missing_flags(values, scale)], axis=1)
        x = jnp.where(rows.weight[:, None] > 0, x, 0.0)  # padding points at row 0, which may be a test row
        return TabularBatch(x, data.label[rows.index], rows.weight)

    def loss(variables: Variables, batch: TabularBatch, key: Key):
        logits = cast(Array, network.apply(variables, batch.x, train=True, rngs={"dropout": key}))
        target = smooth_labels(batch.label, logits.shape[-1])
        row_losses = -(target * jax.nn.log_softmax(logits)).sum(axis=-1)
        correct = (jnp.argmax(logits, axis=-1) == batch.label).astype(jnp.float32)
        return weighted_mean(row_losses, batch.weight), ({}, {"accuracy": weighted_mean(correct, batch.weight)})

    def outputs(variables: Variables, batch: TabularBatch) -> Float[Array, "row class"]:
        return jax.nn.softmax(cast(Array, network.apply(variables, batch.x, train=False)))

    def validate(variables: Variables, data: TabularData, scale: Scale, rows: RowSet) -> dict[str, Float[Array, ""]]:
        predicted = outputs(variables, gather(data, scale, rows, None))
        return metrics.classification_scores(data.label[rows.index], predicted, rows.weight)

    return Task(init, gather, loss, outputs, validate)


def smooth_labels(label: Int[Array, "row"], n_classes: int) -> Float[Array, "row class"]:
    """Return target probabilities with label smoothing.

    Parameters
    ----------
    label : array of int, shape (row,)
        Class of each row.
    n_classes : int
        Number of classes.

    Returns
    -------
    array of shape (row, class)
        ``1 - s`` for the label plus ``s / n_classes`` for every class, with s = 0.05.
    """
    return (1 - LABEL_SMOOTHING) * jax.nn.one_hot(label, n_classes) + LABEL_SMOOTHING / n_classes


def make_tabular_data(table: FeatureTable) -> TabularData:
    """Return the arrays of a table that all runs share.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Cells, with or without labels.

    Returns
    -------
    TabularData
        Features and class codes.
    """
    label = np.zeros(len(table), np.int32) if table.label is None else table.codes()
    return TabularData(table.values, label)


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
        Row tables and, as constants, the scales, stacked over runs. Runs with the same training rows share a scale.
    """
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
