"""Scaling: features of many units made comparable, by training cells alone. Three ways:

    z-score       (x - median), mean 0, sd 1: as published
    signed log    d = (x - median) / MAD,  sign(d) log(1 + |d|);  mean 0, sd 1, cut at 4
    quantiles     the share of the training cells below x, as a quantile of the normal distribution

Electrophysiological features spread over decades (resistance, adaptation, ratios), and single cells lie tens of deviations
out; after a plain z-score those few decide where everybody else stands. The signed logarithm keeps order and sign, the
quantiles keep the order alone. In all a missing value stands at the median, and in columns where more than a few are missing a flag can say so.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.stats import norm
from sklearn.base import BaseEstimator, TransformerMixin

from jaxephys.dimensions import AnyArray

CUT = 4.0  # sd
RARE = 0.01  # a feature missing in fewer training cells needs no flag
SHARES = (np.arange(100) + 0.5) / 100


class ZScore(NamedTuple):
    """The scale of each column, and whether that it is missing may mean something."""

    median: Float[AnyArray, "*run column"]
    mean: Float[AnyArray, "*run column"]  # of x - median, missing values at 0
    sd: Float[AnyArray, "*run column"]
    flagged: Float[AnyArray, "*run column"]  # 1 where a missing value is shown to the model


class SignedLog(NamedTuple):
    """The same, and the unit in which the logarithm is taken."""

    median: Float[AnyArray, "*run column"]
    mean: Float[AnyArray, "*run column"]  # of the logarithms that are there
    sd: Float[AnyArray, "*run column"]
    flagged: Float[AnyArray, "*run column"]
    unit: Float[AnyArray, "*run column"]  # median of |x - median|


class Quantiles(NamedTuple):
    """Where the training cells lie."""

    knots: Float[AnyArray, "*run quantile column"]  # at the shares in SHARES; all alike in a column without a value
    flagged: Float[AnyArray, "*run column"]


Scale = ZScore | SignedLog | Quantiles


def fit_z_score(values: Float[np.ndarray, "row column"]) -> ZScore:
    """From training rows, NaN where a value is missing. A column without spread, or without a value, becomes 0."""
    missing = np.isnan(values)
    median = median_of(values)
    apart = np.where(missing, 0.0, values - median)
    return ZScore(*_float32(median, apart.mean(axis=0), _spread(apart.std(axis=0)), missing.mean(axis=0) > RARE))


def fit_signed_log(values: Float[np.ndarray, "row column"]) -> SignedLog:
    """From training rows, NaN where a value is missing. A column without spread, or without a value, becomes 0."""
    missing = np.isnan(values)
    median = median_of(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value
        unit = np.nan_to_num(np.nanmedian(np.abs(values - median), axis=0))
        unit = np.where(unit > 0, unit, np.nan_to_num(np.nanstd(values, axis=0)))
        unit = np.where(unit > 0, unit, 1.0)
        logged = _signed_log((values - median) / unit)
        mean, sd = np.nan_to_num(np.nanmean(logged, axis=0)), np.nan_to_num(np.nanstd(logged, axis=0))
    return SignedLog(*_float32(median, mean, _spread(sd), missing.mean(axis=0) > RARE, unit))


def fit_quantiles(values: Float[np.ndarray, "row column"]) -> Quantiles:
    """From training rows, NaN where a value is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value
        knots = np.nan_to_num(np.nanquantile(values, SHARES, axis=0))
    return Quantiles(*_float32(knots, np.isnan(values).mean(axis=0) > RARE))


def scaled(values: Float[AnyArray, "row column"], scale: Scale) -> Float[AnyArray, "row column"]:
    """The columns; a missing value stands at the median."""
    if isinstance(scale, Quantiles):
        return jax.vmap(_normal_quantile, in_axes=(1, 1), out_axes=1)(jnp.asarray(values), jnp.asarray(scale.knots))
    numpy = np if isinstance(values, np.ndarray) else jnp
    apart = values - scale.median
    apart = numpy.where(numpy.isnan(apart), 0.0, apart)
    if isinstance(scale, ZScore):
        return (apart - scale.mean) / scale.sd
    return numpy.clip((_signed_log(apart / scale.unit) - scale.mean) / scale.sd, -CUT, CUT)


def flags(values: Float[AnyArray, "row column"], scale: Scale) -> Float[AnyArray, "row column"]:
    """1 where a value is missing, in the columns where that happens to more than a few training cells."""
    return jnp.isnan(values) * scale.flagged


def span_of(rows: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "column _"] | None:
    """Orthonormal directions that hold all of these rows, where they are fewer than the columns; None where they are not.

    In them products and distances between the rows stay as they are, while a covariance shrinks from thousands of columns
    to the number of rows.
    """
    if len(rows) >= rows.shape[1]:
        return None
    return np.linalg.svd(rows, full_matrices=False)[2].T


def median_of(values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "column"]:
    """Median of what is there in each column; 0 where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value
        return np.nan_to_num(np.nanmedian(values, axis=0)).astype(np.float32)


def _normal_quantile(x: Float[AnyArray, "row"], knots: Float[AnyArray, "quantile"]) -> Float[AnyArray, "row"]:
    """Between the knots in a straight line, beyond the last at the last; a value that many cells share in their middle."""
    z = jnp.asarray(norm.ppf(SHARES), jnp.float32)
    low, high = -jnp.interp(-x, -knots[::-1], -z[::-1]), jnp.interp(x, knots, z)
    return jnp.where(jnp.isnan(x), 0.0, (low + high) / 2)


def _spread(sd: Float[np.ndarray, "column"]) -> Float[np.ndarray, "column"]:
    return np.where(sd > 1e-6, sd, 1.0)


def _float32(*columns: np.ndarray) -> list[Float[np.ndarray, "..."]]:
    return [column.astype(np.float32) for column in columns]


def _signed_log(x: Float[AnyArray, "row column"]) -> Float[AnyArray, "row column"]:
    numpy = np if isinstance(x, np.ndarray) else jnp
    return numpy.sign(x) * numpy.log1p(numpy.abs(x))


class SignedLogScaler(TransformerMixin, BaseEstimator):
    """The same for scikit-learn: scaled columns, then the flags of the columns that have one."""

    def fit(self, X: np.ndarray, y: object = None) -> SignedLogScaler:
        self.scale_ = fit_signed_log(np.asarray(X, np.float64))
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X, np.float32)
        shown = np.flatnonzero(self.scale_.flagged)
        return np.concatenate([scaled(X, self.scale_), np.asarray(flags(X, self.scale_))[:, shown]], axis=1)
