"""The forms of the networks: equal results and gradients, in float32 to rounding and in bfloat16 to its precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.patchseq.network.classifier import NetworkSwitches, SubclassNetwork, TabularNetwork, TwoSpeciesNetwork
from jaxephys.patchseq.network.dropout import DEFAULT_RATES
from jaxephys.patchseq.network.forms import ComputeForm, choose_form
from jaxephys.patchseq.network.ragged_layout import RaggedLayout

LAYOUT = RaggedLayout.from_widths((7, 90, 5, 90, 200), 210)  # three rectangles
SWITCHES = NetworkSwitches(jnp.asarray(True), jnp.asarray(False))
NETWORKS = {
    "published": SubclassNetwork(LAYOUT, 3, 8),
    "ours": SubclassNetwork(LAYOUT, 3, 8, token=6),
    "two species": TwoSpeciesNetwork(LAYOUT, 3, 8),
    "two species, our encoder": TwoSpeciesNetwork(LAYOUT, 3, 8, token=6),
    "tabular": TabularNetwork(3, 16),
}
BATCH = 10


def value_and_gradient(network, variables, key=None):
    """A sum that weighs every output differently, its gradient, and the outputs."""
    packed = np.random.default_rng(1).normal(size=(BATCH, LAYOUT.size)).astype(np.float32)
    packed[:, LAYOUT.source_column < 0] = 0
    packed, missing = jnp.asarray(packed), jnp.asarray(packed > 1, jnp.float32)
    switches = (SWITCHES,) if isinstance(network, SubclassNetwork) else ()
    inputs = (packed,) if isinstance(network, TabularNetwork) else (packed, missing, *switches)

    def total(variables):
        rngs = None if key is None else {"dropout": key}
        output = network.apply(variables, *inputs, DEFAULT_RATES, train=key is not None, rngs=rngs)
        leaves = jax.tree.leaves(output)
        return sum(jnp.sum(leaf * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape))) for leaf in leaves), output

    (value, output), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(variables)
    return output, value, gradient


def init(network):
    inputs = [jnp.zeros((1, LAYOUT.size))] * (1 if isinstance(network, TabularNetwork) else 2)
    switches = [SWITCHES] if isinstance(network, SubclassNetwork) else []
    return network.init(jax.random.key(0), *inputs, *switches, train=False)


@pytest.mark.parametrize("key", [None, jax.random.key(1)], ids=["prediction", "training"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_stacked_form_gives_the_same_results_and_gradients(name, key):
    network = NETWORKS[name]
    stacked = network.copy(form=choose_form("gpu", "tf32"))
    variables = init(network)
    for plain, other in zip(jax.tree.leaves(variables), jax.tree.leaves(init(stacked)), strict=True):
        np.testing.assert_array_equal(plain, other)
    both = (value_and_gradient(some, variables, key) for some in (network, stacked))
    for plain, other in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(other, plain, atol=2e-5 * max(1.0, float(jnp.abs(plain).max())))


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_keeps_two_digits_and_float32_outputs(name):
    network = NETWORKS[name]
    variables = init(network)
    both = [
        value_and_gradient(some, variables) for some in (network, network.copy(form=choose_form("tpu", "bfloat16")))
    ]
    for plain, other in zip(*map(jax.tree.leaves, both), strict=True):
        assert other.dtype == jnp.float32
        np.testing.assert_allclose(other, plain, atol=0.03 * max(1.0, float(jnp.abs(plain).max())))


def test_each_platform_has_its_form():
    assert choose_form("cpu", "float32") == ComputeForm()
    assert choose_form("gpu", "tf32") == ComputeForm(stacked=True)
    assert choose_form("tpu", "bfloat16") == ComputeForm(stacked=True, dtype="bfloat16")
    assert choose_form("cpu", "bfloat16") == ComputeForm(stacked=True, dtype="bfloat16"), "the other form is in float32"
