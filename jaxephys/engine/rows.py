"""Row tables: which samples a run trains on, validates on and is tested on, padded to one width for all runs.

Tables are built in NumPy on the host, once; on the device they are only indexed. Splits are scikit-learn's, stratified
by label, and by group where donors or subjects are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, Shaped

from jaxephys.dimensions import AnyArray
from jaxephys.engine.task import PyTree, RowSet

Rows = Int[np.ndarray, "_"]  # of any length


def plain_rows(index: Sequence[int] | Rows) -> RowSet:
    """A table of samples as they stand in the data."""
    index = np.asarray(index, np.int32)
    return RowSet(index, np.ones(len(index), np.float32), index, np.zeros(len(index), np.float32))


def pad_rows(rows: RowSet, length: int) -> RowSet:
    """The same table with rows of weight 0 behind it. They point at row 0, which exists, and count nothing."""
    missing = length - rows.index.shape[-1]
    return RowSet(*(np.pad(column, [(0, 0)] * (column.ndim - 1) + [(0, missing)]) for column in rows))


def stack_rows(tables: Sequence[RowSet]) -> RowSet:
    """One table a run, padded to the longest."""
    longest = max(table.index.shape[0] for table in tables)
    if longest == 0:
        raise ValueError("every row table is empty: give at least one run some rows")
    padded = [pad_rows(table, longest) for table in tables]
    return RowSet(*(np.stack(columns) for columns in zip(*padded, strict=True)))


def take_rows(
    values: Shaped[AnyArray, "all *rest"], rows: RowSet, seen: Callable[[Array], Array] = lambda some: some
) -> Shaped[AnyArray, "row *rest"]:
    """``x[index] + mix * (x[partner] - x[index])``: the samples of a table, synthetic ones among them.

    A synthetic sample lies between two samples as the model sees them: ``seen`` scales them, or fills what is missing.
    """
    anchor, partner = seen(values[rows.index]), seen(values[rows.partner])
    mix = jnp.reshape(rows.mix, (-1,) + (1,) * (values.ndim - 1))
    return anchor + mix * (partner - anchor)


def over_blocks(each: Callable[[RowSet], PyTree], rows: RowSet, block: int) -> PyTree:
    """Apply ``each`` to blocks of rows one after the other and join what it returns: bounded memory for long tables."""
    count = rows.index.shape[0]
    if count <= block:
        return each(rows)
    width = -(-count // block)
    padded = RowSet(*(jnp.pad(jnp.asarray(column), (0, width * block - count)) for column in rows))
    blocks = jax.tree.map(lambda column: column.reshape(width, block), padded)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], lax.map(each, blocks))
