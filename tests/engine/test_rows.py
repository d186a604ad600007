"""Row tables: padding changes no number, and blocks equal the whole."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.engine.rows import map_row_blocks, pad_rows, plain_rows, stack_rows, take_rows
from jaxephys.engine.task import RowSet

RNG = np.random.default_rng(1)
LERP = RowSet(
    RNG.integers(0, 50, 23),
    np.ones(23, np.float32),
    RNG.integers(0, 50, 23),
    RNG.random(23).astype(np.float32),
)


def test_pad_rows_adds_weightless_rows_behind():
    padded = pad_rows(plain_rows([5, 6, 7]), 5)
    np.testing.assert_array_equal(padded.index, [5, 6, 7, 0, 0])
    np.testing.assert_array_equal(padded.partner, [5, 6, 7, 0, 0])
    np.testing.assert_array_equal(padded.weight, [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(padded.mix, np.zeros(5))


def test_stack_rows_pads_to_the_longest():
    tables = [plain_rows([1]), plain_rows([2, 3, 4]), plain_rows([])]
    stacked = stack_rows(tables)
    np.testing.assert_array_equal(stacked.index, [[1, 0, 0], [2, 3, 4], [0, 0, 0]])
    np.testing.assert_array_equal(stacked.weight.sum(axis=1), [1, 3, 0])
    again = pad_rows(stacked, 4)
    np.testing.assert_array_equal(again.weight, np.pad(stacked.weight, [(0, 0), (0, 1)]))


def test_stack_of_empty_tables_is_refused():
    with pytest.raises(ValueError, match="every row table is empty"):
        stack_rows([plain_rows([]), plain_rows([])])


@pytest.mark.parametrize("shape", [(50,), (50, 4), (50, 3, 2)])
def test_take_rows_interpolates_as_numpy_does(shape):
    values = RNG.normal(size=shape).astype(np.float32)
    expected = [
        (1 - lam) * values[a].astype(float) + lam * values[b].astype(float)
        for a, b, lam in zip(LERP.index, LERP.partner, LERP.mix.astype(float), strict=True)
    ]
    np.testing.assert_allclose(take_rows(values, LERP), np.stack(expected), atol=1e-6)


def test_plain_rows_are_taken_bit_for_bit():
    values = RNG.normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_array_equal(take_rows(values, plain_rows([9, 3, 3])), values[[9, 3, 3]])


@pytest.mark.parametrize("block", [1, 7, 23, 64])
def test_blocks_equal_the_whole(block):
    values = RNG.normal(size=(50, 4)).astype(np.float32)

    def each(rows):
        taken = take_rows(jnp.asarray(values), rows)
        return {"taken": taken, "sum": taken.sum(axis=1) * rows.weight}

    whole, blocks = each(LERP), map_row_blocks(each, LERP, block)
    assert blocks["taken"].shape == (23, 4)
    for name in whole:
        np.testing.assert_allclose(blocks[name], whole[name], atol=1e-6)
