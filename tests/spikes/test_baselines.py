"""The baselines: features against a slow loop, regressions against scikit-learn and a known generator, causality."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from jaxephys.schemas.recording import Recording
from jaxephys.spikes import baselines
from jaxephys.spikes.baselines import (
    ADAPTIVE_NAMES,
    BASELINE_NAMES,
    EXPONENTIAL_CHOICES,
    MIXED_GLM,
    POPULATION_FILTERS,
    REFRACTORY_BINS,
    TAU_MS,
    USED_BY_CHANNEL,
    baseline_inputs,
    count_baseline_outcomes,
    fit_baselines,
    fit_logistic_regression,
)
from jaxephys.spikes.streaming_scores import compute_scores, split_past

BINS, UNITS = 20_000, 8
FAST, GAIN, REST = 20.0, 0.8, -3.0  # ms, weight of the level of that mean, weight of the bin after a spike
LEVELS = 3 + REFRACTORY_BINS  # where the levels begin among the features


def generate(seed: int, units: int = UNITS, bins: int = BINS) -> tuple[Recording, np.ndarray]:
    """Units that excite themselves for a while and rest for a bin, and the probability of every bin."""
    rng = np.random.default_rng(seed)
    base = np.exp(rng.uniform(np.log(0.005), np.log(0.05), units))
    spikes, truth = np.zeros((bins, units), np.uint8), np.zeros((bins, units))
    mean, decay = base.copy(), np.exp(-1 / FAST)
    for t in range(bins):
        level = np.log((mean + 0.1 * base) / (1.1 * base))
        truth[t] = expit(np.log(base) + GAIN * level + (REST * spikes[t - 1] if t else 0))
        spikes[t] = rng.random(units) < truth[t]
        mean = decay * mean + (1 - decay) * spikes[t]
    return Recording.from_array(spikes, name=f"synthetic {seed}"), truth


@pytest.fixture(scope="module")
def synthetic():
    recording, truth = generate(0)
    return recording, truth, fit_baselines(recording)


def inputs_of(recording, start, stop, first=0):
    parts = list(baseline_inputs(recording, start, stop, first))
    assert parts[0].start == start
    return baselines.BaselineInputs(start, *(np.concatenate(part) for part in list(zip(*parts, strict=True))[1:]))


def test_features_equal_those_of_a_slow_loop(monkeypatch):
    monkeypatch.setattr(baselines, "BLOCK_BINS", 7)  # so that several blocks meet
    spikes = (np.random.default_rng(1).random((60, 3)) < 0.2).astype(np.uint8)
    spikes[:, 2] = 0
    spikes[55, 2] = 1
    recording = Recording.from_array(spikes, bin_ms=2.0, splits=[[0, 30], [30, 45], [45, 60]])
    found = inputs_of(recording, 20, 60)
    for t in range(20, 60):
        for unit in range(3):
            before = spikes[:t, unit]
            rate = (before.sum() + 500 * 0.002) / (t + 500)
            population_rate = (spikes[:t].mean(1).sum() + 500 * 0.002) / (t + 500)
            when = np.flatnonzero(before)
            since = t - when[-1] if len(when) else 10**7
            features = [
                1,
                np.log(rate),
                np.clip(np.log(since * rate), -5, 5),
                *(since == k + 1 for k in range(REFRACTORY_BINS)),
            ]

            def mean(spikes_so_far, tau, t=t):
                return sum((1 - np.exp(-2 / tau)) * np.exp(-2 * (t - 1 - s) / tau) * spikes_so_far[s] for s in range(t))

            means = np.array([mean(before, tau) for tau in TAU_MS])
            features += list(np.minimum(np.log((means + 0.1 * rate) / (1.1 * rate)), 5))
            for index in POPULATION_FILTERS:
                features.append(
                    np.log((mean(spikes[:t].mean(1), TAU_MS[index]) + 0.1 * population_rate) / (1.1 * population_rate))
                )
            np.testing.assert_allclose(found.features[t - 20, unit], features, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(found.mean[t - 20, unit], means[list(EXPONENTIAL_CHOICES)], rtol=1e-4, atol=1e-9)
            assert found.rate[t - 20, unit] == pytest.approx(rate, rel=1e-5)


def test_bins_before_the_first_are_not_read(synthetic):
    recording, _, _ = synthetic
    later = Recording.from_array(recording.bits(12_000, BINS), splits=[[0, 2000], [2000, 4000], [4000, 8000]])
    found, alone = inputs_of(recording, 15_000, 15_100, 12_000), inputs_of(later, 3000, 3100)
    np.testing.assert_array_equal(found.features, alone.features)
    assert (found.features != inputs_of(recording, 15_000, 15_100).features).any()


def test_logits_do_not_depend_on_later_bins(synthetic):
    recording, _, fitted = synthetic
    at = 15_000
    spikes = recording.bits(0, BINS)
    other = spikes.copy()
    other[at:] = np.random.default_rng(2).random(other[at:].shape) < 0.3
    changed = Recording.from_array(other, splits=recording.splits)
    one, two = (fitted.compute_logits(inputs_of(each, at - 50, at + 50)) for each in (recording, changed))
    for name in BASELINE_NAMES:
        np.testing.assert_array_equal(one[name][:51], two[name][:51])
        assert (one[name][51:] != two[name][51:]).any() == (name != "training rate")


def test_a_regression_equals_that_of_scikit_learn():
    rng = np.random.default_rng(3)
    x = np.concatenate([np.ones((800, 1)), rng.normal(size=(800, 4))], axis=1)
    spike = (rng.random(800) < expit(x @ [-2, 1, 0, -1, 0.5])).astype(float)
    weight = rng.uniform(0.5, 5, 800)
    theirs = LogisticRegression(C=1 / 3.0, fit_intercept=False, tol=1e-10, max_iter=1000).fit(x, spike, weight)
    np.testing.assert_allclose(fit_logistic_regression(x, spike, weight, 3.0), theirs.coef_[0], atol=1e-5)
    split = np.array([0.5, 0, 0, 0, 0])  # an offset is a part of the logit that is not fitted, nor penalised
    moved = fit_logistic_regression(x, spike, weight, 1e-9, x @ split) + split
    np.testing.assert_allclose(moved, fit_logistic_regression(x, spike, weight, 1e-9), atol=1e-5)


def test_a_known_generator_is_recovered(synthetic):
    recording, truth, fitted = synthetic
    levels = dict(zip(TAU_MS, fitted.shared_weights[LEVELS:], strict=False))
    assert max(levels, key=lambda tau: levels[tau]) in (10.0, FAST, 40.0)
    start, stop = recording.span("test")
    logits = fitted.compute_logits(inputs_of(recording, start, stop))["shared GLM"]
    away = np.abs(expit(logits) - truth[start:stop]).mean() / truth[start:stop].mean()
    constant = np.abs(fitted.rate - truth[start:stop]).mean() / truth[start:stop].mean()
    assert away < 0.3 < 0.5 < constant
    after = recording.bits(start - 1, stop - 1) > 0
    rest, burst = (expit(logits)[bins].mean() for bins in (after, np.roll(after, 1, axis=0)))
    assert rest < 0.01 < 0.03 < burst < 0.07, (
        "the bin after a spike rests (0.003), the second after it does not (0.056)"
    )


def test_the_order_of_the_baselines_on_synthetic_spikes(synthetic):
    recording, truth, fitted = synthetic
    start, stop = recording.span("test")
    (counts,) = count_baseline_outcomes([fitted], recording, (start, stop), warm_up=start, n_blocks=4)
    counts = {name: split_past(one)[0] for name, one in counts.items()}
    found = {name: compute_scores(one) for name, one in counts.items()}
    assert {len(np.asarray(one.loss)) for one in counts.values()} == {4}
    assert all(np.asarray(one.histogram).sum() == (stop - start) * UNITS for one in counts.values())
    assert found["training rate"]["roc_auc_within_unit"] == pytest.approx(0.5)
    assert found["exponential"]["roc_auc_within_unit"] > 0.6
    assert found["shared GLM"]["bits_per_spike"] > found["exponential"]["bits_per_spike"] > 0
    spikes = recording.bits(start, stop)
    best = roc_auc_score(spikes.ravel(), truth[start:stop].ravel())
    assert best - 0.02 < found["shared GLM"]["roc_auc"] < best + 0.01
    logits = fitted.compute_logits(inputs_of(recording, start, stop))
    for name in BASELINE_NAMES:  # outer histogram bins are wide, and tie the smallest means
        auc = roc_auc_score(spikes.ravel(), logits[name].ravel())
        assert found[name]["roc_auc"] == pytest.approx(auc, abs=1e-2 if name == "exponential" else 1e-3)


def test_baselines_that_adapt_gain_on_another_recording(synthetic):
    """The other recording has the same dynamics, and its spikes are thinned to half: shared weights are wrong by a shift."""
    recording, _, fitted = synthetic
    spikes = generate(9)[0].bits(0, BINS)
    thinned = spikes * (np.random.default_rng(9).random(spikes.shape) < 0.5).astype(np.uint8)
    other = Recording.from_array(thinned, splits=recording.splits)
    span = other.span("test")
    for tested, least in ((other, 0.02), (recording, -0.01)):
        (counts,) = count_baseline_outcomes([fitted], tested, span, warm_up=span[0], n_blocks=4)
        assert list(counts) == [*BASELINE_NAMES, MIXED_GLM, *ADAPTIVE_NAMES[:-1]]
        bits = {name: compute_scores(split_past(one)[0])["bits_per_spike"] for name, one in counts.items()}
        for name in ("shared GLM", "per-unit GLM"):
            assert bits[f"{name}, adapted"] - bits[name] > least, (tested.name, name, bits)
        assert bits[MIXED_GLM] > max(bits["per-unit GLM"], bits["running rate"]) - 0.01, bits


def test_the_mixture_of_a_baseline_is_that_of_whole_recordings(synthetic, monkeypatch):
    """Blocks of other lengths, and bins after them, change nothing."""
    recording, _, fitted = synthetic

    def mixed(stop):
        (counts,) = count_baseline_outcomes([fitted], recording, (15_000, stop), warm_up=900, n_blocks=1)
        return np.asarray(split_past(counts[MIXED_GLM])[0].loss)

    whole = mixed(16_000)
    monkeypatch.setattr(baselines, "BLOCK_BINS", 700)
    np.testing.assert_allclose(mixed(16_000), whole, rtol=1e-4)
    assert (mixed(15_500) < whole).all()


def test_the_time_constant_follows_the_training_recording():
    def wandering(tau: float, seed: int) -> Recording:
        rng = np.random.default_rng(seed)
        hidden, decay = np.zeros((BINS, 4)), np.exp(-1 / tau)
        for t in range(1, BINS):
            hidden[t] = decay * hidden[t - 1] + np.sqrt(1 - decay**2) * rng.normal(size=4)
        return Recording.from_array((rng.random(hidden.shape) < 0.03 * np.exp(1.5 * hidden - 1)).astype(np.uint8))

    quick, slow = (fit_baselines(wandering(tau, 4)).tau_ms for tau in (20.0, 2000.0))
    assert quick <= 80 and slow >= 160


def test_other_recordings_use_channels_or_shared_weights(synthetic):
    _, _, fitted = synthetic
    other, _ = generate(5, units=UNITS + 2, bins=3000)
    logits = fitted.compute_logits(inputs_of(other, 2000, 2100))
    np.testing.assert_allclose(expit(logits["training rate"][0, :UNITS]), fitted.rate, rtol=1e-5)
    np.testing.assert_allclose(expit(logits["training rate"][0, UNITS:]), fitted.rate.mean(), rtol=1e-5)
    np.testing.assert_allclose(logits["per-unit GLM"][:, UNITS:], logits["shared GLM"][:, UNITS:], rtol=1e-4)
    order = np.random.default_rng(6).permutation(UNITS + 2)
    turned = Recording.from_array(other.bits(0, len(other))[:, order], splits=other.splits)
    again = fitted.compute_logits(inputs_of(turned, 2000, 2100))
    for name in BASELINE_NAMES:
        same = np.allclose(again[name], logits[name][:, order], atol=1e-5)
        assert same == (name not in USED_BY_CHANNEL), name


def test_a_silent_unit_has_the_shared_weights():
    recording, _ = generate(7, units=3, bins=4000)
    spikes = recording.bits(0, 4000)
    spikes[:, 1] = 0
    fitted = fit_baselines(Recording.from_array(spikes))
    assert (fitted.unit_weights[1] == 0).all() and (fitted.unit_weights[0] != 0).any()
    assert 0 < fitted.rate[1] < 1e-3
