"""What is minimised, as functions of a batch: reconstruction, KL, consistency, contrast; and which dimensions are alive.

The published objective adds a squared error that is a MEAN over samples (below 1) to a KL that is a SUM over dimensions:
the latent costs more than all that it can save, and the best answer is to leave it empty. Ours is the likelihood of the
curves, a sum over samples, with the noise of each modality as large as the error that remains. ``weight`` 0 is padding;
``counted`` says of which units there is such a curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray

Curves = Mapping[str, Float[AnyArray, "batch _"]]
ALIVE_KL = 0.01  # nats
ALIVE_SD = 0.1  # of mu over units, where the prior's sd is 1
LOG_VAR = (-30.0, 20.0)  # the published clamp before the exponential


def weighted_mean(
    values: Float[AnyArray, "batch *rest"], weight: Float[AnyArray, "batch *rest"]
) -> Float[AnyArray, "*rest"]:
    """``sum(w v) / sum(w)`` over rows; a row of weight 0 counts nothing, whatever its value, and no row at all gives 0."""
    return jnp.sum(jnp.where(weight > 0, weight * values, 0.0), axis=0) / jnp.maximum(jnp.sum(weight, axis=0), 1e-9)


def squared_errors(curves: Curves, targets: Curves, names: Sequence[str]) -> Float[Array, "batch modality"]:
    """Of each curve, the mean over its samples. In the order of ``names``: a dict that leaves a program comes out sorted."""
    return jnp.stack([jnp.mean((curves[name] - targets[name]) ** 2, axis=1) for name in names], axis=1)


def mean_squared_errors(
    errors: Float[AnyArray, "batch modality"],
    counted: Bool[AnyArray, "batch modality"],
    weight: Float[AnyArray, "batch"],
) -> Float[Array, "modality"]:
    """Over the rows that have the curve. Their sum is the published reconstruction loss."""
    return weighted_mean(errors, counted * weight[:, None])


def gaussian(
    errors: Float[AnyArray, "batch modality"],
    variance: Float[AnyArray, "... modality"],
    lengths: Float[AnyArray, "modality"],
    counted: Bool[AnyArray, "batch modality"],
    weight: Float[AnyArray, "batch"],
) -> Float[Array, ""]:
    """``mean_rows sum_m L_m / 2 (error_m / variance_m + log variance_m)``: minus the log-likelihood, up to a constant.

    ``L_m`` samples a curve; a curve that a unit lacks adds nothing.
    """
    each = 0.5 * lengths * (errors / variance + jnp.log(variance))
    return weighted_mean(jnp.sum(jnp.where(counted, each, 0.0), axis=1), weight)


def kl_terms(
    mu: Float[AnyArray, "batch latent"], log_var: Float[AnyArray, "batch latent"]
) -> Float[Array, "batch latent"]:
    """``(mu^2 + exp(v) - 1 - v) / 2``: from N(mu, exp v) to N(0, 1), in nats."""
    return 0.5 * (mu**2 + jnp.exp(jnp.clip(log_var, *LOG_VAR)) - 1 - log_var)


def kl(
    mu: Float[AnyArray, "batch latent"],
    log_var: Float[AnyArray, "batch latent"],
    weight: Float[AnyArray, "batch"],
    free_bits: Float[AnyArray, ""] | float = 0.0,
) -> Float[Array, ""]:
    """``sum_d max(mean_rows KL_d, free)``: a dimension pays only for what it says beyond ``free`` nats."""
    each = kl_terms(mu, log_var)
    return jnp.sum(jnp.maximum(weighted_mean(each, _rows_like(weight, each)), free_bits))


def contrast(
    mu: Float[AnyArray, "batch latent"],
    label: Int[AnyArray, "batch"],
    weight: Float[AnyArray, "batch"],
    temperature: float = 0.5,
) -> Float[Array, ""]:
    """Supervised contrast: ``- mean_anchors mean_positives log softmax_others(cos(mu_a, mu_other) / temperature)``.

    Positives of an anchor are the other rows of its class; rows without a label (-1) are others, and neither anchors nor
    positives. An anchor without a positive does not count.
    """
    real = weight > 0
    mu = jnp.where(real[:, None], mu, 0.0)
    unit = mu * jax.lax.rsqrt(jnp.sum(mu**2, axis=1, keepdims=True) + 1e-12)
    other = real & ~jnp.eye(len(mu), dtype=bool)
    logits = jnp.where(other, unit @ unit.T / temperature, -1e9)
    share = logits - jax.nn.logsumexp(logits, axis=1, keepdims=True)
    positive = other & (label == label[:, None]) & (label >= 0)
    count = positive.sum(axis=1)
    each = -jnp.sum(jnp.where(positive, share, 0.0), axis=1) / jnp.maximum(count, 1)
    return weighted_mean(each, weight * (count > 0))


def active_dimensions(
    mu: Float[AnyArray, "batch latent"],
    log_var: Float[AnyArray, "batch latent"],
    weight: Float[AnyArray, "batch"] | None = None,
) -> Bool[Array, "latent"]:
    """Which dimensions say something: a mean KL above 0.01 nats, and a mu that differs between units (sd above 0.1).

    The second is needed where bits are free: a mu that is the same constant for all units has a KL and tells nothing.
    """
    each = kl_terms(mu, log_var)
    counted = _rows_like(jnp.ones(len(mu)) if weight is None else weight, each)
    spread = weighted_mean((mu - weighted_mean(mu, counted)) ** 2, counted)
    return (weighted_mean(each, counted) > ALIVE_KL) & (spread > ALIVE_SD**2)


def _rows_like(weight: Float[AnyArray, "batch"], values: Float[AnyArray, "batch _"]) -> Float[Array, "batch _"]:
    return jnp.broadcast_to(weight[:, None], values.shape)
