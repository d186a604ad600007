"""The networks: number and order of units, streaming, the initial running rate, and the effect of every parameter."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes.history import Filters
from jaxephys.spikes.network import NetworkOptions, PopulationTransformer, PublishedLayer, fixed_point_mean
from jaxephys.spikes.network.layers import rotate

RNG = np.random.default_rng(4)
BINS, UNITS = 90, 12
SPIKES = jnp.asarray(RNG.random((BINS, UNITS)) < 0.15, jnp.float32)
FEW = Filters(tau_ms=(2.0, 30.0, 30000.0))
SMALL: dict[str, Any] = dict(width=8, depth=1, heads=2, window=20, hidden=12, unit_width=8, filters=FEW)
NETWORKS = {
    "any units": PopulationTransformer(**SMALL),
    "fixed units": PopulationTransformer(units=UNITS, **SMALL),
    "published": PublishedLayer(UNITS, heads=4, window=20),  # heads of width 3
    "published, two layers": PublishedLayer(UNITS, heads=3, window=20, depth=2),
}


@partial(jax.jit, static_argnums=0)
def apply(network, variables, spikes, memory=None):
    return network.apply(variables, spikes, memory)


@cache
def noisy_variables(network: Any, units=UNITS):
    """Variables with noise, because some are 0 initially."""
    drawn = jax.jit(network.init)(jax.random.key(0), jnp.zeros((2, units)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + 0.2 * jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), drawn)


@pytest.mark.parametrize("units", [1, 7, 128])
def test_permuting_units_permutes_outputs_to_the_last_bit(units):
    network: Any = PopulationTransformer(**SMALL)
    variables = noisy_variables(network)  # drawn with 12 units: any number does
    spikes = jnp.asarray(RNG.random((61, units)) < RNG.random(units) * 0.3, jnp.float32)
    logits_of = jax.jit(lambda spikes: network.apply(variables, spikes)[0])
    logits = logits_of(spikes)
    assert units == 1 or np.ptp(np.asarray(logits), axis=1).max() > 0.1, "units differ"
    for _ in range(20):
        order = RNG.permutation(units)
        np.testing.assert_array_equal(logits_of(spikes[:, order]), logits[:, order])


def test_units_influence_each_other():
    network = NETWORKS["any units"]
    variables = noisy_variables(network)
    slope = jax.jit(jax.grad(lambda spikes: network.apply(variables, spikes)[0][60, 0]))(SPIKES)
    assert (np.abs(slope[41:61, 1:]).sum(axis=0) > 0).all()


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_stream_of_windows_is_one_window(network):
    variables = noisy_variables(network)
    whole, at_end = apply(network, variables, SPIKES)
    memory, got = None, []
    for part in jnp.split(SPIKES, 3):
        logits, memory = apply(network, variables, part, memory)
        got.append(logits)
    np.testing.assert_allclose(jnp.concatenate(got), whole, atol=1e-4)
    for one, other in zip(jax.tree.leaves(memory), jax.tree.leaves(at_end), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_stream_of_single_bins_is_one_window(network):
    """As in generation: a scan whose carry is the memory."""
    variables = noisy_variables(network)
    whole, _ = apply(network, variables, SPIKES)
    _, memory = apply(network, variables, SPIKES[:30])

    def one(memory, spikes):
        logits, memory = network.apply(variables, spikes[None], memory)
        return memory, logits[0]

    _, got = jax.jit(lambda memory: jax.lax.scan(one, memory, SPIKES[30:]))(memory)
    np.testing.assert_allclose(got, whole[30:], atol=1e-4)


@pytest.mark.parametrize("name", ["any units", "fixed units"])
def test_an_untrained_network_predicts_the_running_rate(name):
    network = NETWORKS[name]
    logits, _ = apply(network, jax.jit(network.init)(jax.random.key(0), SPIKES), SPIKES)
    rate = jnp.cumsum(SPIKES, axis=0) / jnp.arange(1, BINS + 1)[:, None]
    np.testing.assert_allclose(jax.nn.sigmoid(logits[-1]), (BINS * rate[-1] + 1) / (BINS + 200), rtol=0.02)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_every_parameter_changes_the_outputs(network):
    variables = noisy_variables(network)
    slopes = jax.jit(jax.grad(lambda variables: jnp.sum(jnp.sin(network.apply(variables, SPIKES)[0]))))(variables)
    still = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(slopes) if not leaf.any()]
    assert still == []


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_dropout_is_applied_in_training_only(network):
    variables = noisy_variables(network)
    plain = apply(network, variables, SPIKES)[0]

    @jax.jit
    def draw(seed):
        return network.apply(variables, SPIKES, train=True, rngs={"dropout": jax.random.key(seed)})[0]

    drawn = [draw(seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 0.01 and np.abs(drawn[0] - plain).max() > 0.01


def test_a_batch_is_its_windows():
    network = NETWORKS["any units"]
    variables = noisy_variables(network)
    windows = SPIKES.reshape(3, 30, UNITS)
    together, _ = jax.jit(jax.vmap(lambda window: network.apply(variables, window)))(windows)
    for window, logits in zip(windows, together, strict=True):
        np.testing.assert_allclose(logits, apply(network, variables, window)[0], atol=1e-4)


def test_the_published_layer_has_the_published_number_of_parameters():
    shapes = jax.eval_shape(PublishedLayer().init, jax.random.key(0), jnp.zeros((4, 128)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 116_096


def test_rotated_products_depend_on_the_distance_only():
    a, b = jnp.asarray(RNG.normal(size=(2, 1, 1, 16)), jnp.float32)
    products = [jnp.sum(rotate(a, t + 9) * rotate(b, t)) for t in (0, 1, 50, 400)]
    np.testing.assert_allclose(products, products[0], rtol=1e-4)
    assert abs(float(jnp.sum(rotate(a, 3) * rotate(b, 0)) - products[0])) > 0.01
    np.testing.assert_allclose(jnp.sum(rotate(a, 77) ** 2), jnp.sum(a**2), rtol=1e-5)


def test_the_fixed_point_mean_does_not_depend_on_the_order():
    x = jnp.asarray(np.tanh(RNG.normal(size=(5, 301, 4))), jnp.float32)
    mean = fixed_point_mean(x)
    np.testing.assert_allclose(mean, x.mean(axis=1), atol=2**-17)
    for _ in range(5):
        np.testing.assert_array_equal(fixed_point_mean(x[:, RNG.permutation(301)]), mean)
    slope = jax.grad(lambda x: jnp.sum(fixed_point_mean(x) ** 2))(x)
    np.testing.assert_allclose(slope, jax.grad(lambda x: jnp.sum(x.mean(axis=1) ** 2))(x), atol=1e-6)
    np.testing.assert_array_equal(fixed_point_mean(jnp.ones((1, 32_767, 1))), 1.0)


def test_invalid_sizes_are_refused():
    with pytest.raises(ValueError, match="has 12 units, and this network was built for 128"):
        PublishedLayer().init(jax.random.key(0), SPIKES)
    with pytest.raises(ValueError, match="has 3 units, and this network was built for 12"):
        NETWORKS["fixed units"].init(jax.random.key(0), SPIKES[:, :3])
    with pytest.raises(ValueError, match="5 heads cannot divide a width of 12: choose a divisor of 12"):
        PublishedLayer(UNITS, heads=5).init(jax.random.key(0), SPIKES)
    with pytest.raises(ValueError, match="3 heads cannot divide a width of 9 into pairs of numbers"):
        PopulationTransformer(**{**SMALL, "width": 9, "heads": 3}).init(jax.random.key(0), SPIKES)


def test_options_are_obeyed():
    filters = Filters(bin_ms=2.0)
    assert NetworkOptions().build(7, 2.0) == PopulationTransformer(filters=filters)
    assert NetworkOptions("units", width=64, depth=2, heads=4, window=9, dropout=0.3, hidden=5).build(7, 2.0) == (
        PopulationTransformer(7, 64, 2, 4, 9, 5, dropout=0.3, filters=filters)
    )
    assert NetworkOptions("published").build(128, 1.0) == PublishedLayer()
    assert NetworkOptions("legacy").build(128, 1.0) == PublishedLayer(legacy=True)
    options = NetworkOptions("published", depth=3, heads=4, window=64, dropout=0.2, hidden=9, attention_dropout=True)
    assert options.build(48, 1.0) == (PublishedLayer(48, 4, 9, 3, dropout=0.2, window=64, attention_dropout=True))
    assert NetworkOptions("published").with_defaults() == NetworkOptions(
        "published", heads=16, hidden=128, attention_dropout=False
    )


@pytest.mark.parametrize(
    "kind, option, takers",
    [
        ("published", {"width": 64}, "takes no width, which is an option of population and units"),
        ("legacy", {"window": 64}, "takes no window, which is an option of population, units and published"),
        (
            "units",
            {"attention_dropout": False},
            "takes no attention_dropout, which is an option of published and legacy",
        ),
        ("population", {"heads": 0}, "heads of a network is 0: give at least 1"),
        ("published", {"depth": -1}, "depth of a network is -1: give at least 0"),
        ("published", {"dropout": 1.0}, "dropout of a network is 1.0"),
    ],
)
def test_options_that_a_network_does_not_take_are_refused(kind, option, takers):
    with pytest.raises(ValueError, match=takers) as error:
        NetworkOptions(kind, **option)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("units", [16, 48, 80])
def test_the_published_layer_takes_any_number_of_units_that_its_heads_divide(units):
    network = NetworkOptions("published").build(units, 1.0)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((4, units)))["params"]
    assert shapes["layer"]["self_attn"]["in_proj"]["kernel"].shape == (units, 3 * units)
    with pytest.raises(ValueError, match=f"16 heads cannot divide the {units + 1} units of the recording"):
        NetworkOptions("published").build(units + 1, 1.0)


def test_depths_can_have_equal_numbers_of_parameters():
    assert NetworkOptions("published").count_parameters(128) == 116_096
    deepest = NetworkOptions("published", depth=4).count_parameters(128)
    widths = {}
    for depth in (1, 2, 3, 4):
        options = NetworkOptions("published", depth=depth).with_parameters(deepest, 128)
        widths[depth] = options.hidden
        assert abs(options.count_parameters(128) - deepest) < 0.005 * deepest
    assert widths[4] == 128 and widths[1] > 4 * widths[3]
    assert NetworkOptions("published", depth=2).with_parameters(1, 32).hidden == 1


def test_attention_weights_are_dropped_with_the_option():
    """Without values that pass through the residual connections, outputs depend on attention only."""
    plain = PublishedLayer(UNITS, heads=3, dropout=0.4)
    network = PublishedLayer(UNITS, heads=3, dropout=0.4, attention_dropout=True)
    variables = noisy_variables(network)
    jax.tree.map(np.testing.assert_array_equal, variables, noisy_variables(plain))
    np.testing.assert_array_equal(apply(network, variables, SPIKES)[0], apply(plain, variables, SPIKES)[0])

    @partial(jax.jit, static_argnums=0)
    def train(network, rate, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return network.apply(variables, SPIKES, train=True, dropout_rate=rate, rngs=rngs)[0]

    np.testing.assert_allclose(train(network, 0.0, 1), apply(plain, variables, SPIKES)[0], atol=1e-5)
    np.testing.assert_array_equal(train(network, 0.4, 1), train(network, 0.4, 1))
    assert np.abs(train(network, 0.4, 1) - train(plain, 0.4, 1)).max() > 0.01, "more than the residual dropout"
