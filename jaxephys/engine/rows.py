"""Row tables: which samples a run trains on, is validated on and predicts, padded to one length for all runs.

Tables are built once in NumPy on the host; on the device they are only indexed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, Shaped

from jaxephys.dimensions import AnyArray
from jaxephys.engine.compile_cache import padded_length
from jaxephys.engine.task import PyTree, RowSet, RunInputs

Rows = Int[np.ndarray, "_"]  # of any length


def plain_rows(index: Sequence[int] | Rows) -> RowSet:
    """Return a table of samples as they are in the data, each with weight 1.

    Parameters
    ----------
    index : sequence of int (n_rows,)
        Indices of the samples.

    Returns
    -------
    RowSet (n_rows,)
        The table.
    """
    index = np.asarray(index, np.int32)
    return RowSet(index, np.ones(len(index), np.float32), index, np.zeros(len(index), np.float32))


def pad_rows(rows: RowSet, length: int) -> RowSet:
    """Append padding rows to a table. They have index 0, which always exists, and weight 0, so that results do not change.

    Parameters
    ----------
    rows : RowSet (n_rows,) or (n_runs, n_rows)
        The table or tables.
    length : int
        Number of rows of the result, at least ``n_rows``.

    Returns
    -------
    RowSet (length,) or (n_runs, length)
        The padded table or tables.
    """
    missing = length - rows.index.shape[-1]
    return RowSet(*(np.pad(column, [(0, 0)] * (column.ndim - 1) + [(0, missing)]) for column in rows))


def stack_rows(tables: Sequence[RowSet]) -> RowSet:
    """Stack one table per run, padded to the longest.

    Parameters
    ----------
    tables : sequence of RowSet (n_rows,)
        One table per run, of any lengths.

    Returns
    -------
    RowSet (n_runs, longest)
        The stacked tables.

    Raises
    ------
    ValueError
        If all tables are empty.
    """
    longest = max(table.index.shape[0] for table in tables)
    if longest == 0:
        raise ValueError("every row table is empty: give at least one run some rows")
    padded = [pad_rows(table, longest) for table in tables]
    return RowSet(*(np.stack(columns) for columns in zip(*padded, strict=True)))


def stack_inputs(train: Sequence[RowSet], validation: Sequence[RowSet], constants: Sequence[PyTree]) -> RunInputs:
    """Stack the rows and the constants of single runs.

    Parameters
    ----------
    train, validation : sequence of RowSet (n_rows,)
        Training and validation rows of each run, of any lengths.
    constants : sequence of pytree of arrays
        Constants of each run, all of the same structure and shapes.

    Returns
    -------
    RunInputs
        The inputs of a grid, with a leading run axis.
    """
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *constants)
    return RunInputs(stack_rows(train), stack_rows(validation), stacked)


def take_rows(
    values: Shaped[AnyArray, "all *rest"], rows: RowSet, transform: Callable[[Array], Array] = lambda some: some
) -> Shaped[AnyArray, "row *rest"]:
    """Return the samples of a table, synthetic ones included.

    Parameters
    ----------
    values : array (n_samples, ...)
        The data.
    rows : RowSet (n_rows,)
        The table of one run.
    transform : callable
        Applied to samples and partners before they are mixed, such as scaling or filling missing values: a synthetic sample
        lies between two samples as the model sees them. By default they are mixed unchanged.

    Returns
    -------
    array (n_rows, ...)
        ``x[index] + mix * (x[partner] - x[index])``.
    """
    anchor, partner = transform(values[rows.index]), transform(values[rows.partner])
    mix = jnp.reshape(rows.mix, (-1,) + (1,) * (values.ndim - 1))
    return anchor + mix * (partner - anchor)


def pad_samples(data: PyTree, fill: float = 0) -> PyTree:
    """Lengthen data to one of few lengths, so that data sets of like size train with the same compiled program.

    Parameters
    ----------
    data : tree of arrays (n_samples, ...)
        The data of a grid.
    fill : number
        Value of the additional samples. No row refers to them.

    Returns
    -------
    tree of arrays (padded_length(n_samples), ...)
        The longer data.
    """

    def pad(leaf: AnyArray) -> np.ndarray:
        leaf = np.asarray(leaf)
        widths = [(0, padded_length(len(leaf)) - len(leaf))] + [(0, 0)] * (leaf.ndim - 1)
        return np.pad(leaf, widths, constant_values=leaf.dtype.type(fill))

    return jax.tree.map(pad, data)


def map_row_blocks(function: Callable[[RowSet], PyTree], rows: RowSet, block: int) -> PyTree:
    """Apply a function to blocks of rows one after the other, so that long tables need a bounded amount of memory.

    Parameters
    ----------
    function : callable
        ``function(rows) -> tree of arrays (n_rows, ...)``, independent from row to row.
    rows : RowSet (n_rows,)
        The table.
    block : int
        Number of rows of a block. A shorter table is not padded.

    Returns
    -------
    tree of arrays (n_rows, ...)
        The joined results.
    """
    count = rows.index.shape[0]
    if count <= block:
        return function(rows)
    n_blocks = -(-count // block)
    padded = RowSet(*(jnp.pad(jnp.asarray(column), (0, n_blocks * block - count)) for column in rows))
    blocks = jax.tree.map(lambda column: column.reshape(n_blocks, block), padded)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], lax.map(function, blocks))
