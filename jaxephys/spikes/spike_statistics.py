"""Statistics of spike trains, and how far two rasters lie apart in each.

A raster is [time, unit] of 0 and 1, with bins of `bin_ms`. NumPy only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real, UInt
from scipy.stats import wasserstein_distance

WINDOW_MS = 50.0  # of the counts that are correlated: bins of 1 ms hold too few spikes
LAGS = 100  # bins of the autocorrelation
FEWEST = 10  # spikes, below which the shape of a train is not measured
RARE = 0.05  # Hz that is added before logarithms of rates are compared


class TrainStatistics(NamedTuple):
    rate: Float[np.ndarray, "unit"]  # Hz
    intervals: list[Int[np.ndarray, "interval"]]  # bins between the spikes of each unit
    cv2: Float[np.ndarray, "unit"]  # nan for units with few spikes, as in the rows below
    autocorrelation: Float[np.ndarray, "lag unit"]
    correlation: Float[np.ndarray, "unit unit"]
    coupling: Float[np.ndarray, "unit"]


def describe(raster: Real[np.ndarray, "time unit"], bin_ms: float) -> TrainStatistics:
    window = max(1, round(WINDOW_MS / bin_ms))
    return TrainStatistics(
        rates(raster, bin_ms),
        intervals(raster),
        cv2(raster),
        autocorrelation(raster, LAGS),
        pairwise_correlation(raster, window),
        population_coupling(raster, window),
    )


def rates(raster: Real[np.ndarray, "time unit"], bin_ms: float) -> Float[np.ndarray, "unit"]:
    return raster.mean(axis=0, dtype=np.float64) * 1000 / bin_ms


def intervals(raster: Real[np.ndarray, "time unit"]) -> list[Int[np.ndarray, "interval"]]:
    return [np.diff(np.flatnonzero(train)) for train in raster.T]


def cv2(raster: Real[np.ndarray, "time unit"]) -> Float[np.ndarray, "unit"]:
    """Mean over successive intervals of 2 |b - a| / (a + b): 1 for Poisson, 0 for a clock, above 1 for bursts.

    It compares neighbours only, so that a slow drift of the rate does not pass for irregularity (Holt 1996).
    """
    of_units = []
    for gaps in intervals(raster):
        if len(gaps) < FEWEST:
            of_units.append(np.nan)
        else:
            of_units.append(np.mean(2 * np.abs(np.diff(gaps)) / (gaps[1:] + gaps[:-1])))
    return np.array(of_units)


def autocorrelation(raster: Real[np.ndarray, "time unit"], lags: int) -> Float[np.ndarray, "lag unit"]:
    """Spikes found 1 .. lags bins after a spike, as a share of those expected from the rate, less 1: 0 for Poisson."""
    if lags >= len(raster):
        raise ValueError(f"{lags} lags need a longer raster than {len(raster)} bins.")
    fired = raster != 0
    spikes = fired.sum(axis=0)
    found = np.empty((lags, fired.shape[1]))
    for lag in range(1, lags + 1):
        pairs = np.sum(fired[lag:] & fired[:-lag], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found[lag - 1] = pairs / (len(fired) - lag) / (spikes / len(fired)) ** 2 - 1
    found[:, spikes < FEWEST] = np.nan
    return found


def pairwise_correlation(raster: Real[np.ndarray, "time unit"], window: int) -> Float[np.ndarray, "unit unit"]:
    """Pearson correlation of the counts in windows of so many bins; nan with a unit that never changes."""
    return _correlate(_counts(raster, window), _counts(raster, window))


def population_coupling(raster: Real[np.ndarray, "time unit"], window: int) -> Float[np.ndarray, "unit"]:
    """Correlation of a unit's counts with the sum over the others (Okun 2015): chorister or soloist."""
    counts = _counts(raster, window)
    return np.array(
        [_correlate(counts[:, [u]], np.delete(counts, u, 1).sum(1)[:, None])[0, 0] for u in range(counts.shape[1])]
    )


def rate_matched_poisson(
    raster: Real[np.ndarray, "time unit"], seed: int, bins: int | None = None
) -> UInt[np.ndarray, "_ unit"]:
    """A raster whose units fire with the same mean rates and nothing else: the least a generator must beat.

    As long as the other unless told.
    """
    draws = np.random.default_rng(seed).random((bins or len(raster), raster.shape[1]), np.float32)
    return (draws < raster.mean(axis=0, dtype=np.float64)).astype(np.uint8)


def compare(a: TrainStatistics, b: TrainStatistics) -> dict[str, float]:
    """How far two rasters of the same units lie apart; 0 in all for the same raster.

    Rates: root mean square difference of log2(rate + 0.05 Hz), in octaves. Intervals: Wasserstein distance of their
    log2, mean over units. The rest: root mean square difference over units (and lags, pairs). Units that one of the two
    cannot measure are left out; the share of them is told.
    """
    if len(a.rate) != len(b.rate):
        raise ValueError(f"rasters are compared unit by unit, but one has {len(a.rate)} and the other {len(b.rate)}.")
    pairs = np.triu_indices(len(a.rate), 1)
    enough = [min(len(x), len(y)) >= FEWEST for x, y in zip(a.intervals, b.intervals, strict=True)]
    shifts = [
        wasserstein_distance(np.log2(x), np.log2(y))
        for x, y, used in zip(a.intervals, b.intervals, enough, strict=True)
        if used
    ]
    return {
        "rate": _distance(np.log2(a.rate + RARE), np.log2(b.rate + RARE)),
        "intervals": float(np.mean(shifts)) if shifts else float("nan"),
        "cv2": _distance(a.cv2, b.cv2),
        "autocorrelation": _distance(a.autocorrelation, b.autocorrelation),
        "pairwise_correlation": _distance(a.correlation[pairs], b.correlation[pairs]),
        "population_coupling": _distance(a.coupling, b.coupling),
        "units_left_out": 1 - float(np.mean(enough)),
    }


def _counts(raster: Real[np.ndarray, "time unit"], window: int) -> Float[np.ndarray, "window unit"]:
    whole = len(raster) // window
    if whole < 2:
        raise ValueError(f"a correlation needs 2 or more windows of {window} bins, but there are {len(raster)} bins.")
    return raster[: whole * window].reshape(whole, window, -1).sum(axis=1, dtype=np.float64)


def _correlate(
    a: Float[np.ndarray, "window some"], b: Float[np.ndarray, "window others"]
) -> Float[np.ndarray, "some others"]:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (a.T @ b) / np.sqrt((a**2).sum(axis=0)[:, None] * (b**2).sum(axis=0))


def _distance(a: Float[np.ndarray, "..."], b: Float[np.ndarray, "..."]) -> float:
    """Root mean square difference where both are numbers; nan if nowhere."""
    both = np.isfinite(a) & np.isfinite(b)
    return float(np.sqrt(np.mean((a[both] - b[both]) ** 2))) if both.any() else float("nan")
