"""Losses against NumPy in float64, written from the formulas; finite gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes import losses

RNG = np.random.default_rng(2)
LOGITS = RNG.normal(-2, 2, size=(3, 40, 6)).astype(np.float32)
SPIKES = (RNG.random((3, 40, 6)) < 0.1).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def observed_probability(p):
    """Probability of the observed outcome."""
    return np.where(SPIKES == 1, p, 1 - p)


def overlap(p, axis=None):
    return 1 - (2 * (p * SPIKES).sum(axis) + 1) / (p.sum(axis) + SPIKES.sum(axis) + 1)


P = sigmoid(LOGITS)
ALPHA = np.where(SPIKES == 1, 0.8, 0.2)
ORACLES = {
    "bce": (losses.bce, {}, -np.log(observed_probability(P)).mean()),
    "focal": (losses.focal, {}, (-((1 - observed_probability(P)) ** 2) * np.log(observed_probability(P))).mean()),
    "focal of 0": (losses.focal, {"gamma": 0.0}, -np.log(observed_probability(P)).mean()),
    "focal with alpha": (
        losses.focal,
        {"gamma": 0.5, "alpha": 0.8},
        (-ALPHA * (1 - observed_probability(P)) ** 0.5 * np.log(observed_probability(P))).mean(),
    ),
    "dice": (losses.dice, {}, overlap(P)),
    "dice of units": (losses.dice, {"over": "unit"}, overlap(P, 1).mean()),
    "dice of bins": (losses.dice, {"over": "time"}, overlap(P, 2).mean()),
    "dice and bce": (
        losses.dice_bce,
        {"dice_share": 0.3},
        0.3 * overlap(P) - 0.7 * np.log(observed_probability(P)).mean(),
    ),
    "published": (
        losses.published_dice,
        {},
        0.9 * np.log(1 + overlap(sigmoid(P))) + np.maximum(P.mean() - SPIKES.mean(), 0),
    ),
    "published, given density": (
        losses.published_dice,
        {"density": 0.01},
        0.9 * np.log(1 + overlap(sigmoid(P))) + np.maximum(P.mean() - 0.01, 0),
    ),
}


@pytest.mark.parametrize("loss, options, expected", ORACLES.values(), ids=ORACLES)
def test_the_loss_is_its_formula(loss, options, expected):
    np.testing.assert_allclose(loss(LOGITS, SPIKES, **options), expected, rtol=2e-6)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_gradient_step_lowers_the_loss_and_separates_spikes_from_silence(name):
    loss = losses.LOSSES[name]
    before, slope = jax.value_and_grad(loss)(jnp.asarray(LOGITS), SPIKES)
    after = loss(LOGITS - 0.1 * slope / jnp.abs(slope).max(), SPIKES)
    assert after < before
    assert (slope[SPIKES == 1] < 0).all() and slope[SPIKES == 0].mean() > slope[SPIKES == 1].mean()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_extreme_logits_give_finite_losses_and_gradients(name):
    extreme = jnp.array([[-200.0, 200.0], [200.0, -200.0], [0.0, 0.0]])
    spikes = jnp.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    value, slope = jax.value_and_grad(losses.LOSSES[name])(extreme, spikes)
    assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_half_precision_is_converted_before_sums(name):
    half = jnp.asarray(LOGITS, jnp.bfloat16)
    value = losses.LOSSES[name](half, jnp.asarray(SPIKES, bool).astype(jnp.bfloat16))
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(value, losses.LOSSES[name](half.astype(jnp.float32), SPIKES))


def test_dice_of_correct_silence_is_zero():
    for over in losses.OVERLAP_AXES:
        np.testing.assert_allclose(losses.dice(jnp.full((9, 4), -40.0), jnp.zeros((9, 4)), over), 0.0, atol=1e-6)


def test_the_penalty_of_the_published_loss_has_no_gradient():
    slope = jax.grad(losses.published_dice)(jnp.asarray(LOGITS), SPIKES)
    wanted = jax.grad(lambda logits: 0.9 * jnp.log1p(losses.published_dice_term(logits, SPIKES)))(jnp.asarray(LOGITS))
    np.testing.assert_array_equal(slope, wanted)


def test_an_unknown_overlap_is_refused():
    with pytest.raises(ValueError, match="Dice over 'bin' is unknown"):
        losses.dice(LOGITS, SPIKES, "bin")


@pytest.mark.parametrize("name", losses.LOSSES)
def test_weights_repeat_windows_and_zero_is_padding(name):
    loss = jax.jit(losses.LOSSES[name])
    weights = np.array([1.0, 2.0, 0.0], np.float32)[:, None, None]
    rows = np.array([0, 1, 1])
    np.testing.assert_allclose(loss(LOGITS, SPIKES, weights=weights), loss(LOGITS[rows], SPIKES[rows]), rtol=1e-5)
