"""Grids of networks: scored bins, paired intervals, and the checks that models share their bins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes.grid import (
    check_same_bins,
    mark_channel_models,
    score_intervals,
    scored_test_bins,
    scored_training_bins,
)
from jaxephys.spikes.report.transfer import pair_table
from jaxephys.spikes.streaming_scores import add_bins, empty_counts
from tests.spikes.synthetic import synthetic_recording

ADD_BINS = jax.jit(add_bins)


def test_the_scored_bins_are_the_test_split():
    recording = synthetic_recording(0)
    bins = scored_test_bins(recording, 1000)
    assert (bins.start, bins.stop) == recording.span("test") and bins.first_read == bins.start - 1000
    block_of = bins.block_of_bin(len(recording))
    assert (np.flatnonzero(block_of >= 0) == np.arange(bins.start, bins.stop)).all()
    assert (np.diff(block_of[bins.start : bins.stop]) >= 0).all() and block_of.max() == 19
    known = scored_training_bins(recording, 10**9)
    assert known.first_read == 0 and known.stop == recording.span("train")[1]
    assert known.stop - known.start == bins.stop - bins.start


def synthetic_counts(seed: int, shift: float = 0.0):
    rng = np.random.default_rng(0)
    logits = rng.normal(-3, 1.5, (4000, 3)).astype(np.float32)
    spikes = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.int32)
    logit = logits + shift * np.random.default_rng(seed).normal(size=logits.shape).astype(np.float32)
    return ADD_BINS(empty_counts(5, 3), jnp.asarray(logit), jnp.asarray(spikes), jnp.arange(4000) * 5 // 4000)


def test_differences_are_paired_and_models_must_share_their_bins():
    good, same, bad = synthetic_counts(0), synthetic_counts(0), synthetic_counts(1, 2.0)
    found = score_intervals({"population": good, "twin": same, "shared GLM": bad}, "a", "b", 20)
    assert found["a", "b", "population - twin", "roc_auc"] == (0, 0, 0)
    assert found["a", "b", "population - shared GLM", "roc_auc"].low > 0
    assert not any(name.startswith("shared GLM -") for _, _, name, _ in found)
    table = pair_table([], found, ["a", "b"][:0], ["population", "twin"])
    assert set(table.columns) >= {"model", "population minus model, ROC AUC"}
    check_same_bins({"one": good, "two": bad})
    fewer = ADD_BINS(empty_counts(5, 3), jnp.zeros((10, 3)), jnp.zeros((10, 3), jnp.int32), jnp.zeros(10, jnp.int32))
    with pytest.raises(RuntimeError, match="two was not scored on the bins of one"):
        check_same_bins({"one": good, "two": fewer})


def test_models_used_by_channel_are_marked():
    assert mark_channel_models("per-unit GLM", "a", "b") == "per-unit GLM (by channel)"
    assert mark_channel_models("per-unit GLM", "a", "a") == "per-unit GLM"
    assert mark_channel_models("shared GLM", "a", "b") == "shared GLM"
