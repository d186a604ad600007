"""SpikeTimes: the spike times of the units of one recording, as every reader returns them.

Readers call :func:`make_spike_times`, which converts clock ticks to milliseconds and checks the times once. Most errors
in such files are errors of the unit of time, so rates and durations that no neuron or experiment has are reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from jaxephys.schemas.spike_bins import MAX_SECONDS
from jaxephys.schemas.storage import DataError

MS_PER_SECOND = 1000.0
MAX_RATE = 1000.0  # Hz: no neuron fires so fast on average, so the tick is wrong
# A recording longer than this (hours), in which the median unit fires less than this (Hz), probably has shorter ticks.
LONG_DURATION, LOW_RATE = 3.0, 0.1
TICK_OPTIONS = "--tick-ms 1 for milliseconds, --tick-hz 30000 for samples at 30 kHz"


@dataclass(frozen=True)
class SpikeTimes:
    """Spike times of the units of one recording.

    Parameters
    ----------
    unit : sequence of str of length n_units
        Identifiers.
    times : sequence of ndarray of shape (n_spikes,)
        Spike times of each unit in ms from the start of the recording, ascending.
    length : float or None
        Duration of the recording in ms; ``None`` where only the last spike indicates it.
    about : mapping of str to ndarray of shape (n_units,), optional
        Properties of the units: ``"depth"`` in um, ``"quality"``.
    notes : sequence of str, optional
        What was changed, and what may be wrong.
    """

    unit: Sequence[str]
    times: Sequence[np.ndarray]
    length: float | None
    about: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Sequence[str] = ()


def make_spike_times(
    path: Path,
    unit: Sequence[str],
    ticks: Sequence[np.ndarray],
    tick_ms: float,
    *,
    end: float | None = None,
    interval: tuple[float, float] | None = None,
    about: Mapping[str, np.ndarray] | None = None,
    notes: Sequence[str] = (),
) -> SpikeTimes:
    """Convert spike times to milliseconds and check them.

    Parameters
    ----------
    path : Path
        The file, for error messages.
    unit : sequence of str of length n_units
        Identifiers.
    ticks : sequence of array-like of shape (n_spikes,)
        Spike times of each unit in clock ticks. Times that are not in order are sorted, with a note.
    tick_ms : float
        Length of a tick in ms.
    end : float, optional
        End of the recording in ticks.
    interval : (float, float), optional
        Start and stop in s of the part to keep, whose times then count from its start. Spikes outside of it are not
        checked.
    about : mapping of str to ndarray of shape (n_units,), optional
        Properties of the units.
    notes : sequence of str, optional
        Notes of the reader.

    Returns
    -------
    SpikeTimes
        The spike times.

    Raises
    ------
    DataError
        If there is no unit or no spike, a time is not finite, negative or after the end, the interval is empty or ends after
        the recording, the recording would last longer than three days, or a unit would fire more than 1,000 times per second.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> spikes = make_spike_times(Path("a.mat"), ["0", "1"], [np.array([30, 300]), np.array([90])], 1 / 30, end=3000)
    >>> [times.tolist() for times in spikes.times], spikes.length
    ([[1.0, 10.0], [3.0]], 100.0)
    """
    if not len(ticks):
        raise DataError(f"{path} has no units: give a recording that was sorted")
    notes, times = list(notes), []
    unsorted = 0
    for name, unit_ticks in zip(unit, ticks, strict=True):
        unit_ticks = np.asarray(unit_ticks, np.float64).ravel()
        if not np.isfinite(unit_ticks).all():
            raise DataError(f"unit {name} of {path} has a spike time that is not finite: remove it")
        if np.any(np.diff(unit_ticks) < 0):
            unsorted += 1
            unit_ticks = np.sort(unit_ticks)
        if interval is None:
            _check_range(unit_ticks, end, name, path)
        times.append(unit_ticks * tick_ms)
    if unsorted:
        notes.append(f"the spike times of {unsorted} units were not in order, and were sorted")
    length = None if end is None else end * tick_ms
    if interval is not None:
        if length is not None and interval[0] < interval[1] and MS_PER_SECOND * interval[1] > length * (1 + 1e-9):
            raise DataError(
                f"{path} has {length / MS_PER_SECOND:g} s and the interval ends at {interval[1]:g} s: end it earlier, or correct "
                f"the length of a tick ({TICK_OPTIONS})"
            )
        times, length = _cut(times, interval, notes)
    spikes = sum(unit_times.size for unit_times in times)
    if not spikes:
        raise DataError(f"{path} has {len(times)} units and no spike: give a recording that is not empty")
    _check_rates(times, length, tick_ms, unit, path, notes)
    silent = sum(not unit_times.size for unit_times in times)
    if silent:
        notes.append(f"{silent} of {len(times)} units have no spike")
    return SpikeTimes([str(name) for name in unit], times, length, dict(about or {}), notes)


def limit_duration(spikes: SpikeTimes, seconds: float) -> SpikeTimes:
    """Keep the beginning of a recording.

    Parameters
    ----------
    spikes : SpikeTimes
        The recording.
    seconds : float
        Length of the part to keep.

    Returns
    -------
    SpikeTimes
        The spikes of the part; a note counts those after it.

    Raises
    ------
    DataError
        If the recording is known to be shorter, or the part is empty.

    Examples
    --------
    >>> import numpy as np
    >>> part = limit_duration(SpikeTimes(["0"], [np.array([5.0, 900.0])], length=2000.0), 0.5)
    >>> part.times[0].tolist(), part.length, part.notes
    ([5.0], 500.0, ['cut to the first 0.5 s: 1 spikes after it left out'])
    """
    length = MS_PER_SECOND * seconds
    if not length > 0:
        raise DataError(f"a duration of {seconds:g} s is empty: give --duration above 0")
    if spikes.length is not None and spikes.length < length:
        raise DataError(
            f"the recording, or its interval, has {spikes.length / MS_PER_SECOND:g} s and --duration needs {seconds:g}: give a "
            "shorter one"
        )
    times = [unit_times[unit_times < length] for unit_times in spikes.times]
    after = sum(map(len, spikes.times)) - sum(map(len, times))
    note = f"cut to the first {seconds:g} s: {after} spikes after it left out"
    return replace(spikes, times=times, length=length, notes=[*spikes.notes, note])


def _check_range(ticks: np.ndarray, end: float | None, unit: str, path: Path) -> None:
    if ticks.size and ticks[0] < 0:
        raise DataError(
            f"unit {unit} of {path} has a spike at {ticks[0]:g}, before the start: cut the recording with --interval START STOP"
        )
    if ticks.size and end is not None and ticks[-1] > end:
        raise DataError(
            f"unit {unit} of {path} has a spike at {ticks[-1]:g}, beyond the end at {end:g}: correct the length in the file, or cut "
            "the recording with --interval START STOP"
        )


def _cut(times: list[np.ndarray], interval: tuple[float, float], notes: list[str]) -> tuple[list[np.ndarray], float]:
    """Return the spikes of an interval (s), counted from its start, and its length in ms."""
    start, stop = (MS_PER_SECOND * second for second in interval)
    if not stop > start:
        raise DataError(
            f"the interval from {interval[0]:g} to {interval[1]:g} s is empty: give its start before its stop"
        )
    kept = [unit_times[(unit_times >= start) & (unit_times < stop)] - start for unit_times in times]
    outside = sum(map(len, times)) - sum(map(len, kept))
    notes.append(f"cut to {interval[0]:g} to {interval[1]:g} s: {outside} spikes outside left out")
    return kept, stop - start


def _check_rates(
    times: Sequence[np.ndarray], length: float | None, tick_ms: float, unit: Sequence[str], path: Path, notes: list[str]
) -> None:
    """Refuse rates that no neuron has, note long recordings of nearly silent units: both indicate a wrong tick."""
    duration = (
        length if length is not None else max(unit_times[-1] for unit_times in times if unit_times.size) + tick_ms
    )
    if duration > MS_PER_SECOND * MAX_SECONDS:
        raise DataError(
            f"{path} would last {duration / 8.64e7:.1f} days: give the length of a tick, {TICK_OPTIONS}, or cut it with --interval"
        )
    rates = MS_PER_SECOND * np.array([unit_times.size for unit_times in times]) / duration
    fastest = int(np.argmax(rates))
    if rates[fastest] > MAX_RATE:
        raise DataError(
            f"unit {unit[fastest]} of {path} would fire {rates[fastest]:,.0f} times per second with ticks of {tick_ms:g} ms, more "
            f"than {MAX_RATE:,.0f}: give the length of a tick, {TICK_OPTIONS}"
        )
    median = float(np.median(rates[rates > 0]))
    if duration > LONG_DURATION * 3.6e6 and median < LOW_RATE:
        notes.append(
            f"the recording would last {duration / 6e4:.0f} min and its median unit fire {median:.2g} times per second: if that is too "
            f"long and too slow, ticks are shorter than {tick_ms:g} ms ({TICK_OPTIONS})"
        )
