"""Calibration of counted logits: equal to counting calibrated logits, and a correction of what is wrong."""

import jax
import numpy as np
import pytest

from jaxephys.spikes.calibration import adapt_counts, rescale_counts
from jaxephys.spikes.streaming_scores import add_bins, compute_scores, empty_counts, match_rate, split_past

RNG = np.random.default_rng(0)
LOGIT = RNG.normal(-3, 1.5, (6000, 4)).astype(np.float32)
SPIKES = (RNG.random(LOGIT.shape) < 1 / (1 + np.exp(-LOGIT))).astype(np.int32)
BLOCK = (np.arange(6000) * 3 // 6000).astype(np.int32)
ADD_BINS = jax.jit(add_bins)


def counts_of(logit):
    return ADD_BINS(empty_counts(3, 4), logit.astype(np.float32), SPIKES, BLOCK)


def test_rescaled_counts_are_those_of_rescaled_logits():
    found, expected = (
        compute_scores(rescale_counts(counts_of(LOGIT), 0.7, -0.4)),
        compute_scores(counts_of(0.7 * LOGIT - 0.4)),
    )
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=2e-4, rel=1e-3), name
    moved, counted = (
        np.asarray(part.histogram) for part in (rescale_counts(counts_of(LOGIT), 2.0, 1.0), counts_of(LOGIT))
    )
    np.testing.assert_array_equal(moved.sum(axis=2), counted.sum(axis=2))
    with pytest.raises(ValueError, match="logits are scaled by -1"):
        rescale_counts(counts_of(LOGIT), -1.0, 0.0)


def test_adaptation_corrects_scale_and_shift_of_other_bins():
    scored, past = split_past(counts_of(3 * LOGIT + 2))
    right, _ = split_past(counts_of(LOGIT))
    wrong, adapted, best = (
        compute_scores(one)["bits_per_spike"] for one in (scored, adapt_counts(scored, past), right)
    )
    assert wrong < 0 < best and adapted == pytest.approx(best, abs=0.01)
    assert compute_scores(adapt_counts(scored, past))["roc_auc"] == pytest.approx(
        compute_scores(right)["roc_auc"], abs=1e-3
    )


def test_as_many_spikes_are_predicted_as_there_are():
    _, past = split_past(counts_of(LOGIT))
    threshold, late = match_rate(past), BLOCK == 2
    assert (LOGIT[late] >= threshold).sum() == pytest.approx(SPIKES[late].sum(), rel=0.02)
    assert (
        match_rate(past._replace(histogram=np.asarray(past.histogram) * [1, 0])) > LOGIT[late][SPIKES[late] == 0].max()
    )
