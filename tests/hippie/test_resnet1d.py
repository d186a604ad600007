"""Convolutions against NumPy, batch normalization as in PyTorch, upsampling of the decoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.hippie.network.resnet1d import (
    CONVOLUTIONS,
    EPSILON,
    BatchNorm,
    ComputeForm,
    Decoder,
    DecoderBlock,
    Output,
    UpsamplingConvolution,
    convolve,
    normalize_passes,
)


def by_hand(x, kernel, stride):
    """The definition: a loop over positions, a channel-last product at each."""
    taps = len(kernel)
    padded = np.pad(x, ((0, 0), (taps // 2, taps // 2), (0, 0)))
    starts = range(0, padded.shape[1] - taps + 1, stride)
    return np.stack([np.einsum("bkc,kco->bo", padded[:, at : at + taps], kernel) for at in starts], axis=1)


@pytest.mark.parametrize("form", CONVOLUTIONS)
@pytest.mark.parametrize("length, taps, stride", [(7, 3, 2), (10, 3, 2), (5, 3, 1), (7, 1, 2), (1, 3, 1)])
def test_every_form_is_the_same_convolution_and_has_its_gradient(form, length, taps, stride):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, length, 3)).astype(np.float32)
    kernel = rng.normal(size=(taps, 3, 4)).astype(np.float32)
    y = convolve(jnp.asarray(x), jnp.asarray(kernel), stride, form)
    expected = by_hand(x, kernel, stride)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    # y is linear in x and in the kernel: <upstream, y> must be <gradient, x> and <gradient, kernel>
    upstream = rng.normal(size=expected.shape).astype(np.float32)
    to_x, to_kernel = jax.vjp(lambda x, kernel: convolve(x, kernel, stride, form), x, kernel)[1](upstream)
    step_x, step_kernel = rng.normal(size=x.shape), rng.normal(size=kernel.shape)
    np.testing.assert_allclose((to_x * step_x).sum(), (upstream * by_hand(step_x, kernel, stride)).sum(), rtol=1e-4)
    moved = (upstream * by_hand(x, step_kernel, stride)).sum()
    np.testing.assert_allclose((to_kernel * step_kernel).sum(), moved, rtol=1e-4)


def test_an_unknown_form_is_named():
    with pytest.raises(ValueError, match="'winograd' is unknown: choose one of plain"):
        convolve(jnp.ones((1, 4, 1)), jnp.ones((3, 1, 1)), 1, "winograd")


def test_upsampling_repeats_each_position_and_adds_a_bias():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    kernel, bias = rng.normal(size=(3, 4, 2)).astype(np.float32), np.array([0.5, -2.0], np.float32)
    variables = {"params": {"conv": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}}
    twice = x[:, [0, 0, 1, 1, 2, 2]]
    y = UpsamplingConvolution(2).apply(variables, jnp.asarray(x))
    np.testing.assert_allclose(y, by_hand(twice, kernel, 1) + bias, atol=1e-5)


def test_a_block_has_the_same_parameters_and_numbers_in_every_form():
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 4, 4)), jnp.float32)
    block = DecoderBlock(upsample=True, form=ComputeForm(CONVOLUTIONS[0]))
    variables = block.init(jax.random.key(0), x, None, train=False)
    plain = block.apply(variables, x, None, train=False)
    assert plain.shape == (2, 8, 2)
    for form in CONVOLUTIONS[1:]:
        other = DecoderBlock(upsample=True, form=ComputeForm(form)).apply(variables, x, None, train=False)
        np.testing.assert_allclose(other, plain, atol=1e-5)


def test_the_decoder_has_sixty_four_positions_before_its_last_layer():
    def init():
        return Decoder(width=2).init_with_output(jax.random.key(0), jnp.zeros((1, 6)), None, False)

    curve, shapes = jax.eval_shape(init)
    assert shapes["params"]["layer4_1"]["conv1"]["conv"]["kernel"].shape == (3, 16, 8)
    assert curve.shape == (1, 64)
    last = jax.eval_shape(Output(50).init, jax.random.key(0), curve)
    assert last["params"]["linear_out"]["kernel"].shape == (64, 50)


def normalise(x, rows=None, train=True, start=None):
    rows = None if rows is None else rows[None]
    start = start or {"mean": jnp.full(2, 5.0), "var": jnp.full(2, 7.0)}
    params = {"scale": jnp.array([1.0, 2.0]), "bias": jnp.array([0.0, 3.0])}
    variables = {"params": params, "batch_stats": start}
    y, moved = BatchNorm().apply(variables, jnp.asarray(x), rows, train=train, mutable=["batch_stats"])
    return np.asarray(y), jax.tree.map(np.asarray, moved["batch_stats"])


def test_batch_statistics_are_those_of_torch():
    x = np.random.default_rng(3).normal(2, 3, size=(4, 5, 2)).astype(np.float32)
    y, moved = normalise(x)
    flat = x.reshape(-1, 2)
    expected = (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5) * [1, 2] + [0, 3]
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(moved["mean"], 0.9 * 5 + 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moved["var"], 0.9 * 7 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)
    y, kept = normalise(x, train=False)
    np.testing.assert_allclose(y, (x - 5) / np.sqrt(7 + 1e-5) * [1, 2] + [0, 3], atol=1e-5)
    np.testing.assert_array_equal(kept["mean"], [5, 5])


def test_rows_that_do_not_count_change_no_statistic():
    x = np.random.default_rng(4).normal(size=(5, 3, 2)).astype(np.float32)
    rows = jnp.array([True, True, False, True, False])
    alone, moved_alone = normalise(x[[0, 1, 3]])
    padded, moved = normalise(x, rows)
    np.testing.assert_allclose(padded[[0, 1, 3]], alone, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), moved, moved_alone)


def test_rows_that_do_not_count_stay_small_beside_a_single_one_that_does():
    """Divided by its variance of zero, they would overflow in later layers and make all gradients NaN."""
    x = np.random.default_rng(4).normal(0, 100, size=(4, 2)).astype(np.float32)
    y, _ = normalise(x, jnp.array([False, True, False, False]))
    np.testing.assert_allclose(y, np.broadcast_to([0.0, 3.0], (4, 2)), atol=1e-5)


def test_one_pass_gives_the_statistics_of_two_and_zeros_for_rows_that_do_not_count():
    x = jnp.asarray(np.random.default_rng(7).normal(1, 2, size=(2, 6, 5, 3)), jnp.float32)
    counted = jnp.ones((2, 6)).at[:, 4:].set(0.0)
    scale, bias = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.0, -1.0])
    two, one = (normalize_passes(x, scale, bias, None, counted, 0.01, one_pass) for one_pass in (False, True))
    np.testing.assert_allclose(one[0][:, :4], two[0][:, :4], atol=1e-5)
    assert not np.any(one[0][:, 4:])
    for ours, theirs in zip(one[1:], two[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("positions, stride", [(8, 1), (25, 1), (50, 2), (13, 1)])
def test_tiles_divide_the_positions_of_the_network(positions, stride):
    rng = np.random.default_rng(8)
    x, kernel = rng.normal(size=(40, positions, 2)), rng.normal(size=(3, 2, 2))
    y = convolve(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), stride, "tiles")
    np.testing.assert_allclose(y, by_hand(x, kernel, stride), atol=1e-5)


def test_the_upsampling_of_tiles_is_that_of_columns():
    x = jnp.asarray(np.random.default_rng(9).normal(size=(9, 4, 6)), jnp.float32)
    layers = [UpsamplingConvolution(3, ComputeForm(form)) for form in ("columns", "tiles")]
    variables = layers[0].init(jax.random.key(0), x)
    np.testing.assert_allclose(layers[1].apply(variables, x), layers[0].apply(variables, x), atol=1e-5)


def test_a_batch_without_rows_leaves_the_averages_and_stays_finite():
    y, moved = normalise(np.full((3, 2), 4.0, np.float32), jnp.zeros(3, bool))
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(moved["mean"], [5, 5])
    np.testing.assert_array_equal(moved["var"], [7, 7])


def test_two_passes_are_normalized_apart_and_only_the_first_moves_the_averages():
    x = np.random.default_rng(5).normal(size=(8, 3, 2)).astype(np.float32)
    rows = jnp.array([True, True, True, False])
    first, moved_first = normalise(x[:4], rows)
    second, _ = normalise(10 * x[4:], rows)
    params = {"scale": jnp.array([1.0, 2.0]), "bias": jnp.array([0.0, 3.0])}
    variables = {"params": params, "batch_stats": {"mean": jnp.full(2, 5.0), "var": jnp.full(2, 7.0)}}
    both = jnp.concatenate([x[:4], 10 * x[4:]])
    y, moved = BatchNorm().apply(variables, both, jnp.stack([rows, rows]), train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, np.concatenate([first, second]), atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), moved["batch_stats"], moved_first)


@pytest.mark.parametrize("one_pass", [False, True])
@pytest.mark.parametrize("slope, with_shortcut", [(1.0, False), (0.2, False), (0.01, True)])
def test_the_written_gradient_of_the_normalization_is_the_derived_one(slope, with_shortcut, one_pass):
    rng = np.random.default_rng(6)
    x, shortcut, upstream = (jnp.asarray(rng.normal(size=(2, 5, 3, 4)), jnp.float32) for _ in range(3))
    scale, bias = jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)
    counted = jnp.asarray(rng.integers(0, 2, (2, 5)), jnp.float32).at[:, :2].set(1.0)
    if one_pass:  # in which rows that do not count receive no gradient: no loss depends on them
        upstream = upstream * counted[:, :, None, None]

    def derived(x, scale, bias, shortcut):
        weight = counted[:, :, None, None]
        count = (counted.sum(axis=1) * 3)[:, None]
        mean = ((weight * x).sum(axis=(1, 2)) / count)[:, None, None]
        var = ((weight * (x - mean) ** 2).sum(axis=(1, 2)) / count)[:, None, None]
        y = jnp.where(weight > 0, x - mean, 0.0) / jnp.sqrt(var + EPSILON) * scale + bias
        y = y + shortcut if with_shortcut else y
        return (upstream * jnp.where(y >= 0, y, slope * y)).sum()

    def written(x, scale, bias, shortcut):
        y = normalize_passes(x, scale, bias, shortcut if with_shortcut else None, counted, slope, one_pass)[0]
        return (upstream * y).sum()

    arguments = x, scale, bias, shortcut
    np.testing.assert_allclose(written(*arguments), derived(*arguments), rtol=1e-4)
    gradients = (jax.grad(function, argnums=(0, 1, 2, 3))(*arguments) for function in (written, derived))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), *gradients)
