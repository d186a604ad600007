"""Find the stimulus in a sweep and prepare the sweep for IPFX: cut, resampled, cleaned, with its onset at a fixed time.

IPFX searches for the step in each of its functions, by the changes of the current after the first two (a test pulse). A single
sweep without a test pulse, with a recorded (noisy) current or with a second pulse then shifts the window of the whole cell.
Here the window is determined once, from the stretches in which the current leaves its baseline, and passed to IPFX.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from ipfx.sweep import Sweep as IpfxSweep
from scipy.signal import resample_poly

from data_prep.patchseq.drop_reasons import DROPPED, REPAIRED, Note, note
from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE, Sweep

RATE = 50_000  # Hz, the rate of the feature vectors
# Onset of every step in s. The times of the Allen cell records count from 0.5 s before the onset, and 0.5 + 1 is exact in
# binary, so that no bin is lost to rounding.
ONSET = 0.5
BEFORE, AFTER = 0.2, 0.2  # s of recording that a step needs before and after it
TEST_PULSE = 0.1  # s; a first pulse that is not longer, and is followed by another, is a test pulse
TOLERANCE = 0.0015  # s, of the length of a step
BASELINE = 0.005  # s at the start of a sweep from which the baseline and the noise of the current are taken
NOISE_LEVELS = 6  # standard deviations by which a recorded current has to leave its baseline


def find_window(current: np.ndarray, rate: float, protocol: str) -> tuple[int, int] | None:
    """Find the stimulus in an injected current.

    Parameters
    ----------
    current : ndarray of float, shape (n_samples,)
        Injected current in pA.
    rate : float
        Sampling rate in Hz.
    protocol : str
        "long square", "short square" or "ramp".

    Returns
    -------
    (int, int) or None
        First sample of the stimulus and the first sample after it; None if the current does not change.

    Notes
    -----
    The baseline is the median of the first 5 ms. In a noise-free current any change counts. In a recorded current the means
    over 0.5 ms have to leave the baseline by 6 standard deviations, and a square begins and ends at half its height.

    Examples
    --------
    >>> import numpy as np
    >>> current = np.zeros(10_000)
    >>> current[2_500:7_500] = 50.0
    >>> find_window(current, rate=10_000, protocol="long square")
    (2500, 7500)
    """
    head = current[: max(int(BASELINE * rate), 2)]
    baseline = np.median(head)
    sd = _noise(head)
    if sd == 0:
        runs = _runs(current != baseline, gap=int(0.001 * rate))
    else:
        width = max(int(0.0005 * rate), 1)
        smooth = np.convolve(current - baseline, np.ones(width) / width, mode="same")
        runs = _runs(np.abs(smooth) > max(NOISE_LEVELS * sd / np.sqrt(width), 1e-9), gap=int(0.001 * rate))
        runs = [run for run in runs if run[1] - run[0] > width]
        if protocol != RAMP:
            runs = [_half_height(smooth, run) for run in runs]
    if len(runs) > 1 and runs[0][1] - runs[0][0] <= TEST_PULSE * rate:
        runs = runs[1:]
    return (runs[0][0], runs[-1][1]) if runs else None


def prepare_sweep(sweep: Sweep, step: float) -> tuple[IpfxSweep | None, list[Note]]:
    """Prepare a sweep for IPFX.

    Parameters
    ----------
    sweep : Sweep
        A sweep of one of the three protocols.
    step : float
        Length of a long square in s.

    Returns
    -------
    prepared : ipfx.sweep.Sweep or None
        The sweep at 50 kHz or a multiple of it, its stimulus starting at 0.5 s; None if it cannot be used.
    notes : list of Note
        One for each repair, and the reason if the sweep cannot be used.
    """
    notes: list[Note] = []

    def add(action: str, reason: str, detail: object = "") -> tuple[None, list[Note]]:
        notes.append(note("sweep", sweep.number, action, reason, detail))
        return None, notes

    voltage, current = np.asarray(sweep.voltage, float), np.asarray(sweep.current, float)
    if not np.isfinite(sweep.rate) or sweep.rate <= 0:
        return add(DROPPED, "no sampling rate", sweep.rate)
    if len(voltage) != len(current) and min(len(voltage), len(current)):
        add(REPAIRED, "cut to common length", f"{len(voltage)} samples of voltage, {len(current)} of current")
    whole = min(len(voltage), len(current))
    recorded = np.flatnonzero(np.isfinite(voltage[:whole]) & (voltage[:whole] != 0))
    if not len(recorded):
        return add(DROPPED, "empty sweep")
    length = int(recorded[-1]) + 1
    if length < whole:
        add(REPAIRED, "end cut", f"{(whole - length) / sweep.rate:.3f} s")
    voltage, current = voltage[:length], current[:whole]  # the current after an abort still shows the end of the step
    if not np.isfinite(voltage).all() or not np.isfinite(current[:length]).all():
        return add(DROPPED, "nan in trace")
    window = _window(sweep, np.nan_to_num(current))
    if window is None:
        return add(DROPPED, "no stimulus step")
    if sweep.protocol == LONG_SQUARE and abs((window[1] - window[0]) / sweep.rate - step) > TOLERANCE:
        return add(DROPPED, "step of another length", f"{(window[1] - window[0]) / sweep.rate:.4f} s, not {step:g} s")
    if _ends_early(sweep, window, length):
        return add(DROPPED, "ends early", f"{(length - window[1]) / sweep.rate:.3f} s after the end of the step")
    if _noise(current[: max(int(BASELINE * sweep.rate), 2)]) > 0:
        current = _noise_free(current, window, str(sweep.protocol))
        add(REPAIRED, "noisy current")
    current, rate = current[:length], sweep.rate
    if rate < RATE or rate % RATE:
        voltage, current, window = _resampled(voltage, current, window, rate)
        add(REPAIRED, "resampled", f"{rate:g} Hz")
        rate = float(RATE)
    return _ipfx_sweep(sweep.number, voltage, current, rate, window), notes


def _noise(head: np.ndarray) -> float:
    """Estimate the standard deviation of the samples from their differences, so that a slow drift does not count."""
    steps = np.diff(head)
    return float(np.std(steps) / np.sqrt(2)) if np.count_nonzero(steps) > len(steps) / 4 else 0.0


def _runs(active: np.ndarray, gap: int) -> list[tuple[int, int]]:
    """Return the runs of True; runs that are separated by fewer than ``gap`` samples are joined."""
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


def _window(sweep: Sweep, current: np.ndarray) -> tuple[int, int] | None:
    if sweep.window is None:
        return find_window(current, sweep.rate, str(sweep.protocol))
    first, last = (round(edge * sweep.rate) for edge in sweep.window)
    return (first, last) if 0 <= first < last <= len(current) else None


def _ends_early(sweep: Sweep, window: tuple[int, int], length: int) -> bool:
    """Return whether a square lacks 0.2 s after it (as in IPFX), or any stimulus 0.2 s before it; a ramp may stop early."""
    if window[0] < BEFORE * sweep.rate:
        return True
    needed = window[0] if sweep.protocol == RAMP else window[1] + AFTER * sweep.rate
    return length - 1 < needed


def _noise_free(current: np.ndarray, window: tuple[int, int], protocol: str) -> np.ndarray:
    """Return the command that a recorded current follows: a step or a straight ramp between zeros."""
    command, inside = np.zeros_like(current), slice(*window)
    baseline = np.median(current[: window[0]])
    if protocol in (LONG_SQUARE, SHORT_SQUARE):
        command[inside] = np.round(np.median(current[inside] - baseline), 1)
    else:
        samples = np.arange(window[1] - window[0])
        slope = float(samples @ (current[inside] - baseline) / max(samples @ samples, 1))
        command[inside] = slope * (samples + 1)
    return command


def _resampled(
    voltage: np.ndarray, current: np.ndarray, window: tuple[int, int], rate: float
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Resample to 50 kHz: the voltage by a band-limited filter, the current by repetition, since a step has no slope.

    IPFX's 10 kHz filter fails below 20 kHz, and the length of its vectors of the first spike depends on the rate.
    """
    ratio = Fraction(RATE / rate).limit_denominator(1000)
    # With beta 8 the ripple is 0.03 % of the signal; with the default of 5 it is 1 %.
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
