"""A planted table of feature families whose best possible score is known.

Each class has two prototypes, as a subclass has types. A family is a smooth curve: three coefficients of a cosine basis,
drawn around the prototype of the cell, and a little white noise on top. The coefficients are Gaussian, so the class
posterior is a ratio of sums of Gaussians, and the Bayes classifier, which no model beats but by luck, is one line. Some
families carry the classes in the mean of their two prototypes, where a linear model finds them; others only in which signs
go together, where it cannot; the rest carry nothing, so that attention has something to ignore.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from jaxephys.schemas.feature_table import FeatureTable

CLASSES = ("Lamp5", "Pvalb", "Sncg", "Sst", "Vip")
SHARES = (0.12, 0.24, 0.08, 0.36, 0.20)
FAMILIES = {
    "first_ap_v": 30, "first_ap_dv": 30, "isi_shape": 20, "step_subthresh": 42, "subthresh_norm": 28, "inst_freq": 30,
    "psth": 24, "upstroke_downstroke": 24, "peak_v": 24, "fast_trough_v": 24, "threshold_v": 24, "width": 24,
}  # fmt: skip
LINEAR = ("first_ap_v", "isi_shape", "inst_freq")  # classes differ in the mean
PAIRED = ("subthresh_norm", "width")  # the two types of a class are opposite, so that its mean says nothing
COEFFICIENTS = 3  # of each family
WHITE = 0.1  # sd of the white noise on each feature; the coefficients have sd 1


class Planted(NamedTuple):
    """The table and the truth behind it."""

    table: FeatureTable
    posterior: Float[np.ndarray, "cell class"]  # of the generator: the Bayes classifier is its argmax


def plant(cells: int = 1500, seed: int = 0, *, strength: float = 1.0) -> Planted:
    """``cells`` cells of five classes in the shares of mouse visual cortex. ``strength`` scales the distance of classes."""
    rng = np.random.default_rng(seed)
    prototypes = strength * _prototypes(np.random.default_rng(0))  # the same world for every seed
    bases = [_cosines(width) for width in FAMILIES.values()]
    label = rng.choice(len(CLASSES), size=cells, p=SHARES)
    kind = rng.integers(2, size=cells)
    coefficients = prototypes[label, kind] + rng.normal(size=(cells, *prototypes.shape[2:]))
    curves = np.concatenate([coefficients[:, i] @ basis for i, basis in enumerate(bases)], axis=1)
    values = curves + WHITE * rng.normal(size=curves.shape)
    table = FeatureTable.of(values, FAMILIES, np.array(CLASSES)[label])
    return Planted(table, _posterior(values, prototypes, bases))


def bayes_predictions(planted: Planted) -> Int[np.ndarray, "cell"]:
    """The most probable class of each cell under the generator."""
    return planted.posterior.argmax(axis=1).astype(np.int32)


def _prototypes(rng: np.random.Generator) -> Float[np.ndarray, "class kind family coefficient"]:
    """The two prototypes of each class, in sd of the coefficients."""
    prototypes = np.zeros((len(CLASSES), 2, len(FAMILIES), COEFFICIENTS))
    for place, name in enumerate(FAMILIES):
        direction = rng.normal(size=(len(CLASSES), 1, COEFFICIENTS))
        if name in LINEAR:
            prototypes[:, :, place] = direction
        if name in PAIRED:
            prototypes[:, :, place] = 1.4 * direction * np.array([1.0, -1.0])[:, None]
    return prototypes


def _cosines(width: int) -> Float[np.ndarray, "coefficient feature"]:
    """The first cosines over the family, orthonormal."""
    angle = np.pi * (np.arange(width) + 0.5) / width
    waves = np.cos(np.arange(1, COEFFICIENTS + 1)[:, None] * angle)
    return waves / np.linalg.norm(waves, axis=1, keepdims=True)


def _posterior(
    values: Float[np.ndarray, "cell column"], prototypes: np.ndarray, bases: list[np.ndarray]
) -> Float[np.ndarray, "cell class"]:
    """p(class | x). The bases are orthonormal, so the projections on them, of variance 1 + WHITE^2, say all there is to say."""
    parts = np.split(values, np.cumsum(list(FAMILIES.values()))[:-1], axis=1)
    seen = np.stack([part @ basis.T for part, basis in zip(parts, bases, strict=True)], axis=1)
    distance = ((seen[:, None, None] - prototypes) ** 2).sum(axis=(-1, -2)) / (1 + WHITE**2)
    log_class = logsumexp(-distance / 2, axis=-1) + np.log(SHARES)  # both types are as frequent
    return np.exp(log_class - logsumexp(log_class, axis=1, keepdims=True))
