"""Losses per row (focal and cross-entropy), class weights, and the weighted mean of rows."""

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
    """Return the focal loss of each row.

    Parameters
    ----------
    logits : array of shape (row, class)
        Logits.
    label : array of int, shape (row,)
        True class of each row.
    gamma : float, default 2.0
        Exponent; larger values reduce the loss of rows that are classified well. 0 gives the cross-entropy, so that
        ``gamma`` can be a number of the run.

    Returns
    -------
    array of shape (row,)
        ``-(1 - p)^gamma log p`` of the true class.

    Notes
    -----
    ``1 - p`` is computed as the sum of the other probabilities, in logarithms: it is not rounded at p near 1 and has a
    finite gradient there for every gamma.
    """
    is_true = jnp.arange(logits.shape[-1]) == label[:, None]
    log_all = jax.nn.logsumexp(logits, axis=-1)
    log_true = jnp.sum(jnp.where(is_true, logits, 0.0), axis=-1) - log_all
    log_others = jax.nn.logsumexp(jnp.where(is_true, -jnp.inf, logits), axis=-1) - log_all
    return -jnp.exp(gamma * log_others) * log_true


def cross_entropy(logits: Float[AnyArray, "row class"], label: Int[AnyArray, "row"]) -> Float[AnyArray, "row"]:
    """Return ``-log p`` of the true class of each row.

    Parameters
    ----------
    logits : array of shape (row, class)
        Logits.
    label : array of int, shape (row,)
        True class of each row.

    Returns
    -------
    array of shape (row,)
        The cross-entropy.
    """
    return focal(logits, label, 0.0)


def weighted_mean(values: Float[AnyArray, "row"], weight: Float[AnyArray, "row"]) -> Float[AnyArray, ""]:
    """Return ``sum(w v) / sum(w)``.

    Parameters
    ----------
    values : array of shape (row,)
        Values; those of rows of weight 0 have no effect, even if they are NaN.
    weight : array of shape (row,)
        Weights, 0 or more.

    Returns
    -------
    scalar array
        The mean; 0 where all weights are 0.
    """
    return jnp.sum(jnp.where(weight > 0, weight * values, 0.0)) / jnp.maximum(jnp.sum(weight), 1e-9)


def weighted_accuracy(
    logits: Float[AnyArray, "row class"], label: Int[AnyArray, "row"], weight: Float[AnyArray, "row"]
) -> Float[AnyArray, ""]:
    """Return the share of the rows whose class has the largest logit.

    Parameters
    ----------
    logits : array of shape (row, class)
        Logits.
    label : array of int, shape (row,)
        True class of each row.
    weight : array of shape (row,)
        Weights, 0 or more.

    Returns
    -------
    scalar array
        The weighted share; 0 where all weights are 0.
    """
    return weighted_mean((jnp.argmax(logits, axis=-1) == label).astype(jnp.float32), weight)


def inverse_frequency_weights(counts: Shaped[np.ndarray, "class"]) -> Float[np.ndarray, "class"]:
    """Return class weights ``1 / n_c``, scaled to sum to the number of classes.

    Parameters
    ----------
    counts : array of shape (class,)
        Number of training cells of each class.

    Returns
    -------
    array of float32, shape (class,)
        The weights; 0 for a class without a cell.
    """
    return _sum_to_class_count(np.where(counts > 0, 1.0 / np.maximum(counts, 1), 0.0))


def effective_number_weights(counts: Shaped[np.ndarray, "class"], beta: float = BETA) -> Float[np.ndarray, "class"]:
    """Return class weights by the effective number of cells, scaled to sum to the number of classes.

    Parameters
    ----------
    counts : array of shape (class,)
        Number of training cells of each class.
    beta : float, default 0.999
        The n-th cell of a class adds ``beta^n`` of new information.

    Returns
    -------
    array of float32, shape (class,)
        ``(1 - beta) / (1 - beta^n_c)`` up to the common factor; 0 for a class without a cell.
    """
    return _sum_to_class_count(np.where(counts > 0, (1 - beta) / (1 - beta ** np.maximum(counts, 1.0)), 0.0))


def _sum_to_class_count(weights: np.ndarray) -> Float[np.ndarray, "class"]:
    return (weights * len(weights) / weights.sum()).astype(np.float32)
