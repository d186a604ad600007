"""Confidence intervals and tests for scores that are not independent: scores of resampled splits, and time series.

Scores of resampled splits share training rows: use `corrected_interval` and `corrected_test`. Statistics of a time series depend on
neighboring rows: use `block_bootstrap`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike
from scipy.stats import t as student_t


class MeanSd(NamedTuple):
    """Mean and standard deviation.

    Parameters
    ----------
    mean : float
        Mean; NaN if there is no value.
    sd : float
        Sample standard deviation, with divisor n - 1; NaN if there are fewer than two values.
    """

    mean: float
    sd: float


class Interval(NamedTuple):
    """An estimate with its confidence interval.

    Parameters
    ----------
    estimate : float
        The estimate.
    low, high : float
        Ends of the interval.
    """

    estimate: float
    low: float
    high: float


class PairedTest(NamedTuple):
    """Result of `corrected_test`.

    Parameters
    ----------
    difference : float
        Mean difference of the scores.
    low, high : float
        Ends of the confidence interval of the difference.
    p_value : float
        Two-sided p value of the hypothesis that the mean difference is 0.
    n : int
        Number of pairs.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def mean_sd(values: ArrayLike) -> MeanSd:
    """Return the mean and the sample standard deviation of scores.

    Parameters
    ----------
    values : array-like, shape (n,)
        Scores; leave out those that are not finite.

    Returns
    -------
    MeanSd
        Mean and standard deviation. The standard deviation of equal values is exactly 0.

    Examples
    --------
    >>> mean_sd([0.5, 0.5, 0.5])
    MeanSd(mean=0.5, sd=0.0)
    """
    scores = np.asarray(values)
    if scores.ndim != 1:
        raise ValueError(f"scores must be a one-dimensional array, not an array of shape {scores.shape}")
    mean = float(np.mean(scores)) if len(scores) else math.nan
    if len(scores) < 2:
        return MeanSd(mean, math.nan)
    return MeanSd(mean, float(scores.std(ddof=1)) if np.ptp(scores) > 0 else 0.0)  # rounding could give 1e-17


def corrected_interval(values: ArrayLike, n_train: int | float, n_test: int | float, level: float = 0.95) -> Interval:
    """Return the confidence interval of Nadeau and Bengio (2003) for the mean score of resampled splits.

    Parameters
    ----------
    values : array-like, shape (J,)
        One score, or one difference of scores, per split.
    n_train, n_test : int or float
        Number of training and of test rows of a split; a mean, if they vary.
    level : float, default 0.95
        Confidence level between 0 and 1.

    Returns
    -------
    Interval
        Mean and ends. For equal scores both ends are the mean.

    Raises
    ------
    ValueError
        If there are fewer than two scores, one is not finite, or a row count or the level is not positive.

    Notes
    -----
    mean ± t(J - 1) error with error^2 = (1/J + n_test/n_train) sd^2. The splits share training rows, so their scores are
    correlated and sd^2 / J is too small. The second term accounts for the correlation and does not shrink with more splits.

    Examples
    --------
    >>> interval = corrected_interval([0.80, 0.82, 0.78, 0.81, 0.79], n_train=80, n_test=20)
    >>> f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    '0.800 [0.771, 0.829]'
    """
    _check_level(level)
    scores = np.asarray(values, dtype=np.float64)
    mean, error = _mean_and_error(scores, n_train, n_test)
    margin = float(student_t.ppf((1 + level) / 2, len(scores) - 1)) * error
    return Interval(mean, mean - margin, mean + margin)


def corrected_test(
    a: ArrayLike, b: ArrayLike, n_train: int | float, n_test: int | float, level: float = 0.95
) -> PairedTest:
    """Compare two models by the corrected resampled t test of Nadeau and Bengio (2003).

    Parameters
    ----------
    a, b : array-like, shape (J,)
        Scores of the two models; ``a[j]`` and ``b[j]`` are of the same split.
    n_train, n_test : int or float
        Number of training and of test rows of a split; a mean, if they vary.
    level : float, default 0.95
        Confidence level of the interval.

    Returns
    -------
    PairedTest
        Mean of a - b, interval and two-sided p value.

    Raises
    ------
    ValueError
        If ``a`` and ``b`` differ in length, or for the reasons named in `corrected_interval`.

    Notes
    -----
    t = mean(a - b) / error with J - 1 degrees of freedom and the error of `corrected_interval`. If all differences are equal, t is
    undefined and the p value is its limit: 1 if the difference is 0, otherwise 0.

    Examples
    --------
    >>> corrected_test([0.82, 0.85, 0.81], [0.80, 0.83, 0.79], n_train=80, n_test=20).difference.__round__(3)
    0.02
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    n = first.size
    if second.size != n:
        raise ValueError(f"a paired test needs both scores of each split, but a has {n} and b has {second.size}")
    _, low, high = corrected_interval(first - second, n_train, n_test, level)
    mean, error = _mean_and_error(first - second, n_train, n_test)
    t = abs(mean) / error if error > 0 else (math.inf if mean else 0.0)
    return PairedTest(mean, low, high, float(2 * student_t.sf(t, n - 1)), n)


def block_bootstrap(
    statistic: Callable[[Shaped[np.ndarray, "time ..."]], float],
    series: Shaped[np.ndarray, "time ..."],
    block: int,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the percentile interval of a statistic of a time series by the moving-block bootstrap.

    Parameters
    ----------
    statistic : callable
        Function of a series of the same shape that returns a number.
    series : array, shape (n_time, ...)
        The series. The columns of a row stay together, so the statistic may compare them.
    block : int
        Number of successive rows of a block. It should be long compared with the memory of the series; without other knowledge
        take about n^(1/3) rows. With ``block=1`` the dependence of neighboring rows is lost and the interval is too narrow.
    resamples : int, default 2000
        Number of resampled series.
    seed : int, default 0
        Seed of the resampling.
    level : float, default 0.95
        Confidence level.

    Returns
    -------
    Interval
        The statistic of the series, and the ends of the interval.

    Raises
    ------
    ValueError
        If the series has fewer than two rows or values that are not finite, the block is longer than the series, or the statistic
        of a resampled series is not finite.

    Notes
    -----
    A resampled series (Kunsch 1989) joins blocks, each drawn from all blocks of the series, up to its length.

    Examples
    --------
    >>> import numpy as np
    >>> series = np.cumsum(np.random.default_rng(0).normal(size=200)) / 10
    >>> interval = block_bootstrap(np.mean, series, block=20, resamples=200)
    >>> bool(interval.low < interval.estimate < interval.high)
    True
    """
    series = np.asarray(series)
    _check_finite(series)
    _check_level(level)
    if not 1 <= block <= len(series):
        raise ValueError(f"the block must have 1 to {len(series)} rows, the length of the series, not {block}")
    if resamples < 2:
        raise ValueError(f"resamples is {resamples}: an interval needs many, such as 2000")
    rng, values = np.random.default_rng(seed), np.zeros(resamples)
    for i in range(resamples):
        starts = rng.integers(len(series) - block + 1, size=math.ceil(len(series) / block))
        rows = (starts[:, None] + np.arange(block)).reshape(-1)[: len(series)]
        values[i] = float(statistic(series[rows]))
    undefined = int(np.sum(~np.isfinite(values)))
    if undefined:
        raise ValueError(
            f"the statistic is not finite on {undefined} of {resamples} resamples; "
            "use longer blocks, a longer series or another statistic"
        )
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(series)), float(low), float(high))


def _mean_and_error(scores: Float[np.ndarray, "..."], n_train: int | float, n_test: int | float) -> MeanSd:
    """Return the mean and its corrected standard error."""
    if not (0 < n_train < math.inf and 0 < n_test < math.inf):
        raise ValueError(f"a split needs training and test rows, but n_train = {n_train} and n_test = {n_test}")
    _check_finite(scores)
    mean, sd = mean_sd(scores)
    return MeanSd(mean, math.sqrt(1 / len(scores) + n_test / n_train) * sd)


def _check_finite(values: Shaped[np.ndarray, "..."]) -> None:
    """Check that there are two entries along the first axis and that all are finite."""
    if values.ndim == 0 or len(values) < 2:
        raise ValueError(f"at least 2 values are needed to measure a spread, not {values.size}")
    broken = int(np.sum(~np.isfinite(values)))
    if broken:
        raise ValueError(
            f"{broken} of {values.size} values are NaN or infinite; leave out the runs that diverged and report them"
        )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval must be between 0 and 1, such as 0.95, not {level}")
