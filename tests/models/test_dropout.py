"""Dropout at a rate of the run: the numbers of Flax's layer, and the limits of the rate."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.models.dropout import Dropout

X = jnp.asarray(np.random.default_rng(0).normal(size=(20, 30)), jnp.float32)
RNGS = {"dropout": jax.random.key(0)}


class TwoDropouts(nn.Module):
    """Both layers as a network uses them: as unnamed submodules."""

    ours: bool
    enlarge_last: bool = False

    @nn.compact
    def __call__(self, x, rate):
        if not self.ours:
            return nn.Dropout(rate, deterministic=False)(nn.Dropout(rate, deterministic=False)(x))
        return Dropout(self.enlarge_last)(Dropout(self.enlarge_last)(x, rate), rate)


@pytest.mark.parametrize("enlarge_last", [False, True])
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.7])
def test_a_rate_of_the_run_drops_the_values_that_flax_drops(rate, enlarge_last):
    expected = TwoDropouts(False).apply({}, X, rate, rngs=RNGS)
    network = TwoDropouts(True, enlarge_last)
    ours = jax.jit(lambda rate: network.apply({}, X, rate, rngs=RNGS))(jnp.float32(rate))
    assert 0 < (ours == 0).mean() < 1
    np.testing.assert_array_equal(ours == 0, expected == 0)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_a_rate_of_zero_needs_no_random_numbers_and_one_has_a_gradient():
    np.testing.assert_array_equal(Dropout().apply({}, X, 0.0), X)
    gradient = jax.grad(lambda x, rate: Dropout().apply({}, x, rate, rngs=RNGS).sum())(X, jnp.float32(1.0))
    np.testing.assert_array_equal(gradient, jnp.zeros_like(X))


def test_the_type_of_the_values_is_kept():
    assert Dropout().apply({}, X.astype(jnp.bfloat16), jnp.float32(0.3), rngs=RNGS).dtype == jnp.bfloat16
