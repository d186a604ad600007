"""Streamed scores against scikit-learn and hand computations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from jaxephys.spikes.streaming_scores import (
    BLOCK_SCORES,
    StreamingCounts,
    accuracies,
    add_bins,
    areas,
    bootstrap,
    calibration_error,
    choose_threshold,
    compute_scores,
    empty_counts,
    histogram_bin,
    histogram_logit,
)

TIME, UNITS, BLOCKS = 6000, 8, 6
RNG = np.random.default_rng(0)
LOGIT = (RNG.normal(-4.5, 1.5, UNITS) + RNG.normal(0, 1, (TIME, UNITS))).astype(np.float32)
LOGIT[:, -1] = -9  # a unit with fewer than ten spikes, and all its predictions alike
TARGET = (RNG.random((TIME, UNITS)) < 1 / (1 + np.exp(-LOGIT))).astype(np.int32)
BLOCK = (np.arange(TIME) * BLOCKS // TIME).astype(np.int32)


def counts_of(logit=LOGIT, target=TARGET, block=BLOCK, n_histogram_bins=2048):
    return jax.jit(add_bins)(empty_counts(BLOCKS, logit.shape[1], n_histogram_bins), logit, target, block)


COUNTS = counts_of()
FOUND = compute_scores(COUNTS)


def unit_scores(score):
    return np.mean([score(TARGET[:, u], LOGIT[:, u]) for u in range(UNITS) if TARGET[:, u].sum() >= 10])


def test_streamed_areas_equal_those_of_scikit_learn_to_the_width_of_a_histogram_bin():
    assert TARGET[:, -1].sum() < 10 and FOUND["units_scored"] == UNITS - 1
    assert FOUND["roc_auc"] == pytest.approx(roc_auc_score(TARGET.ravel(), LOGIT.ravel()), abs=1e-4)
    assert FOUND["roc_auc_within_unit"] == pytest.approx(unit_scores(roc_auc_score), abs=1e-4)
    pooled = average_precision_score(TARGET.ravel(), LOGIT.ravel())
    assert FOUND["average_precision"] == pytest.approx(pooled, rel=3e-3)
    assert FOUND["ap_over_prevalence"] == pytest.approx(pooled / TARGET.mean(), rel=3e-3)
    assert FOUND["average_precision_within_unit"] == pytest.approx(unit_scores(average_precision_score), rel=3e-3)


def test_ties_are_counted_as_scikit_learn_does():
    tied = histogram_logit(np.array([700, 900, 1000, 1400.0]), 2048).astype(np.float32)[
        RNG.choice(4, (TIME, UNITS), p=[0.5, 0.3, 0.1, 0.1])
    ] + np.float32(1e-4)
    target = (RNG.random(tied.shape) < 1 / (1 + np.exp(-tied))).astype(np.int32)
    found = compute_scores(counts_of(tied, target))
    assert found["roc_auc"] == pytest.approx(roc_auc_score(target.ravel(), tied.ravel()), abs=1e-12)
    assert found["average_precision"] == pytest.approx(average_precision_score(target.ravel(), tied.ravel()), abs=1e-12)


def test_areas_need_both_outcomes():
    assert np.isnan(areas(np.array([[3.0, 0], [2, 0]]))).all()
    assert areas(np.array([[3.0, 0], [0, 2]])) == (1, 1)


def test_bins_added_in_pieces_with_padding_equal_bins_added_at_once():
    counts = empty_counts(BLOCKS, UNITS)
    for start in range(0, TIME, 700):  # the last piece is short, and pieces straddle the blocks
        logit, target = (np.zeros((700, UNITS), each.dtype) for each in (LOGIT, TARGET))
        logit[:] = np.nan
        block = np.full(700, -1, np.int32)
        piece = slice(start, start + 700)
        real = len(LOGIT[piece])
        logit[:real], target[:real], block[:real] = LOGIT[piece], TARGET[piece], BLOCK[piece]
        counts = jax.jit(add_bins)(counts, logit, target, block)
    np.testing.assert_array_equal(counts.histogram, COUNTS.histogram)
    np.testing.assert_allclose(counts.loss, COUNTS.loss, rtol=1e-5)
    np.testing.assert_allclose(counts.squared_error, COUNTS.squared_error, rtol=1e-5)


def test_counts_can_be_vmapped_over_models():
    start = jax.tree.map(lambda x: jnp.stack([x, x]), empty_counts(BLOCKS, UNITS))
    both = jax.vmap(add_bins, (0, 0, None, None))(start, np.stack([LOGIT, -LOGIT]), TARGET, BLOCK)
    np.testing.assert_array_equal(both.histogram[0], COUNTS.histogram)
    np.testing.assert_array_equal(both.histogram[1], counts_of(-LOGIT).histogram)


def test_a_nan_logit_is_an_error():
    broken = LOGIT.copy()
    broken[5, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        compute_scores(counts_of(broken))


def test_an_infinite_logit_is_counted_and_penalized():
    certain = LOGIT.copy()
    certain[:2, 0] = -np.inf, np.inf
    target = TARGET.copy()
    target[:2, 0] = 0, 1
    assert np.isfinite(list(compute_scores(counts_of(certain, target)).values())).all()
    target[0, 0] = 1
    assert compute_scores(counts_of(certain, target))["bits_per_spike"] < -1e20


def test_bits_per_spike_by_hand():
    logit = np.array([[0.0, -2.0], [-1.0, 0.5], [0.0, 1.0], [0.0, 1.0]], np.float32)
    target = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], np.int32)
    counts = add_bins(empty_counts(1, 2), logit, target, np.zeros(4, np.int32))
    p = 1 / (1 + np.exp(-logit.astype(np.float64)))

    def bits(q):
        return np.log2(np.where(target == 1, q, 1 - q)).sum()

    found = compute_scores(counts, rate=np.array([0.5, 0.1]))
    assert found["bits_per_spike"] == pytest.approx((bits(p) - bits(np.array([0.25, 0.75]))) / 4, rel=1e-5)
    assert found["bits_per_spike_training"] == pytest.approx((bits(p) - bits(np.array([0.5, 0.1]))) / 4, rel=1e-5)
    assert found["brier"] == pytest.approx(np.mean((p - target) ** 2), rel=1e-5)
    assert np.isnan(found["roc_auc_within_unit"])


def test_the_calibration_error_is_the_difference_of_forecast_and_frequency():
    assert FOUND["ece"] < 0.004  # spikes were drawn with these very probabilities
    constant = counts_of(np.full_like(LOGIT, -1.0))
    assert compute_scores(constant)["ece"] == pytest.approx(1 / (1 + np.e) - TARGET.mean(), abs=2e-3)
    assert calibration_error(np.asarray(COUNTS.histogram).sum((0, 1)).astype(float), 1) <= FOUND["ece"]


def test_the_threshold_is_the_best_of_those_with_few_false_alarms():
    threshold = choose_threshold(COUNTS)
    silent, spiking = LOGIT[TARGET == 0], LOGIT[TARGET == 1]

    def gain(edge):
        return np.mean(spiking >= edge) - np.mean(silent >= edge)

    allowed = [e for e in histogram_logit(np.arange(1, 2048.0), 2048) if np.mean(silent >= e) <= 0.005]
    assert gain(threshold) == pytest.approx(max(map(gain, allowed)), abs=1e-12)
    assert np.mean(silent >= threshold) <= 0.005
    found = compute_scores(COUNTS, threshold=threshold)
    assert found["accuracy_on_0"] == pytest.approx(np.mean(silent < threshold), abs=1e-12)
    assert found["accuracy_on_1"] == pytest.approx(np.mean(spiking >= threshold), abs=1e-12)
    assert found["accuracy"] == pytest.approx(np.mean((threshold <= LOGIT) == TARGET), abs=1e-12)
    assert accuracies(np.array([[3.0, 1], [1, 3]]), np.inf)["accuracy_on_1"] == 0


def test_logits_of_histogram_bins_are_inverted():
    edge = histogram_logit(np.arange(1, 512.0), 512)
    assert np.all(np.diff(edge) > 0)
    inside = histogram_logit(np.arange(512) + 0.5, 512)
    np.testing.assert_array_equal(histogram_bin(inside, 512), np.arange(512))
    assert np.all((inside[:-1] < edge) & (edge < inside[1:]))
    assert histogram_bin(np.array([-np.inf, np.inf]), 512).tolist() == [0, 511]


def test_the_bootstrap_resamples_the_same_blocks_for_all():
    worse = LOGIT + RNG.normal(0, 1, LOGIT.shape).astype(np.float32)
    found = bootstrap({"a": COUNTS, "same": counts_of(), "worse": counts_of(worse)}, resamples=100)
    assert found["a - same", "roc_auc"] == (0, 0, 0)
    assert found["a", "roc_auc"].estimate == pytest.approx(FOUND["roc_auc"], abs=1e-12)
    alone, beside = found["a", "bits_per_spike"], found["a - worse", "bits_per_spike"]
    assert alone.low < alone.estimate < alone.high
    assert 0 < beside.low < beside.high


def test_the_interval_of_the_bootstrap_is_that_of_a_mean_over_blocks():
    of_blocks = np.asarray(COUNTS.histogram)[..., 1].sum((1, 2)) / (TIME / BLOCKS * UNITS)
    found = bootstrap({"a": counts_of(n_histogram_bins=8)}, resamples=1000)["a", "prevalence"]
    sd = of_blocks.std() / np.sqrt(BLOCKS)
    assert (found.high - found.low) / (2 * 1.96 * sd) == pytest.approx(1, abs=0.12)


def test_an_interval_is_centered_on_its_estimate_when_blocks_differ():
    """A score that only separates blocks is lower in resamples with repeated blocks; the interval is shifted back."""
    rise = np.tile(BLOCK[:, None] / BLOCKS, (1, UNITS)).astype(np.float32)
    fired = (np.random.default_rng(0).random(rise.shape) < 0.05 + 0.3 * rise).astype(np.int32)
    found = bootstrap({"a": counts_of(rise, fired)}, resamples=400)["a", "roc_auc_within_unit"]
    assert found.estimate > 0.6
    assert (found.low + found.high) / 2 == pytest.approx(found.estimate, abs=(found.high - found.low) / 8)


def test_intervals_of_some_scores_are_those_of_all_to_the_last_bit():
    worse = LOGIT + np.random.default_rng(2).normal(0, 1, LOGIT.shape).astype(np.float32)
    models = {"a": COUNTS, "worse": counts_of(worse)}
    everything, some = bootstrap(models, resamples=30), bootstrap(models, resamples=30, all_scores=False)
    assert some == {key: interval for key, interval in everything.items() if key[1] in BLOCK_SCORES}
    assert list(some) == [key for key in everything if key[1] in BLOCK_SCORES]


def test_models_on_other_blocks_cannot_be_compared():
    with pytest.raises(ValueError, match="same 2 or more time blocks"):
        bootstrap({"a": COUNTS, "b": StreamingCounts(*(part[:3] for part in COUNTS))})
