"""Losses of spike logits against binned spikes: cross-entropy, focal, Dice, their combination, and the published Dice.

Spikes are rare, and the losses treat that differently. Binary cross-entropy (BCE) is the likelihood; its minimum is the
true probability. The focal loss gives easy bins less weight, and Dice measures overlap and ignores correct silence: both
only rank bins, and are calibrated after training before their outputs are used as probabilities.

Each function returns one float32 number. ``weights`` are how often an entry counts: 0 for padding, more than 1 for an entry
that was sampled in place of others. Start with `LOSSES`, which maps names to functions.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray

Logits = Float[AnyArray, "*batch time unit"]
Spikes = Float[AnyArray, "*batch time unit"]
Weights = Float[AnyArray, "*#batch #time #unit"]
Scalar = Float[Array, ""]
SMOOTH = 1.0  # keeps Dice finite if there is no spike
OVERLAP_AXES = {"global": None, "unit": (-2,), "time": (-1,)}  # axes that one overlap is summed over


def bce(logits: Logits, spikes: Spikes, *, weights: Weights | None = None) -> Scalar:
    """Compute the binary cross-entropy, the mean negative log-likelihood in nats.

    Parameters
    ----------
    logits : float array of shape (..., bins, units)
        Logits of a spike.
    spikes : float array of shape (..., bins, units)
        Zeros and ones.
    weights : float array, optional
        How often each entry counts, of a shape that broadcasts to that of the spikes; 1 by default.

    Returns
    -------
    float32 scalar
        Weighted mean of ``softplus(l) - s l``.
    """
    logits, spikes = _as_float32(logits, spikes)
    return _weighted_mean(jax.nn.softplus(logits) - spikes * logits, weights)


def focal(
    logits: Logits,
    spikes: Spikes,
    gamma: Float[AnyArray, ""] | float = 2.0,
    alpha: Float[AnyArray, ""] | float | None = None,
    *,
    weights: Weights | None = None,
) -> Scalar:
    """Compute the binary focal loss.

    Parameters
    ----------
    logits : float array of shape (..., bins, units)
        Logits of a spike.
    spikes : float array of shape (..., bins, units)
        Zeros and ones.
    gamma : float
        Exponent; 0 gives cross-entropy.
    alpha : float, optional
        Weight of a spike; a silent bin has ``1 - alpha``. By default both have 1, as published.
    weights : float array, optional
        How often each entry counts; 1 by default.

    Returns
    -------
    float32 scalar
        Weighted mean of ``-a (1 - p)^gamma log p``, with p the probability of the observed outcome.
    """
    logits, spikes = _as_float32(logits, spikes)
    signed = (2 * spikes - 1) * logits  # logit of the observed outcome
    value = -jnp.exp(gamma * jax.nn.log_sigmoid(-signed)) * jax.nn.log_sigmoid(signed)
    return _weighted_mean(value if alpha is None else value * (alpha * spikes + (1 - alpha) * (1 - spikes)), weights)


def dice(
    logits: Logits,
    spikes: Spikes,
    over: str = "global",
    smooth: Float[AnyArray, ""] | float = SMOOTH,
    *,
    weights: Weights | None = None,
) -> Scalar:
    """Compute the soft Dice loss.

    Parameters
    ----------
    logits : float array of shape (..., bins, units)
        Logits of a spike.
    spikes : float array of shape (..., bins, units)
        Zeros and ones.
    over : {"global", "unit", "time"}
        One overlap of all entries; or the mean of one overlap per unit, so that every unit weighs the same however rarely
        it fires; or the mean of one overlap per bin.
    smooth : float
        Number of spikes that are added to both sums, so that the loss is finite without a spike.
    weights : float array, optional
        How often each entry counts; 1 by default.

    Returns
    -------
    float32 scalar
        ``1 - (2 sum p s + smooth) / (sum p + sum s + smooth)``.

    Raises
    ------
    ValueError
        If ``over`` is unknown.
    """
    if over not in OVERLAP_AXES:
        raise ValueError(f"Dice over {over!r} is unknown: choose one of {', '.join(OVERLAP_AXES)}")
    logits, spikes = _as_float32(logits, spikes)
    return jnp.mean(_dice(jax.nn.sigmoid(logits), spikes, OVERLAP_AXES[over], weights, smooth))


def dice_bce(
    logits: Logits,
    spikes: Spikes,
    dice_share: Float[AnyArray, ""] | float = 0.5,
    smooth: Float[AnyArray, ""] | float = SMOOTH,
    *,
    weights: Weights | None = None,
) -> Scalar:
    """Compute a weighted sum of Dice and cross-entropy.

    Parameters
    ----------
    logits : float array of shape (..., bins, units)
        Logits of a spike.
    spikes : float array of shape (..., bins, units)
        Zeros and ones.
    dice_share : float
        Weight of Dice; cross-entropy has ``1 - dice_share``.
    smooth : float
        As in `dice`.
    weights : float array, optional
        How often each entry counts; 1 by default.

    Returns
    -------
    float32 scalar
        ``dice_share * dice + (1 - dice_share) * bce``.
    """
    overlap = dice(logits, spikes, smooth=smooth, weights=weights)
    return dice_share * overlap + (1 - dice_share) * bce(logits, spikes, weights=weights)


def published_dice(
    logits: Logits,
    spikes: Spikes,
    density: Float[AnyArray, ""] | float | None = None,
    *,
    weights: Weights | None = None,
) -> Scalar:
    """Compute the Dice loss of the published code.

    Parameters
    ----------
    logits : float array of shape (..., bins, units)
        Logits of a spike.
    spikes : float array of shape (..., bins, units)
        Zeros and ones.
    density : float, optional
        Share of spikes in the training bins; by default that of these entries.
    weights : float array, optional
        How often each entry counts; 1 by default.

    Returns
    -------
    float32 scalar
        ``0.9 log(1 + D) + 0.1 penalty``.

    Notes
    -----
    D is the global Dice of ``sigmoid(sigmoid(l))``. The second sigmoid keeps probabilities between 0.5 and 0.731, so that
    at a prevalence of 0.3 % D varies by at most 0.003. The penalty, ``10 max(mean(output) - density, 0)``, is computed
    without a gradient in the published code, and here.
    """
    logits, spikes = _as_float32(logits, spikes)
    output = jax.nn.sigmoid(logits)
    target_density = _weighted_mean(spikes, weights) if density is None else density
    penalty = jax.lax.stop_gradient(10 * jax.nn.relu(_weighted_mean(output, weights) - target_density))
    return 0.9 * jnp.log1p(published_dice_term(logits, spikes, weights=weights)) + 0.1 * penalty


def published_dice_term(logits: Logits, spikes: Spikes, *, weights: Weights | None = None) -> Scalar:
    """Compute D of the published loss, the global Dice after a second sigmoid.

    Parameters
    ----------
    logits : float array of shape (..., bins, units)
        Logits of a spike.
    spikes : float array of shape (..., bins, units)
        Zeros and ones.
    weights : float array, optional
        How often each entry counts; 1 by default.

    Returns
    -------
    float32 scalar
        D, between 0 and 1.
    """
    logits, spikes = _as_float32(logits, spikes)
    return _dice(jax.nn.sigmoid(jax.nn.sigmoid(logits)), spikes, None, weights)


LOSSES: dict[str, Callable[..., Scalar]] = {
    "bce": bce,
    "focal": focal,
    "dice": dice,
    "dice_bce": dice_bce,
    "published_dice": published_dice,
}


def _dice(
    p: Float[Array, "*batch time unit"],
    spikes: Float[Array, "*batch time unit"],
    axes: tuple[int, ...] | None,
    weights: Weights | None,
    smooth: Float[AnyArray, ""] | float = SMOOTH,
) -> Float[Array, "*rest"]:
    def total(x: Array) -> Array:
        return jnp.sum(x if weights is None else x * weights, axis=axes)

    return 1 - (2 * total(p * spikes) + smooth) / (total(p) + total(spikes) + smooth)


def _weighted_mean(x: Array, weights: Weights | None) -> Scalar:
    if weights is None:
        return jnp.mean(x)
    return jnp.sum(x * weights) / jnp.maximum(jnp.sum(jnp.broadcast_to(weights, x.shape)), 1e-9)  # all may be padding


def _as_float32(logits: Logits, spikes: Spikes) -> tuple[Array, Array]:
    return jnp.asarray(logits, jnp.float32), jnp.asarray(spikes, jnp.float32)
