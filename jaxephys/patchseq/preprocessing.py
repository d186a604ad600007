"""Scales that make features of different units comparable, fitted to training cells only.

====================  ==========================================================================================
``fit_z_score``       x - median, then mean 0 and sd 1 (as published)
``fit_signed_log``    d = (x - median) / MAD, sign(d) log(1 + |d|), then mean 0 and sd 1, clipped at 4 sd
``fit_quantiles``     the share of training cells below x, as a quantile of the standard normal distribution
====================  ==========================================================================================

Electrophysiological features extend over orders of magnitude (resistance, adaptation, ratios) and single cells are tens of
deviations away from the others; after a plain z-score these few determine the scale of all. The signed logarithm keeps
order and sign, the quantiles keep the order only. ``apply_scale`` replaces a missing value by the median in all three, and
``missing_flags`` shows a model which values were missing, in columns where this is not rare.
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

CLIP = 4.0  # standard deviations
RARELY_MISSING = 0.01  # a feature that is missing in a smaller share of the training cells has no flag
QUANTILE_LEVELS = (np.arange(100) + 0.5) / 100


class ZScore(NamedTuple):
    """The z-score scale of each column.

    Parameters
    ----------
    median : array of shape (run, column) or (column,)
        Median of the training cells, which replaces missing values.
    mean : array of the same shape
        Mean of ``x - median``, missing values counted as 0.
    sd : array of the same shape
        Standard deviation; 1 for a column without variation.
    flagged : array of the same shape
        1 where a missing value is shown to the model, 0 elsewhere.
    """

    median: Float[AnyArray, "*run column"]
    mean: Float[AnyArray, "*run column"]
    sd: Float[AnyArray, "*run column"]
    flagged: Float[AnyArray, "*run column"]


class SignedLog(NamedTuple):
    """The signed-logarithm scale of each column.

    Parameters
    ----------
    median : array of shape (run, column) or (column,)
        Median of the training cells, which replaces missing values.
    mean : array of the same shape
        Mean of the signed logarithms of the measured values.
    sd : array of the same shape
        Standard deviation of these; 1 for a column without variation.
    flagged : array of the same shape
        1 where a missing value is shown to the model, 0 elsewhere.
    unit : array of the same shape
        Median absolute deviation, the unit in which the logarithm is taken.
    """

    median: Float[AnyArray, "*run column"]
    mean: Float[AnyArray, "*run column"]
    sd: Float[AnyArray, "*run column"]
    flagged: Float[AnyArray, "*run column"]
    unit: Float[AnyArray, "*run column"]


class Quantiles(NamedTuple):
    """The quantile scale of each column.

    Parameters
    ----------
    knots : array of shape (run, quantile, column) or (quantile, column)
        Quantiles of the training cells at ``QUANTILE_LEVELS``; all 0 in a column without a value.
    flagged : array of shape (run, column) or (column,)
        1 where a missing value is shown to the model, 0 elsewhere.
    """

    knots: Float[AnyArray, "*run quantile column"]
    flagged: Float[AnyArray, "*run column"]


Scale = ZScore | SignedLog | Quantiles


def fit_z_score(values: Float[np.ndarray, "row column"]) -> ZScore:
    """Fit a z-score scale to training rows.

    Parameters
    ----------
    values : array of shape (row, column)
        Features of the training cells in any unit, NaN where a value is missing.

    Returns
    -------
    ZScore
        The scale. It maps a column without variation, or without a value, to 0.
    """
    missing = np.isnan(values)
    median = column_medians(values)
    centered = np.where(missing, 0.0, values - median)
    flagged = missing.mean(axis=0) > RARELY_MISSING
    return ZScore(*_as_float32(median, centered.mean(axis=0), _nonzero_sd(centered.std(axis=0)), flagged))


def fit_signed_log(values: Float[np.ndarray, "row column"]) -> SignedLog:
    """Fit a signed-logarithm scale to training rows.

    Parameters
    ----------
    values : array of shape (row, column)
        Features of the training cells in any unit, NaN where a value is missing.

    Returns
    -------
    SignedLog
        The scale. It maps a column without variation, or without a value, to 0.
    """
    missing = np.isnan(values)
    median = column_medians(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value
        unit = np.nan_to_num(np.nanmedian(np.abs(values - median), axis=0))
        unit = np.where(unit > 0, unit, np.nan_to_num(np.nanstd(values, axis=0)))
        unit = np.where(unit > 0, unit, 1.0)
        logs = _signed_log((values - median) / unit)
        mean, sd = np.nan_to_num(np.nanmean(logs, axis=0)), np.nan_to_num(np.nanstd(logs, axis=0))
    return SignedLog(*_as_float32(median, mean, _nonzero_sd(sd), missing.mean(axis=0) > RARELY_MISSING, unit))


def fit_quantiles(values: Float[np.ndarray, "row column"]) -> Quantiles:
    """Fit a quantile scale to training rows.

    Parameters
    ----------
    values : array of shape (row, column)
        Features of the training cells in any unit, NaN where a value is missing.

    Returns
    -------
    Quantiles
        The scale.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value
        knots = np.nan_to_num(np.nanquantile(values, QUANTILE_LEVELS, axis=0))
    return Quantiles(*_as_float32(knots, np.isnan(values).mean(axis=0) > RARELY_MISSING))


def apply_scale(values: Float[AnyArray, "row column"], scale: Scale) -> Float[AnyArray, "row column"]:
    """Scale features; a missing value becomes that of the median.

    Parameters
    ----------
    values : array of shape (row, column)
        Features, NaN where a value is missing.
    scale : ZScore, SignedLog or Quantiles
        A fitted scale of a single run.

    Returns
    -------
    array of shape (row, column)
        Scaled features without NaN; a NumPy array where ``values`` is one, except for quantiles.
    """
    if isinstance(scale, Quantiles):
        return jax.vmap(_normal_quantile, in_axes=(1, 1), out_axes=1)(jnp.asarray(values), jnp.asarray(scale.knots))
    xp = np if isinstance(values, np.ndarray) else jnp
    centered = values - scale.median
    centered = xp.where(xp.isnan(centered), 0.0, centered)
    if isinstance(scale, ZScore):
        return (centered - scale.mean) / scale.sd
    return xp.clip((_signed_log(centered / scale.unit) - scale.mean) / scale.sd, -CLIP, CLIP)


def missing_flags(values: Float[AnyArray, "row column"], scale: Scale) -> Float[AnyArray, "row column"]:
    """Return 1 where a value is missing, in columns where more than 1 % of the training cells lack it.

    Parameters
    ----------
    values : array of shape (row, column)
        Features, NaN where a value is missing.
    scale : ZScore, SignedLog or Quantiles
        A fitted scale; its ``flagged`` names the columns.

    Returns
    -------
    array of shape (row, column)
        1 for a missing value in such a column, 0 elsewhere.
    """
    return jnp.isnan(values) * scale.flagged


def row_span_basis(rows: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "column _"] | None:
    """Return orthonormal directions that span the rows, where these are fewer than the columns.

    Within these directions products and distances between the rows do not change, while a covariance shrinks from
    thousands of columns to the number of rows.

    Parameters
    ----------
    rows : array of shape (row, column)
        Rows without NaN.

    Returns
    -------
    array of shape (column, row) or None
        The directions; None where there are at least as many rows as columns.
    """
    if len(rows) >= rows.shape[1]:
        return None
    return np.linalg.svd(rows, full_matrices=False)[2].T


def column_medians(values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "column"]:
    """Return the median of the measured values of each column.

    Parameters
    ----------
    values : array of shape (row, column)
        Features, NaN where a value is missing.

    Returns
    -------
    array of float32, shape (column,)
        The medians; 0 in a column without a value.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value
        return np.nan_to_num(np.nanmedian(values, axis=0)).astype(np.float32)


class SignedLogScaler(TransformerMixin, BaseEstimator):
    """The signed-logarithm scale as a scikit-learn transformer, followed by the flags of missing values."""

    def fit(self, X: np.ndarray, y: object = None) -> SignedLogScaler:
        """Fit the scale to training rows.

        Parameters
        ----------
        X : array of shape (row, column)
            Features, NaN where a value is missing.
        y : ignored
            Present for scikit-learn.

        Returns
        -------
        SignedLogScaler
            The fitted transformer; ``scale_`` holds the scale.
        """
        self.scale_ = fit_signed_log(np.asarray(X, np.float64))
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Scale rows and append the flags.

        Parameters
        ----------
        X : array of shape (row, column)
            Features, NaN where a value is missing.

        Returns
        -------
        array of float32, shape (row, column + flagged columns)
            Scaled features, then one column of 0 and 1 for each feature that has a flag.
        """
        X = np.asarray(X, np.float32)
        flagged = np.flatnonzero(self.scale_.flagged)
        return np.concatenate(
            [apply_scale(X, self.scale_), np.asarray(missing_flags(X, self.scale_))[:, flagged]], axis=1
        )


def _normal_quantile(x: Float[AnyArray, "row"], knots: Float[AnyArray, "quantile"]) -> Float[AnyArray, "row"]:
    """Interpolate between the knots, constant beyond them; a value shared by several knots maps to their middle."""
    z = jnp.asarray(norm.ppf(QUANTILE_LEVELS), jnp.float32)
    low, high = -jnp.interp(-x, -knots[::-1], -z[::-1]), jnp.interp(x, knots, z)
    return jnp.where(jnp.isnan(x), 0.0, (low + high) / 2)


def _signed_log(x: Float[AnyArray, "row column"]) -> Float[AnyArray, "row column"]:
    xp = np if isinstance(x, np.ndarray) else jnp
    return xp.sign(x) * xp.log1p(xp.abs(x))


def _nonzero_sd(sd: Float[np.ndarray, "column"]) -> Float[np.ndarray, "column"]:
    return np.where(sd > 1e-6, sd, 1.0)


def _as_float32(*columns: np.ndarray) -> list[Float[np.ndarray, "..."]]:
    return [column.astype(np.float32) for column in columns]
