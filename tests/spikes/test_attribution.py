"""Attention summaries against the whole matrix of weights, and altered attention against its meaning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes.attribution import ATTENTION_MODES, AlteredAttention, summarize_attention, wrap_variables
from jaxephys.spikes.history import Filters
from jaxephys.spikes.losses import bce
from jaxephys.spikes.network import PopulationTransformer, PublishedLayer
from jaxephys.spikes.network.layers import rotate

BINS, UNITS, LAGS = 150, 8, 20
SPIKES = jnp.asarray(np.random.default_rng(0).random((BINS, UNITS)) < 0.2, jnp.float32)
NETWORKS = {
    "causal": PublishedLayer(UNITS, heads=2, hidden=8),
    "window": PublishedLayer(UNITS, heads=2, hidden=8, window=16),
    "legacy": PublishedLayer(UNITS, heads=2, hidden=8, legacy=True),
    "population": PopulationTransformer(
        width=8, depth=1, heads=2, window=16, hidden=8, unit_width=4, filters=Filters((2.0, 50.0))
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
    visible = np.ones_like(apart, bool) if network.is_reconstruction else apart >= 0
    visible &= True if network.window is None else apart <= network.window
    weight = np.where(visible, np.exp(score), 0)
    return (weight / weight.sum(axis=-1, keepdims=True)).mean(axis=0), visible


@pytest.mark.parametrize("name", NETWORKS)
def test_summaries_equal_those_of_the_whole_matrix(name):
    network = NETWORKS[name]
    variables = variables_of(network)
    (found,), importance = jax.jit(
        lambda variables: summarize_attention(
            network, variables, SPIKES, lambda logits: bce(logits[:-1], SPIKES[1:]), LAGS
        )
    )(variables)
    weight, visible = weights_of(network, variables)
    count, importance = SPIKES.sum(axis=1), np.asarray(importance)
    entropy = -(weight * np.log(np.maximum(weight, 1e-30))).sum(axis=1) / np.log(np.maximum(visible.sum(axis=1), 2))
    expected_values = {
        "lag_profile": [np.diag(weight, -lag).mean() for lag in range(LAGS)],
        "received": weight.sum(axis=0) / visible.sum(axis=0),
        "attended_rate": weight @ count,
        "entropy": entropy,
        "awi_row": weight @ importance,
        "awi_column": importance * weight.sum(axis=0),
    }
    for field, expected in expected_values.items():
        np.testing.assert_allclose(getattr(found, field), expected, atol=2e-5, rtol=2e-4, err_msg=field)


def test_importance_is_the_gradient_at_a_bin():
    network = NETWORKS["causal"]
    variables = variables_of(network)
    bins = 40
    _, importance = jax.jit(
        lambda bins: summarize_attention(network, variables, bins, lambda logits: logits[10].sum(), LAGS)
    )(SPIKES[:bins])
    assert (np.asarray(importance)[11:] == 0).all() and (np.asarray(importance)[:11] > 0).all()


@pytest.mark.parametrize("mode", ATTENTION_MODES)
def test_altered_attention_uses_the_bins_of_its_mode(mode):
    network = NETWORKS["causal"]
    variables = variables_of(network)
    run = jax.jit(lambda bins: AlteredAttention(network, mode).apply(wrap_variables(variables), bins)[0])
    plain, changed = np.asarray(run(SPIKES)), SPIKES.at[40].set(1 - SPIKES[40])
    differs = np.abs(np.asarray(run(changed)) - plain).max(axis=1) > 0
    expected = {"own bin": [40], "none": [40], "uniform": list(range(40, BINS))}[mode]
    assert np.flatnonzero(differs).tolist() == expected


def test_no_attention_is_a_network_without_the_branch():
    network = NETWORKS["causal"]
    variables = variables_of(network)
    silent = jax.tree.map(lambda leaf: leaf, variables)
    out = silent["params"]["layer"]["self_attn"]["out_proj"]
    silent["params"]["layer"]["self_attn"]["out_proj"] = jax.tree.map(jnp.zeros_like, out)
    expected = network.apply(silent, SPIKES)[0]
    np.testing.assert_allclose(
        AlteredAttention(network, "none").apply(wrap_variables(variables), SPIKES)[0], expected, atol=1e-6
    )


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'away'.*own bin, uniform, none"):
        AlteredAttention(NETWORKS["causal"], "away").init(jax.random.key(0), SPIKES)
