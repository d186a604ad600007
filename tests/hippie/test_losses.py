"""Losses against loops over rows in NumPy; padding and absent curves have no effect."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from jaxephys.hippie import losses

RNG = np.random.default_rng(1)
ROWS, LATENT = 7, 4
MU = RNG.normal(size=(ROWS, LATENT)).astype(np.float32)
LOG_VAR = RNG.normal(-1.0, 0.5, size=(ROWS, LATENT)).astype(np.float32)
LABEL = np.array([0, 0, 1, 1, 1, -1, 2], np.int32)  # class 2 has no second member, one row no label
ONES = np.ones(ROWS, np.float32)
TARGETS = {"wave": RNG.normal(size=(ROWS, 5)).astype(np.float32), "isi": RNG.normal(size=(ROWS, 8)).astype(np.float32)}
CURVES = {name: target + RNG.normal(size=target.shape).astype(np.float32) for name, target in TARGETS.items()}
ALL = np.ones((ROWS, 2), bool)


def padded(array, fill, rows=3):
    return np.concatenate([array, np.full((rows, *array.shape[1:]), fill, array.dtype)])


def test_the_published_reconstruction_is_the_mean_over_everything():
    errors = losses.squared_errors(CURVES, TARGETS, list(TARGETS))
    wanted = [np.mean((CURVES[name] - TARGETS[name]) ** 2) for name in TARGETS]
    np.testing.assert_allclose(losses.mean_squared_errors(errors, ALL, ONES), wanted, rtol=1e-5)


def test_the_likelihood_is_that_of_independent_gaussians():
    variance, lengths = np.array([0.3, 2.0], np.float32), np.array([5.0, 8.0], np.float32)
    counted = ALL.copy()
    counted[2, 0] = counted[4, 1] = False
    value = losses.gaussian_loss(
        losses.squared_errors(CURVES, TARGETS, list(TARGETS)), variance, lengths, counted, ONES
    )
    wanted = 0.0
    for row in range(ROWS):
        for position, name in enumerate(TARGETS):
            if counted[row, position]:
                log_density = norm.logpdf(TARGETS[name][row], CURVES[name][row], np.sqrt(variance[position]))
                wanted -= (log_density + 0.5 * np.log(2 * np.pi)).sum() / ROWS
    np.testing.assert_allclose(value, wanted, rtol=1e-5)


def test_the_variance_that_fits_best_is_the_squared_error():
    errors = losses.squared_errors(CURVES, TARGETS, list(TARGETS))
    lengths, best = np.array([5.0, 8.0], np.float32), losses.mean_squared_errors(errors, ALL, ONES)
    slope = jax.grad(lambda variance: losses.gaussian_loss(errors, variance, lengths, ALL, ONES))(best)
    np.testing.assert_allclose(slope, 0.0, atol=1e-5)


def test_kl_is_that_of_two_gaussians_by_quadrature():
    grid = np.linspace(-12, 12, 40001)
    wanted = np.zeros((ROWS, LATENT))
    for row in range(ROWS):
        for d in range(LATENT):
            q = norm.pdf(grid, MU[row, d], np.exp(LOG_VAR[row, d] / 2))
            ratio = norm.logpdf(grid, MU[row, d], np.exp(LOG_VAR[row, d] / 2)) - norm.logpdf(grid)
            wanted[row, d] = np.trapezoid(q * ratio, grid)
    np.testing.assert_allclose(losses.kl_per_dimension(MU, LOG_VAR), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(losses.kl_loss(MU, LOG_VAR, ONES), wanted.mean(axis=0).sum(), rtol=1e-4)


def test_free_bits_are_a_lower_limit_of_each_dimension_and_remove_its_gradient():
    each = np.asarray(losses.kl_per_dimension(MU, LOG_VAR)).mean(axis=0)
    free = float(np.sort(each)[1:3].mean())  # two dimensions below, two above
    value, gradient = jax.value_and_grad(losses.kl_loss)(jnp.asarray(MU), LOG_VAR, ONES, free)
    np.testing.assert_allclose(value, np.maximum(each, free).sum(), rtol=1e-5)
    np.testing.assert_array_equal(np.abs(gradient).sum(axis=0) > 0, each > free)


def test_contrast_equals_a_loop_over_anchors():
    unit = MU / np.linalg.norm(MU, axis=1, keepdims=True)
    total, anchors = 0.0, 0
    for a in range(ROWS):
        others = [b for b in range(ROWS) if b != a]
        positives = [b for b in others if LABEL[a] >= 0 and LABEL[b] == LABEL[a]]
        if positives:
            below = np.log(sum(np.exp(unit[a] @ unit[b] / 0.5) for b in others))
            total -= np.mean([unit[a] @ unit[b] / 0.5 - below for b in positives])
            anchors += 1
    assert anchors == 5
    np.testing.assert_allclose(losses.contrastive_loss(MU, LABEL, ONES), total / anchors, rtol=1e-5)


def test_contrast_without_a_positive_is_zero_and_has_no_gradient():
    value, gradient = jax.value_and_grad(losses.contrastive_loss)(jnp.asarray(MU), np.full(ROWS, -1, np.int32), ONES)
    assert value == 0 and not np.asarray(gradient).any()


@pytest.mark.parametrize("fill", [0.0, 1e3, np.nan])
def test_padding_changes_no_loss(fill):
    weight, mu, log_var = padded(ONES, 0.0), padded(MU, fill), padded(LOG_VAR, fill)
    errors = losses.squared_errors(CURVES, TARGETS, list(TARGETS))
    lengths, variance = np.array([5.0, 8.0], np.float32), np.array([0.3, 2.0], np.float32)
    more, counted = padded(np.asarray(errors), fill), padded(ALL, True)
    for ours, again in [
        (losses.mean_squared_errors(errors, ALL, ONES), losses.mean_squared_errors(more, counted, weight)),
        (
            losses.gaussian_loss(errors, variance, lengths, ALL, ONES),
            losses.gaussian_loss(more, variance, lengths, counted, weight),
        ),
        (losses.kl_loss(MU, LOG_VAR, ONES, 0.2), losses.kl_loss(mu, log_var, weight, 0.2)),
        (losses.contrastive_loss(MU, LABEL, ONES), losses.contrastive_loss(mu, padded(LABEL, 0), weight)),
        (losses.active_dimensions(MU, LOG_VAR), losses.active_dimensions(mu, log_var, weight)),
    ]:
        np.testing.assert_allclose(ours, again, rtol=1e-5)


def test_a_dimension_is_active_if_it_costs_and_differs_between_units():
    mu = np.stack([RNG.normal(size=500), np.full(500, 1.0), 0.02 * RNG.normal(size=500), np.zeros(500)], axis=1)
    log_var = np.tile(np.array([-2.0, -2.0, -0.01, 0.0]), (500, 1))
    active = losses.active_dimensions(mu.astype(np.float32), log_var.astype(np.float32))
    np.testing.assert_array_equal(active, [True, False, False, False])  # the second has a KL but carries no information
