"""Grids of networks: scored bins, paired intervals, and the checks that models share their bins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes import baselines
from jaxephys.spikes.baselines import baseline_inputs, count_baseline_outcomes, fit_baselines
from jaxephys.spikes.grid import metric_scores, score_intervals, scored_spans
from jaxephys.spikes.report.transfer import mark_channel_models, pair_table
from jaxephys.spikes.streaming_scores import add_bins, empty_counts, split_past
from tests.spikes.synthetic import synthetic_recording

ADD_BINS = jax.jit(add_bins)


@pytest.mark.parametrize("warm_up", [1000, 10**9])
def test_baselines_are_scored_on_the_test_bins_in_twenty_blocks(monkeypatch, warm_up):
    recording, first_bins = synthetic_recording(0), []

    def inputs(recording, start, stop, first, **options):
        first_bins.append(first)
        return baseline_inputs(recording, start, stop, first, **options)

    monkeypatch.setattr(baselines, "baseline_inputs", inputs)
    start, stop = recording.span("test")
    fitted = fit_baselines(recording)
    (counts,) = count_baseline_outcomes([fitted], recording, (start, stop), warm_up=warm_up)
    assert first_bins == [max(start - warm_up, 0)]
    spikes = recording.bits(start, stop)
    past = recording.bits(max(start - warm_up, 0), start)
    for one in counts.values():
        histogram, before = (np.asarray(part.histogram) for part in split_past(one))
        assert histogram.sum() == spikes.size and histogram[..., 1].sum() == spikes.sum()
        assert before.sum() == past.size and before[..., 1].sum() == past.sum()
    block = np.arange(stop - start) * 20 // (stop - start)
    loss = -np.where(spikes == 1, np.log(fitted.rate), np.log1p(-fitted.rate))
    expected = np.stack([loss[block == number].sum(axis=0) for number in range(20)])
    np.testing.assert_allclose(np.asarray(counts["training rate"].loss)[:-1], expected, rtol=1e-3)


def test_the_scored_training_bins_are_the_last_and_as_many_as_the_test_bins():
    recording = synthetic_recording(0)
    spans = scored_spans(recording)
    (start, stop), (test_start, test_stop) = spans["train"], recording.span("test")
    assert spans["test"] == recording.span("test")
    assert stop == recording.span("train")[1] and stop - start == test_stop - test_start


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
    scores = [
        score
        for name, counts in {"population": good, "shared GLM": bad}.items()
        for score in metric_scores("spikes_grid", name, "a", "b", 0, counts)
    ]
    table = pair_table(scores, found, ["a", "b"], "population", ["shared GLM"], "roc_auc")
    rows = [[cell.text for cell in row] for row in zip(*table.columns.values(), strict=True)]
    assert [row[0] for row in rows] == ["a -> a", "a -> b", "b -> a", "b -> b"] and rows[1][2] == "shared GLM"
    assert table.columns["population minus baseline [95 % interval]"][1].bold
    assert len(pair_table(scores, {}, ["a", "b"], "population", ["shared GLM"], "roc_auc").columns) == 4, (
        "no empty column"
    )
    score_intervals({"one": good, "two": bad}, "a", "b", 0)
    fewer = ADD_BINS(empty_counts(5, 3), jnp.zeros((10, 3)), jnp.zeros((10, 3), jnp.int32), jnp.zeros(10, jnp.int32))
    with pytest.raises(RuntimeError, match="two was not scored on the bins of one"):
        score_intervals({"one": good, "two": fewer}, "a", "b", 0)


def test_models_used_by_channel_are_marked():
    assert mark_channel_models("per-unit GLM", "a", "b") == "per-unit GLM (by channel)"
    assert mark_channel_models("per-unit GLM", "a", "a") == "per-unit GLM"
    assert mark_channel_models("shared GLM", "a", "b") == "shared GLM"
    assert mark_channel_models("units alone, adapted", "a", "b") == "units alone, adapted (by channel)"
