"""Simulated populations: the truth against enumeration and against the spikes; the Dickey-Fuller test against its distribution."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from data_prep.spikes.point_process import run, true_rate, walk
from data_prep.spikes.simulate import scores, simulate
from data_prep.spikes.simulated_populations import KINDS, NEAR_MS, PHASES, TIRED_MS, draw, kind_of, states
from data_prep.spikes.spike_times import SpikesError
from data_prep.spikes.stationarity import CRITICAL, critical_value, dickey_fuller, p_value

# The truth.


def enumerated(population, spikes):
    """P(spike of each unit in the last bin | all bins before), summed over every path of the hidden state, from the text's formulas."""
    kind, (bins, units) = population.kind, spikes.shape
    traces = [np.zeros((bins, units)) for _ in range(3)]
    for trace, tau in zip(traces, (kind.burst_ms, TIRED_MS, NEAR_MS), strict=True):
        trace[0] = population.base / (1 - np.exp(-1 / tau))
        for t in range(1, bins):
            trace[t] = np.exp(-1 / tau) * trace[t - 1] + spikes[t - 1]
    burst, tired, near = (trace - trace[0] for trace in traces)
    drive = kind.burst * burst - kind.tired * tired + near @ population.weight.T
    rate = population.base * np.exp(population.slope * (np.arange(bins) / bins - 0.5)[:, None] + 2 * np.tanh(drive / 2))
    for t in range(1, bins):
        rate[t, spikes[max(0, t - kind.refractory) : t].any(axis=0)] = 0
    chance = 1 - np.exp(-rate[:, None] * population.gain)  # [bin, state, unit]
    seen = np.where(spikes[:, None] > 0, chance, 1 - chance).prod(axis=2)
    total, mean = 0.0, np.zeros(units)
    for path in product(range(len(population.stay)), repeat=bins):
        weight = population.stay[path[0]]
        for t in range(1, bins):
            weight *= population.step[path[t - 1], path[t]] * seen[t - 1, path[t - 1]]
        total += weight
        mean += weight * chance[-1, path[-1]]
    return mean / total


RESTLESS = replace(
    kind_of("vitro_coupled"), rate=120, dwell=(0.003, 0.002), level=(-1.0, 1.5), tired=0.1, drift=0.7, coupling=0.9
)


@pytest.mark.parametrize(
    ("kind", "bins"),
    [(RESTLESS, 9), (replace(RESTLESS, dwell=(0.002, 0.003, 0.004), level=(0.0, -1.0, 1.0)), 6),
     (replace(RESTLESS, hertz=40.0, swing=1.5), 3)],
)  # fmt: skip
def test_the_truth_is_the_sum_over_all_paths(kind, bins):
    population = draw(kind, 8, seed=1)
    spikes = run(population, bins, seed=3)
    assert spikes.any()
    np.testing.assert_allclose(true_rate(population, spikes)[-1], enumerated(population, spikes), rtol=1e-6)


def test_the_truth_of_a_bin_knows_nothing_of_it_and_of_later_ones():
    population = draw(RESTLESS, 8, seed=1)
    spikes = run(population, 400, seed=3)
    other = spikes.copy()
    other[200:] = 0
    one, two = true_rate(population, spikes), true_rate(population, other)
    np.testing.assert_array_equal(one[:201], two[:201])
    assert not np.array_equal(one[201:], two[201:])


def test_blocks_change_nothing(monkeypatch):
    population = draw(RESTLESS, 8, seed=1)
    spikes = run(population, 500, seed=3)
    whole = true_rate(population, spikes)
    monkeypatch.setattr(point_process, "BLOCK", 64)
    np.testing.assert_allclose(true_rate(population, spikes), whole, rtol=1e-6)
    np.testing.assert_allclose(true_rate(population, spikes, 100, 333), whole[100:333], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_spikes_follow_the_truth(kind):
    """x - p is a martingale difference, so that its sum with any weights known before is of mean 0 and variance sum w^2 p (1 - p)."""
    population = draw(kind, 12, seed=5)
    spikes = run(population, 9000, seed=5)
    truth = true_rate(population, spikes).astype(float)
    assert truth.min() >= 0 and truth.max() < 1
    before = np.vstack([np.zeros((1, 12)), spikes[:-1]])
    for weight in (np.ones_like(truth), before, before.sum(axis=1, keepdims=True), truth > np.median(truth, axis=0)):
        sd = np.sqrt((weight**2 * truth * (1 - truth)).sum())
        assert abs((weight * (spikes - truth)).sum()) < 4.5 * sd + 1e-9
    if kind.refractory:
        rows = [np.diff(np.flatnonzero(own)) for own in spikes.T]
        shortest = np.concatenate(rows).min()
        assert shortest > kind.refractory and (shortest == kind.refractory + 1 or kind.burst < 1)


def test_a_population_is_the_same_whatever_else_is_drawn_and_longer():
    one = run(draw(kind_of("vivo_theta"), 9, 2), 3000, 2)
    np.testing.assert_array_equal(one, run(draw(kind_of("vivo_theta"), 9, 2), 3000, 2))
    assert not np.array_equal(one, run(draw(kind_of("vivo_theta"), 9, 3), 3000, 3))
    gains = {kind.name: draw(kind, 9, 2).base.tobytes() for kind in KINDS}
    assert len(set(gains.values())) == len(KINDS) == 12


def test_states_last_as_long_as_they_should():
    kind = replace(kind_of("vivo_slow"), hertz=10.0)
    population = draw(kind, 8, 0)
    state = walk(population, 400_000, np.random.default_rng(0))
    step, stay = states(kind)
    np.testing.assert_allclose(stay @ step, stay, atol=1e-12)
    np.testing.assert_allclose(step.sum(axis=1), 1)
    np.testing.assert_allclose(stay @ population.gain, 1)
    share = np.bincount(state // PHASES, minlength=2) / len(state)
    np.testing.assert_allclose(share, np.array(kind.dwell) / sum(kind.dwell), atol=0.05)
    steps = np.diff(state % PHASES) % PHASES
    assert set(steps.tolist()) == {0, 1} and steps.mean() == pytest.approx(10 * PHASES / 1000, rel=0.03)


def test_domains_differ_as_they_should():
    spikes = {kind.name: run(draw(kind, 24, 0), 6000, 0) for kind in KINDS}
    rate = {name: 1000 * own.mean() for name, own in spikes.items()}
    vitro, vivo = ([name for name in rate if name.startswith(domain)] for domain in ("vitro", "vivo"))
    assert len(vitro) == len(vivo) == 6
    assert min(rate[name] for name in vitro) > 5.5 > max(rate[name] for name in vivo)
    assert min(rate[name] for name in vivo) > 0.7
    skew = {name: own.mean() / max(np.median(own.mean(axis=0)), 1e-4) for name, own in spikes.items()}
    assert np.median([skew[name] for name in vitro]) > 1.5 * np.median([skew[name] for name in vivo]), "heavier tails"


# The scores of a probability.


def test_scores_are_those_of_their_definitions():
    rng = np.random.default_rng(0)
    rate = np.where(rng.random((20_000, 3)) < 0.5, 0.02, 0.1)
    spikes = (rng.random(rate.shape) < rate).astype(np.uint8)
    found = scores(spikes, rate)
    h = lambda p: -p * np.log2(p) - (1 - p) * np.log2(1 - p)  # noqa: E731
    bits = (h(0.06) - (h(0.02) + h(0.1)) / 2) / 0.06
    assert found["bits_per_spike"] == pytest.approx(bits, rel=0.1) and bits > 0.1
    # AUC of a two-valued score: P(high | spike) P(low | none) + half of the ties.
    high, low = 0.1 / 0.12, 0.98 / 1.88
    assert found["within_auc"] == pytest.approx(high * low + (high * (1 - low) + (1 - high) * low) / 2, abs=0.01)
    assert 0.45 < found["constant_auc"] < 0.55 and found["prevalence"] == pytest.approx(0.06, abs=0.003)


def test_no_other_probability_beats_the_truth(tmp_path):
    rows = simulate(tmp_path, ["vivo_theta", "vitro_states"], minutes=0.3, units=10, seed=1)
    for row in rows:
        assert row["auc"] > row["constant_auc"] and row["within_auc"] > 0.52 and row["bits_per_spike"] > 0
        with np.load(tmp_path / "truth" / f"{row['name']}.npz") as file:
            rate = file["test_rate"]
        from data_prep.spikes.recording import read_recording

        recording = read_recording(tmp_path / f"{row['name']}.npz")
        spikes = recording.bits(*recording.range("test"))
        assert rate.shape == spikes.shape
        for other in (rate**1.3, rate**0.7, np.roll(rate, 1, axis=0)):
            assert scores(spikes, other)["bits_per_spike"] < row["bits_per_spike"]


# Dickey and Fuller.


def test_the_statistic_is_that_of_the_reference_implementation():
    """Values of statsmodels 0.15, adfuller(walk, maxlag, autolag=None), on this walk."""
    steps = np.random.default_rng(0).normal(size=500).cumsum()
    found = dickey_fuller(steps)
    assert (found.lags, found.n) == (17, 482)
    assert found.statistic == pytest.approx(-0.8070718209164301, abs=1e-9)
    assert found.p == pytest.approx(0.8170359424115312, abs=1e-9)
    assert found.critical == pytest.approx(-2.8675550551408353, abs=1e-12)
    assert dickey_fuller(steps, lags=0).statistic == pytest.approx(-1.0742200839897327, abs=1e-9)


def test_random_walks_are_rejected_as_often_as_the_level_says_and_ar_1_nearly_always():
    rng = np.random.default_rng(1)
    walks = rng.normal(size=(400, 300)).cumsum(axis=1)
    rejected = np.mean([dickey_fuller(own, lags=1).p < 0.05 for own in walks])
    assert 0.025 < rejected < 0.085  # 0.05 +- 3 sd
    series = np.zeros((100, 300))
    for t in range(1, 300):
        series[:, t] = 0.8 * series[:, t - 1] + rng.normal(size=100)
    assert np.mean([dickey_fuller(own, lags=1).p < 0.05 for own in series]) > 0.95


def test_the_probability_agrees_with_the_critical_values():
    for level in CRITICAL:
        assert p_value(critical_value(level, 10**9)) == pytest.approx(level, rel=0.01)
    assert p_value(-30) == 0 and p_value(5) == 1
    grid = [p_value(x) for x in np.linspace(-10, 2.5, 200)]
    assert np.all(np.diff(grid) > 0)


def test_series_that_cannot_be_tested():
    with pytest.raises(SpikesError, match="10 points are too few"):
        dickey_fuller(np.arange(10.0))
    with pytest.raises(SpikesError, match="a constant series"):
        dickey_fuller(np.ones(200))
