"""Intervals and tests are compared with results by hand, with SciPy, and with small simulations."""

import numpy as np
import pytest
from scipy import stats as sp

from jaxephys.evaluation import intervals

A = np.array([0.80, 0.84, 0.78, 0.86, 0.82])
B = np.array([0.79, 0.80, 0.77, 0.83, 0.81])


def autoregression(seed, length=300, memory=0.8):
    """Return an AR(1) series with mean 0 from its stationary distribution."""
    noise = np.random.default_rng(seed).normal(size=length)
    series = np.empty(length)
    series[0] = noise[0] / np.sqrt(1 - memory**2)
    for i in range(1, length):
        series[i] = memory * series[i - 1] + noise[i]
    return series


def test_mean_sd_by_hand():
    assert intervals.mean_sd([1.0, 2.0, 3.0, 6.0]) == pytest.approx((3.0, np.sqrt(14 / 3)))
    assert intervals.mean_sd([0.1, 0.1, 0.1]).sd == 0.0
    assert np.isnan(intervals.mean_sd([0.9]).sd) and np.isnan(intervals.mean_sd([]).mean)


def test_corrected_interval_by_hand():
    # mean 3, sd^2 = 14/3, error^2 = (1/4 + 1/4) 14/3 = 7/3, t(0.975; 3) = 3.182446
    found = intervals.corrected_interval([1.0, 2.0, 3.0, 6.0], n_train=80, n_test=20)
    margin = 3.182446 * np.sqrt(7 / 3)
    assert found == pytest.approx((3.0, 3.0 - margin, 3.0 + margin), rel=1e-6)


def test_corrected_test_by_hand():
    # differences 1, 4, 1, 3, 1 hundredths: mean 2, sd^2 = 8/4 = 2, error^2 = (1/5 + 1/4) 2 = 0.9
    found = intervals.corrected_test(A, B, n_train=400, n_test=100)
    t = 2 / np.sqrt(0.9)
    assert found.difference == pytest.approx(0.02)
    assert found.p_value == pytest.approx(2 * sp.t.sf(t, 4))
    margin = sp.t.ppf(0.975, 4) * np.sqrt(0.9) / 100
    assert (found.low, found.high) == pytest.approx((0.02 - margin, 0.02 + margin))
    assert found.n == 5


def test_without_shared_rows_it_is_the_paired_t_test():
    found = intervals.corrected_test(A, B, n_train=1e12, n_test=1, level=0.9)
    paired = sp.ttest_rel(A, B)
    assert found.p_value == pytest.approx(paired.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(paired.confidence_interval(0.9)))


def test_swapping_the_models_turns_the_sign_only():
    there, back = (intervals.corrected_test(*pair, n_train=4, n_test=1) for pair in [(A, B), (B, A)])
    assert there.p_value == back.p_value
    assert (there.difference, there.low, there.high) == (-back.difference, -back.high, -back.low)


def test_the_interval_excludes_zero_exactly_when_p_is_below_its_level():
    for seed in range(50):
        a, b = np.random.default_rng(seed).normal(size=(2, 6))
        found = intervals.corrected_test(a + 0.8, b, n_train=9, n_test=1, level=0.9)
        assert (found.low > 0 or found.high < 0) == (found.p_value < 0.1)


def test_differences_without_spread_have_a_defined_p_value():
    assert intervals.corrected_test(A, A, 4, 1) == (0.0, 0.0, 0.0, 1.0, 5)
    assert intervals.corrected_test(A + 1, np.ones(5) + A - 1, 4, 1).p_value < 1e-12
    assert intervals.corrected_test(np.full(5, 0.75), np.full(5, 0.5), 4, 1) == (
        0.25,
        0.25,
        0.25,
        0.0,
        5,
    )


def test_the_correction_keeps_the_false_alarms_of_resampled_splits_rare():
    """Two learners, equally good on the population, compared on 20 random splits of one sample.

    A learner predicts the mean of its training rows; its rival uses its own noisy copy of the rows.
    The plain paired t test takes the splits for independent and finds a winner far too often.
    """
    alarms = {"corrected": 0, "plain": 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=60)
        first, second = truth + rng.normal(size=(2, 60))
        orders = np.array([rng.permutation(60) for _ in range(20)])
        train, test = orders[:, :48], orders[:, 48:]
        a, b = (((view[train].mean(1, keepdims=True) - view[test]) ** 2).mean(1) for view in (first, second))
        alarms["corrected"] += intervals.corrected_test(a, b, 48, 12).p_value < 0.05
        alarms["plain"] += sp.ttest_rel(a, b).pvalue < 0.05
    assert alarms["plain"] > 60
    assert alarms["corrected"] < alarms["plain"] / 2


def test_one_block_a_row_is_the_ordinary_bootstrap():
    values = np.random.default_rng(0).normal(size=100)
    found = intervals.block_bootstrap(np.mean, values, block=1, resamples=4000)
    oracle = sp.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1)
    assert found.estimate == values.mean()
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval), abs=0.02)


def test_a_block_as_long_as_the_series_is_the_series():
    series = autoregression(0)
    assert intervals.block_bootstrap(np.mean, series, block=300, resamples=5) == (series.mean(),) * 3


def test_resamples_are_whole_blocks_and_rows_stay_together():
    seen = []

    def keep(rows):
        seen.append(rows)
        return float(rows[:, 0].mean())

    time = np.arange(23)
    intervals.block_bootstrap(keep, np.stack([time, 10 * time], axis=1), block=5, resamples=300)
    starts = set()
    for rows in seen[:300]:
        assert rows.shape == (23, 2)
        np.testing.assert_array_equal(rows[:, 1], 10 * rows[:, 0])
        for begin in range(0, 23, 5):
            piece = rows[begin : begin + 5, 0]
            np.testing.assert_array_equal(np.diff(piece), 1)
            starts.add(int(piece[0]))
    assert starts == set(range(19))  # every block that fits, the first and the last too


def test_blocks_cover_the_mean_of_an_autoregression_where_single_rows_fail():
    covered = {1: 0, 30: 0}
    for seed in range(100):
        series = autoregression(seed)
        for block in covered:
            found = intervals.block_bootstrap(np.mean, series, block, resamples=200, seed=seed)
            covered[block] += found.low < 0 < found.high
    assert covered[1] < 65
    assert covered[30] > 80


def test_the_seed_and_the_level_decide_the_interval():
    series = autoregression(1)
    narrow, wide, again, other = (
        intervals.block_bootstrap(np.mean, series, 20, resamples=200, seed=seed, level=level)
        for seed, level in [(0, 0.5), (0, 0.95), (0, 0.95), (1, 0.95)]
    )
    assert wide == again != other
    assert wide.low < narrow.low < narrow.high < wide.high


SERIES = np.arange(10.0)

MISTAKES = {
    "at least 2": [
        lambda: intervals.corrected_interval([], 4, 1),
        lambda: intervals.corrected_test([0.9], [0.8], 4, 1),
        lambda: intervals.block_bootstrap(np.mean, SERIES[:1], 1),
    ],
    "1 of 3 values are NaN or infinite": [
        lambda: intervals.corrected_interval([0.9, np.inf, 0.8], 4, 1),
        lambda: intervals.corrected_test([0.9, 0.7, 0.8], [0.9, np.nan, 0.8], 4, 1),
        lambda: intervals.block_bootstrap(np.mean, np.array([1.0, 2.0, np.nan]), 1),
    ],
    "a has 3 and b has 2": [lambda: intervals.corrected_test([0.9, 0.8, 0.7], [0.9, 0.8], 4, 1)],
    "one-dimensional array": [lambda: intervals.mean_sd([[0.9, 0.8]])],
    "needs training and test rows": [
        lambda: intervals.corrected_interval(A, 0, 1),
        lambda: intervals.corrected_test(A, B, 4, np.nan),
    ],
    "must have 1 to 10 rows": [
        lambda: intervals.block_bootstrap(np.mean, SERIES, 11),
        lambda: intervals.block_bootstrap(np.mean, SERIES, 0),
    ],
    "an interval needs many": [lambda: intervals.block_bootstrap(np.mean, SERIES, 2, resamples=1)],
    "between 0 and 1": [
        lambda: intervals.corrected_interval(A, 4, 1, level=95.0),
        lambda: intervals.block_bootstrap(np.mean, SERIES, 2, level=1.0),
    ],
    "not finite on 7 of 7": [lambda: intervals.block_bootstrap(lambda rows: float("nan"), SERIES, 2, resamples=7)],
}


@pytest.mark.parametrize(("sentence", "call"), [(text, call) for text, calls in MISTAKES.items() for call in calls])
def test_invalid_arguments_raise(sentence, call):
    with pytest.raises(ValueError, match=sentence):
        call()
