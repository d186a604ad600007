"""Terms of the objectives, as functions of one batch, and the count of active latent dimensions.

The published objective adds a squared error that is a MEAN over samples (below 1) to a KL divergence that is a SUM over dimensions.
The latent then costs more than it can save, and the optimum is an unused latent (posterior collapse). Our objective is the
likelihood of the curves, a sum over samples, with the noise variance of each modality equal to its remaining squared error.

Rows of ``weight`` 0 are padding. ``present`` marks the units that have a curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray

Curves = Mapping[str, Float[AnyArray, "batch _"]]
ACTIVE_KL = 0.01  # nats
ACTIVE_SD = 0.1  # of mu over units; the prior's sd is 1
LOG_VAR_RANGE = (-30.0, 20.0)  # the published limits of log-variances before the exponential


def weighted_mean(
    values: Float[AnyArray, "batch *rest"], weight: Float[AnyArray, "batch *rest"]
) -> Float[AnyArray, "*rest"]:
    """Return ``sum(w v) / sum(w)`` over rows.

    Parameters
    ----------
    values : array (batch, ...)
        Values. Those of weight 0 are ignored, even if they are NaN.
    weight : array of the same shape
        Weights, at least 0.

    Returns
    -------
    array (...)
        The weighted mean; 0 where all weights are 0.
    """
    return jnp.sum(jnp.where(weight > 0, weight * values, 0.0), axis=0) / jnp.maximum(jnp.sum(weight, axis=0), 1e-9)


def squared_errors(curves: Curves, targets: Curves, names: Sequence[str]) -> Float[Array, "batch modality"]:
    """Return the squared error of each curve, averaged over its samples.

    Parameters
    ----------
    curves, targets : mapping of str to array (batch, length)
        Reconstructed and true curves by modality.
    names : sequence of str
        Order of the modalities. It is explicit because JAX sorts the keys of dictionaries.

    Returns
    -------
    array (batch, modality)
        Mean squared errors.
    """
    return jnp.stack([jnp.mean((curves[name] - targets[name]) ** 2, axis=1) for name in names], axis=1)


def mean_squared_errors(
    errors: Float[AnyArray, "batch modality"],
    present: Bool[AnyArray, "batch modality"],
    weight: Float[AnyArray, "batch"],
) -> Float[Array, "modality"]:
    """Return the mean squared error of each modality over the rows that have the curve.

    Parameters
    ----------
    errors : array (batch, modality)
        Output of `squared_errors`.
    present : bool array (batch, modality)
        Which curves count.
    weight : array (batch,)
        Weights of rows.

    Returns
    -------
    array (modality,)
        Their sum is the published reconstruction loss.
    """
    return weighted_mean(errors, present * weight[:, None])


def gaussian_loss(
    errors: Float[AnyArray, "batch modality"],
    variance: Float[AnyArray, "... modality"],
    lengths: Float[AnyArray, "modality"],
    present: Bool[AnyArray, "batch modality"],
    weight: Float[AnyArray, "batch"],
) -> Float[Array, ""]:
    """Return the negative log-likelihood of the curves under independent normal noise, up to a constant.

    Parameters
    ----------
    errors : array (batch, modality)
        Output of `squared_errors`.
    variance : array (modality,) or (batch, modality)
        Noise variance of a sample.
    lengths : array (modality,)
        Number of samples of a curve.
    present : bool array (batch, modality)
        Which curves count.
    weight : array (batch,)
        Weights of rows.

    Returns
    -------
    array ()
        ``mean_rows sum_m L_m / 2 (error_m / variance_m + log variance_m)``.
    """
    terms = 0.5 * lengths * (errors / variance + jnp.log(variance))
    return weighted_mean(jnp.sum(jnp.where(present, terms, 0.0), axis=1), weight)


def kl_per_dimension(
    mu: Float[AnyArray, "batch latent"], log_var: Float[AnyArray, "batch latent"]
) -> Float[Array, "batch latent"]:
    """Return the KL divergence of each posterior dimension from the standard normal prior.

    Parameters
    ----------
    mu, log_var : array (batch, latent)
        Mean and log-variance of the posterior.

    Returns
    -------
    array (batch, latent)
        ``(mu^2 + exp(log_var) - 1 - log_var) / 2`` in nats.
    """
    return 0.5 * (mu**2 + jnp.exp(jnp.clip(log_var, *LOG_VAR_RANGE)) - 1 - log_var)


def kl_loss(
    mu: Float[AnyArray, "batch latent"],
    log_var: Float[AnyArray, "batch latent"],
    weight: Float[AnyArray, "batch"],
    free_bits: Float[AnyArray, ""] | float = 0.0,
) -> Float[Array, ""]:
    """Return the KL divergence of the posterior from the prior, summed over dimensions.

    Parameters
    ----------
    mu, log_var : array (batch, latent)
        Mean and log-variance of the posterior.
    weight : array (batch,)
        Weights of rows.
    free_bits : float
        Lower limit of the mean divergence of a dimension, in nats: below it the dimension has no cost and no gradient.

    Returns
    -------
    array ()
        ``sum_d max(mean_rows KL_d, free_bits)`` in nats.
    """
    terms = kl_per_dimension(mu, log_var)
    return jnp.sum(jnp.maximum(weighted_mean(terms, _rows_like(weight, terms)), free_bits))


def contrastive_loss(
    mu: Float[AnyArray, "batch latent"],
    label: Int[AnyArray, "batch"],
    weight: Float[AnyArray, "batch"],
    temperature: float = 0.5,
) -> Float[Array, ""]:
    """Return the supervised contrastive loss of an embedding, by cosine similarity.

    Parameters
    ----------
    mu : array (batch, latent)
        Embedding.
    label : int array (batch,)
        Class; -1 for rows without a label, which only serve as negatives.
    weight : array (batch,)
        Weights of rows.
    temperature : float
        Divisor of the cosine similarities.

    Returns
    -------
    array ()
        ``- mean_anchors mean_positives log softmax_others(cos(mu_a, mu_other) / temperature)``. The positives of an anchor are the
        other rows of its class. Anchors without a positive do not count.
    """
    real = weight > 0
    mu = jnp.where(real[:, None], mu, 0.0)
    unit = mu * jax.lax.rsqrt(jnp.sum(mu**2, axis=1, keepdims=True) + 1e-12)
    other = real & ~jnp.eye(len(mu), dtype=bool)
    logits = jnp.where(other, unit @ unit.T / temperature, -1e9)
    log_share = logits - jax.nn.logsumexp(logits, axis=1, keepdims=True)
    positive = other & (label == label[:, None]) & (label >= 0)
    count = positive.sum(axis=1)
    losses = -jnp.sum(jnp.where(positive, log_share, 0.0), axis=1) / jnp.maximum(count, 1)
    return weighted_mean(losses, weight * (count > 0))


def active_dimensions(
    mu: Float[AnyArray, "batch latent"],
    log_var: Float[AnyArray, "batch latent"],
    weight: Float[AnyArray, "batch"] | None = None,
) -> Bool[Array, "latent"]:
    """Return which latent dimensions carry information about units.

    Parameters
    ----------
    mu, log_var : array (batch, latent)
        Mean and log-variance of the posterior.
    weight : array (batch,), optional
        Weights of rows; by default all count alike.

    Returns
    -------
    bool array (latent,)
        True where the mean KL divergence exceeds 0.01 nats and the sd of mu over units exceeds 0.1.

    Notes
    -----
    The second condition matters with free bits: a mu that is the same constant for all units has a KL divergence but carries no
    information.
    """
    terms = kl_per_dimension(mu, log_var)
    counted = _rows_like(jnp.ones(len(mu)) if weight is None else weight, terms)
    variance = weighted_mean((mu - weighted_mean(mu, counted)) ** 2, counted)
    return (weighted_mean(terms, counted) > ACTIVE_KL) & (variance > ACTIVE_SD**2)


def _rows_like(weight: Float[AnyArray, "batch"], values: Float[AnyArray, "batch _"]) -> Float[Array, "batch _"]:
    return jnp.broadcast_to(weight[:, None], values.shape)
