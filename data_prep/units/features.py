"""Features: spike times (seconds) and a template -> interspike intervals, autocorrelogram, waveform; raw, in linear time.

Bins are those of the published tables: intervals of 0 to 100 ms and lags of -100 to 100 ms, both in steps of 1 ms, as counts;
a waveform of 2.5 ms at 20 kHz with its trough at one third.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import CubicSpline

from data_prep.units.table import Units, UnitsError, no_rows

BIN = 1e-3  # s
INTERVALS = 100  # bins of interspike intervals, [k, k + 1) ms
LAGS = 100  # bins on either side of lag 0, centred: bin k of 201 counts lags within half a bin of k - 100 ms
SAMPLES, RATE, TROUGH = (
    50,
    20_000.0,
    17,
)  # of a waveform: how many, in Hz, and where the trough comes to lie (one third)
# Times are samples of a recorder: 15 of them at 30 kHz are the edge of a bin exactly, and rounding must not decide.
SLACK = 1e-6  # of a bin


@dataclass(frozen=True)
class SortedUnit:
    """One unit of a spike sorter."""

    unit: str
    times: np.ndarray | None = None  # s [spike], ascending or not; None: not known
    template: np.ndarray | None = None  # mean waveform, [sample] or [channel, sample]; None: not known
    rate: float | None = None  # Hz, of the template
    about: Mapping[str, str] = field(default_factory=dict)


def checked_times(times: np.ndarray, unit: str = "") -> np.ndarray:
    """Spike times in seconds, in order."""
    times = np.sort(np.asarray(times, float).ravel())
    if not np.isfinite(times).all():
        raise UnitsError(f"unit {unit}: {np.count_nonzero(~np.isfinite(times))} spike times are not finite")
    # A thousand spikes, one a minute: more likely samples or milliseconds than a recording of a day.
    if times.size > 1000 and np.median(np.diff(times)) > 50:
        raise UnitsError(f"unit {unit}: a median interval of {np.median(np.diff(times)):g} s: give times in seconds")
    return times


def interval_histogram(times: np.ndarray) -> np.ndarray:
    """Counts [INTERVALS] of the intervals between successive spikes; longer ones are not counted. ``times`` in s, ascending."""
    bins = np.floor(np.diff(times) / BIN + SLACK).astype(np.int64)
    return np.bincount(bins[bins < INTERVALS], minlength=INTERVALS).astype(np.float32)


def close_pairs(times: np.ndarray, window: float) -> Iterator[np.ndarray]:
    """The lags below ``window`` (s) between a spike and the k-th one after it, for k = 1, 2, ...

    A spike whose k-th successor is too far has none nearer beyond it and drops out, so that the work is the number of spikes
    plus the number of close pairs, never their square.
    """
    first, k = np.arange(len(times)), 1
    while first.size:
        first = first[: np.searchsorted(first, len(times) - k)]
        lags = times[first + k] - times[first]
        near = lags < window
        first, k = first[near], k + 1
        if first.size:
            yield lags[near]


def autocorrelogram(times: np.ndarray) -> np.ndarray:
    """Counts [2 LAGS + 1] of the lags between all pairs of different spikes, symmetric. ``times`` in s, ascending."""
    later = np.zeros(LAGS + 2, np.int64)
    for lags in close_pairs(times, (LAGS + 0.5) * BIN):
        later += np.bincount(np.floor(lags / BIN + 0.5 + SLACK).astype(np.int64), minlength=LAGS + 2)
    later = later[: LAGS + 1]
    later[0] *= 2  # a pair closer than half a bin is in the middle bin from either side
    return np.concatenate([later[:0:-1], later]).astype(np.float32)


def waveform(template: np.ndarray, rate: float, *, unit: str = "") -> np.ndarray:
    """The best channel of a template, its trough at sample TROUGH, at RATE: [SAMPLES], in the template's own unit.

    Best is the channel with the largest range. A cubic spline gives the values between samples; where the template is finer than
    RATE, each value is the spline's mean over one sample of ours, which keeps what is too fast for RATE from folding back. Before
    the template begins and after it ends its outermost value stands.
    """
    template = np.atleast_2d(np.asarray(template, float))
    if template.ndim != 2 or template.shape[1] < 8 or not np.isfinite(template).all():
        raise UnitsError(
            f"unit {unit}: the template of shape {template.shape} is not [channel, sample], finite and 8 long"
        )
    if not rate > 0:
        raise UnitsError(f"unit {unit}: a sampling rate of {rate} Hz: give the rate of the templates in Hz")
    best = template[np.argmax(np.ptp(template, axis=1))]
    last = (len(best) - 1) / rate
    spline = CubicSpline(np.arange(len(best)) / rate, best)
    wanted = np.argmin(best) / rate + (np.arange(SAMPLES) - TROUGH) / RATE
    if rate <= RATE:
        return spline(np.clip(wanted, 0.0, last)).astype(np.float32)
    start, end = (np.clip(wanted + side / RATE, 0.0, last) for side in (-0.5, 0.5))
    total, width = spline.antiderivative(), end - start
    mean = (total(end) - total(start)) / np.where(width > 0, width, 1.0)
    return np.where(width > 0, mean, spline(start)).astype(np.float32)


def units_of(found: Iterable[SortedUnit], provenance: Mapping[str, object]) -> Units:
    """The table of these units; what a unit lacks (spikes, a template) is a row of NaN."""
    names, abouts = [], []
    rows: dict[str, list[np.ndarray | None]] = {"waveform": [], "isi": [], "acg": []}
    for one in found:
        names.append(one.unit)
        abouts.append(one.about)
        if one.template is not None and one.rate is None:
            raise UnitsError(f"unit {one.unit} has a template of no known sampling rate: give it in Hz (--rate)")
        shape = None if one.template is None else waveform(one.template, one.rate or 0.0, unit=one.unit)
        times = None if one.times is None else checked_times(one.times, one.unit)
        if times is not None and times.size < 2:
            times = None  # no interval, and a histogram of zeros would claim that it was measured
        rows["waveform"].append(shape)
        rows["isi"].append(None if times is None else interval_histogram(times))
        rows["acg"].append(None if times is None else autocorrelogram(times))
    columns = list(dict.fromkeys(name for about in abouts for name in about))
    about = {name: [one.get(name, "") for one in abouts] for name in columns}
    shapes, intervals, lags = (stacked(made) for made in rows.values())
    return Units(names, shapes, intervals, lags, about, provenance=provenance)


def stacked(rows: list[np.ndarray | None]) -> np.ndarray:
    """Rows of one length, NaN for those that are None; no columns if all are."""
    width = next((len(row) for row in rows if row is not None), None)
    if width is None:
        return no_rows(len(rows))
    return np.stack([np.full(width, np.nan, np.float32) if row is None else row for row in rows])
