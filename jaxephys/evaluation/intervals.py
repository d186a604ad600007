"""Intervals and tests for scores that are not independent: resampled splits and time series.

NumPy and SciPy only: these numbers are computed once a report, after the training.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import ArrayLike
from scipy.stats import t as student


class MeanSd(NamedTuple):
    mean: float
    sd: float


class Interval(NamedTuple):
    estimate: float
    low: float
    high: float


class Comparison(NamedTuple):
    difference: float
    low: float
    high: float
    p_value: float
    n: int


def mean_sd(values: ArrayLike) -> MeanSd:
    """Mean and sample standard deviation (divisor n - 1) of one score a seed and fold."""
    scores = _checked_scores(values)
    return MeanSd(float(scores.mean()), _sd(scores))


def corrected_interval(values: ArrayLike, n_train: int | float, n_test: int | float, level: float = 0.95) -> Interval:
    """Interval of Nadeau & Bengio (2003) for the mean of scores, or of differences, over J splits.

    mean +- t(J - 1) error, with error^2 = (1/J + n_test/n_train) sd^2. The splits share training
    rows, their scores are correlated, and sd^2 / J is too small. The second term stands for that
    correlation; as it should, it does not shrink with more splits. The row counts are those of one
    split (a mean, if they vary). Scores without spread give the mean alone, low = high.
    """
    scores = _checked_scores(values)
    _check_level(level)
    mean = float(scores.mean())
    error = _corrected_error(scores, n_train, n_test)
    margin = float(student.ppf((1 + level) / 2, len(scores) - 1)) * error
    return Interval(mean, mean - margin, mean + margin)


def corrected_test(
    a: ArrayLike, b: ArrayLike, n_train: int | float, n_test: int | float, level: float = 0.95
) -> Comparison:
    """Corrected resampled t test of Nadeau & Bengio (2003), two-sided: do a and b score alike?

    a[j] and b[j] stand on the same split j; t = mean(a - b) / error with J - 1 degrees of freedom
    and the error of `corrected_interval`. Without spread t is undefined and its limit is taken:
    p = 1 if a and b are identical, p = 0 if they differ by one and the same amount on every split.
    """
    first, second = _checked_scores(a), _checked_scores(b)
    n = len(first)
    if len(second) != n:
        raise ValueError(f"A paired test needs both scores of each split, but a has {n} and b has {len(second)}.")
    difference = first - second
    mean, low, high = corrected_interval(difference, n_train, n_test, level)
    error = _corrected_error(difference, n_train, n_test)
    t = abs(mean) / error if error > 0 else (math.inf if mean else 0.0)
    return Comparison(mean, low, high, float(2 * student.sf(t, n - 1)), n)


def block_bootstrap(
    statistic: Callable[[Shaped[np.ndarray, "time ..."]], float],
    series: Shaped[np.ndarray, "time ..."],
    block: int,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval for a statistic of a time series, by the moving-block bootstrap.

    A resample (Kunsch 1989) joins blocks of `block` successive rows, each drawn from all that fit,
    up to the length of the series. Rows drawn one by one (block = 1) lose the dependence between
    neighbours, and the interval comes out too narrow. Take a block that is long beside the memory
    of the series; without any other knowledge about n^(1/3) rows. The columns of a row stay
    together, so a statistic may compare them.
    """
    series = np.asarray(series)
    _check_finite(series)
    _check_level(level)
    if not 1 <= block <= len(series):
        raise ValueError(f"A block must fit the {len(series)} rows of the series, not have {block}.")
    if resamples < 2:
        raise ValueError(f"An interval needs many resamples, 2000 say, not {resamples}.")
    rows = _block_rows(len(series), block, resamples, seed)
    draws = np.array([float(statistic(series[draw])) for draw in rows])
    undefined = int(np.sum(~np.isfinite(draws)))
    if undefined:
        raise ValueError(
            f"The statistic is not finite on {undefined} of {resamples} resamples; "
            "take longer blocks, a longer series or another statistic."
        )
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(series)), float(low), float(high))


def _block_rows(length: int, block: int, resamples: int, seed: int) -> Iterator[Int[np.ndarray, "time"]]:
    """Row numbers of one resample after the other; all at once would not fit for a long series."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        starts = rng.integers(length - block + 1, size=math.ceil(length / block))
        yield (starts[:, None] + np.arange(block)).reshape(-1)[:length]


def _sd(scores: Float[np.ndarray, "score"]) -> float:
    """Exactly 0 for equal scores, where the rounding of their mean would leave about 1e-17."""
    return float(scores.std(ddof=1)) if np.ptp(scores) > 0 else 0.0


def _corrected_error(scores: Float[np.ndarray, "score"], n_train: int | float, n_test: int | float) -> float:
    if not (0 < n_train < math.inf and 0 < n_test < math.inf):
        raise ValueError(f"A split needs rows on both sides, but n_train = {n_train} and n_test = {n_test}.")
    return math.sqrt(1 / len(scores) + n_test / n_train) * _sd(scores)


def _checked_scores(values: ArrayLike) -> Float[np.ndarray, "score"]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"Scores must be one row of numbers, not an array of shape {scores.shape}.")
    _check_finite(scores)
    return scores


def _check_finite(values: Shaped[np.ndarray, "..."]) -> None:
    """At least two entries along the first axis, and no nan or inf anywhere."""
    if values.ndim == 0 or len(values) < 2:
        raise ValueError(f"At least 2 values are needed to measure a spread, not {values.size}.")
    broken = int(np.sum(~np.isfinite(values)))
    if broken:
        raise ValueError(
            f"{broken} of {values.size} values are nan or infinite; "
            "leave out the runs that diverged, and say so, before comparing."
        )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"The level of an interval lies between 0 and 1 (0.95), not {level}.")
