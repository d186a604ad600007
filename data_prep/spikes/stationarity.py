"""Test of a series for stationarity, by the augmented Dickey-Fuller test of statsmodels (from the extra ``prep``)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxephys.schemas.storage import DataError


class DickeyFullerTest(NamedTuple):
    """Result of the augmented Dickey-Fuller test of one series.

    Parameters
    ----------
    statistic : float
        Coefficient of the previous value over its standard error; strongly negative values reject the unit root.
    p : float
        Probability of a smaller statistic under a unit root.
    lags : int
        Number of lagged differences in the regression.
    n : int
        Number of values that the regression is fitted to.
    critical : float
        Critical value of the statistic at the 5 % level for ``n`` values.
    """

    statistic: float
    p: float
    lags: int
    n: int
    critical: float


def dickey_fuller(series: np.ndarray, lags: int | None = None) -> DickeyFullerTest:
    """Test the null hypothesis that a series has a unit root, that is, wanders like a random walk.

    Parameters
    ----------
    series : array-like of shape (n_values,)
        Values at equal intervals of time.
    lags : int, optional
        Number of lagged differences. By default that of Schwert, 12 (n_values / 100)^(1/4) rounded down, which depends
        on the length of the series only.

    Returns
    -------
    DickeyFullerTest
        Statistic, p value and critical value. A small p value means that the series is stationary.

    Raises
    ------
    DataError
        If the series is constant or too short for the number of lags.

    Notes
    -----
    ``statsmodels.tsa.stattools.adfuller`` fits, by least squares, a constant and no trend::

        y[t] - y[t-1] = a + g y[t-1] + sum_{i=1..lags} d_i (y[t-i] - y[t-i-1]) + e[t]

    and takes MacKinnon's approximations for the distribution of g over its standard error. Version 0.1.0 of this
    package had its own implementation. On 1,440 series of 30 to 7,000 values (random walks, white noise, moving
    averages and counts, some with a large offset) the two agree in the statistic to a relative difference of 2e-11 and
    in p to 6e-12; critical values are equal.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=500)
    >>> dickey_fuller(noise).p < 0.05, dickey_fuller(noise.cumsum()).p < 0.05
    (True, False)
    """
    from statsmodels.tsa.stattools import adfuller

    series = np.asarray(series, float)
    lags = int(12 * (len(series) / 100) ** 0.25) if lags is None else lags
    if len(series) - 1 - lags < 2 * (lags + 2):
        raise DataError(
            f"{len(series)} values are too few for a test of a unit root with {lags} lags: give a longer series"
        )
    if not np.ptp(series) > 0:
        raise DataError("a constant series cannot be tested for a unit root: give one that varies")
    fixed_lags: Any = None  # the annotation of autolag lacks None
    found: Any = adfuller(series, maxlag=lags, regression="c", autolag=fixed_lags, result_object=True)
    critical = float(found.critical_values["5%"])
    return DickeyFullerTest(float(found.statistic), float(found.pvalue), int(found.lags), int(found.nobs), critical)
