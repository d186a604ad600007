"""Statistics of spike trains whose values are known."""

import numpy as np
import pytest

from jaxephys.spikes.spike_statistics import (
    autocorrelation,
    compare,
    cv2,
    describe,
    intervals,
    pairwise_correlation,
    population_coupling,
    rate_matched_poisson,
    rates,
)

TIME = 20_000
RNG = np.random.default_rng(2)
CLOCK = np.zeros(TIME, np.uint8)
CLOCK[::20] = 1
DRIVE = np.repeat(RNG.random(TIME // 50) < 0.5, 50) * 0.06  # shared by the choristers
CHOIR = (RNG.random((TIME, 4)) < (0.01 + DRIVE)[:, None]).astype(np.uint8)
SOLO = (RNG.random(TIME) < 0.04).astype(np.uint8)
RASTER = np.column_stack([CLOCK, CHOIR, SOLO, np.zeros(TIME, np.uint8)])


def test_rates_count_spikes_a_second():
    assert rates(RASTER, 2.0)[0] == pytest.approx(1000 / 40)
    assert rates(RASTER, 1.0)[-1] == 0


def test_intervals_and_their_regularity():
    assert set(intervals(RASTER)[0]) == {20}
    found = cv2(RASTER)
    assert found[0] == 0
    assert found[5] == pytest.approx(1, abs=0.1), "a Poisson train"
    assert np.isnan(found[-1])
    by_hand = np.zeros((100, 1), np.uint8)
    by_hand[np.cumsum([0, 1, 3, *([4] * 10)])] = 1
    assert cv2(by_hand)[0] == pytest.approx((2 * 2 / 4 + 2 * 1 / 7) / 11)


def test_autocorrelation_of_a_clock_a_poisson_train_and_a_silent_unit():
    found = autocorrelation(RASTER, 40)
    assert found[19, 0] == pytest.approx(19, rel=0.01)  # after 20 bins surely a spike, expected 1 / 20
    assert found[18, 0] == -1
    assert abs(found[:, 5].mean()) < 0.05
    assert np.isnan(found[:, -1]).all()
    by_hand = sum(SOLO[t] * SOLO[t + 7] for t in range(TIME - 7)) / (TIME - 7) / SOLO.mean() ** 2 - 1
    assert found[6, 5] == pytest.approx(by_hand)


def test_choristers_are_coupled_and_the_soloist_is_not():
    counts = RASTER.reshape(-1, 50, RASTER.shape[1]).sum(1)
    found = pairwise_correlation(RASTER, 50)
    np.testing.assert_allclose(found[1:6, 1:6], np.corrcoef(counts[:, 1:6].T), atol=1e-12)
    coupling = population_coupling(RASTER, 50)
    others = np.delete(counts, 2, axis=1).sum(1)
    assert coupling[2] == pytest.approx(np.corrcoef(counts[:, 2], others)[0, 1])
    assert coupling[1:5].min() > 0.4 > 0.15 > abs(coupling[5])


def test_a_raster_lies_at_no_distance_from_itself_and_far_from_its_poisson_twin():
    true = describe(RASTER, 1.0)
    assert all(value == 0 for name, value in compare(true, true).items() if name != "units_left_out")
    twin = rate_matched_poisson(RASTER, seed=3)
    found, again = (compare(true, describe(twin, 1.0)), compare(true, describe(rate_matched_poisson(twin, 4), 1.0)))
    for name in ("intervals", "cv2", "autocorrelation", "pairwise_correlation", "population_coupling"):
        assert found[name] > 0.05, name
        assert again[name] == pytest.approx(found[name], rel=0.35), "the twin of the twin is as far"
    assert found["rate"] < 0.2
    assert found["units_left_out"] == pytest.approx(1 / 7)


def test_the_poisson_twin_has_the_rates_and_no_more():
    twin = rate_matched_poisson(RASTER, seed=0)
    assert twin.dtype == np.uint8
    sd = np.sqrt(RASTER.mean(0) / TIME)
    assert np.all(np.abs(twin.mean(0) - RASTER.mean(0)) <= 4 * sd)
    assert twin[:, -1].sum() == 0
    assert np.abs(autocorrelation(twin, 20)[:, 0].mean()) < 0.2


def test_what_cannot_be_measured_is_said():
    with pytest.raises(ValueError, match="100 lags"):
        autocorrelation(RASTER[:50], 100)
    with pytest.raises(ValueError, match="2 or more windows"):
        pairwise_correlation(RASTER[:80], 50)
    with pytest.raises(ValueError, match="one has 7 and the other 3"):
        compare(describe(RASTER, 1.0), describe(RASTER[:, :3], 1.0))
