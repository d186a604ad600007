"""The analysis of attention: uniform profiles, shuffled units, correlations and the running rate against direct computations."""

import numpy as np
import pytest

from jaxephys.spikes.attention_analysis import (
    correlate_within_windows,
    running_rate_logits,
    shuffle_units,
    uniform_lag_profile,
)


def test_the_uniform_lag_profile_is_that_of_the_whole_matrix():
    weight = np.tril(np.ones((9, 9))) / np.arange(1, 10)[:, None]
    expected = [np.diag(weight, -lag).mean() for lag in range(5)]
    np.testing.assert_allclose(uniform_lag_profile(9, 5), expected)


def test_shuffled_units_keep_their_bins_and_the_first_part_its_units():
    windows = (np.random.default_rng(0).random((3, 40, 8)) < 0.3).astype(np.float32)
    for window, changed in zip(windows, shuffle_units(windows, 0.5), strict=True):
        np.testing.assert_array_equal(changed[:20], window[:20])
        np.testing.assert_array_equal(changed[20:].sum(axis=1), window[20:].sum(axis=1))
        np.testing.assert_array_equal(np.sort(changed[20:].sum(axis=0)), np.sort(window[20:].sum(axis=0)))
        assert not np.array_equal(changed[20:], window[20:])


def test_correlations_are_those_of_numpy_within_windows():
    values, rate = np.random.default_rng(0).normal(size=(2, 4, 200))
    expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(values[:, 64:], rate[:, 64:], strict=True)])
    assert correlate_within_windows(values, rate) == pytest.approx(expected)
    assert np.isnan(correlate_within_windows(0 * values, rate))


def test_the_running_rate_counts_the_spikes_so_far():
    bins = (np.random.default_rng(0).random((50, 3)) < 0.3).astype(np.float32)
    rate = 1 / (1 + np.exp(-np.asarray(running_rate_logits(bins))))
    np.testing.assert_allclose(rate[20], (bins[:21].sum(axis=0) + 1) / 121, rtol=1e-4)
