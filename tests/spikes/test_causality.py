"""The causality test passes for every causal network, fails for the legacy one, and finds dependences of any size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes.causality import check_causality, measure_causality
from jaxephys.spikes.network import PopulationTransformer, PublishedLayer
from tests.spikes.test_network import FEW, apply, noisy_variables

RNG = np.random.default_rng(5)
UNITS = 16
SPIKES = jnp.asarray(RNG.random((100, UNITS)) < 0.1, jnp.float32)
SMALL: dict[str, Any] = dict(width=8, depth=1, heads=2, window=24, hidden=12, unit_width=8, filters=FEW)
CAUSAL = {
    "published": PublishedLayer(UNITS, heads=4),
    "published, window": PublishedLayer(UNITS, heads=4, window=30),
    "published, deep": PublishedLayer(UNITS, heads=4, depth=2),
    "any units": PopulationTransformer(**SMALL),
    "fixed units": PopulationTransformer(units=UNITS, **SMALL),
}


def applied(network, memory=None):
    variables = noisy_variables(network, UNITS)
    return jax.jit(lambda spikes: network.apply(variables, spikes, memory)[0])


@pytest.mark.parametrize("network", CAUSAL.values(), ids=CAUSAL)
def test_every_causal_network_passes(network):
    found = check_causality(applied(network), SPIKES)
    assert found.causal and found.reach > 20 and len(found.tested_bins) == 6
    assert str(found).startswith("causality test at 6 bins: causal; ")


@pytest.mark.parametrize("name", ["published, window", "any units"])
def test_a_network_with_a_memory_passes(name):
    network = CAUSAL[name]
    _, memory = apply(network, noisy_variables(network, UNITS), SPIKES[:50])
    assert check_causality(applied(network, memory), SPIKES[50:]).causal


def test_the_legacy_network_fails():
    legacy = applied(PublishedLayer(UNITS, heads=4, legacy=True))
    found = measure_causality(legacy, SPIKES)
    assert found.output_change > 1e-3 and found.future_gradient > 1e-6 and "NOT causal" in str(found)
    with pytest.raises(ValueError, match=r"the model uses future bins: .* call its result a reconstruction"):
        check_causality(legacy, SPIKES)


def test_shifted_outputs_of_a_causal_network_fail():
    """The published error: row t is compared with bin t, which the network was shown."""
    causal = applied(CAUSAL["published"])
    with pytest.raises(ValueError, match="uses future bins"):
        check_causality(lambda spikes: jnp.roll(causal(spikes), -1, axis=0), SPIKES)


@pytest.mark.parametrize("size", [1e-6, 1.0])
def test_a_dependence_of_any_size_is_found(size):
    def acausal(spikes):
        return jnp.cumsum(spikes, axis=0) + size * jnp.sum(spikes, axis=0)

    assert not measure_causality(acausal, SPIKES).causal


def test_a_dependence_without_a_gradient_is_found():
    def acausal(spikes):
        return spikes * 0.5 + jax.lax.stop_gradient(spikes.mean(axis=0))

    found = measure_causality(acausal, SPIKES)
    assert found.future_gradient == 0 and found.output_change > 0 and not found.causal


def test_uninformative_tests_are_refused():
    with pytest.raises(ValueError, match="no output has a gradient to any bin"):
        check_causality(jnp.zeros_like, SPIKES)
    with pytest.raises(ValueError, match="1 bin: give a window of at least 2"):
        check_causality(lambda spikes: spikes, SPIKES[:1])
    with pytest.raises(ValueError, match="not finite"):
        check_causality(lambda spikes: spikes / 0.0, SPIKES)
