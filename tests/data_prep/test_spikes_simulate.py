"""Simulated populations: the true probability agrees with enumeration and with the spikes. The Dickey-Fuller test has its level."""

from dataclasses import replace
from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest

from data_prep.spikes import point_process
from data_prep.spikes.check import dickey_fuller
from data_prep.spikes.point_process import _draw_states, simulate_spikes, true_probability
from data_prep.spikes.simulate import score_probability, write_simulated_recordings
from data_prep.spikes.simulated_populations import (
    ADAPTATION_MS,
    COUPLING_MS,
    KINDS,
    PHASES,
    draw_population,
    find_kind,
    state_chain,
)
from jaxephys.schemas.recording import Recording

# The true probability.


def enumerate_paths(population, spikes):
    """P(spike of each unit in the last bin | all bins before), summed over every path of the hidden state, from the formulas of the module's docstring."""
    kind, (bins, units) = population.kind, spikes.shape
    traces = [np.zeros((bins, units)) for _ in range(3)]
    for trace, tau in zip(traces, (kind.burst_ms, ADAPTATION_MS, COUPLING_MS), strict=True):
        trace[0] = population.base / (1 - np.exp(-1 / tau))
        for t in range(1, bins):
            trace[t] = np.exp(-1 / tau) * trace[t - 1] + spikes[t - 1]
    burst, adaptation, near = (trace - trace[0] for trace in traces)
    drive = kind.burst * burst - kind.adaptation * adaptation + near @ population.weight.T
    rate = population.base * np.exp(population.slope * (np.arange(bins) / bins - 0.5)[:, None] + 2 * np.tanh(drive / 2))
    for t in range(1, bins):
        rate[t, spikes[max(0, t - kind.refractory) : t].any(axis=0)] = 0
    chance = 1 - np.exp(-rate[:, None] * population.gain)  # [bin, state, unit]
    likelihood = np.where(spikes[:, None] > 0, chance, 1 - chance).prod(axis=2)
    total, mean = 0.0, np.zeros(units)
    for path in product(range(len(population.stationary)), repeat=bins):
        weight = population.stationary[path[0]]
        for t in range(1, bins):
            weight *= population.transition[path[t - 1], path[t]] * likelihood[t - 1, path[t - 1]]
        total += weight
        mean += weight * chance[-1, path[-1]]
    return mean / total


UNSTABLE = replace(
    find_kind("vitro_coupled"),
    rate=120,
    dwell=(0.003, 0.002),
    level=(-1.0, 1.5),
    adaptation=0.1,
    drift=0.7,
    coupling=0.9,
)


@pytest.mark.parametrize(
    ("kind", "bins"),
    [(UNSTABLE, 9), (replace(UNSTABLE, dwell=(0.002, 0.003, 0.004), level=(0.0, -1.0, 1.0)), 6),
     (replace(UNSTABLE, frequency=40.0, modulation=1.5), 3)],
)  # fmt: skip
def test_true_probability_is_the_sum_over_all_paths(kind, bins):
    population = draw_population(kind, 8, seed=1)
    spikes = simulate_spikes(population, bins, seed=3)
    assert spikes.any()
    np.testing.assert_allclose(true_probability(population, spikes)[-1], enumerate_paths(population, spikes), rtol=1e-6)


def test_true_probability_does_not_depend_on_its_bin_and_later_ones():
    population = draw_population(UNSTABLE, 8, seed=1)
    spikes = simulate_spikes(population, 400, seed=3)
    other = spikes.copy()
    other[200:] = 0
    one, two = true_probability(population, spikes), true_probability(population, other)
    np.testing.assert_array_equal(one[:201], two[:201])
    assert not np.array_equal(one[201:], two[201:])


def test_size_of_blocks_does_not_matter(monkeypatch):
    population = draw_population(UNSTABLE, 8, seed=1)
    spikes = simulate_spikes(population, 500, seed=3)
    whole = true_probability(population, spikes)
    monkeypatch.setattr(point_process, "BLOCK", 64)
    np.testing.assert_allclose(true_probability(population, spikes), whole, rtol=1e-6)
    np.testing.assert_allclose(true_probability(population, spikes, 100, 333), whole[100:333], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_spikes_follow_the_true_probability(kind):
    """x - p is a martingale difference, so that its sum with any weights known before is of mean 0 and variance sum w^2 p (1 - p)."""
    population = draw_population(kind, 12, seed=5)
    spikes = simulate_spikes(population, 9000, seed=5)
    truth = true_probability(population, spikes).astype(float)
    assert truth.min() >= 0 and truth.max() < 1
    before = np.vstack([np.zeros((1, 12)), spikes[:-1]])
    for weight in (np.ones_like(truth), before, before.sum(axis=1, keepdims=True), truth > np.median(truth, axis=0)):
        sd = np.sqrt((weight**2 * truth * (1 - truth)).sum())
        assert abs((weight * (spikes - truth)).sum()) < 4.5 * sd + 1e-9
    if kind.refractory:
        rows = [np.diff(np.flatnonzero(column)) for column in spikes.T]
        shortest = np.concatenate(rows).min()
        assert shortest > kind.refractory and (shortest == kind.refractory + 1 or kind.burst < 1)


def test_population_depends_on_kind_and_seed_only():
    one = simulate_spikes(draw_population(find_kind("vivo_theta"), 9, 2), 3000, 2)
    np.testing.assert_array_equal(one, simulate_spikes(draw_population(find_kind("vivo_theta"), 9, 2), 3000, 2))
    assert not np.array_equal(one, simulate_spikes(draw_population(find_kind("vivo_theta"), 9, 3), 3000, 3))
    gains = {kind.name: draw_population(kind, 9, 2).base.tobytes() for kind in KINDS}
    assert len(set(gains.values())) == len(KINDS) == 12


def test_durations_of_states():
    kind = replace(find_kind("vivo_slow"), frequency=10.0)
    population = draw_population(kind, 8, 0)
    state = _draw_states(population, 400_000, np.random.default_rng(0))
    transition, stationary = state_chain(kind)
    np.testing.assert_allclose(stationary @ transition, stationary, atol=1e-12)
    np.testing.assert_allclose(transition.sum(axis=1), 1)
    np.testing.assert_allclose(stationary @ population.gain, 1)
    share = np.bincount(state // PHASES, minlength=2) / len(state)
    np.testing.assert_allclose(share, np.array(kind.dwell) / sum(kind.dwell), atol=0.05)
    steps = np.diff(state % PHASES) % PHASES
    assert set(steps.tolist()) == {0, 1} and steps.mean() == pytest.approx(10 * PHASES / 1000, rel=0.03)


def test_domains_differ_in_rate_and_tails():
    spikes = {kind.name: simulate_spikes(draw_population(kind, 24, 0), 6000, 0) for kind in KINDS}
    rate = {name: 1000 * part.mean() for name, part in spikes.items()}
    vitro, vivo = ([name for name in rate if name.startswith(domain)] for domain in ("vitro", "vivo"))
    assert len(vitro) == len(vivo) == 6
    assert min(rate[name] for name in vitro) > 5.5 > max(rate[name] for name in vivo)
    assert min(rate[name] for name in vivo) > 0.7
    skew = {name: part.mean() / max(np.median(part.mean(axis=0)), 1e-4) for name, part in spikes.items()}
    assert np.median([skew[name] for name in vitro]) > 1.5 * np.median([skew[name] for name in vivo]), "heavier tails"


# The scores of a probability.


def test_scores_agree_with_their_definitions():
    rng = np.random.default_rng(0)
    rate = np.where(rng.random((20_000, 3)) < 0.5, 0.02, 0.1)
    spikes = (rng.random(rate.shape) < rate).astype(np.uint8)
    found = score_probability(spikes, rate)
    entropy = lambda p: -p * np.log2(p) - (1 - p) * np.log2(1 - p)  # noqa: E731
    bits = (entropy(0.06) - (entropy(0.02) + entropy(0.1)) / 2) / 0.06
    assert found["bits_per_spike"] == pytest.approx(bits, rel=0.1) and bits > 0.1
    # AUC of a two-valued score: P(high | spike) P(low | none) + half of the ties.
    high, low = 0.1 / 0.12, 0.98 / 1.88
    assert found["within_auc"] == pytest.approx(high * low + (high * (1 - low) + (1 - high) * low) / 2, abs=0.01)
    assert 0.45 < found["constant_auc"] < 0.55 and found["prevalence"] == pytest.approx(0.06, abs=0.003)


def test_no_other_probability_scores_higher_than_the_true_one(tmp_path):
    rows = write_simulated_recordings(tmp_path, ["vivo_theta", "vitro_states"], minutes=0.3, units=10, seed=1)
    for row in rows:
        assert row["auc"] > row["constant_auc"] and row["within_auc"] > 0.52 and row["bits_per_spike"] > 0
        with np.load(tmp_path / "truth" / f"{row['name']}.npz") as file:
            rate = file["test_rate"]
        recording = Recording.read(tmp_path / f"{row['name']}.npz")
        spikes = recording.bits(*recording.span("test"))
        assert rate.shape == spikes.shape
        for other in (rate**1.3, rate**0.7, np.roll(rate, 1, axis=0)):
            assert score_probability(spikes, other)["bits_per_spike"] < row["bits_per_spike"]


# The Dickey-Fuller test.

needs_statsmodels = pytest.mark.skipif(find_spec("statsmodels") is None, reason="the test needs the extra prep")


@needs_statsmodels
def test_statistic_has_the_expected_values():
    """Values of the implementation of version 0.1.0, which statsmodels 0.15 gives as well."""
    steps = np.random.default_rng(0).normal(size=500).cumsum()
    found = dickey_fuller(steps)
    assert (found.lags, found.nobs) == (17, 482)
    assert found.statistic == pytest.approx(-0.8070718209164301, abs=1e-9)
    assert found.pvalue == pytest.approx(0.8170359424115312, abs=1e-9)
    assert found.critical_values["5%"] == pytest.approx(-2.8675550551408353, abs=1e-12)
    assert dickey_fuller(steps, lags=0).statistic == pytest.approx(-1.0742200839897327, abs=1e-9)


@needs_statsmodels
def test_random_walks_are_rejected_at_the_level_and_ar_1_nearly_always():
    rng = np.random.default_rng(1)
    walks = rng.normal(size=(400, 300)).cumsum(axis=1)
    rejected = np.mean([dickey_fuller(walk, lags=1).pvalue < 0.05 for walk in walks])
    assert 0.025 < rejected < 0.085  # 0.05 +- 3 sd
    series = np.zeros((100, 300))
    for t in range(1, 300):
        series[:, t] = 0.8 * series[:, t - 1] + rng.normal(size=100)
    assert np.mean([dickey_fuller(walk, lags=1).pvalue < 0.05 for walk in series]) > 0.95


@needs_statsmodels
def test_invalid_series_are_refused():
    with pytest.raises(ValueError, match="maxlag must be less"):
        dickey_fuller(np.arange(10.0))
    with pytest.raises(ValueError, match="constant"):
        dickey_fuller(np.ones(200))
