"""Synthetic cells of known classes, for tests and for the quickstart, with the posterior of the process that made them.

Each class has two prototypes, as a subclass has types. A family is a smooth curve: three coefficients of a cosine basis,
drawn around the prototype of the cell, plus a little white noise. The coefficients are Gaussian, so that the class posterior
is a ratio of sums of Gaussians and the Bayes classifier, the best possible one, is known. The families of
``LINEAR_FAMILIES`` carry the classes in the mean of their prototypes, where a linear model finds them; those of
``PAIRED_FAMILIES`` only in which signs occur together, where it cannot; the others carry no information.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from jaxephys.schemas.feature_table import FeatureTable

CLASSES = ("Lamp5", "Pvalb", "Sncg", "Sst", "Vip")
CLASS_SHARES = (0.12, 0.24, 0.08, 0.36, 0.20)  # similar to those of mouse visual cortex
FAMILIES = {
    "first_ap_v": 30, "first_ap_dv": 30, "isi_shape": 20, "step_subthresh": 42, "subthresh_norm": 28, "inst_freq": 30,
    "psth": 24, "upstroke_downstroke": 24, "peak_v": 24, "fast_trough_v": 24, "threshold_v": 24, "width": 24,
}  # fmt: skip
LINEAR_FAMILIES = ("first_ap_v", "isi_shape", "inst_freq")  # classes differ in the mean
PAIRED_FAMILIES = ("subthresh_norm", "width")  # the two types of a class are opposite, so that their mean is 0
COEFFICIENTS = 3  # per family
NOISE_SD = 0.1  # of the white noise on each feature; the coefficients have sd 1


class SyntheticCells(NamedTuple):
    """Synthetic cells and their true posterior.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Features and labels.
    posterior : array of shape (cell, class)
        Probability of each class given the features, under the process that made them.
    """

    table: FeatureTable
    posterior: Float[np.ndarray, "cell class"]


def make_synthetic_cells(n_cells: int = 1500, seed: int = 0, *, strength: float = 1.0) -> SyntheticCells:
    """Draw cells of five classes in twelve families.

    Parameters
    ----------
    n_cells : int, default 1500
        Number of cells.
    seed : int, default 0
        Seed of the cells. The prototypes of the classes are the same for every seed.
    strength : float, default 1.0
        Factor of the distances between classes; with 0 the features carry no information.

    Returns
    -------
    SyntheticCells
        The cells, 324 features each, and their posterior.

    Examples
    --------
    >>> cells = make_synthetic_cells(100)
    >>> cells.table
    FeatureTable(100 cells, 12 families, 324 features, 5 classes)
    >>> cells.posterior.shape
    (100, 5)
    """
    rng = np.random.default_rng(seed)
    prototypes = strength * _prototypes(np.random.default_rng(0))
    bases = [_cosine_basis(width) for width in FAMILIES.values()]
    label = rng.choice(len(CLASSES), size=n_cells, p=CLASS_SHARES)
    prototype = rng.integers(2, size=n_cells)
    coefficients = prototypes[label, prototype] + rng.normal(size=(n_cells, *prototypes.shape[2:]))
    curves = np.concatenate([coefficients[:, i] @ basis for i, basis in enumerate(bases)], axis=1)
    values = curves + NOISE_SD * rng.normal(size=curves.shape)
    table = FeatureTable.from_arrays(values, FAMILIES, np.array(CLASSES)[label])
    return SyntheticCells(table, _posterior(values, prototypes, bases))


def _prototypes(rng: np.random.Generator) -> Float[np.ndarray, "class prototype family coefficient"]:
    """Draw the two prototypes of each class, in sd of the coefficients."""
    prototypes = np.zeros((len(CLASSES), 2, len(FAMILIES), COEFFICIENTS))
    for family, name in enumerate(FAMILIES):
        direction = rng.normal(size=(len(CLASSES), 1, COEFFICIENTS))
        if name in LINEAR_FAMILIES:
            prototypes[:, :, family] = direction
        if name in PAIRED_FAMILIES:
            prototypes[:, :, family] = 1.4 * direction * np.array([1.0, -1.0])[:, None]
    return prototypes


def _cosine_basis(width: int) -> Float[np.ndarray, "coefficient feature"]:
    """Return the first cosines over a family, orthonormal."""
    angle = np.pi * (np.arange(width) + 0.5) / width
    waves = np.cos(np.arange(1, COEFFICIENTS + 1)[:, None] * angle)
    return waves / np.linalg.norm(waves, axis=1, keepdims=True)


def _posterior(
    values: Float[np.ndarray, "cell column"], prototypes: np.ndarray, bases: list[np.ndarray]
) -> Float[np.ndarray, "cell class"]:
    """Return p(class | x). The bases are orthonormal, so the projections on them (variance 1 + NOISE_SD^2) suffice."""
    parts = np.split(values, np.cumsum(list(FAMILIES.values()))[:-1], axis=1)
    projections = np.stack([part @ basis.T for part, basis in zip(parts, bases, strict=True)], axis=1)
    distance = ((projections[:, None, None] - prototypes) ** 2).sum(axis=(-1, -2)) / (1 + NOISE_SD**2)
    log_class = logsumexp(-distance / 2, axis=-1) + np.log(CLASS_SHARES)  # the two types are equally frequent
    return np.exp(log_class - logsumexp(log_class, axis=1, keepdims=True))
