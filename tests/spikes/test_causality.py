"""The leak test passes for every causal network, fails for the legacy one, and finds leaks of any size that are planted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes.causality import check_causal, measure_leak
from jaxephys.spikes.network import PopulationTransformer, PublishedLayer
from tests.spikes.test_network import FEW, say, shaken

RNG = np.random.default_rng(5)
UNITS = 16
SPIKES = jnp.asarray(RNG.random((100, UNITS)) < 0.1, jnp.float32)
SMALL: dict[str, Any] = dict(width=8, depth=1, heads=2, window=24, hidden=12, cell=8, filters=FEW)
CAUSAL = {
    "published": PublishedLayer(UNITS, heads=4),
    "published, window": PublishedLayer(UNITS, heads=4, window=30),
    "published, deep": PublishedLayer(UNITS, heads=4, depth=2),
    "any units": PopulationTransformer(**SMALL),
    "fixed units": PopulationTransformer(units=UNITS, **SMALL),
}


def applied(network, memory=None):
    variables = shaken(network, UNITS)
    return jax.jit(lambda spikes: network.apply(variables, spikes, memory)[0])


@pytest.mark.parametrize("network", CAUSAL.values(), ids=CAUSAL)
def test_every_causal_network_passes(network):
    found = check_causal(applied(network), SPIKES)
    assert found.causal and found.reach > 20 and len(found.times) == 6
    assert str(found).startswith("leak test at 6 times: causal; ")


@pytest.mark.parametrize("name", ["published, window", "any units"])
def test_it_passes_behind_a_memory(name):
    network = CAUSAL[name]
    _, memory = say(network, shaken(network, UNITS), SPIKES[:50])
    assert check_causal(applied(network, memory), SPIKES[50:]).causal


def test_the_legacy_network_fails():
    legacy = applied(PublishedLayer(UNITS, heads=4, legacy=True))
    found = measure_leak(legacy, SPIKES)
    assert found.moved > 1e-3 and found.gradient > 1e-6 and "LEAKS" in str(found)
    with pytest.raises(ValueError, match=r"the model knows the future: .* call its result a reconstruction"):
        check_causal(legacy, SPIKES)


def test_a_causal_mask_does_not_excuse_shifted_outputs():
    """The published fault: row t is compared with bin t, which it was shown. Moved one row on, it tells bin t + 1."""
    causal = applied(CAUSAL["published"])
    with pytest.raises(ValueError, match="knows the future"):
        check_causal(lambda spikes: jnp.roll(causal(spikes), -1, axis=0), SPIKES)


@pytest.mark.parametrize("size", [1e-6, 1.0])
def test_a_planted_leak_is_found(size):
    def leaks(spikes):
        return jnp.cumsum(spikes, axis=0) + size * jnp.sum(spikes, axis=0)

    assert not measure_leak(leaks, SPIKES).causal


def test_a_leak_without_a_gradient_is_found():
    def leaks(spikes):
        return spikes * 0.5 + jax.lax.stop_gradient(spikes.mean(axis=0))

    found = measure_leak(leaks, SPIKES)
    assert found.gradient == 0 and found.moved > 0 and not found.causal


def test_what_shows_nothing_is_refused():
    with pytest.raises(ValueError, match="no output has a gradient to any bin"):
        check_causal(jnp.zeros_like, SPIKES)
    with pytest.raises(ValueError, match="1 bin: give a window of at least 2"):
        check_causal(lambda spikes: spikes, SPIKES[:1])
    with pytest.raises(ValueError, match="not finite"):
        check_causal(lambda spikes: spikes / 0.0, SPIKES)
