"""Features: intervals, autocorrelograms and waveforms against brute force; units are tables that come back as they were."""

import numpy as np
import pytest

from data_prep.units.features import (
    LAGS,
    RATE,
    SAMPLES,
    TROUGH,
    SortedUnit,
    autocorrelogram,
    close_pairs,
    interval_histogram,
    units_of,
    waveform,
)
from data_prep.units.table import FILE, Units, UnitsError, read_units, write_units

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
    expected = np.zeros(2 * LAGS + 1)
    for i, here in enumerate(ticks.tolist()):
        for j, there in enumerate(ticks.tolist()):
            size = (2 * abs(there - here) + TICKS) // (2 * TICKS)  # the nearest whole millisecond, halves outward
            if i != j and size <= LAGS:
                expected[LAGS + (size if there >= here and j > i else -size)] += 1
    np.testing.assert_array_equal(autocorrelogram(ticks / 30_000 + 5000.0), expected)


def test_the_work_is_that_of_close_pairs_and_not_of_all():
    times = np.sort(np.random.default_rng(0).uniform(0, 2500.0, 50_000))  # 20 spikes a second
    found = [len(lags) for lags in close_pairs(times, 0.1)]
    near = np.searchsorted(times, times + 0.1) - np.arange(len(times)) - 1
    assert sum(found) == near.sum() < 2.2 * len(times)
    assert len(found) == near.max(), "one pass a rank of neighbours"
    assert autocorrelogram(times)[:LAGS].sum() == pytest.approx(near.sum(), rel=0.02)


def test_a_template_at_our_rate_is_only_aligned():
    template = np.zeros((3, 80))
    template[1, 40:46] = [-3, -9, -4, 1, 2, 1]
    template[2, 10] = -5.0
    made = waveform(template, RATE)
    assert made.shape == (SAMPLES,) and np.argmin(made) == TROUGH
    np.testing.assert_allclose(made, template[1, 41 - TROUGH : 41 - TROUGH + SAMPLES], atol=1e-5)


@pytest.mark.parametrize("rate", [30_000.0, 40_000.0, 10_000.0])
def test_other_rates_give_the_same_shape(rate):
    def shape(ms):
        return -80 * np.exp(-0.5 * (ms / 0.3) ** 2) + 25 * np.exp(-0.5 * ((ms - 0.8) / 0.4) ** 2)

    centre = round(0.002 * rate)
    ms = 1e3 * (np.arange(round(0.006 * rate)) - centre) / rate
    shift = ms[np.argmin(shape(ms))]
    expected = shape(1e3 * (np.arange(SAMPLES) - TROUGH) / RATE + shift)
    np.testing.assert_allclose(waveform(shape(ms), rate), expected, atol=1.0)


def test_what_is_too_fast_for_our_rate_does_not_fold_back():
    time = np.arange(600) / 100_000.0
    slow = -np.exp(-0.5 * ((time - 0.002) / 2e-4) ** 2)
    hum = -0.05 * np.cos(2 * np.pi * 20_000 * time)  # lowest at the trough; sampled at 20 kHz it would be a constant
    np.testing.assert_allclose(waveform(slow + hum, 100_000.0), waveform(slow, 100_000.0), atol=0.002)


def test_before_and_after_the_template_its_ends_stand():
    template = np.array([-1.0, -2, -9, -1, 0, 2, 3, 4])
    made = waveform(template, RATE)
    assert np.all(made[: TROUGH - 1] == -1) and np.all(made[TROUGH + 5 :] == 4)


@pytest.mark.parametrize(
    ("template", "rate", "sentence"),
    [
        (np.zeros((2, 3, 9)), 1e4, "not \\[channel, sample\\]"),
        (np.full(20, np.nan), 1e4, "finite"),
        (np.arange(20.0), 0.0, "rate of 0.0 Hz"),
    ],
)
def test_templates_that_cannot_be_used_say_so(template, rate, sentence):
    with pytest.raises(UnitsError, match=sentence):
        waveform(template, rate, unit="7")


def test_spike_times_in_samples_are_noticed():
    times = np.cumsum(np.random.default_rng(0).integers(100, 10_000, 2000)).astype(float)
    with pytest.raises(UnitsError, match="give times in seconds"):
        units_of([SortedUnit("a", times)], {})
    with pytest.raises(UnitsError, match="no known sampling rate"):
        units_of([SortedUnit("a", None, np.arange(20.0))], {})


def test_what_a_unit_lacks_is_missing():
    template = -np.eye(30)[10]
    found = units_of([SortedUnit("a", np.array([0.0, 0.01])), SortedUnit("b", np.array([3.0]), template, RATE)], {})
    np.testing.assert_array_equal(found.present, [[False, True, True], [True, False, False]])
    assert (
        np.isnan(found.waveform[0]).all() and found.isi[0, 10] == 1 and found.acg[0, [LAGS - 10, LAGS + 10]].sum() == 2
    )


# Tables.


def small(**changed) -> Units:
    parts = {
        "unit": ["a", "b"],
        "waveform": np.array([[1, 2, 3], [np.nan] * 3], np.float32),
        "isi": np.array([[0, 5], [1, 2]], np.float32),
        "acg": np.zeros((2, 0), np.float32),
        "about": {"label": ["PV", ""], "technology": ["tetrode", ""]},
        "truth": {"depth": np.array([1.5, 2.5])},
        "provenance": {"source": "here", "notes": ["größer"]},
    }
    return Units(**(parts | changed))


def test_a_table_comes_back_as_it_was(tmp_path):
    units, found = small(), read_units(write_units(small(), tmp_path).parent)
    assert list(found.unit) == ["a", "b"] and found.about == units.about and found.provenance == units.provenance
    for name, rows in units.modalities.items():
        np.testing.assert_array_equal(getattr(found, name), rows)
    np.testing.assert_array_equal(found.truth["depth"], units.truth["depth"])
    np.testing.assert_array_equal(found.present, [[True, True, False], [False, True, False]])
    assert found.technology_id.tolist() == [3, -1], "an unknown technology is not the first one"
    with np.load(tmp_path / FILE) as stored:
        np.testing.assert_array_equal(stored["present"], found.present)
        assert str(stored["sha256"]) == units.sha256 != small(unit=["a", "c"]).sha256


def test_a_table_that_was_changed_is_refused(tmp_path):
    with np.load(write_units(small(), tmp_path)) as stored:
        content = dict(stored)
    content["isi"] = content["isi"] + 1
    np.savez(tmp_path / FILE, **content)
    with pytest.raises(UnitsError, match="content hash differs"):
        read_units(tmp_path)
    with pytest.raises(UnitsError, match="there are no units"):
        read_units(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"unit": ["a", "a"]}, "unit a stands twice"),
        ({"isi": np.zeros((3, 2))}, "isi has the shape \\(3, 2\\) for 2 units"),
        ({"about": {"label": ["PV"]}}, "'label' has 1 entries for 2 units"),
        ({"waveform": np.array([[1.0, np.nan], [1, 2]])}, "waveform of unit a is finite in part"),
        ({"about": {"technology": ["neuropixel", ""]}}, "no technology 'neuropixel'"),
    ],
)
def test_a_table_that_does_not_fit_together_says_so(changed, sentence):
    with pytest.raises(UnitsError, match=sentence):
        small(**changed)
