"""The folded projection and the written-out backward passes against plain JAX, and the switches of the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxephys.patchseq.encoder import folded_projection
from jaxephys.patchseq.lstm import lstm, matmul
from jaxephys.patchseq.network import SubclassNetwork, Switches
from jaxephys.patchseq.staircase import Staircase

PAPER = (150, 149, 100, 150, 150, 150, 150, 150, 150, 420, 140, 150)


def test_the_paper_widths_make_two_rectangles():
    steps = Staircase.of(PAPER, 498).steps
    assert [(len(step.families), step.low, step.high) for step in steps] == [(12, 0, 150), (1, 150, 420)]


def padded(table: np.ndarray, stairs: Staircase) -> np.ndarray:
    out = np.zeros((len(table), len(stairs.widths), stairs.padded), np.float32)
    for family, columns in enumerate(np.split(table, np.cumsum(stairs.widths)[:-1], axis=1)):
        out[:, family, : columns.shape[1]] = columns
    return out


def naive_projection(x, scale, shift, kernel, bias):
    """LayerNorm over the padded width, then a product, backward families reversed."""
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    normed = (x - mean) / jnp.sqrt(var + 1e-5) * scale + shift
    out = jnp.einsum("bfw,dwg->dfbg", normed, kernel) + bias[:, None, None]
    return jnp.stack([out[0], out[1, ::-1]])


@given(
    widths=st.lists(st.integers(1, 90), min_size=1, max_size=6), extra=st.integers(0, 7), seed=st.integers(0, 2**31 - 1)
)
@settings(max_examples=4, deadline=None)
def test_the_fold_is_layer_norm_and_product_with_the_same_gradients(widths, extra, seed):
    stairs = Staircase.of(widths, max(widths) + extra)
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(3, sum(widths))).astype(np.float32) + 0.3
    shapes = ((stairs.padded,), (stairs.padded,), (2, stairs.padded, 8), (2, 8))
    parameters = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    probe = rng.normal(size=(2, len(widths), 3, 8)).astype(np.float32)
    packed, dense = stairs.pack(table), padded(table, stairs)

    def ours(packed, *parameters):
        return jnp.sum(probe * folded_projection(packed, stairs, *parameters))

    def naive(dense, *parameters):
        return jnp.sum(probe * naive_projection(dense, *parameters))

    np.testing.assert_allclose(
        folded_projection(jnp.asarray(packed), stairs, *map(jnp.asarray, parameters)),
        naive_projection(dense, *parameters),
        rtol=2e-4,
        atol=2e-4,
    )
    mine = jax.grad(ours, argnums=(0, 1, 2, 3, 4))(jnp.asarray(packed), *map(jnp.asarray, parameters))
    plain = jax.grad(naive, argnums=(0, 1, 2, 3, 4))(jnp.asarray(dense), *map(jnp.asarray, parameters))
    for left, right in zip(mine[1:], plain[1:], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-4 * (1 + np.abs(right).max()))
    real = stairs.source >= 0
    seen = np.concatenate([np.asarray(plain[0])[:, i, :width] for i, width in enumerate(widths)], axis=1)
    np.testing.assert_allclose(
        np.asarray(mine[0])[:, real], seen[:, stairs.source[real]], rtol=1e-3, atol=1e-4 * (1 + np.abs(seen).max())
    )


def test_the_fold_at_the_paper_widths_to_five_digits():
    stairs = Staircase.of(PAPER, 498)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(8, sum(PAPER))).astype(np.float32)
    bound = 128**-0.5
    kernel = rng.uniform(-bound, bound, size=(2, 498, 64)).astype(np.float32)
    scale, shift = np.ones(498, np.float32), np.zeros(498, np.float32)
    bias = rng.uniform(-bound, bound, size=(2, 64)).astype(np.float32)

    def value(function, x):
        return jax.value_and_grad(lambda *p: jnp.sum(jnp.sin(function(x, *p))), argnums=(0, 1, 2, 3))(
            *map(jnp.asarray, (scale, shift, kernel, bias))
        )

    ours = value(lambda x, *p: folded_projection(x, stairs, *p), jnp.asarray(stairs.pack(table)))
    plain = value(naive_projection, jnp.asarray(padded(table, stairs)))
    for left, right in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5 * max(1.0, float(np.abs(right).max())))


def plain_lstm(inputs, recurrent):
    def step(carry, z):
        hidden, cell = carry
        i, f, g, o = jnp.split(z + jnp.einsum("dbh,dhg->dbg", hidden, recurrent), 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (hidden, cell), hidden

    zero = jnp.zeros((2, inputs.shape[2], recurrent.shape[1]))
    return jnp.moveaxis(jax.lax.scan(step, (zero, zero), jnp.moveaxis(inputs, 1, 0))[1], 0, 1)


@pytest.mark.parametrize("steps", [1, 4])
def test_the_backward_pass_is_that_of_a_plain_scan(steps):
    rng = np.random.default_rng(steps)
    inputs = jnp.asarray(rng.normal(size=(2, steps, 3, 16)), jnp.float32)
    recurrent = jnp.asarray(rng.normal(size=(2, 4, 16)), jnp.float32)
    probe = jnp.asarray(rng.normal(size=(2, steps, 3, 4)), jnp.float32)

    def both(function):
        return jax.value_and_grad(lambda a, b: jnp.sum(probe * function(a, b)), argnums=(0, 1))

    for left, right in zip(
        jax.tree.leaves(both(lstm)(inputs, recurrent)),
        jax.tree.leaves(both(plain_lstm)(inputs, recurrent)),
        strict=True,
    ):
        np.testing.assert_allclose(left, right, atol=1e-5)
    stacked = jax.vmap(both(lstm))(jnp.stack([inputs, 2 * inputs]), jnp.stack([recurrent, recurrent]))
    np.testing.assert_allclose(stacked[1][1][1], both(plain_lstm)(2 * inputs, recurrent)[1][1], atol=1e-5)


def test_a_state_knows_nothing_of_later_inputs():
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 2, 8)), jnp.float32)
    recurrent = jnp.ones((2, 2, 8)) * 0.3
    gradient = jax.grad(lambda x: lstm(x, recurrent)[:, 2].sum())(inputs)
    assert (gradient[:, 3:] == 0).all()
    assert (gradient[:, :3] != 0).any()


def test_matmul_has_the_gradient_of_matmul():
    rng = np.random.default_rng(0)
    x, kernel = (
        jnp.asarray(rng.normal(size=(2, 5, 3)), jnp.float32),
        jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32),
    )
    ours = jax.grad(lambda a, b: jnp.sum(jnp.sin(matmul(a, b))), argnums=(0, 1))(x, kernel)
    plain = jax.grad(lambda a, b: jnp.sum(jnp.sin(a @ b)), argnums=(0, 1))(x, kernel)
    for left, right in zip(ours, plain, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


@pytest.fixture(scope="module")
def network():
    stairs = Staircase.of((4, 3, 5))
    model = SubclassNetwork(stairs, 3, hidden=4)
    packed = jnp.asarray(np.random.default_rng(0).normal(size=(6, stairs.size)), jnp.float32)
    switches = Switches(jnp.asarray(True), jnp.asarray(False))
    return model, model.init(jax.random.key(0), packed, switches, train=False), packed


@pytest.mark.parametrize("attention", [True, False])
def test_attention_sums_to_one_and_the_baseline_reads_the_last_family(network, attention):
    model, variables, packed = network
    readout = model.apply(variables, packed, Switches(jnp.asarray(attention), jnp.asarray(False)), train=False)
    np.testing.assert_allclose(readout.attention.sum(axis=1), 1, atol=1e-6)
    assert bool((readout.attention[:, -1] == 1).all()) == (not attention)


def test_what_a_run_does_not_use_receives_no_gradient(network):
    model, variables, packed = network
    switches = Switches(jnp.asarray(False), jnp.asarray(False))

    def value(params):
        return model.apply({"params": params}, packed, switches, train=False).linear.sum()

    gradient = jax.grad(value)(variables["params"])
    for name in ("attention", "arcface"):
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient[name]))
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(gradient["encoder"]))


def test_the_order_of_families_matters(network):
    model, variables, _ = network
    x = np.random.default_rng(1).normal(size=(2, 12)).astype(np.float32)
    swapped = np.concatenate([x[:, 4:7], x[:, 4:5], x[:, :3], x[:, 7:]], axis=1)
    pack, on = model.stairs.pack, Switches(jnp.asarray(True), jnp.asarray(False))
    first, second = (model.apply(variables, jnp.asarray(pack(table)), on, train=False).linear for table in (x, swapped))
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    "widths, padded_to, hint", [((), None, "at least one"), ((3, 0), None, "at least one"), ((5,), 4, "padded to 4")]
)
def test_impossible_widths_are_named(widths, padded_to, hint):
    with pytest.raises(ValueError, match=hint):
        Staircase.of(widths, padded_to)
