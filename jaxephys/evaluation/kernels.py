"""Regression of class indicators on a kernel, with every row left out in closed form.

    F(x)      = m + K(x, Z) a,   a = C^-1 (Y - m),   C = K(Z, Z) + noise / weight
    left out  = Y - a / diag(C^-1)            what the other rows say of each: no refitting
    p         = softmax(sharpness F)

m is the weighted mean of the indicators Y. Noise and sharpness are those with the least error of the rows left out, and
nothing else is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax

NOISES = (0.03, 0.06, 0.1, 0.2, 0.3, 0.5, 1.0)
SHARPNESSES = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)  # regressed indicators differ by one at most


class Regression(NamedTuple):
    shares: Float[np.ndarray, "class"]  # m
    weights: Float[np.ndarray, "row class"]  # a
    noise: float
    left_out: Float[np.ndarray, "row class"]

    def at(self, kernel: Float[np.ndarray, "some row"]) -> Float[np.ndarray, "some class"]:
        """F of new rows, of whom ``kernel`` tells how like each training row they are."""
        return self.shares + kernel @ self.weights


def regress(
    kernel: Float[np.ndarray, "row row"],
    indicators: Float[np.ndarray, "row class"],
    weight: Float[np.ndarray, "row"] | None = None,
    noises: Sequence[float] = NOISES,
) -> Regression:
    """``weight``: how much each row counts, all alike without it."""
    weight = np.ones(len(indicators)) if weight is None else weight
    shares = np.average(indicators, axis=0, weights=weight)
    root = np.sqrt(weight)[:, None]
    values, vectors = np.linalg.eigh(root * kernel * root.T)
    tried = []
    for noise in noises:
        inverse = root * ((vectors / (values + noise)) @ vectors.T) * root.T
        weights = inverse @ (indicators - shares)
        left_out = indicators - weights / np.diag(inverse)[:, None]
        error = np.average((left_out - indicators) ** 2, axis=0, weights=weight).mean()
        tried.append((float(error), noise, weights, left_out))
    _, noise, weights, left_out = min(tried, key=lambda one: one[0])
    return Regression(shares, weights, noise, left_out)


def sharpness_of(
    left_out: Float[np.ndarray, "row class"],
    codes: Int[np.ndarray, "row"],
    weight: Float[np.ndarray, "row"] | None = None,
) -> float:
    """The one with the least log loss."""
    rows = np.arange(len(codes))
    return min(SHARPNESSES, key=lambda t: np.average(-log_softmax(t * left_out, axis=1)[rows, codes], weights=weight))
