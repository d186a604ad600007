"""Losses of spike logits against bins of 0 and 1, always in float32: BCE, focal, Dice, their sum, the published Dice.

Spikes are rare, and the losses differ in what they make of that. BCE is the likelihood, and proper: its best answer is the
probability. Focal counts easy bins less, Dice counts overlap and no silence: both rank, and both are calibrated after
training before their outputs are called probabilities. Each is a scalar, the mean where a mean is taken; ``counted`` says how
often each bin counts: 0 is padding, and a bin drawn with a small probability counts for all that were not drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray

Logits = Float[AnyArray, "*batch time unit"]
Spikes = Float[AnyArray, "*batch time unit"]
Counts = Float[AnyArray, "*#batch #time #unit"]
Scalar = Float[Array, ""]
SMOOTH = 1.0  # keeps Dice finite where nobody fires
AXES = {"global": None, "unit": (-2,), "time": (-1,)}  # what one overlap is summed over


def bce(logits: Logits, spikes: Spikes, *, counted: Counts | None = None) -> Scalar:
    """``mean(softplus(l) - s l)``, minus the log-likelihood of a bin, in nats."""
    logits, spikes = _float32(logits, spikes)
    return _mean(jax.nn.softplus(logits) - spikes * logits, counted)


def focal(
    logits: Logits,
    spikes: Spikes,
    gamma: Float[AnyArray, ""] | float = 2.0,
    alpha: Float[AnyArray, ""] | float | None = None,
    *,
    counted: Counts | None = None,
) -> Scalar:
    """``mean(-a (1 - p)^gamma log p)`` with p the probability of what was seen, and a ``alpha`` for a spike, 1 - alpha for none.

    Without alpha, as published, a is 1. In logarithms throughout: log(1 - p) is that of the other answer.
    """
    logits, spikes = _float32(logits, spikes)
    towards = (2 * spikes - 1) * logits
    value = -jnp.exp(gamma * jax.nn.log_sigmoid(-towards)) * jax.nn.log_sigmoid(towards)
    return _mean(value if alpha is None else value * (alpha * spikes + (1 - alpha) * (1 - spikes)), counted)


def dice(
    logits: Logits, spikes: Spikes, over: str = "global", smooth: float = SMOOTH, *, counted: Counts | None = None
) -> Scalar:
    """``1 - (2 sum p s + smooth) / (sum p + sum s + smooth)``: one overlap of all, or the mean over units or over bins.

    Over units every unit weighs the same, however little it fires; so does every bin over time.
    """
    if over not in AXES:
        raise ValueError(f"Dice over {over!r} is unknown: choose one of {', '.join(AXES)}")
    logits, spikes = _float32(logits, spikes)
    return jnp.mean(_dice(jax.nn.sigmoid(logits), spikes, AXES[over], smooth, counted))


def dice_bce(
    logits: Logits,
    spikes: Spikes,
    weight: Float[AnyArray, ""] | float = 0.5,
    over: str = "global",
    *,
    counted: Counts | None = None,
) -> Scalar:
    """``weight Dice + (1 - weight) BCE``."""
    overlap = dice(logits, spikes, over, counted=counted)
    return weight * overlap + (1 - weight) * bce(logits, spikes, counted=counted)


def published_dice(
    logits: Logits,
    spikes: Spikes,
    density: Float[AnyArray, ""] | float | None = None,
    *,
    counted: Counts | None = None,
) -> Scalar:
    """``0.9 log(1 + D) + 0.1 penalty``, with D the global Dice of ``sigmoid(sigmoid(l))``, as the published code has it.

    The second sigmoid keeps p between 0.5 and 0.731, so that at a prevalence of 0.3 % D moves by 0.003 at most. The penalty,
    ``10 max(mean(output) - density, 0)``, is computed there without a gradient, and so it is here; ``density`` is the share of
    spikes in the training bins, or, untold, in these.
    """
    logits, spikes = _float32(logits, spikes)
    output = jax.nn.sigmoid(logits)
    wanted = _mean(spikes, counted) if density is None else density
    penalty = jax.lax.stop_gradient(10 * jax.nn.relu(_mean(output, counted) - wanted))
    return 0.9 * jnp.log1p(published_overlap(logits, spikes, counted=counted)) + 0.1 * penalty


def published_overlap(logits: Logits, spikes: Spikes, *, counted: Counts | None = None) -> Scalar:
    """D of the published loss: the global Dice after a second sigmoid."""
    logits, spikes = _float32(logits, spikes)
    return _dice(jax.nn.sigmoid(jax.nn.sigmoid(logits)), spikes, None, SMOOTH, counted)


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
    smooth: float,
    counted: Counts | None,
) -> Float[Array, "*rest"]:
    def total(x: Array) -> Array:
        return jnp.sum(x if counted is None else x * counted, axis=axes)

    return 1 - (2 * total(p * spikes) + smooth) / (total(p) + total(spikes) + smooth)


def _mean(x: Array, counted: Counts | None) -> Scalar:
    if counted is None:
        return jnp.mean(x)
    return jnp.sum(x * counted) / jnp.maximum(jnp.sum(jnp.broadcast_to(counted, x.shape)), 1e-9)  # all may be padding


def _float32(logits: Logits, spikes: Spikes) -> tuple[Array, Array]:
    return jnp.asarray(logits, jnp.float32), jnp.asarray(spikes, jnp.float32)
