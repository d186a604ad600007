"""Statistics of spike trains whose values are known."""

import numpy as np
import pytest

from jaxephys.spikes.spike_statistics import (
    autocorrelation,
    compare_statistics,
    compute_statistics,
    cv2,
    firing_rates,
    pairwise_correlation,
    population_coupling,
    rate_matched_poisson,
    spike_intervals,
)

TIME = 20_000
RNG = np.random.default_rng(2)
CLOCK = np.zeros(TIME, np.uint8)
CLOCK[::20] = 1
DRIVE = np.repeat(RNG.random(TIME // 50) < 0.5, 50) * 0.06  # shared by the coupled units
COUPLED = (RNG.random((TIME, 4)) < (0.01 + DRIVE)[:, None]).astype(np.uint8)
ALONE = (RNG.random(TIME) < 0.04).astype(np.uint8)
RASTER = np.column_stack([CLOCK, COUPLED, ALONE, np.zeros(TIME, np.uint8)])


def test_rates_are_spikes_per_second():
    assert firing_rates(RASTER, 2.0)[0] == pytest.approx(1000 / 40)
    assert firing_rates(RASTER, 1.0)[-1] == 0


def test_intervals_and_cv2():
    assert set(spike_intervals(RASTER)[0]) == {20}
    found = cv2(RASTER)
    assert found[0] == 0
    assert found[5] == pytest.approx(1, abs=0.1), "a Poisson process"
    assert np.isnan(found[-1])
    by_hand = np.zeros((100, 1), np.uint8)
    by_hand[np.cumsum([0, 1, 3, *([4] * 10)])] = 1
    assert cv2(by_hand)[0] == pytest.approx((2 * 2 / 4 + 2 * 1 / 7) / 11)


def test_autocorrelation_of_a_clock_a_poisson_process_and_a_silent_unit():
    found = autocorrelation(RASTER, 40)
    assert found[19, 0] == pytest.approx(19, rel=0.01)  # after 20 bins surely a spike, expected 1 / 20
    assert found[18, 0] == -1
    assert abs(found[:, 5].mean()) < 0.05
    assert np.isnan(found[:, -1]).all()
    by_hand = sum(ALONE[t] * ALONE[t + 7] for t in range(TIME - 7)) / (TIME - 7) / ALONE.mean() ** 2 - 1
    assert found[6, 5] == pytest.approx(by_hand)


def test_population_coupling_separates_driven_from_independent_units():
    counts = RASTER.reshape(-1, 50, RASTER.shape[1]).sum(1)
    found = pairwise_correlation(RASTER, 50)
    np.testing.assert_allclose(found[1:6, 1:6], np.corrcoef(counts[:, 1:6].T), atol=1e-12)
    coupling = population_coupling(RASTER, 50)
    others = np.delete(counts, 2, axis=1).sum(1)
    assert coupling[2] == pytest.approx(np.corrcoef(counts[:, 2], others)[0, 1])
    assert coupling[1:5].min() > 0.4 > 0.15 > abs(coupling[5])


def test_distances_are_zero_to_itself_and_positive_to_a_matched_poisson_raster():
    true = compute_statistics(RASTER, 1.0)
    assert all(value == 0 for name, value in compare_statistics(true, true).items() if name != "units_left_out")
    poisson = rate_matched_poisson(RASTER, seed=3)
    found, again = (
        compare_statistics(true, compute_statistics(poisson, 1.0)),
        compare_statistics(true, compute_statistics(rate_matched_poisson(poisson, 4), 1.0)),
    )
    for name in ("intervals", "cv2", "autocorrelation", "pairwise_correlation", "population_coupling"):
        assert found[name] > 0.05, name
        assert again[name] == pytest.approx(found[name], rel=0.35), "a second matched raster is as far"
    assert found["rate"] < 0.2
    assert found["units_left_out"] == pytest.approx(1 / 7)


def test_the_matched_poisson_raster_has_the_rates_and_nothing_else():
    poisson = rate_matched_poisson(RASTER, seed=0)
    assert poisson.dtype == np.uint8
    sd = np.sqrt(RASTER.mean(0) / TIME)
    assert np.all(np.abs(poisson.mean(0) - RASTER.mean(0)) <= 4 * sd)
    assert poisson[:, -1].sum() == 0
    assert np.abs(autocorrelation(poisson, 20)[:, 0].mean()) < 0.2


def test_impossible_measurements_are_refused():
    with pytest.raises(ValueError, match="100 lags"):
        autocorrelation(RASTER[:50], 100)
    with pytest.raises(ValueError, match="2 or more windows"):
        pairwise_correlation(RASTER[:80], 50)
    with pytest.raises(ValueError, match="one has 7 and the other 3"):
        compare_statistics(compute_statistics(RASTER, 1.0), compute_statistics(RASTER[:, :3], 1.0))
