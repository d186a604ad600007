"""Adf: the augmented Dickey-Fuller test of a series for a unit root, with a constant and no trend.

The regression, by least squares::

    y[t] - y[t-1] = a + g y[t-1] + sum_{i=1..lags} d_i (y[t-i] - y[t-i-1]) + e[t]

Under a unit root (a random walk) g = 0, and g over its standard error does not follow t but Dickey and Fuller's distribution.
Its tail is MacKinnon's: critical values for a sample of n from b0 + b1/n + b2/n^2 + b3/n^3 (2010, table 2), the probability for
large n from the normal distribution of a polynomial in the statistic (1994, table 3). A small p rejects the random walk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from data_prep.spikes.spike_times import SpikesError

CRITICAL = {
    0.01: (-3.43035, -6.5393, -16.786, -79.433),
    0.05: (-2.86154, -2.8903, -4.234, -40.040),
    0.10: (-2.56677, -1.5384, -2.809, 0.0),
}
# Of the statistic: below SPLIT the quadratic, above it the cubic; outside of LIMITS p is 0 or 1.
SPLIT, LIMITS = -1.61, (-18.83, 2.74)
BELOW = (2.1659, 1.4412, 0.038269)
ABOVE = (1.7339, 0.93202, -0.12745, -0.010368)


class Stationarity(NamedTuple):
    """The test of one series; ``critical`` is the value at 5 % for this many points."""

    statistic: float
    p: float
    lags: int
    n: int
    critical: float


def dickey_fuller(series: np.ndarray, lags: int | None = None) -> Stationarity:
    """Test a series; without ``lags`` Schwert's number of them, 12 (n / 100)^(1/4), which depends on n alone."""
    y = np.asarray(series, float)
    lags = int(12 * (len(y) / 100) ** 0.25) if lags is None else lags
    n = len(y) - 1 - lags
    if n < 2 * (lags + 2):
        raise SpikesError(f"{len(y)} points are too few to test for a unit root with {lags} lags: give a longer series")
    if not np.ptp(y) > 0:
        raise SpikesError("a constant series has no unit root to test for: give one that varies")
    change = np.diff(y)
    past = [change[lags - i : len(change) - i] for i in range(1, lags + 1)]
    columns = np.stack([y[lags:-1], *past, np.ones(n)], axis=1)
    statistic = t_of_first(columns, change[lags:])
    return Stationarity(statistic, p_value(statistic), lags, n, critical_value(0.05, n))


def t_of_first(columns: np.ndarray, target: np.ndarray) -> float:
    """The coefficient of the first column over its standard error. The columns are scaled so that none is lost to rounding."""
    scaled = columns / np.linalg.norm(columns, axis=0)
    q, r = np.linalg.qr(scaled)
    weight = np.linalg.solve(r, q.T @ target)
    rest = target - scaled @ weight
    variance = rest @ rest / (len(target) - columns.shape[1])
    first_row = np.linalg.solve(r.T, np.eye(columns.shape[1])[0])  # (X'X)^-1 [0, 0] is the squared norm of R^-T e_0
    return float(weight[0] / np.sqrt(variance * (first_row @ first_row)))


def p_value(statistic: float) -> float:
    if not LIMITS[0] <= statistic <= LIMITS[1]:
        return float(statistic > LIMITS[1])
    curve = BELOW if statistic <= SPLIT else ABOVE
    return float(norm.cdf(np.polynomial.polynomial.polyval(statistic, curve)))


def critical_value(level: float, n: int) -> float:
    """The statistic that a random walk of n points goes below with this probability: 0.01, 0.05 or 0.10."""
    return float(np.polynomial.polynomial.polyval(1 / n, CRITICAL[level]))
