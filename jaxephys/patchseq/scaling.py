"""Scaling: heavy-tailed features made comparable, by training cells alone.

    z = sign(d) log(1 + |d|),   d = (x - median) / MAD;      then mean 0, sd 1, cut at 4

Electrophysiological features spread over decades (resistance, adaptation, ratios), and single cells lie tens of deviations
out; after a plain z-score those few decide where everybody else stands. The signed logarithm keeps order and sign.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, TransformerMixin

from jaxephys.dims import AnyArray

CUT = 4.0  # sd
RARE = 0.01  # a feature missing in fewer training cells needs no flag


class SignedLog(NamedTuple):
    """The scale of each column, and whether that it is missing may mean something."""

    median: Float[AnyArray, "*run column"]
    unit: Float[AnyArray, "*run column"]  # median of |x - median|
    mean: Float[AnyArray, "*run column"]
    sd: Float[AnyArray, "*run column"]
    flagged: Float[AnyArray, "*run column"]  # 1 where a missing value is shown to the model


def fit_signed_log(values: Float[np.ndarray, "row column"]) -> SignedLog:
    """From training rows, NaN where a value is missing. A column without spread, or without a value, becomes 0."""
    missing = np.isnan(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value
        median = np.nan_to_num(np.nanmedian(values, axis=0))
        unit = np.nan_to_num(np.nanmedian(np.abs(values - median), axis=0))
        unit = np.where(unit > 0, unit, np.nan_to_num(np.nanstd(values, axis=0)))
        unit = np.where(unit > 0, unit, 1.0)
        logged = _signed_log((values - median) / unit)
        mean, sd = np.nan_to_num(np.nanmean(logged, axis=0)), np.nan_to_num(np.nanstd(logged, axis=0))
    flagged = missing.mean(axis=0) > RARE
    columns = (median, unit, mean, np.where(sd > 1e-6, sd, 1.0), flagged)
    return SignedLog(*(column.astype(np.float32) for column in columns))


def scaled(values: Float[AnyArray, "row column"], scale: SignedLog) -> Float[AnyArray, "row column"]:
    """The columns; a missing value stands at the median."""
    z = (_signed_log((values - scale.median) / scale.unit) - scale.mean) / scale.sd
    middle = jnp.clip(-scale.mean / scale.sd, -CUT, CUT)
    return jnp.where(jnp.isnan(values), middle, jnp.clip(z, -CUT, CUT))


def flags(values: Float[AnyArray, "row column"], scale: SignedLog) -> Float[AnyArray, "row column"]:
    """1 where a value is missing, in the columns where that happens to more than a few training cells."""
    return jnp.isnan(values) * scale.flagged


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
