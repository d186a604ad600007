"""Trains: the spike times of the units of one recording, checked once, where a reader hands them over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FASTEST = 1000.0  # Hz: no neuron fires so fast on average, so the tick is wrong
LONG, SLOW = (
    3.0,
    0.1,
)  # hours, Hz: a recording longer than this, in which the median unit fires less than this, is doubtful
REMEDY = "--tick-ms 1 for milliseconds, --tick-hz 30000 for samples at 30 kHz"


class SpikesError(ValueError):
    """Spike trains that cannot be read, made or written, in one sentence."""


@dataclass(frozen=True)
class Trains:
    """Spike times in ms from the recording's start, ascending."""

    unit: Sequence[str]
    times: Sequence[np.ndarray]
    length: float | None  # ms; None where only the last spike tells
    about: Mapping[str, np.ndarray] = field(default_factory=dict)  # depth (um), quality: one number a unit
    notes: Sequence[str] = ()


def trains_of(
    path: Path,
    unit: Sequence[str],
    ticks: Sequence[np.ndarray],
    tick_ms: float,
    *,
    end: float | None = None,
    interval: tuple[float, float] | None = None,
    about: Mapping[str, np.ndarray] | None = None,
    notes: Sequence[str] = (),
) -> Trains:
    """Check and convert. ``ticks`` hold one array a unit, ``end`` is where the recording ends in ticks, ``interval`` (s) is cut out.

    With an interval nothing outside is judged.
    """
    if not len(ticks):
        raise SpikesError(f"{path} has no units: give a recording that was sorted")
    notes, times = list(notes), []
    unsorted = 0
    for name, own in zip(unit, ticks, strict=True):
        own = np.asarray(own, np.float64).ravel()
        if not np.isfinite(own).all():
            raise SpikesError(f"unit {name} of {path} has a spike time that is not finite: remove it")
        if np.any(np.diff(own) < 0):
            unsorted += 1
            own = np.sort(own)
        if interval is None:
            must_be_inside(own, end, name, path)
        times.append(own * tick_ms)
    if unsorted:
        notes.append(f"the spike times of {unsorted} units were not in order, and were sorted")
    length = None if end is None else end * tick_ms
    if interval is not None:
        times, length = cut(times, interval, notes)
    spikes = sum(own.size for own in times)
    if not spikes:
        raise SpikesError(f"{path} has {len(times)} units and not one spike: nothing can be learnt from it")
    must_be_slow(times, length, tick_ms, unit, path, notes)
    silent = sum(not own.size for own in times)
    if silent:
        notes.append(f"{silent} of {len(times)} units have no spike")
    return Trains([str(name) for name in unit], times, length, dict(about or {}), notes)


def must_be_inside(own: np.ndarray, end: float | None, name: str, path: Path) -> None:
    if own.size and own[0] < 0:
        raise SpikesError(
            f"unit {name} of {path} has a spike at {own[0]:g}, before the start: cut the recording with --interval START STOP"
        )
    if own.size and end is not None and own[-1] > end:
        raise SpikesError(
            f"unit {name} of {path} has a spike at {own[-1]:g}, beyond the end at {end:g}: mend the file's length, or cut the "
            f"recording with --interval START STOP"
        )


def cut(times: list[np.ndarray], interval: tuple[float, float], notes: list[str]) -> tuple[list[np.ndarray], float]:
    """The spikes from ``interval[0]`` to ``interval[1]`` (s), counted from its start."""
    start, stop = (1000.0 * second for second in interval)
    if not stop > start:
        raise SpikesError(
            f"the interval from {interval[0]:g} to {interval[1]:g} s is empty: give its start before its stop"
        )
    kept = [own[(own >= start) & (own < stop)] - start for own in times]
    outside = sum(map(len, times)) - sum(map(len, kept))
    notes.append(f"cut to {interval[0]:g} to {interval[1]:g} s: {outside} spikes outside left out")
    return kept, stop - start


def must_be_slow(
    times: Sequence[np.ndarray],
    length: float | None,
    tick_ms: float,
    unit: Sequence[str],
    path: Path,
    notes: list[str],
) -> None:
    """A rate that no neuron has, or a recording that seems too long, speaks of a wrong tick."""
    span = length if length is not None else max(own[-1] for own in times if own.size) + tick_ms
    rates = 1000.0 * np.array([own.size for own in times]) / span
    fastest = int(np.argmax(rates))
    if rates[fastest] > FASTEST:
        raise SpikesError(
            f"unit {unit[fastest]} of {path} would fire {rates[fastest]:,.0f} times a second with ticks of {tick_ms:g} ms, more "
            f"than {FASTEST:,.0f}: say how long a tick is, {REMEDY}"
        )
    middle = float(np.median(rates[rates > 0]))
    if span > LONG * 3.6e6 and middle < SLOW:
        notes.append(
            f"the recording would last {span / 6e4:.0f} min and its median unit fire {middle:.2g} times a second: if that is too "
            f"long and too slow, ticks are shorter than {tick_ms:g} ms ({REMEDY})"
        )
