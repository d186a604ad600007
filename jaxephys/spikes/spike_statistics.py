"""Statistics of spike trains, and how much they differ between two rasters.

A raster is an array of shape (bins, units) of zeros and ones. Start with :func:`compute_statistics` and
:func:`compare_statistics`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real, UInt
from scipy.stats import wasserstein_distance

COUNT_WINDOW_MS = 50.0  # correlations are of spike counts in windows of this length: bins of 1 ms hold too few spikes
N_LAGS = 100  # largest lag of the autocorrelation, in bins
MIN_INTERVALS = 10  # units with fewer intervals have no CV2, units with fewer spikes no autocorrelation
RATE_OFFSET_HZ = 0.05  # added to rates before their logarithms are compared, so that silent units have one


class SpikeStatistics(NamedTuple):
    """Statistics of a raster; nan where a unit has too few spikes.

    Parameters
    ----------
    rate : float array of shape (units,)
        Firing rate in Hz.
    intervals : list of int array
        Inter-spike intervals of each unit, in bins.
    cv2 : float array of shape (units,)
        Local coefficient of variation of the intervals: 1 for a Poisson process, 0 for equal intervals.
    autocorrelation : float array of shape (lags, units)
        Probability of a spike 1, 2, ... bins after a spike, relative to that at any time, minus 1: 0 for a Poisson process.
    correlation : float array of shape (units, units)
        Pearson correlation of spike counts in windows of 50 ms.
    coupling : float array of shape (units,)
        Pearson correlation of a unit's counts with the sum of the other units' counts, in the same windows.
    """

    rate: Float[np.ndarray, "unit"]
    intervals: list[Int[np.ndarray, "interval"]]
    cv2: Float[np.ndarray, "unit"]
    autocorrelation: Float[np.ndarray, "lag unit"]
    correlation: Float[np.ndarray, "unit unit"]
    coupling: Float[np.ndarray, "unit"]


def compute_statistics(raster: Real[np.ndarray, "time unit"], bin_ms: float) -> SpikeStatistics:
    """Compute all statistics of a raster.

    Parameters
    ----------
    raster : array of shape (bins, units)
        Zeros and ones.
    bin_ms : float
        Width of a bin in milliseconds.

    Returns
    -------
    SpikeStatistics
        The statistics.

    Examples
    --------
    >>> import numpy as np
    >>> raster = (np.random.default_rng(0).random((5000, 2)) < [0.02, 0.1]).astype(np.uint8)
    >>> compute_statistics(raster, bin_ms=1.0).rate.round().tolist()
    [19.0, 99.0]
    """
    window = max(1, round(COUNT_WINDOW_MS / bin_ms))
    return SpikeStatistics(
        firing_rates(raster, bin_ms),
        spike_intervals(raster),
        cv2(raster),
        autocorrelation(raster, N_LAGS),
        pairwise_correlation(raster, window),
        population_coupling(raster, window),
    )


def compare_statistics(a: SpikeStatistics, b: SpikeStatistics) -> dict[str, float]:
    """Compute distances between the statistics of two rasters of the same units; all are 0 for the same raster.

    Parameters
    ----------
    a, b : SpikeStatistics
        Statistics of the two rasters.

    Returns
    -------
    dict of str to float
        ``rate``: root mean square difference of log2(rate + 0.05 Hz), in octaves. ``intervals``: Wasserstein distance of the
        log2 intervals, in octaves, mean over units. ``cv2``, ``autocorrelation``, ``pairwise_correlation`` and
        ``population_coupling``: root mean square difference over units (and lags or pairs), without values that are nan in
        one of the rasters. ``units_left_out``: share of units with fewer than 10 intervals in one of the rasters, which
        ``intervals`` and ``cv2`` leave out.

    Raises
    ------
    ValueError
        If the rasters have different numbers of units.
    """
    if len(a.rate) != len(b.rate):
        raise ValueError(f"Rasters are compared unit by unit, but one has {len(a.rate)} and the other {len(b.rate)}.")
    pairs = np.triu_indices(len(a.rate), 1)
    enough = [min(len(x), len(y)) >= MIN_INTERVALS for x, y in zip(a.intervals, b.intervals, strict=True)]
    interval_distances = [
        wasserstein_distance(np.log2(x), np.log2(y))
        for x, y, used in zip(a.intervals, b.intervals, enough, strict=True)
        if used
    ]
    return {
        "rate": _rms_difference(np.log2(a.rate + RATE_OFFSET_HZ), np.log2(b.rate + RATE_OFFSET_HZ)),
        "intervals": float(np.mean(interval_distances)) if interval_distances else float("nan"),
        "cv2": _rms_difference(a.cv2, b.cv2),
        "autocorrelation": _rms_difference(a.autocorrelation, b.autocorrelation),
        "pairwise_correlation": _rms_difference(a.correlation[pairs], b.correlation[pairs]),
        "population_coupling": _rms_difference(a.coupling, b.coupling),
        "units_left_out": 1 - float(np.mean(enough)),
    }


def rate_matched_poisson(
    raster: Real[np.ndarray, "time unit"], seed: int, n_bins: int | None = None
) -> UInt[np.ndarray, "_ unit"]:
    """Draw a raster whose units fire independently with given mean rates, a baseline for generated spike trains.

    Parameters
    ----------
    raster : array of shape (bins, units)
        Zeros and ones; the mean rate of each unit is taken from it.
    seed : int
        Seed of the draws.
    n_bins : int, optional
        Number of bins to draw; by default as many as the raster has.

    Returns
    -------
    uint8 array of shape (n_bins, units)
        Zeros and ones.
    """
    draws = np.random.default_rng(seed).random((n_bins or len(raster), raster.shape[1]), np.float32)
    return (draws < raster.mean(axis=0, dtype=np.float64)).astype(np.uint8)


def firing_rates(raster: Real[np.ndarray, "time unit"], bin_ms: float) -> Float[np.ndarray, "unit"]:
    """Compute the mean firing rate of each unit.

    Parameters
    ----------
    raster : array of shape (bins, units)
        Zeros and ones.
    bin_ms : float
        Width of a bin in milliseconds.

    Returns
    -------
    float array of shape (units,)
        Rates in Hz.
    """
    return raster.mean(axis=0, dtype=np.float64) * 1000 / bin_ms


def spike_intervals(raster: Real[np.ndarray, "time unit"]) -> list[Int[np.ndarray, "interval"]]:
    """Compute the inter-spike intervals of each unit.

    Parameters
    ----------
    raster : array of shape (bins, units)
        Zeros and ones.

    Returns
    -------
    list of int array
        For each unit, the numbers of bins between successive spikes.
    """
    return [np.diff(np.flatnonzero(spikes)) for spikes in raster.T]


def cv2(raster: Real[np.ndarray, "time unit"]) -> Float[np.ndarray, "unit"]:
    """Compute the local coefficient of variation CV2 of the intervals of each unit (Holt 1996).

    Parameters
    ----------
    raster : array of shape (bins, units)
        Zeros and ones.

    Returns
    -------
    float array of shape (units,)
        Mean over successive intervals a, b of ``2 |b - a| / (a + b)``: 1 for a Poisson process, 0 for equal intervals, above 1
        for bursts; nan with fewer than 10 intervals. Only successive intervals are compared, so that a slow change of the rate
        hardly affects it.
    """
    values = []
    for intervals in spike_intervals(raster):
        if len(intervals) < MIN_INTERVALS:
            values.append(np.nan)
        else:
            values.append(np.mean(2 * np.abs(np.diff(intervals)) / (intervals[1:] + intervals[:-1])))
    return np.array(values)


def autocorrelation(raster: Real[np.ndarray, "time unit"], n_lags: int) -> Float[np.ndarray, "lag unit"]:
    """Compute the autocorrelation of each unit.

    Parameters
    ----------
    raster : array of shape (bins, units)
        Zeros and ones.
    n_lags : int
        Number of lags in bins, fewer than the bins of the raster.

    Returns
    -------
    float array of shape (n_lags, units)
        Row k: number of pairs of spikes k + 1 bins apart, divided by the number expected from the mean rate, minus 1; nan for
        units with fewer than 10 spikes.

    Raises
    ------
    ValueError
        If the raster has no more than ``n_lags`` bins.
    """
    if n_lags >= len(raster):
        raise ValueError(f"{n_lags} lags need a longer raster than {len(raster)} bins.")
    fired = raster != 0
    n_spikes = fired.sum(axis=0)
    excess = np.empty((n_lags, fired.shape[1]))
    for lag in range(1, n_lags + 1):
        pairs = np.sum(fired[lag:] & fired[:-lag], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            excess[lag - 1] = pairs / (len(fired) - lag) / (n_spikes / len(fired)) ** 2 - 1
    excess[:, n_spikes < MIN_INTERVALS] = np.nan
    return excess


def pairwise_correlation(raster: Real[np.ndarray, "time unit"], window: int) -> Float[np.ndarray, "unit unit"]:
    """Compute the Pearson correlation of spike counts between all pairs of units.

    Parameters
    ----------
    raster : array of shape (bins, units)
        Zeros and ones.
    window : int
        Length of the windows in which spikes are counted, in bins.

    Returns
    -------
    float array of shape (units, units)
        Correlations; nan for a unit with the same count in all windows.
    """
    return _correlate(_counts(raster, window), _counts(raster, window))


def population_coupling(raster: Real[np.ndarray, "time unit"], window: int) -> Float[np.ndarray, "unit"]:
    """Compute the correlation of each unit's counts with the sum over the other units (Okun 2015).

    Parameters
    ----------
    raster : array of shape (bins, units)
        Zeros and ones.
    window : int
        Length of the windows in which spikes are counted, in bins.

    Returns
    -------
    float array of shape (units,)
        Correlations; nan for a unit with the same count in all windows.
    """
    counts = _counts(raster, window)
    return np.array(
        [_correlate(counts[:, [u]], np.delete(counts, u, 1).sum(1)[:, None])[0, 0] for u in range(counts.shape[1])]
    )


def _counts(raster: Real[np.ndarray, "time unit"], window: int) -> Float[np.ndarray, "window unit"]:
    n_windows = len(raster) // window
    if n_windows < 2:
        raise ValueError(f"A correlation needs 2 or more windows of {window} bins, but there are {len(raster)} bins.")
    return raster[: n_windows * window].reshape(n_windows, window, -1).sum(axis=1, dtype=np.float64)


def _correlate(
    a: Float[np.ndarray, "window some"], b: Float[np.ndarray, "window others"]
) -> Float[np.ndarray, "some others"]:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (a.T @ b) / np.sqrt((a**2).sum(axis=0)[:, None] * (b**2).sum(axis=0))


def _rms_difference(a: Float[np.ndarray, "..."], b: Float[np.ndarray, "..."]) -> float:
    """Return the root mean square difference of the entries that are finite in both arrays; nan if there are none."""
    both = np.isfinite(a) & np.isfinite(b)
    return float(np.sqrt(np.mean((a[both] - b[both]) ** 2))) if both.any() else float("nan")
