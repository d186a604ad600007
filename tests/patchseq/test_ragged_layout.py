"""The ragged layout and the layer-norm projection against families padded to one width."""

from itertools import combinations, pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxephys.patchseq.network.input_projection import NORM_EPSILON, family_statistics, layer_norm_projection
from jaxephys.patchseq.network.ragged_layout import RECTANGLE_COST, RaggedLayout

PAPER = (150, 149, 100, 150, 150, 150, 150, 150, 150, 420, 140, 150)
CELLS, GATE = 2, 4


def padded_families(table, widths, padded):
    """[cell, family, padded]: every family on its own, zeros behind its last feature."""
    kind = np if isinstance(table, np.ndarray) else jnp
    parts = kind.split(table, np.cumsum(widths)[:-1], axis=1)
    return kind.stack([kind.pad(part, ((0, 0), (0, padded - part.shape[1]))) for part in parts], axis=1)


def table_of(widths, cells=CELLS, seed=0):
    return np.random.default_rng(seed).normal(0.5, 2.0, size=(cells, sum(widths))).astype(np.float32)


widths_drawn = st.lists(st.integers(4, 220), min_size=1, max_size=5)


@given(widths_drawn)
@example(list(PAPER))
@example([7])
@example([5, 5, 5])
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_packed_table_is_the_padded_one_cut_into_rectangles(widths):
    layout, table = RaggedLayout.from_widths(widths), table_of(widths)
    packed, naive = layout.pack(table), padded_families(table, widths, max(widths))
    assert packed.shape == (CELLS, layout.size)
    offset, seen = 0, np.zeros(naive.shape[1:], int)
    for rectangle in layout.rectangles:
        block = packed[:, offset : offset + rectangle.size].reshape(CELLS, len(rectangle.families), -1)
        np.testing.assert_array_equal(block, naive[:, list(rectangle.families), rectangle.start : rectangle.stop])
        seen[list(rectangle.families), rectangle.start : rectangle.stop] += 1
        offset += rectangle.size
    real = np.arange(max(widths)) < np.array(widths)[:, None]
    assert seen.max() == 1 and (seen[real] == 1).all(), "every feature is in one rectangle"


def test_fill_is_used_only_where_there_is_no_column():
    layout, table = RaggedLayout.from_widths([2, 3]), table_of([2, 3])
    packed = layout.pack(table, fill=9.0)
    assert (packed == 9.0).sum() == CELLS
    np.testing.assert_array_equal(packed[:, layout.source_column == -1], 9.0)
    np.testing.assert_array_equal(np.sort(layout.source_column[layout.source_column >= 0]), np.arange(5))
    assert layout.pack(table[0]).shape == (layout.size,), "one row packs as a table does"


def test_the_families_of_the_paper_make_two_rectangles():
    layout = RaggedLayout.from_widths(PAPER)
    assert [(rectangle.start, rectangle.stop, rectangle.families) for rectangle in layout.rectangles] == [
        (0, 150, tuple(range(12))),
        (150, 420, (9,)),
    ]
    assert layout.size == 12 * 150 + 270 < 12 * 420
    assert layout.padded_width == 420


@given(widths_drawn)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_other_cut_is_cheaper(widths):
    inner = sorted(set(widths))[:-1]
    costs = []
    for chosen in (cut for size in range(len(inner) + 1) for cut in combinations(inner, size)):
        edges = [0, *chosen, max(widths)]
        area = sum((high - low) * sum(w > low for w in widths) for low, high in pairwise(edges))
        costs.append(area + RECTANGLE_COST * (len(edges) - 1))
    rectangles = RaggedLayout.from_widths(widths).rectangles
    assert sum(rectangle.size + RECTANGLE_COST for rectangle in rectangles) == min(costs)


def naive_projection(table, widths, padded, scale, shift, kernel, bias):
    x = padded_families(table, widths, padded)
    mean = x.mean(axis=-1, keepdims=True)
    normal = (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(axis=-1, keepdims=True) + NORM_EPSILON) * scale + shift
    forward, backward = (normal @ kernel[d] + bias[d] for d in range(2))
    return jnp.stack([jnp.swapaxes(forward, 0, 1), jnp.swapaxes(backward, 0, 1)[::-1]])


def our_projection(table, layout, *parameters):
    packed = jnp.where(layout.source_column >= 0, table[:, np.maximum(layout.source_column, 0)], 0.0)
    return layer_norm_projection(packed, layout, *parameters)


@given(widths_drawn, st.integers(0, 40))
@example([7], 5)
@example([6, 6, 6], 0)
@example([1, 5], 2)
@example([4, 200, 90, 220], 30)
@settings(max_examples=3, deadline=None, derandomize=True)
def test_layer_norm_projection_is_layer_norm_then_a_product(widths, extra):
    layout = RaggedLayout.from_widths(widths, max(widths) + extra)
    rng = np.random.default_rng(1)
    shapes = [(layout.padded_width,), (layout.padded_width,), (2, layout.padded_width, GATE), (2, GATE)]
    scale, shift, kernel, bias = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    parameters = (jnp.asarray(table_of(widths)), 1 + 0.3 * scale, shift, kernel / layout.padded_width**0.5, bias)
    weights = jnp.asarray(rng.normal(size=(2, len(widths), CELLS, GATE)), jnp.float32)

    def both(project):
        def total(table, *rest):
            out = project(table, *rest)
            return jnp.sum(weights * out), out

        (_, out), gradients = jax.jit(jax.value_and_grad(total, argnums=range(5), has_aux=True))(*parameters)
        return {"out": out} | dict(zip(("x", "scale", "shift", "kernel", "bias"), gradients, strict=True))

    theirs = both(lambda table, *rest: naive_projection(table, widths, layout.padded_width, *rest))
    ours = both(lambda table, *rest: our_projection(table, layout, *rest))
    for name, want in theirs.items():
        error = float(jnp.abs(ours[name] - want).max() / jnp.abs(want).max())
        assert error < 1e-5, f"{name} differs by {error} of its largest value"


def test_zeros_behind_the_last_feature_count_in_the_mean_and_the_sd():
    layout, table = RaggedLayout.from_widths([3, 5], padded_width=10), table_of([3, 5])
    mean, inverse = family_statistics(jnp.asarray(layout.pack(table)), layout)
    for family, part in enumerate(np.split(table, [3], axis=1)):
        padded = np.concatenate([part, np.zeros((CELLS, 10 - part.shape[1]))], axis=1)
        np.testing.assert_allclose(mean[family], padded.mean(axis=1), rtol=1e-5)
        np.testing.assert_allclose(inverse[family], 1 / np.sqrt(padded.var(axis=1) + NORM_EPSILON), rtol=1e-5)


@pytest.mark.parametrize(
    ("widths", "padded", "sentence"),
    [
        ([], None, "at least one family"),
        ([3, 0], None, "each with at least one feature"),
        ([3, 8], 7, "padded to 7, but the widest has 8"),
    ],
)
def test_widths_that_make_no_table_are_refused(widths, padded, sentence):
    with pytest.raises(ValueError, match=sentence):
        RaggedLayout.from_widths(widths, padded)
