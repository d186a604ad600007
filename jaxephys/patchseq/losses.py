"""Losses a row: cross-entropy and focal, and weights of classes. Means are taken where the row weights are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxephys.dimensions import AnyArray

BETA = 0.999


def focal(
    logits: Float[AnyArray, "row class"], label: Int[AnyArray, "row"], gamma: Float[AnyArray, ""] | float = 2.0
) -> Float[AnyArray, "row"]:
    """``-(1 - p)^gamma log p`` of the true class; gamma 0 is the cross-entropy, so gamma can be a number of the run.

    1 - p is the sum of the other classes' probabilities, taken in logarithms: no rounding at p near 1, and a finite
    gradient there whatever gamma is.
    """
    true = jnp.arange(logits.shape[-1]) == label[:, None]
    log_all = jax.nn.logsumexp(logits, axis=-1)
    log_true = jnp.sum(jnp.where(true, logits, 0.0), axis=-1) - log_all
    log_others = jax.nn.logsumexp(jnp.where(true, -jnp.inf, logits), axis=-1) - log_all
    return -jnp.exp(gamma * log_others) * log_true


def cross_entropy(logits: Float[AnyArray, "row class"], label: Int[AnyArray, "row"]) -> Float[AnyArray, "row"]:
    """``-log p`` of the true class."""
    return focal(logits, label, 0.0)


def weighted_mean(values: Float[AnyArray, "row"], weight: Float[AnyArray, "row"]) -> Float[AnyArray, ""]:
    """``sum(w v) / sum(w)``; rows of weight 0 count nothing, whatever their value."""
    return jnp.sum(jnp.where(weight > 0, weight * values, 0.0)) / jnp.maximum(jnp.sum(weight), 1e-9)


def inverse_frequency_weights(counts: Shaped[np.ndarray, "class"]) -> Float[np.ndarray, "class"]:
    """``1 / n_c``, scaled to sum to the number of classes. A class without a cell weighs nothing."""
    return _scaled(np.where(counts > 0, 1.0 / np.maximum(counts, 1), 0.0))


def effective_number_weights(counts: Shaped[np.ndarray, "class"], beta: float = BETA) -> Float[np.ndarray, "class"]:
    """``(1 - beta) / (1 - beta^n_c)``, scaled to sum to the number of classes: the n-th cell of a class adds beta^n of new."""
    return _scaled(np.where(counts > 0, (1 - beta) / (1 - beta ** np.maximum(counts, 1.0)), 0.0))


def _scaled(weights: np.ndarray) -> Float[np.ndarray, "class"]:
    return (weights * len(weights) / weights.sum()).astype(np.float32)
