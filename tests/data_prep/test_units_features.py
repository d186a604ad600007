"""Features of units: intervals, autocorrelograms and waveforms agree with direct computation."""

import numpy as np
import pytest

from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_features import (
    N_LAGS,
    N_SAMPLES,
    SAMPLING_RATE,
    TROUGH_SAMPLE,
    SortedUnit,
    _close_pairs,
    autocorrelogram,
    interval_histogram,
    make_unit_table,
    waveform,
)

TICKS = 30  # samples a millisecond


@pytest.fixture(params=[0, 1, 2])
def ticks(request):
    """Spike times as samples of a 30 kHz recorder; the edges of bins are hit often, and two trains have equal times."""
    rng = np.random.default_rng(request.param)
    return np.sort(rng.integers(0, 30_000, 400) // (15 if request.param else 1) * (15 if request.param else 1))


def test_intervals_are_counted_in_whole_milliseconds(ticks):
    expected = np.zeros(100)
    for gap in np.diff(ticks).tolist():
        if gap < 100 * TICKS:
            expected[gap // TICKS] += 1
    np.testing.assert_array_equal(interval_histogram(ticks / 30_000 + 5000.0), expected)


def test_the_autocorrelogram_is_that_of_all_pairs(ticks):
    expected = np.zeros(2 * N_LAGS + 1)
    for i, here in enumerate(ticks.tolist()):
        for j, there in enumerate(ticks.tolist()):
            size = (2 * abs(there - here) + TICKS) // (2 * TICKS)  # the nearest whole millisecond, halves outward
            if i != j and size <= N_LAGS:
                expected[N_LAGS + (size if there >= here and j > i else -size)] += 1
    np.testing.assert_array_equal(autocorrelogram(ticks / 30_000 + 5000.0), expected)


def test_work_is_proportional_to_close_pairs():
    times = np.sort(np.random.default_rng(0).uniform(0, 2500.0, 50_000))  # 20 spikes a second
    found = [len(lags) for lags in _close_pairs(times, 0.1)]
    near = np.searchsorted(times, times + 0.1) - np.arange(len(times)) - 1
    assert sum(found) == near.sum() < 2.2 * len(times)
    assert len(found) == near.max(), "one pass per rank of neighbors"
    assert autocorrelogram(times)[:N_LAGS].sum() == pytest.approx(near.sum(), rel=0.02)


def test_template_at_the_output_rate_is_only_aligned():
    template = np.zeros((3, 80))
    template[1, 40:46] = [-3, -9, -4, 1, 2, 1]
    template[2, 10] = -5.0
    made = waveform(template, SAMPLING_RATE)
    assert made.shape == (N_SAMPLES,) and np.argmin(made) == TROUGH_SAMPLE
    np.testing.assert_allclose(made, template[1, 41 - TROUGH_SAMPLE : 41 - TROUGH_SAMPLE + N_SAMPLES], atol=1e-5)


@pytest.mark.parametrize("rate", [30_000.0, 40_000.0, 10_000.0])
def test_other_rates_give_the_same_shape(rate):
    def shape(ms):
        return -80 * np.exp(-0.5 * (ms / 0.3) ** 2) + 25 * np.exp(-0.5 * ((ms - 0.8) / 0.4) ** 2)

    centre = round(0.002 * rate)
    ms = 1e3 * (np.arange(round(0.006 * rate)) - centre) / rate
    shift = ms[np.argmin(shape(ms))]
    expected = shape(1e3 * (np.arange(N_SAMPLES) - TROUGH_SAMPLE) / SAMPLING_RATE + shift)
    np.testing.assert_allclose(waveform(shape(ms), rate), expected, atol=1.0)


def test_frequencies_above_the_output_rate_are_not_aliased():
    time = np.arange(600) / 100_000.0
    slow = -np.exp(-0.5 * ((time - 0.002) / 2e-4) ** 2)
    hum = -0.05 * np.cos(2 * np.pi * 20_000 * time)  # lowest at the trough; sampled at 20 kHz it would be a constant
    np.testing.assert_allclose(waveform(slow + hum, 100_000.0), waveform(slow, 100_000.0), atol=0.002)


def test_ends_of_the_template_are_repeated():
    template = np.array([-1.0, -2, -9, -1, 0, 2, 3, 4])
    made = waveform(template, SAMPLING_RATE)
    assert np.all(made[: TROUGH_SAMPLE - 1] == -1) and np.all(made[TROUGH_SAMPLE + 5 :] == 4)


@pytest.mark.parametrize(
    ("template", "rate", "message"),
    [
        (np.zeros((2, 3, 9)), 1e4, "not \\[channel, sample\\]"),
        (np.full(20, np.nan), 1e4, "finite"),
        (np.arange(20.0), 0.0, "rate of 0.0 Hz"),
    ],
)
def test_invalid_template_is_refused(template, rate, message):
    with pytest.raises(DataError, match=message):
        waveform(template, rate, unit="7")


def test_spike_times_in_samples_are_refused():
    times = np.cumsum(np.random.default_rng(0).integers(100, 10_000, 2000)).astype(float)
    with pytest.raises(DataError, match="give times in seconds"):
        make_unit_table([SortedUnit("a", times)], {})
    with pytest.raises(DataError, match="without a sampling rate"):
        make_unit_table([SortedUnit("a", None, np.arange(20.0))], {})


def test_absent_template_and_spikes_are_missing_curves():
    template = -np.eye(30)[10]
    found = make_unit_table(
        [SortedUnit("a", np.array([0.0, 0.01])), SortedUnit("b", np.array([3.0]), template, SAMPLING_RATE)], {}
    )
    np.testing.assert_array_equal(found.present, [[False, True, True], [True, False, False]])
    assert np.isnan(found.raw["wave"][0]).all() and found.raw["isi"][0, 10] == 1
    assert found.raw["acg"][0, [N_LAGS - 10, N_LAGS + 10]].sum() == 2
