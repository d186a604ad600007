"""Losses against optax and their formulas, and gradients that stay finite where logits saturate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxephys.patchseq.losses import (
    cross_entropy,
    effective_number_weights,
    focal,
    inverse_frequency_weights,
    weighted_mean,
)


def test_gamma_zero_is_the_cross_entropy():
    rng = np.random.default_rng(0)
    logits, label = jnp.asarray(rng.normal(size=(20, 5)), jnp.float32), jnp.asarray(rng.integers(5, size=20))
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    np.testing.assert_allclose(cross_entropy(logits, label), expected, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("label", [0, 1])
def test_saturated_logits_keep_value_and_gradient_finite(gamma, label):
    logits = jnp.array([[200.0, -200.0, 0.0]])
    value, gradient = jax.value_and_grad(lambda x, g: focal(x, jnp.array([label]), g)[0], argnums=(0, 1))(logits, gamma)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in gradient)


def test_focal_is_its_formula():
    logits = jnp.array([[1.0, 0.0, -1.0]])
    p = float(jax.nn.softmax(logits)[0, 1])
    assert float(focal(logits, jnp.array([1]), 2.0)[0]) == pytest.approx(-((1 - p) ** 2) * np.log(p), rel=1e-5)


def test_a_row_of_weight_zero_counts_nothing_even_as_nan():
    values, weight = jnp.array([1.0, jnp.nan, 3.0]), jnp.array([1.0, 0.0, 3.0])
    assert float(weighted_mean(values, weight)) == pytest.approx(2.5)
    gradient = jax.grad(lambda x: weighted_mean(x, weight))(values)
    np.testing.assert_allclose(gradient, [0.25, 0, 0.75])


def test_class_weights_are_their_formulas_and_an_absent_class_weighs_nothing():
    counts = np.array([10, 30, 0])
    inverse = np.array([1 / 10, 1 / 30, 0])
    np.testing.assert_allclose(inverse_frequency_weights(counts), inverse * 3 / inverse.sum(), rtol=1e-6)
    effective = np.array([0.001 / (1 - 0.999**10), 0.001 / (1 - 0.999**30), 0])
    np.testing.assert_allclose(effective_number_weights(counts), effective * 3 / effective.sum(), rtol=1e-5)
