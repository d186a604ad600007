"""Stimulus: its window is found, and each sweep is repaired or dropped with a reason."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ipfx", reason="sweeps are prepared for IPFX")

from data_prep.patchseq.stimulus import ONSET, find_window, prepare_sweep
from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE
from tests.data_prep import toy

RATE = 50_000
STEP = (35_000, 85_000)  # 0.7 s to 1.7 s


def noisy(current: np.ndarray, sd: float = 1.0) -> np.ndarray:
    return current + sd * np.random.default_rng(0).normal(size=len(current))


def without_pulse(current: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(current)) < 0.1 * RATE, 0.0, current)


def test_window_is_the_step_not_the_test_pulse():
    assert find_window(toy.step_current(90, RATE), RATE, LONG_SQUARE) == STEP


def test_a_sweep_without_a_test_pulse_has_the_same_window():
    assert find_window(without_pulse(toy.step_current(-90, RATE)), RATE, LONG_SQUARE) == STEP


def test_a_holding_current_is_the_baseline():
    assert find_window(toy.step_current(90, RATE) - 25, RATE, LONG_SQUARE) == STEP


@pytest.mark.parametrize("amplitude", [-90, -10, 50])
def test_the_window_of_a_recorded_current_is_right_to_half_a_millisecond(amplitude):
    found = find_window(noisy(toy.step_current(amplitude, RATE)), RATE, LONG_SQUARE)
    assert np.abs(np.subtract(found, STEP)).max() <= 0.0005 * RATE


def test_short_squares_and_ramps():
    assert find_window(toy.short(0, 250).current, RATE, SHORT_SQUARE) == (35_000, 35_150)
    assert find_window(toy.ramp(0).current, RATE, RAMP) == STEP


def test_no_change_is_no_window():
    assert find_window(np.zeros(1000), RATE, LONG_SQUARE) is None
    assert find_window(np.full(1000, 7.0), RATE, LONG_SQUARE) is None


def test_time_is_counted_from_half_a_second_before_the_step():
    sweep, notes = prepare_sweep(toy.square(0, 90), 1.0)
    assert notes == [] and sweep.t[STEP[0]] == ONSET and sweep.t[STEP[1]] == ONSET + 1.0
    assert sweep.i[STEP[0] - 1] == 0 and sweep.i[STEP[0]] == 90
    np.testing.assert_array_equal(sweep.v, toy.square(0, 90).voltage)


def test_given_window_is_used():
    sweep = toy.square(0, 90)
    given, _ = prepare_sweep(replace(sweep, current=np.zeros_like(sweep.current), window=(0.7, 1.7)), 1.0)
    assert given.t[STEP[0]] == ONSET


def cut(sweep, **changes):
    return replace(sweep, **changes)


LONG = toy.square(0, 90)
HOLE = np.where(np.arange(len(LONG.voltage)) == 40_000, np.nan, LONG.voltage)
ABORTED = np.where(np.arange(len(LONG.voltage)) > 60_000, 0.0, LONG.voltage)

REFUSED = {
    "empty": (cut(LONG, voltage=np.zeros(0), current=np.zeros(0)), "empty sweep"),
    "all zero": (cut(LONG, voltage=np.zeros_like(LONG.voltage)), "empty sweep"),
    "all nan": (cut(LONG, voltage=np.full_like(LONG.voltage, np.nan)), "empty sweep"),
    "nan within": (cut(LONG, voltage=HOLE), "nan in trace"),
    "nan in the current": (cut(LONG, current=HOLE), "nan in trace"),
    "infinite": (cut(LONG, voltage=np.where(np.isnan(HOLE), np.inf, HOLE)), "nan in trace"),
    "no rate": (cut(LONG, rate=0.0), "no sampling rate"),
    "a rate that is nan": (cut(LONG, rate=np.nan), "no sampling rate"),
    "flat current": (cut(LONG, current=np.zeros_like(LONG.current)), "no stimulus step"),
    "only a test pulse": (toy.square(0, 0), "step of another length"),
    "a window of 1.26 s": (toy.square(0, 90, length=1.26), "step of another length"),
    "aborted": (cut(LONG, voltage=ABORTED), "ends early"),
    "no baseline": (toy.square(0, 90, onset=0.12), "ends early"),
    "a window outside": (cut(LONG, window=(1.5, 2.5)), "no stimulus step"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unusable_sweep_has_a_reason(case):
    sweep, reason = REFUSED[case]
    ready, notes = prepare_sweep(sweep, 1.0)
    assert ready is None and (notes[-1].reason, notes[-1].action, notes[-1].name) == (reason, "dropped", "0")


def test_trailing_zeros_and_nan_are_cut_and_the_rest_is_kept():
    for end in (0.0, np.nan):
        voltage = np.concatenate([LONG.voltage, np.full(5000, end)])
        sweep, notes = prepare_sweep(
            cut(LONG, voltage=voltage, current=np.concatenate([LONG.current, np.zeros(5000)])), 1.0
        )
        assert len(sweep.v) == len(LONG.voltage) and [row.reason for row in notes] == ["end cut"]


def test_traces_of_unequal_length_are_cut_to_the_shorter():
    sweep, notes = prepare_sweep(cut(LONG, current=LONG.current[:-100]), 1.0)
    assert len(sweep.v) == len(sweep.i) == len(LONG.current) - 100
    assert [row.reason for row in notes] == ["cut to common length"]


def test_recorded_current_is_replaced_by_its_step():
    sweep, notes = prepare_sweep(cut(LONG, current=noisy(LONG.current)), 1.0)
    assert [row.reason for row in notes] == ["noisy current"]
    inside = sweep.i[STEP[0] + 50 : STEP[1] - 50]
    assert set(np.unique(sweep.i)) == {0.0, inside[0]} and inside[0] == pytest.approx(90, abs=0.1)
    ramp, _ = prepare_sweep(cut(toy.ramp(1), current=noisy(toy.ramp(1).current)), 1.0)
    assert np.abs(ramp.i - without_pulse(toy.ramp(1).current))[: STEP[1] - 50].max() < 2.0  # of 200 pA


def test_ramp_that_stops_at_the_first_spikes_is_kept():
    ramp = toy.ramp(3)
    voltage = np.where(np.arange(len(ramp.voltage)) > 1.4 * RATE, 0.0, ramp.voltage)
    sweep, notes = prepare_sweep(cut(ramp, voltage=voltage), 1.0)
    assert sweep is not None and [row.reason for row in notes] == ["end cut"]


@pytest.mark.parametrize("rate", [10_000, 12_500, 37_037, 40_000, 75_000])
def test_resampling_keeps_a_slow_signal_and_the_edges_of_the_step(rate):
    current = toy.step_current(90, rate)
    time = np.arange(len(current)) / rate
    voltage = -70 + 5 * np.sin(2 * np.pi * 40 * time)
    sweep, notes = prepare_sweep(cut(LONG, voltage=voltage, current=current, rate=rate), 1.0)
    assert [row.reason for row in notes] == ["resampled"] and sweep.sampling_rate == RATE
    step = np.flatnonzero(sweep.i == 90)
    assert sweep.t[step[0]] == pytest.approx(ONSET, abs=2 / rate)
    assert len(step) / RATE == pytest.approx(1.0, abs=2 / rate)
    truth = -70 + 5 * np.sin(2 * np.pi * 40 * np.arange(len(sweep.v)) / RATE)
    middle = slice(2000, len(truth) - 2000)
    np.testing.assert_allclose(sweep.v[middle], truth[middle], atol=0.02)


def test_a_multiple_of_50_khz_is_left_to_ipfx():
    sweep, notes = prepare_sweep(toy.square(0, 90, 100_000), 1.0)
    assert notes == [] and sweep.sampling_rate == 100_000
