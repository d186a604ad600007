"""Scaling of features to a common range, fitted to training cells only, and missing values.

====================  ==========================================================================================
``fit_z_score``       x - median, shifted and scaled to mean 0 and standard deviation 1 (as the published code)
``fit_log_z_score``   the same of log(x) where the training values of a column are all positive and skewed (as the published
                      text)
``fit_signed_log``    sign(d) log(1 + abs(d)) with d = (x - median) / MAD (median absolute deviation), shifted and scaled to
                      mean 0 and standard deviation 1, and clipped to [-4, 4]
``fit_quantiles``     z such that a standard normal variable is below z as often as training cells are below x
====================  ==========================================================================================

Many electrophysiological features (resistance, adaptation, ratios) range over orders of magnitude, and a few cells are tens of
standard deviations away from the mean. Such outliers determine the standard deviation of a plain z-score, which then makes all
other cells almost equal. The signed logarithm preserves the order of cells and whether they are above or below the median, and
reduces outliers; the quantiles preserve the order only. With all of them, :func:`apply_scale` replaces a missing value by the
median. :func:`missing_flags` returns which values were missing, as additional features of a model.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.stats import norm, skew
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxephys.dimensions import AnyArray

CLIP = 4.0  # standard deviations; values of the signed-logarithm scale beyond this are clipped
RARELY_MISSING = 0.01  # a feature gets a flag if it is missing in a larger share of the training cells
QUANTILE_LEVELS = (
    np.arange(100) + 0.5
) / 100  # probabilities at which `fit_quantiles` stores quantiles of each feature
SKEWED = 1.0  # a positive column of a larger skewness is replaced by its logarithm in `fit_log_z_score`
MIN_SD = 1e-6  # a column with a smaller standard deviation counts as constant


class ZScore(NamedTuple):
    """The z-score scale of each column.

    Parameters
    ----------
    median : array of shape (run, column) or (column,)
        Median of the training cells, which replaces missing values.
    mean : array of the same shape
        Mean of ``x - median`` over the training cells, missing values counted as 0.
    sd : array of the same shape
        Standard deviation of the same values; 1 for a constant column.
    flagged : array of the same shape
        1 for a column with a flag for missing values, 0 for the others.
    """

    median: Float[AnyArray, "*run column"]
    mean: Float[AnyArray, "*run column"]
    sd: Float[AnyArray, "*run column"]
    flagged: Float[AnyArray, "*run column"]


class LogZScore(NamedTuple):
    """The z-score scale of each column, of logarithms in the columns that are positive and skewed.

    Parameters
    ----------
    median : array of shape (run, column) or (column,)
        Median of the training cells after the logarithm, which replaces missing values.
    mean : array of the same shape
        Mean of the differences from the median over the training cells, missing values counted as 0.
    sd : array of the same shape
        Standard deviation of the same values; 1 for a constant column.
    flagged : array of the same shape
        1 for a column with a flag for missing values, 0 for the others.
    floor : array of the same shape
        Smallest training value of a column whose logarithm is taken, in the unit of the feature; it replaces values of other
        cells that have no logarithm. 0 for the columns without a logarithm.
    """

    median: Float[AnyArray, "*run column"]
    mean: Float[AnyArray, "*run column"]
    sd: Float[AnyArray, "*run column"]
    flagged: Float[AnyArray, "*run column"]
    floor: Float[AnyArray, "*run column"]


class SignedLog(NamedTuple):
    """The signed-logarithm scale of each column.

    Parameters
    ----------
    median : array of shape (run, column) or (column,)
        Median of the training cells, which replaces missing values.
    mean : array of the same shape
        Mean of the signed logarithms of the measured values.
    sd : array of the same shape
        Standard deviation of the same values; 1 for a constant column.
    flagged : array of the same shape
        1 for a column with a flag for missing values, 0 for the others.
    unit : array of the same shape
        Median absolute deviation from the median; where it is 0, the standard deviation; where that is 0 too, 1. Differences
        from the median are divided by it before the logarithm.
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
        Quantiles of the training cells at the probabilities ``QUANTILE_LEVELS``; all 0 in a column without a value.
    flagged : array of shape (run, column) or (column,)
        1 for a column with a flag for missing values, 0 for the others.
    """

    knots: Float[AnyArray, "*run quantile column"]
    flagged: Float[AnyArray, "*run column"]


Scale = ZScore | LogZScore | SignedLog | Quantiles


def fit_z_score(values: Float[np.ndarray, "row column"]) -> ZScore:
    """Fit a z-score scale to training rows.

    Parameters
    ----------
    values : array of shape (row, column)
        Features of the training cells in any unit, NaN where a value is missing.

    Returns
    -------
    ZScore
        The scale. It maps a constant column, or one without a value, to 0.
    """
    missing = np.isnan(values)
    median = column_medians(values)
    centered = np.where(missing, 0.0, values - median)
    flagged = missing.mean(axis=0) > RARELY_MISSING
    return ZScore(*_as_float32(median, centered.mean(axis=0), _nonzero_sd(centered.std(axis=0)), flagged))


def fit_log_z_score(values: Float[np.ndarray, "row column"]) -> LogZScore:
    """Fit a z-score scale to training rows, after the logarithm of skewed positive columns.

    Parameters
    ----------
    values : array of shape (row, column)
        Features of the training cells in any unit, NaN where a value is missing.

    Returns
    -------
    LogZScore
        The scale. It maps a constant column, or one without a value, to 0.

    Notes
    -----
    The paper takes the logarithm of "skewed positive" features without listing them. Here these are the columns whose
    measured training values are all above 0 and have a skewness above 1; tests and validation cells play no part.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value, or with equal values
        smallest = np.nan_to_num(np.nanmin(values, axis=0))
        skewed = np.ma.filled(skew(values.astype(np.float64), axis=0, nan_policy="omit"), np.nan) > SKEWED
    floor = np.where((smallest > 0) & skewed, smallest, 0.0)
    return LogZScore(*fit_z_score(_log_where_positive(values, floor)), *_as_float32(floor))


def fit_signed_log(values: Float[np.ndarray, "row column"]) -> SignedLog:
    """Fit a signed-logarithm scale to training rows.

    Parameters
    ----------
    values : array of shape (row, column)
        Features of the training cells in any unit, NaN where a value is missing.

    Returns
    -------
    SignedLog
        The scale. It maps a constant column, or one without a value, to 0.
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
        The scale. It maps the only value of a constant column to 0.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value
        knots = np.nan_to_num(np.nanquantile(values, QUANTILE_LEVELS, axis=0))
    return Quantiles(*_as_float32(knots, np.isnan(values).mean(axis=0) > RARELY_MISSING))


def apply_scale(values: Float[AnyArray, "row column"], scale: Scale) -> Float[AnyArray, "row column"]:
    """Scale features and replace missing values by the median of the training cells.

    Parameters
    ----------
    values : array of shape (row, column)
        Features, NaN where a value is missing.
    scale : ZScore, LogZScore, SignedLog or Quantiles
        A fitted scale of a single run.

    Returns
    -------
    array of shape (row, column)
        Scaled features without NaN. A NumPy array if ``values`` is one and the scale is not `Quantiles`, otherwise a JAX array.
    """
    if isinstance(scale, Quantiles):
        return jax.vmap(_normal_quantile, in_axes=(1, 1), out_axes=1)(jnp.asarray(values), jnp.asarray(scale.knots))
    xp = np if isinstance(values, np.ndarray) else jnp
    if isinstance(scale, LogZScore):
        values = _log_where_positive(values, scale.floor)
    centered = values - scale.median
    centered = xp.where(xp.isnan(centered), 0.0, centered)
    if isinstance(scale, ZScore | LogZScore):
        return (centered - scale.mean) / scale.sd
    return xp.clip((_signed_log(centered / scale.unit) - scale.mean) / scale.sd, -CLIP, CLIP)


def missing_flags(values: Float[AnyArray, "row column"], scale: Scale) -> Float[AnyArray, "row column"]:
    """Return 1 for missing values of the columns that are missing in more than 1 % of the training cells.

    Parameters
    ----------
    values : array of shape (row, column)
        Features, NaN where a value is missing.
    scale : ZScore, LogZScore, SignedLog or Quantiles
        A fitted scale of a single run; its ``flagged`` selects the columns.

    Returns
    -------
    array of shape (row, column)
        1 for a missing value in such a column, 0 elsewhere.
    """
    return jnp.isnan(values) * scale.flagged


def typical_values(
    scale: ZScore | LogZScore | SignedLog,
) -> tuple[Float[np.ndarray, "*run column"], Float[np.ndarray, "*run column"]]:
    """Return the median of each feature among the training cells, and how far cells are from it, in the unit of the feature.

    Parameters
    ----------
    scale : ZScore, LogZScore or SignedLog
        A fitted scale of one run or of all runs.

    Returns
    -------
    median : array of shape (run, column) or (column,)
        Medians.
    spread : array of the same shape
        Median absolute deviation of the signed-logarithm scale, standard deviation of the others. For a logarithm it is the
        median times the standard deviation of the logarithms, which is that of the feature to first order.
    """
    median = np.asarray(scale.median)
    if isinstance(scale, SignedLog):
        return median, np.asarray(scale.unit)
    if isinstance(scale, ZScore):
        return median, np.asarray(scale.sd)
    is_log = np.asarray(scale.floor) > 0
    median = np.where(is_log, np.exp(np.where(is_log, median, 0.0)), median)
    return median, np.where(is_log, median, 1.0) * np.asarray(scale.sd)


def row_span_basis(rows: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "column row"] | None:
    """Return an orthonormal basis of the space that the rows span, if there are fewer rows than columns.

    ``rows @ basis`` has as many columns as rows, and the same dot products and distances between rows. Covariance matrices
    in this basis are therefore much smaller than those of thousands of features.

    Parameters
    ----------
    rows : array of shape (row, column)
        Rows without NaN.

    Returns
    -------
    array of shape (column, row), or None
        The basis, one vector per column; None if there are at least as many rows as columns.
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


class SignedLogScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """The signed-logarithm scale as a scikit-learn transformer, followed by the flags of missing values."""

    def fit(self, X: Any, y: object = None) -> SignedLogScaler:
        """Fit the scale to training rows.

        Parameters
        ----------
        X : array-like or DataFrame of shape (row, column)
            Features, NaN where a value is missing.
        y : ignored
            Present for scikit-learn.

        Returns
        -------
        SignedLogScaler
            The fitted transformer; ``scale_`` holds the scale.
        """
        values: Any = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        self.scale_ = fit_signed_log(values)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Scale rows and append the flags.

        Parameters
        ----------
        X : array-like or DataFrame of shape (row, column)
            Features, NaN where a value is missing.

        Returns
        -------
        array of float32, shape (row, column + flagged columns)
            Scaled features, then one column of zeros and ones for each feature that has a flag.
        """
        check_is_fitted(self)
        values: Any = validate_data(self, X, reset=False, dtype=np.float32, ensure_all_finite="allow-nan")
        flags = np.asarray(missing_flags(values, self.scale_))[:, np.flatnonzero(self.scale_.flagged)]
        return np.concatenate([apply_scale(values, self.scale_), flags], axis=1)

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> np.ndarray:
        """Return the names of the columns that ``transform`` makes.

        Parameters
        ----------
        input_features : sequence of str, optional
            Names of the features, by default those of the training rows, or ``x0``, ``x1``, ...

        Returns
        -------
        array of str, shape (column + flagged columns,)
            The features, then ``<feature>_missing`` for each one that has a flag.
        """
        names = np.asarray(super().get_feature_names_out(input_features))
        flagged = names[np.flatnonzero(self.scale_.flagged)]
        return np.concatenate([names, np.array([f"{name}_missing" for name in flagged], object)])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _normal_quantile(x: Float[AnyArray, "row"], knots: Float[AnyArray, "quantile"]) -> Float[AnyArray, "row"]:
    """Map x to normal quantiles by linear interpolation between the knots; beyond the knots the result is constant."""
    z = jnp.asarray(norm.ppf(QUANTILE_LEVELS), jnp.float32)
    # If x equals several knots, `high` is the z of the last of them and `low` that of the first: return the mean of both.
    low, high = -jnp.interp(-x, -knots[::-1], -z[::-1]), jnp.interp(x, knots, z)
    return jnp.where(jnp.isnan(x), 0.0, (low + high) / 2)


def _log_where_positive(
    x: Float[AnyArray, "row column"], floor: Float[AnyArray, "column"]
) -> Float[AnyArray, "row column"]:
    """Return log(x) in the columns with a floor, which replaces values of 0 or less, and x in the other columns."""
    xp = np if isinstance(x, np.ndarray) else jnp
    positive = xp.where(floor > 0, xp.where(x <= 0, floor, x), 1.0)
    return xp.where(floor > 0, xp.log(positive), x)


def _signed_log(x: Float[AnyArray, "row column"]) -> Float[AnyArray, "row column"]:
    xp = np if isinstance(x, np.ndarray) else jnp
    return xp.sign(x) * xp.log1p(xp.abs(x))


def _nonzero_sd(sd: Float[np.ndarray, "column"]) -> Float[np.ndarray, "column"]:
    return np.where(sd > MIN_SD, sd, 1.0)


def _as_float32(*columns: np.ndarray) -> list[Float[np.ndarray, "..."]]:
    return [column.astype(np.float32) for column in columns]
