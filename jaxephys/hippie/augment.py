"""Small changes of curves, drawn anew for every row of a batch: noise, scale, time warp, baseline, smoothing, in this order.

A row is changed at all with ``probability``; then each modality draws for itself which changes it takes, each with its own
chance. The numbers are the published ones ("light"; "strong" was called heavy). They are arrays, so that runs that
differ in them train in one program; with ``OFF`` the curves leave as they came, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxephys.dims import AnyArray
from jaxephys.engine.types import Key

CHANCES = {"noise": 0.5, "scale": 0.5, "warp": 0.3, "baseline": 0.4, "smoothing": 0.3}
WARP = 0.05  # of the length: how far a knot of the time axis may move
BASELINE = 0.05  # on a curve that spans -1 to 1
SLIGHTEST = 0.5  # the smallest sd of the smoothing, in samples
REACH = 12  # taps to either side, four sd of the strongest smoothing


class Strength(NamedTuple):
    """Numbers of a run."""

    probability: Float[AnyArray, "*run"]  # that a row is changed at all
    noise: Float[AnyArray, "*run"]  # sd
    scale: Float[AnyArray, "*run"]  # the factor is uniform in 1 -+ scale
    smoothing: Float[AnyArray, "*run"]  # the sd of the smoothing is uniform from 0.5 to this


OFF = Strength(*map(np.float32, (0.0, 0.0, 0.0, SLIGHTEST)))
LIGHT = Strength(*map(np.float32, (0.3, 0.03, 0.1, 1.5)))
STRONG = Strength(*map(np.float32, (0.7, 0.08, 0.3, 3.0)))
STRENGTHS = {"off": OFF, "light": LIGHT, "strong": STRONG}


def augment(
    curves: Mapping[str, Float[AnyArray, "batch _"]], strength: Strength, key: Key
) -> dict[str, Float[Array, "batch _"]]:
    rows_key, *keys = jax.random.split(key, 1 + len(curves))
    rows = len(next(iter(curves.values())))
    changed = jax.random.bernoulli(rows_key, strength.probability, (rows,))
    return {
        name: jnp.where(changed[:, None], _change(jnp.asarray(curve), strength, own), curve)
        for (name, curve), own in zip(curves.items(), keys, strict=True)
    }


def _change(curve: Float[Array, "batch position"], strength: Strength, key: Key) -> Float[Array, "batch position"]:
    drawn = {
        name: jax.random.split(own) for name, own in zip(CHANCES, jax.random.split(key, len(CHANCES)), strict=True)
    }

    def sometimes(name: str, new: Float[Array, "batch position"]) -> Float[Array, "batch position"]:
        taken: Bool[Array, "batch"] = jax.random.bernoulli(drawn[name][0], CHANCES[name], (len(curve),))
        return jnp.where(taken[:, None], new, curve)

    def uniform(name: str, low: Float[AnyArray, ""] | float, high: Float[AnyArray, ""] | float) -> Array:
        return jax.random.uniform(drawn[name][1], (len(curve), 1), minval=low, maxval=high)

    curve = sometimes("noise", curve + strength.noise * jax.random.normal(drawn["noise"][1], curve.shape))
    curve = sometimes("scale", curve * uniform("scale", 1 - strength.scale, 1 + strength.scale))
    curve = sometimes("warp", warp(curve, drawn["warp"][1]))
    curve = sometimes("baseline", curve + uniform("baseline", -BASELINE, BASELINE))
    return sometimes("smoothing", smooth(curve, uniform("smoothing", SLIGHTEST, strength.smoothing)[:, 0]))


def warp(curve: Float[Array, "batch position"], key: Key) -> Float[Array, "batch position"]:
    """Read the curve at moved times: evenly spaced knots, one in ten samples, move by up to a twentieth of the length.

    Times between knots move linearly; beyond the ends the end stands. A curve too short to move by two samples stays.
    """
    length = curve.shape[1]
    if (amount := int(WARP * length)) < 2:
        return curve
    count = max(2, length // 10)
    moves = amount * jax.random.uniform(key, (len(curve), count), minval=-1.0, maxval=1.0)
    time, knots = jnp.arange(length, dtype=curve.dtype), jnp.linspace(0.0, length - 1.0, count)

    def one(curve: Float[Array, "position"], moves: Float[Array, "_"]) -> Float[Array, "position"]:
        return jnp.interp(time + jnp.interp(time, knots, moves), time, curve)

    return jax.vmap(one)(curve, moves)


def smooth(curve: Float[Array, "batch position"], sd: Float[Array, "batch"]) -> Float[Array, "batch position"]:
    """A Gaussian of each row's own ``sd``, cut at four of them, over a curve mirrored at its ends: SciPy's filter."""
    taps = jnp.arange(-REACH, REACH + 1)
    kernel = jnp.exp(-0.5 * (taps / sd[:, None]) ** 2) * (jnp.abs(taps) <= jnp.floor(4 * sd[:, None] + 0.5))
    kernel = kernel / kernel.sum(axis=1, keepdims=True)
    padded = jnp.pad(curve, ((0, 0), (REACH, REACH)), mode="symmetric")
    length = curve.shape[1]
    return sum(
        (kernel[:, [tap]] * padded[:, tap : tap + length] for tap in range(2 * REACH + 1)), jnp.zeros_like(curve)
    )
