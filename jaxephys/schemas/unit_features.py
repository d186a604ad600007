"""Features of sorted units: spike times and a template -> interval histogram, autocorrelogram and waveform.

:func:`make_unit_table` makes the table of many units; the three functions of one feature each work on arrays. Bins are
those of the published tables: intervals of 0 to 100 ms and lags of -100 to 100 ms, both in steps of 1 ms, as counts; a
waveform of 2.5 ms at 20 kHz with its trough at one third.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_table import UnitTable

BIN_WIDTH = 1e-3  # s
N_INTERVAL_BINS = 100  # bin k counts intervals of [k, k + 1) ms
N_LAGS = 100  # bins on either side of lag 0; bin k of 201 counts lags within half a bin of k - 100 ms
N_SAMPLES = 50  # of a waveform
SAMPLING_RATE = 20_000.0  # Hz, of a waveform
MAX_VOLTAGE = 1e30  # in any unit; a spline of larger values, which only damaged files hold, overflows
TROUGH_SAMPLE = 17  # of a waveform: one third of it
# Times are samples of a recorder: 15 of them at 30 kHz are exactly the edge of a bin, and rounding must not decide.
EDGE_TOLERANCE = 1e-6  # of a bin
MAX_PLAUSIBLE_INTERVAL = 50.0  # s, median of a unit with many spikes: more means that times are no seconds


@dataclass(frozen=True)
class SortedUnit:
    """One unit of a spike sorter.

    Parameters
    ----------
    unit : str
        Identifier.
    times : ndarray of shape (n_spikes,), optional
        Spike times in seconds, in any order; ``None`` if they are not known.
    template : ndarray of shape (n_samples,) or (n_channels, n_samples), optional
        Mean waveform in any unit of voltage; ``None`` if it is not known.
    rate : float, optional
        Sampling rate of the template in Hz.
    about : mapping of str to str, optional
        Texts of the unit, such as ``{"label": "PV"}``.
    """

    unit: str
    times: np.ndarray | None = None
    template: np.ndarray | None = None
    rate: float | None = None
    about: Mapping[str, str] = field(default_factory=dict)


def make_unit_table(units: Iterable[SortedUnit], provenance: Mapping[str, Any]) -> UnitTable:
    """Compute the features of sorted units.

    Parameters
    ----------
    units : iterable of SortedUnit
        The units; they are consumed one after the other.
    provenance : mapping
        Where the units come from; the provenance of the table.

    Returns
    -------
    UnitTable
        One row per unit. A unit without a template has no waveform; one with fewer than two spikes has neither
        intervals nor an autocorrelogram.

    Raises
    ------
    DataError
        If there is no unit, if a template has no sampling rate or too few samples, or if spike times are not finite or
        no seconds.

    Examples
    --------
    >>> import numpy as np
    >>> units = [SortedUnit("a", np.array([0.0, 0.0105, 0.5])), SortedUnit("b", template=-np.eye(30)[10], rate=20_000.0)]
    >>> table = make_unit_table(units, {"source": "example"})
    >>> table
    UnitTable(2 units: wave 1, isi 1, acg 1; 0 labelled)
    >>> np.flatnonzero(table.raw["isi"][0]).tolist()
    [10]
    """
    names, texts = [], []
    curves: dict[str, list[np.ndarray | None]] = {"wave": [], "isi": [], "acg": []}
    for one in units:
        names.append(one.unit)
        texts.append(one.about)
        if one.template is not None and one.rate is None:
            raise DataError(f"unit {one.unit} has a template without a sampling rate: give it in Hz (--rate)")
        times = None if one.times is None else _sorted_times(one.times, one.unit)
        if times is not None and times.size < 2:
            times = None  # no interval, and a histogram of zeros would claim that it was measured
        shape = None if one.template is None else waveform(one.template, one.rate or 0.0, unit=one.unit)
        curves["wave"].append(shape)
        curves["isi"].append(None if times is None else interval_histogram(times))
        curves["acg"].append(None if times is None else autocorrelogram(times))
    columns = list(dict.fromkeys(name for text in texts for name in text))
    return UnitTable(
        {name: _stack(rows) for name, rows in curves.items()},
        np.array(names, str),
        {name: np.array([text.get(name, "") for text in texts], str) for name in columns},
        provenance=provenance,
    )


def interval_histogram(times: np.ndarray) -> np.ndarray:
    """Count the intervals between successive spikes.

    Parameters
    ----------
    times : ndarray of shape (n_spikes,)
        Spike times in seconds, ascending.

    Returns
    -------
    ndarray of float32 of shape (100,)
        Number of intervals in each bin of 1 ms from 0 ms; intervals of 100 ms and more are not counted.

    Examples
    --------
    >>> import numpy as np
    >>> np.flatnonzero(interval_histogram(np.array([0.0, 0.0042, 0.5]))).tolist()
    [4]
    """
    intervals = np.minimum(np.diff(times) / BIN_WIDTH, N_INTERVAL_BINS + 1)  # longer ones would not fit into an integer
    bins = np.floor(intervals + EDGE_TOLERANCE).astype(np.int64)
    return np.bincount(bins[bins < N_INTERVAL_BINS], minlength=N_INTERVAL_BINS).astype(np.float32)


def autocorrelogram(times: np.ndarray) -> np.ndarray:
    """Count the lags between all pairs of different spikes.

    Parameters
    ----------
    times : ndarray of shape (n_spikes,)
        Spike times in seconds, ascending.

    Returns
    -------
    ndarray of float32 of shape (201,)
        Number of pairs in each bin of 1 ms, centered at lags of -100 to 100 ms; symmetric.

    Examples
    --------
    >>> import numpy as np
    >>> np.flatnonzero(autocorrelogram(np.array([0.0, 0.004, 0.5]))).tolist()
    [96, 104]
    """
    later = np.zeros(N_LAGS + 2, np.int64)
    for lags in _close_pairs(times, (N_LAGS + 0.5) * BIN_WIDTH):
        later += np.bincount(np.floor(lags / BIN_WIDTH + 0.5 + EDGE_TOLERANCE).astype(np.int64), minlength=N_LAGS + 2)
    later = later[: N_LAGS + 1]
    later[0] *= 2  # a pair closer than half a bin is in the middle bin from either side
    return np.concatenate([later[:0:-1], later]).astype(np.float32)


def waveform(template: np.ndarray, rate: float, *, unit: str = "") -> np.ndarray:
    """Resample the largest channel of a template to 50 samples at 20 kHz, aligned to its trough.

    Parameters
    ----------
    template : array-like of shape (n_samples,) or (n_channels, n_samples)
        Mean waveform in any unit of voltage, at least 8 samples. The channel with the largest range is taken.
    rate : float
        Sampling rate of the template in Hz.
    unit : str, optional
        Identifier for error messages.

    Returns
    -------
    ndarray of float32 of shape (50,)
        The waveform in the unit of the template, its minimum at sample 17.

    Raises
    ------
    DataError
        If the template is too short or not finite, or the rate is not positive.

    Notes
    -----
    A cubic spline gives the values between samples. If the template is sampled faster than 20 kHz, each value is the
    mean of the spline over one sample of the result, which attenuates what 20 kHz cannot represent instead of aliasing
    it. Before the first and after the last sample of the template its outermost value is repeated.

    Examples
    --------
    >>> import numpy as np
    >>> shape = waveform(-np.eye(2, 60)[::-1], 20_000.0)
    >>> shape.shape, int(shape.argmin())
    ((50,), 17)
    """
    from scipy.interpolate import CubicSpline  # late, so that the schemas themselves import NumPy only

    template = np.atleast_2d(np.asarray(template, float))
    if template.ndim != 2 or template.shape[1] < 8 or not (np.abs(template) < MAX_VOLTAGE).all():  # NaN is not below
        raise DataError(
            f"unit {unit}: the template of shape {template.shape} is not [channel, sample], finite, of 8 samples or more"
        )
    if not rate > 0:
        raise DataError(f"unit {unit}: a sampling rate of {rate} Hz: give the rate of the templates in Hz")
    best = template[np.argmax(np.ptp(template, axis=1))]
    last = (len(best) - 1) / rate
    spline = CubicSpline(np.arange(len(best)) / rate, best)
    time = np.argmin(best) / rate + (np.arange(N_SAMPLES) - TROUGH_SAMPLE) / SAMPLING_RATE
    if rate <= SAMPLING_RATE:
        return spline(np.clip(time, 0.0, last)).astype(np.float32)
    start, end = (np.clip(time + side / SAMPLING_RATE, 0.0, last) for side in (-0.5, 0.5))
    integral, width = spline.antiderivative(), end - start
    mean = (integral(end) - integral(start)) / np.where(width > 0, width, 1.0)
    return np.where(width > 0, mean, spline(start)).astype(np.float32)


def _sorted_times(times: np.ndarray, unit: str) -> np.ndarray:
    times = np.sort(np.asarray(times, float).ravel())
    if not np.isfinite(times).all():
        raise DataError(f"unit {unit}: {np.count_nonzero(~np.isfinite(times))} spike times are not finite: remove them")
    # A thousand spikes, one a minute: more likely samples or milliseconds than a recording of a day.
    if times.size > 1000 and np.median(np.diff(times)) > MAX_PLAUSIBLE_INTERVAL:
        raise DataError(f"unit {unit}: a median interval of {np.median(np.diff(times)):g} s: give times in seconds")
    return times


def _close_pairs(times: np.ndarray, window: float) -> Iterator[np.ndarray]:
    """Yield the lags below ``window`` (s) between a spike and the k-th one after it, for k = 1, 2, ...

    A spike whose k-th successor is too far has none nearer beyond it and drops out, so the work is the number of spikes
    plus the number of close pairs, never the square of the number of spikes.
    """
    first, k = np.arange(len(times)), 1
    while first.size:
        first = first[: np.searchsorted(first, len(times) - k)]
        lags = times[first + k] - times[first]
        near = lags < window
        first, k = first[near], k + 1
        if first.size:
            yield lags[near]


def _stack(rows: list[np.ndarray | None]) -> np.ndarray:
    """Stack rows of one length, NaN for those that are None; no columns if all are."""
    width = next((len(row) for row in rows if row is not None), 0)
    missing = np.full(width, np.nan, np.float32)
    return np.array([missing if row is None else row for row in rows], np.float32).reshape(len(rows), width)
