"""Stimulus: where the step is, and a sweep made fit for IPFX: cut, resampled, cleaned, its onset at a fixed time.

IPFX finds the step anew in each function, by the changes of the current after the first two (a test pulse). One sweep without
a test pulse, with a recorded (noisy) current or with a second pulse then moves the window of the whole cell. Here the window
is found once, by the runs of current off the baseline, and IPFX is told.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from ipfx.sweep import Sweep as IpfxSweep
from scipy.signal import resample_poly

from data_prep.patchseq.drop_reasons import DROPPED, REPAIRED, Note, note
from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE, Sweep

RATE = 50_000  # Hz: that of the feature vectors
# The onset of every step, in seconds: the Allen cell records count from 0.5 s before it, and 0.5 + 1 is exact in binary,
# so that no bin is lost to rounding.
ONSET = 0.5
BEFORE, AFTER = 0.2, 0.2  # recording that a step needs around it, s
TEST_PULSE = 0.1  # a first pulse no longer than this, followed by another, is a test pulse
TOLERANCE = 0.0015  # of the length of a step, s


def find_window(current: np.ndarray, rate: float, protocol: str) -> tuple[int, int] | None:
    """First sample of the stimulus and the first after it; None if there is none.

    The baseline is the median of the first 5 ms. Where the current is a command (no noise), any change counts; where it was
    recorded, 0.5 ms means have to leave the baseline by 6 sd, and a square begins and ends at half its height.
    """
    head = current[: max(int(0.005 * rate), 2)]
    baseline = np.median(head)
    sd = _noise(head)
    if sd == 0:
        runs = _runs(current != baseline, gap=int(0.001 * rate))
    else:
        width = max(int(0.0005 * rate), 1)
        smooth = np.convolve(current - baseline, np.ones(width) / width, mode="same")
        runs = _runs(np.abs(smooth) > max(6 * sd / np.sqrt(width), 1e-9), gap=int(0.001 * rate))
        runs = [run for run in runs if run[1] - run[0] > width]
        if protocol != RAMP:
            runs = [_half_height(smooth, run) for run in runs]
    if len(runs) > 1 and runs[0][1] - runs[0][0] <= TEST_PULSE * rate:
        runs = runs[1:]
    return (runs[0][0], runs[-1][1]) if runs else None


def _noise(head: np.ndarray) -> float:
    """Standard deviation of the samples, from their differences, so that a slow drift does not count."""
    steps = np.diff(head)
    return float(np.std(steps) / np.sqrt(2)) if np.count_nonzero(steps) > len(steps) / 4 else 0.0


def _runs(active: np.ndarray, gap: int) -> list[tuple[int, int]]:
    """Stretches of True, joined where fewer than ``gap`` samples part them."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return []
    apart = np.flatnonzero(starts[1:] - ends[:-1] >= gap)
    return list(zip(starts[np.r_[0, apart + 1]].tolist(), ends[np.r_[apart, len(ends) - 1]].tolist(), strict=True))


def _half_height(smooth: np.ndarray, run: tuple[int, int]) -> tuple[int, int]:
    inside = smooth[run[0] : run[1]]
    above = np.flatnonzero(np.abs(inside) > np.abs(np.median(inside)) / 2)
    return run[0] + int(above[0]), run[0] + int(above[-1]) + 1


def prepare(sweep: Sweep, step: float) -> tuple[IpfxSweep | None, list[Note]]:
    """A sweep as IPFX wants it, or None and the reason; repairs are noted. ``step`` is the length of a long square, s."""
    notes: list[Note] = []

    def refuse(reason: str, detail: object = "") -> tuple[None, list[Note]]:
        return None, [*notes, note("sweep", sweep.number, DROPPED, reason, detail)]

    def repaired(reason: str, detail: object = "") -> None:
        notes.append(note("sweep", sweep.number, REPAIRED, reason, detail))

    voltage, current = np.asarray(sweep.voltage, float), np.asarray(sweep.current, float)
    if not np.isfinite(sweep.rate) or sweep.rate <= 0:
        return refuse("no sampling rate", sweep.rate)
    if len(voltage) != len(current) and min(len(voltage), len(current)):
        repaired("cut to common length", f"{len(voltage)} samples of voltage, {len(current)} of current")
    whole = min(len(voltage), len(current))
    alive = np.flatnonzero(np.isfinite(voltage[:whole]) & (voltage[:whole] != 0))
    if not len(alive):
        return refuse("empty sweep")
    length = int(alive[-1]) + 1
    if length < whole:
        repaired("end cut", f"{(whole - length) / sweep.rate:.3f} s")
    voltage, window_current = voltage[:length], current[:whole]
    if not np.isfinite(voltage).all() or not np.isfinite(current[:length]).all():
        return refuse("nan in trace")
    window = _window(sweep, np.nan_to_num(window_current))
    if window is None:
        return refuse("no stimulus step")
    if sweep.protocol == LONG_SQUARE and abs((window[1] - window[0]) / sweep.rate - step) > TOLERANCE:
        return refuse("step of another length", f"{(window[1] - window[0]) / sweep.rate:.4f} s, not {step:g} s")
    if _ends_early(sweep, window, length):
        return refuse("ends early", f"{(length - window[1]) / sweep.rate:.3f} s after the end of the step")
    if _noise(current[: max(int(0.005 * sweep.rate), 2)]) > 0:
        current = _idealised(current, window, str(sweep.protocol))
        repaired("noisy current")
    current, rate = current[:length], sweep.rate
    if rate < RATE or rate % RATE:
        voltage, current, window = _resampled(voltage, current, window, rate)
        repaired("resampled", f"{rate:g} Hz")
        rate = float(RATE)
    return _ipfx_sweep(sweep.number, voltage, current, rate, window), notes


def _window(sweep: Sweep, current: np.ndarray) -> tuple[int, int] | None:
    if sweep.window is None:
        return find_window(current, sweep.rate, str(sweep.protocol))
    first, last = (round(edge * sweep.rate) for edge in sweep.window)
    return (first, last) if 0 <= first < last <= len(current) else None


def _ends_early(sweep: Sweep, window: tuple[int, int], length: int) -> bool:
    """A square needs 0.2 s after it (as in IPFX) and a baseline before it; a ramp may stop when it likes."""
    if window[0] < BEFORE * sweep.rate:
        return True
    wanted = window[0] if sweep.protocol == RAMP else window[1] + AFTER * sweep.rate
    return length - 1 < wanted


def _idealised(current: np.ndarray, window: tuple[int, int], protocol: str) -> np.ndarray:
    """The command that a recorded current shows: flat, or a straight line, between two stretches of zero."""
    ideal, inside = np.zeros_like(current), slice(*window)
    baseline = np.median(current[: window[0]])
    if protocol in (LONG_SQUARE, SHORT_SQUARE):
        ideal[inside] = np.round(np.median(current[inside] - baseline), 1)
    else:
        samples = np.arange(window[1] - window[0])
        slope = float(samples @ (current[inside] - baseline) / max(samples @ samples, 1))
        ideal[inside] = slope * (samples + 1)
    return ideal


def _resampled(
    voltage: np.ndarray, current: np.ndarray, window: tuple[int, int], rate: float
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """At 50 kHz: the voltage band-limited, the current held, since a step has no slope.

    IPFX's 10 kHz filter refuses rates below 20 kHz; after resampling it has nothing to remove there. Its vectors
    of the first spike are as long as the rate makes them; after resampling they are all of one length.
    """
    ratio = Fraction(RATE / rate).limit_denominator(1000)
    # Beta 8 leaves 0.03 % of a signal as ripple; the default of 5 leaves 1 %.
    finer = resample_poly(voltage, ratio.numerator, ratio.denominator, window=("kaiser", 8.0), padtype="line")
    source = np.minimum((np.arange(len(finer)) * ratio.denominator) // ratio.numerator, len(current) - 1)
    first, last = (round(edge * ratio.numerator / ratio.denominator) for edge in window)
    return finer, current[source], (first, last)


def _ipfx_sweep(
    number: int, voltage: np.ndarray, current: np.ndarray, rate: float, window: tuple[int, int]
) -> IpfxSweep:
    time = (np.arange(len(voltage)) - window[0]) / rate + ONSET
    end = len(voltage) - 1
    epochs = {
        "test": (0, 0),
        "sweep": (0, end),
        "recording": (0, end),
        "stim": (window[0], min(window[1] - 1, end)),
        "experiment": (max(window[0] - int(ONSET * rate), 0), end),
    }
    return IpfxSweep(time, voltage, current, "CurrentClamp", rate, number, epochs)
