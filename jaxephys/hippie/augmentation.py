"""Random changes of curves in training: noise, scale, time warp, baseline shift and smoothing, in this order.

A row is augmented with the probability of its run; then each modality draws independently which of the five changes it receives. The
published settings are "light" and "strong" (called heavy there). Strengths are arrays, so that runs with different strengths train in
one program; with ``OFF`` the curves are returned unchanged, bit for bit.
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

CHANCES = {"noise": 0.5, "scale": 0.5, "warp": 0.3, "baseline": 0.4, "smoothing": 0.3}  # of each change
WARP = 0.05  # how far a knot of the time axis can move, as a fraction of the length
BASELINE = 0.05  # largest shift, for curves between -1 and 1
MIN_SMOOTHING_SD = 0.5  # in samples
REACH = 12  # taps on either side of the smoothing kernel: four sd of the strongest smoothing


class AugmentationStrength(NamedTuple):
    """Strength of the augmentation of one run, as numbers.

    Parameters
    ----------
    probability : float
        Probability that a row is augmented.
    noise : float
        Standard deviation of the added noise.
    scale : float
        The factor is uniform in 1 - scale to 1 + scale.
    smoothing : float
        The sd of the smoothing kernel is uniform from 0.5 to this number of samples.
    """

    probability: Float[AnyArray, "*run"]
    noise: Float[AnyArray, "*run"]
    scale: Float[AnyArray, "*run"]
    smoothing: Float[AnyArray, "*run"]


OFF = AugmentationStrength(*map(np.float32, (0.0, 0.0, 0.0, MIN_SMOOTHING_SD)))
LIGHT = AugmentationStrength(*map(np.float32, (0.3, 0.03, 0.1, 1.5)))
STRONG = AugmentationStrength(*map(np.float32, (0.7, 0.08, 0.3, 3.0)))
STRENGTHS = {"off": OFF, "light": LIGHT, "strong": STRONG}


def augment(
    curves: Mapping[str, Float[AnyArray, "batch _"]], strength: AugmentationStrength, key: Key
) -> dict[str, Float[Array, "batch _"]]:
    """Augment the curves of a batch.

    Parameters
    ----------
    curves : mapping of str to array (batch, length)
        Curves by modality, scaled to [-1, 1].
    strength : AugmentationStrength
        Strength of the run.
    key : jax.Array
        Random key. All numbers are drawn by two calls, because one call for each would take longer to compile than the network.

    Returns
    -------
    dict of arrays (batch, length)
        Augmented curves.
    """
    uniform_key, normal_key = jax.random.split(key)
    rows, lengths = len(next(iter(curves.values()))), [curve.shape[1] for curve in curves.values()]
    uniform = jax.random.uniform(uniform_key, (rows, 1 + sum(map(_n_uniform, lengths))))
    parts = jnp.split(uniform[:, 1:], np.cumsum([_n_uniform(length) for length in lengths])[:-1], axis=1)
    noise = jnp.split(jax.random.normal(normal_key, (rows, sum(lengths))), np.cumsum(lengths)[:-1], axis=1)
    changed = uniform[:, :1] < strength.probability
    return {
        name: jnp.where(changed, _change(jnp.asarray(curve), strength, part, normal), curve)
        for (name, curve), part, normal in zip(curves.items(), parts, noise, strict=True)
    }


def _n_knots(length: int) -> int:
    """Number of evenly spaced times that move freely in a warp: one in ten samples."""
    return max(2, length // 10)


def _n_uniform(length: int) -> int:
    """Number of uniform random numbers of a curve: one for each chance, three sizes, one for each knot."""
    return len(CHANCES) + 3 + _n_knots(length)


def _change(
    curve: Float[Array, "batch position"],
    strength: AugmentationStrength,
    uniform: Float[Array, "batch _"],
    normal: Float[Array, "batch position"],
) -> Float[Array, "batch position"]:
    chances, sizes, moves = jnp.split(uniform, [len(CHANCES), len(CHANCES) + 3], axis=1)
    applied = {name: chances[:, index : index + 1] < chance for index, (name, chance) in enumerate(CHANCES.items())}
    factor, shift, sd = sizes.T[..., None]
    curve = jnp.where(applied["noise"], curve + strength.noise * normal, curve)
    curve = jnp.where(applied["scale"], curve * (1 + strength.scale * (2 * factor - 1)), curve)
    curve = jnp.where(applied["warp"], warp(curve, 2 * moves - 1), curve)
    curve = jnp.where(applied["baseline"], curve + BASELINE * (2 * shift - 1), curve)
    sd = MIN_SMOOTHING_SD + (strength.smoothing - MIN_SMOOTHING_SD) * sd
    return jnp.where(applied["smoothing"], smooth(curve, sd[:, 0]), curve)


def warp(curve: Float[Array, "batch position"], moves: Float[Array, "batch knot"]) -> Float[Array, "batch position"]:
    """Sample each curve at displaced times.

    Parameters
    ----------
    curve : array (batch, position)
        Curves. Curves shorter than 40 samples, whose times would move by less than two samples, are returned unchanged.
    moves : array (batch, knot)
        Displacement of evenly spaced knots, from -1 to 1, in units of a twentieth of the length. Times between knots are displaced
        by linear interpolation; times beyond an end are moved to the end.

    Returns
    -------
    array (batch, position)
        Warped curves, interpolated linearly.
    """
    length, count = curve.shape[1], moves.shape[1]
    if (amount := int(WARP * length)) < 2:
        return curve
    time = np.arange(length)
    basis = np.maximum(0, 1 - np.abs(time * (count - 1) / (length - 1) - np.arange(count)[:, None]))  # linear splines
    warped = jnp.clip(time + amount * moves @ basis, 0, length - 1)
    left = jnp.minimum(warped.astype(int), length - 2)
    before, after = (jnp.take_along_axis(curve, index, axis=1) for index in (left, left + 1))
    return before + (warped - left) * (after - before)


def smooth(curve: Float[Array, "batch position"], sd: Float[Array, "batch"]) -> Float[Array, "batch position"]:
    """Smooth each curve by a Gaussian kernel, as ``scipy.ndimage.gaussian_filter1d`` does.

    Parameters
    ----------
    curve : array (batch, position)
        Curves; they are continued by reflection at both ends.
    sd : array (batch,)
        Standard deviation of the kernel of each row, in samples. The kernel ends at four sd.

    Returns
    -------
    array (batch, position)
        Smoothed curves.
    """
    taps = jnp.arange(-REACH, REACH + 1)
    kernel = jnp.exp(-0.5 * (taps / sd[:, None]) ** 2) * (jnp.abs(taps) <= jnp.floor(4 * sd[:, None] + 0.5))
    kernel = kernel / kernel.sum(axis=1, keepdims=True)
    padded = jnp.pad(curve, ((0, 0), (REACH, REACH)), mode="symmetric")
    length = curve.shape[1]
    return sum(
        (kernel[:, tap : tap + 1] * padded[:, tap : tap + length] for tap in range(2 * REACH + 1)),
        jnp.zeros_like(curve),
    )
