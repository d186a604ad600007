"""The network: the projection at the published widths, what each direction reads, and the switches of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.patchseq.network.classifier import NetworkSwitches, SubclassNetwork
from jaxephys.patchseq.network.encoder import FamilyEncoder, TokenEncoder
from jaxephys.patchseq.network.input_projection import layer_norm_projection
from jaxephys.patchseq.network.lstm import lstm
from jaxephys.patchseq.network.ragged_layout import RaggedLayout

PAPER = (150, 149, 100, 150, 150, 150, 150, 150, 150, 420, 140, 150)


def padded(table: np.ndarray, layout: RaggedLayout) -> np.ndarray:
    out = np.zeros((len(table), len(layout.widths), layout.padded_width), np.float32)
    for family, columns in enumerate(np.split(table, np.cumsum(layout.widths)[:-1], axis=1)):
        out[:, family, : columns.shape[1]] = columns
    return out


def naive_projection(x, scale, shift, kernel, bias):
    """LayerNorm over the padded width, then a product, backward families reversed."""
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    normed = (x - mean) / jnp.sqrt(var + 1e-5) * scale + shift
    out = jnp.einsum("bfw,dwg->dfbg", normed, kernel) + bias[:, None, None]
    return jnp.stack([out[0], out[1, ::-1]])


def test_layer_norm_projection_at_the_published_widths_to_five_digits():
    layout = RaggedLayout.from_widths(PAPER, 498)
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

    ours = value(lambda x, *p: layer_norm_projection(x, layout, *p), jnp.asarray(layout.pack(table)))
    plain = value(naive_projection, jnp.asarray(padded(table, layout)))
    for left, right in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5 * max(1.0, float(np.abs(right).max())))


@pytest.fixture(scope="module")
def network():
    layout = RaggedLayout.from_widths((4, 3, 5))
    model = SubclassNetwork(layout, 3, hidden=4)
    packed = jnp.asarray(np.random.default_rng(0).normal(size=(6, layout.size)), jnp.float32)
    switches = NetworkSwitches(jnp.asarray(True), jnp.asarray(False))
    return model, model.init(jax.random.key(0), packed, 0 * packed, switches, train=False), packed


@pytest.mark.parametrize("attention", [True, False])
def test_attention_sums_to_one_and_without_it_the_last_family_is_read(network, attention):
    model, variables, packed = network
    readout = model.apply(
        variables, packed, 0 * packed, NetworkSwitches(jnp.asarray(attention), jnp.asarray(False)), train=False
    )
    np.testing.assert_allclose(readout.attention.sum(axis=1), 1, atol=1e-6)
    assert bool((readout.attention[:, -1] == 1).all()) == (not attention)


def test_what_a_run_does_not_use_receives_no_gradient(network):
    model, variables, packed = network
    switches = NetworkSwitches(jnp.asarray(False), jnp.asarray(False))

    def value(params):
        return model.apply({"params": params}, packed, 0 * packed, switches, train=False).linear.sum()

    gradient = jax.jit(jax.grad(value))(variables["params"])
    for name in ("attention", "arcface"):
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient[name]))
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(gradient["encoder"]))


def test_the_order_of_families_matters(network):
    model, variables, _ = network
    x = np.random.default_rng(1).normal(size=(2, 12)).astype(np.float32)
    swapped = np.concatenate([x[:, 4:7], x[:, 4:5], x[:, :3], x[:, 7:]], axis=1)
    pack, on = model.layout.pack, NetworkSwitches(jnp.asarray(True), jnp.asarray(False))
    none = jnp.zeros((2, model.layout.size))
    first, second = (
        model.apply(variables, jnp.asarray(pack(table)), none, on, train=False).linear for table in (x, swapped)
    )
    assert not np.allclose(first, second)


def test_each_direction_has_read_the_families_on_its_side_alone():
    layout, hidden = RaggedLayout.from_widths((4, 3, 5)), 4
    encoder = FamilyEncoder(layout, hidden)
    packed = jnp.asarray(np.random.default_rng(0).normal(size=(1, layout.size)), jnp.float32)
    variables = encoder.init(jax.random.key(0), packed)
    reach = jax.jit(jax.jacobian(lambda x: encoder.apply(variables, x)[0]))(packed)[:, :, 0]  # [family, pooled, packed]
    family_of = np.searchsorted(np.cumsum(layout.widths), layout.source_column, side="right")
    for family in range(3):
        for source in range(3):
            columns = (family_of == source) & (layout.source_column >= 0)
            forward, backward = np.split(np.abs(reach[family][:, columns]).max(axis=1), 2)
            assert (forward > 0).all() == (source <= family) and (source <= family or not forward.any())
            assert (backward > 0).all() == (source >= family) and (source >= family or not backward.any())


@pytest.fixture(scope="module")
def tokens():
    """Ours: families of unequal width, each with a projection of its own."""
    layout = RaggedLayout.from_widths((4, 3, 5))
    encoder = TokenEncoder(layout, hidden=4, token=6)
    packed = jnp.asarray(np.random.default_rng(0).normal(size=(5, layout.size)), jnp.float32)
    return encoder, encoder.init(jax.random.key(0), packed, 0 * packed, train=False), packed


def test_tokens_are_the_formula(tokens):
    """Against NumPy, family by family, forward direction and backward."""
    encoder, variables, packed = tokens
    missing = jnp.zeros_like(packed).at[1, 3].set(1.0)
    params = jax.tree.map(np.asarray, variables["params"])
    table, holes = (np.zeros((5, 12), np.float32) for _ in range(2))
    for column in range(12):
        index = int(np.flatnonzero(encoder.layout.source_column == column)[0])
        table[:, column], holes[:, column] = packed[:, index], missing[:, index]
    steps = []
    for number, columns in enumerate(np.split(np.arange(12), [4, 7])):
        dense = params[f"family_{number}"]
        z = np.concatenate([table[:, columns], holes[:, columns]], axis=1) @ dense["kernel"] + dense["bias"]
        token = z / (1 + np.exp(-z))
        centred = token - token.mean(axis=1, keepdims=True)
        normal = centred / np.sqrt(token.var(axis=1, keepdims=True) + 1e-5)
        steps.append(normal * params["norm"]["scale"] + params["norm"]["bias"])
    want = []
    for direction, order in ((0, [0, 1, 2]), (1, [2, 1, 0])):
        inputs = np.stack([steps[i] for i in order]) @ params["kernel"][direction] + params["bias"][direction]
        states = np.asarray(lstm(jnp.asarray(inputs)[None], jnp.asarray(params["recurrent"][direction])[None])[0])
        want.append(states if direction == 0 else states[::-1])
    got = encoder.apply(variables, packed, missing, train=False)
    np.testing.assert_allclose(got, np.moveaxis(np.concatenate(want, axis=-1), 0, 1), atol=1e-5)


def test_how_large_features_are_is_seen_by_ours_and_not_by_the_published_encoder(tokens):
    encoder, variables, packed = tokens
    ours, larger = (encoder.apply(variables, x, 0 * packed, train=False) for x in (packed, 3 * packed))
    assert float(jnp.abs(ours - larger).max()) > 0.01
    published = FamilyEncoder(encoder.layout, 4)
    weights = published.init(jax.random.key(0), packed)
    np.testing.assert_allclose(*(published.apply(weights, x) for x in (100 * packed, 300 * packed)), atol=1e-4)


def test_a_missing_feature_is_no_feature_at_its_median(tokens):
    encoder, variables, packed = tokens
    at_median = packed.at[:, 0].set(0.0)
    seen, unseen = (
        encoder.apply(variables, at_median, jnp.zeros_like(packed).at[:, 0].set(flag), train=False) for flag in (0, 1)
    )
    assert float(jnp.abs(seen - unseen).max()) > 1e-3
