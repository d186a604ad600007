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
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray
from jaxephys.engine.task import Key

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
    """All numbers are drawn in two calls: a call for each would take longer to compile than the network."""
    luck, white = jax.random.split(key)
    rows, lengths = len(next(iter(curves.values()))), [curve.shape[1] for curve in curves.values()]
    uniform = jax.random.uniform(luck, (rows, 1 + sum(map(uniforms, lengths))))
    own = jnp.split(uniform[:, 1:], np.cumsum([uniforms(length) for length in lengths])[:-1], axis=1)
    noise = jnp.split(jax.random.normal(white, (rows, sum(lengths))), np.cumsum(lengths)[:-1], axis=1)
    changed = uniform[:, :1] < strength.probability
    return {
        name: jnp.where(changed, _change(jnp.asarray(curve), strength, some, normal), curve)
        for (name, curve), some, normal in zip(curves.items(), own, noise, strict=True)
    }


def knots(length: int) -> int:
    """Evenly spaced times of a curve that move freely: one in ten samples."""
    return max(2, length // 10)


def uniforms(length: int) -> int:
    """How many uniform numbers a curve takes: one a chance, the three sizes, one a knot."""
    return len(CHANCES) + 3 + knots(length)


def _change(
    curve: Float[Array, "batch position"],
    strength: Strength,
    uniform: Float[Array, "batch _"],
    normal: Float[Array, "batch position"],
) -> Float[Array, "batch position"]:
    luck, size, moves = jnp.split(uniform, [len(CHANCES), len(CHANCES) + 3], axis=1)
    taken = {name: luck[:, [place]] < chance for place, (name, chance) in enumerate(CHANCES.items())}
    factor, shift, sd = size.T[..., None]
    curve = jnp.where(taken["noise"], curve + strength.noise * normal, curve)
    curve = jnp.where(taken["scale"], curve * (1 + strength.scale * (2 * factor - 1)), curve)
    curve = jnp.where(taken["warp"], warp(curve, 2 * moves - 1), curve)
    curve = jnp.where(taken["baseline"], curve + BASELINE * (2 * shift - 1), curve)
    sd = SLIGHTEST + (strength.smoothing - SLIGHTEST) * sd
    return jnp.where(taken["smoothing"], smooth(curve, sd[:, 0]), curve)


def warp(curve: Float[Array, "batch position"], moves: Float[Array, "batch knot"]) -> Float[Array, "batch position"]:
    """Read the curve at moved times: each knot moves by its share, -1 to 1, of a twentieth of the length.

    Times between knots move linearly; beyond the ends the end stands. A curve too short to move by two samples stays.
    """
    length, count = curve.shape[1], moves.shape[1]
    if (amount := int(WARP * length)) < 2:
        return curve
    time = np.arange(length)
    hats = np.maximum(0, 1 - np.abs(time * (count - 1) / (length - 1) - np.arange(count)[:, None]))  # one a knot
    read = jnp.clip(time + amount * moves @ hats, 0, length - 1)
    left = jnp.minimum(read.astype(int), length - 2)
    before, after = (jnp.take_along_axis(curve, place, axis=1) for place in (left, left + 1))
    return before + (read - left) * (after - before)


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
