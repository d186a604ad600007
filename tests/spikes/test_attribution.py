"""What a network looks at: against the whole matrix of weights, formed here, and ablations against what they mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes.attribution import WAYS, Altered, altered, look
from jaxephys.spikes.history import Filters
from jaxephys.spikes.losses import bce
from jaxephys.spikes.network import PopulationTransformer, PublishedLayer, rotate

BINS, UNITS, LAGS = 150, 8, 20
SPIKES = jnp.asarray(np.random.default_rng(0).random((BINS, UNITS)) < 0.2, jnp.float32)
NETWORKS = {
    "causal": PublishedLayer(UNITS, heads=2, hidden=8),
    "window": PublishedLayer(UNITS, heads=2, hidden=8, window=16),
    "legacy": PublishedLayer(UNITS, heads=2, hidden=8, legacy=True),
    "population": PopulationTransformer(
        width=8, depth=1, heads=2, window=16, hidden=8, cell=4, filters=Filters((2.0, 50.0))
    ),
}


def variables_of(network):
    variables = jax.jit(network.init)(jax.random.key(0), SPIKES[:4])
    return jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape), variables)


def weights_of(network, variables):
    """[query, key], of the one layer, the mean over heads."""
    taken = jax.jit(
        lambda variables: network.apply(
            variables,
            SPIKES,
            capture_intermediates=lambda module, _: module.name == "in_proj",
            mutable=["intermediates"],
        )[1]
    )(variables)
    layer = taken["intermediates"]["layer_0" if isinstance(network, PopulationTransformer) else "layer"]
    projected = layer["self_attn"]["in_proj"]["__call__"][0]
    q, k, _ = np.moveaxis(np.asarray(projected).reshape(BINS, 3, 2, -1), 1, 0)
    if isinstance(network, PopulationTransformer):
        q, k = rotate(jnp.asarray(q), 0), rotate(jnp.asarray(k), 0)
    score = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
    apart = np.arange(BINS)[:, None] - np.arange(BINS)
    seen = np.ones_like(apart, bool) if getattr(network, "legacy", False) else apart >= 0
    seen &= True if network.window is None else apart <= network.window
    weight = np.where(seen, np.exp(score), 0)
    return (weight / weight.sum(axis=-1, keepdims=True)).mean(axis=0), seen


@pytest.mark.parametrize("name", NETWORKS)
def test_every_number_is_that_of_the_whole_matrix(name):
    network = NETWORKS[name]
    variables = variables_of(network)
    (found,), importance = jax.jit(
        lambda variables: look(network, variables, SPIKES, lambda logits: bce(logits[:-1], SPIKES[1:]), LAGS)
    )(variables)
    weight, seen = weights_of(network, variables)
    count, importance = SPIKES.sum(axis=1), np.asarray(importance)
    entropy = -(weight * np.log(np.maximum(weight, 1e-30))).sum(axis=1) / np.log(np.maximum(seen.sum(axis=1), 2))
    told = {
        "lag": [np.diag(weight, -lag).mean() for lag in range(LAGS)],
        "looked": weight.sum(axis=0) / seen.sum(axis=0),
        "rated": weight @ count,
        "entropy": entropy,
        "awi_row": weight @ importance,
        "awi_column": importance * weight.sum(axis=0),
    }
    for field, expected in told.items():
        np.testing.assert_allclose(getattr(found, field), expected, atol=2e-5, rtol=2e-4, err_msg=field)


def test_the_importance_of_a_bin_is_the_gradient_there():
    network = NETWORKS["causal"]
    variables = variables_of(network)
    bins = 40
    _, importance = jax.jit(lambda bins: look(network, variables, bins, lambda logits: logits[10].sum(), LAGS))(
        SPIKES[:bins]
    )
    assert (np.asarray(importance)[11:] == 0).all() and (np.asarray(importance)[:11] > 0).all()


@pytest.mark.parametrize("way", WAYS)
def test_attention_looks_where_it_is_told(way):
    network = NETWORKS["causal"]
    variables = variables_of(network)
    run = jax.jit(lambda bins: Altered(network, way).apply(altered(variables), bins)[0])
    plain, told = np.asarray(run(SPIKES)), SPIKES.at[40].set(1 - SPIKES[40])
    moved = np.abs(np.asarray(run(told)) - plain).max(axis=1) > 0
    felt = {"itself": [40], "nowhere": [40], "evenly": list(range(40, BINS))}[way]
    assert np.flatnonzero(moved).tolist() == felt


def test_looking_nowhere_is_a_network_without_the_branch():
    network = NETWORKS["causal"]
    variables = variables_of(network)
    silent = jax.tree.map(lambda leaf: leaf, variables)
    out = silent["params"]["layer"]["self_attn"]["out_proj"]
    silent["params"]["layer"]["self_attn"]["out_proj"] = jax.tree.map(jnp.zeros_like, out)
    expected = network.apply(silent, SPIKES)[0]
    np.testing.assert_allclose(Altered(network, "nowhere").apply(altered(variables), SPIKES)[0], expected, atol=1e-6)


def test_attention_cannot_look_anywhere():
    with pytest.raises(ValueError, match="'away'.*itself, evenly, nowhere"):
        Altered(NETWORKS["causal"], "away").init(jax.random.key(0), SPIKES)
