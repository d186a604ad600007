"""History filters against a loop over bins in float64; streaming; bounds; the running rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes import history
from jaxephys.spikes.history import (
    MAX_LOG_RATIO,
    NO_SPIKE,
    Filters,
    absorb_prior,
    clip_history,
    compute_features,
    history_range,
    initial_history,
    last_state,
    merge_ranges,
    trace_history,
)
from tests.spikes.synthetic import advance_one_bin

RNG = np.random.default_rng(3)
FILTERS = Filters(tau_ms=(2.0, 15.0, 200.0, 5000.0), bin_ms=0.5)
UNITS = 9
SPIKES = (RNG.random((230, UNITS)) < RNG.random(UNITS) ** 3).astype(np.float32)
SPIKES[:, 4] = 0  # a unit that never fires
TRACE, FEATURES = (jax.jit(function, static_argnums=0) for function in (trace_history, compute_features))


def looped(filters, spikes):
    """Bin by bin, unit by unit."""
    columns = np.concatenate([spikes, spikes.mean(axis=1, keepdims=True)], axis=1).astype(float)
    means, since_spike, interval = (
        np.zeros((columns.shape[1], len(filters.tau_ms))),
        [NO_SPIKE] * UNITS,
        [NO_SPIKE] * UNITS,
    )
    kept = []
    for row in columns:
        for f, tau in enumerate(filters.tau_ms):
            a = np.exp(-filters.bin_ms / tau)
            means[:, f] = a * means[:, f] + (1 - a) * row
        for unit in range(UNITS):
            since_spike[unit] = min(since_spike[unit] + 1, NO_SPIKE)
            if row[unit] == 1:
                interval[unit], since_spike[unit] = since_spike[unit], 0
        kept.append((means[:-1].copy(), means[-1].copy(), list(since_spike), list(interval)))
    return [np.array(part) for part in zip(*kept, strict=True)]


def assert_same(got, wanted, tolerance=1e-6):
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance if np.asarray(one).dtype == np.float32 else 0)


def test_a_traced_window_equals_a_loop_over_bins():
    states = TRACE(FILTERS, initial_history(FILTERS, UNITS), jnp.asarray(SPIKES))
    assert_same(states[:4], looped(FILTERS, SPIKES))
    assert states.n_bins.tolist() == list(range(1, 231))


@pytest.mark.parametrize("bins", [1, 64, 65])
def test_whole_windows_and_single_bins_agree(bins):
    before = last_state(TRACE(FILTERS, initial_history(FILTERS, UNITS), jnp.asarray(SPIKES[:30])))
    window = jnp.asarray(SPIKES[30 : 30 + bins])
    states = TRACE(FILTERS, before, window)

    def one(state, spikes):
        state = advance_one_bin(FILTERS, state, spikes)
        return state, (state, compute_features(FILTERS, state))

    _, (singles, single_features) = jax.lax.scan(one, before, window)
    assert_same(states, singles)
    assert_same(FEATURES(FILTERS, states), single_features, 2e-5)  # logarithms of small means


@pytest.mark.parametrize("at", [64, 100])
def test_a_window_continues_from_the_one_before(at):
    whole = TRACE(FILTERS, initial_history(FILTERS, UNITS), jnp.asarray(SPIKES))
    first = TRACE(FILTERS, initial_history(FILTERS, UNITS), jnp.asarray(SPIKES[:at]))
    second = TRACE(FILTERS, last_state(first), jnp.asarray(SPIKES[at:]))
    assert_same(jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second), whole)


def features_of(spikes, filters):
    return FEATURES(
        filters, TRACE(filters, initial_history(filters, spikes.shape[1]), jnp.asarray(spikes, jnp.float32))
    )


def test_features_are_finite_and_bounded_at_any_rate():
    filters = Filters()
    spikes = np.zeros((3000, 5))
    spikes[:, 0] = 1
    spikes[1500, 2] = spikes[2999, 2] = 1
    spikes[::2, 3] = 1
    spikes[2000:, 4] = 1
    features = features_of(spikes, filters)
    assert features.unit.shape == (3000, 5, filters.n_features)
    assert features.population.shape == (3000, filters.n_population_features)
    assert np.abs(features.unit).max() <= MAX_LOG_RATIO and np.abs(features.population).max() <= MAX_LOG_RATIO
    assert np.isfinite(features.rate_logit).all()
    long = jnp.full(1, NO_SPIKE - 1)
    old = history.History(jnp.zeros((1, 11)), jnp.zeros(11), long, long, jnp.int32(2**30))

    def trace_one_bin(filters, state, spikes):
        return last_state(trace_history(filters, state, spikes[None]))

    for advance in (advance_one_bin, trace_one_bin):
        after = advance(filters, old, jnp.zeros(1))  # silent for hours
        assert all(np.isfinite(part).all() for part in compute_features(filters, after))
        assert advance(filters, after, jnp.zeros(1)).since_spike[0] == NO_SPIKE


def test_features_of_regular_units_do_not_depend_on_their_rate():
    """Regular spike trains of 250 and 10 Hz: only the rate logit depends on the rate, not slow levels and waiting times."""
    filters, every = Filters(), (4, 100)
    spikes = np.stack([np.arange(20_000) % n == n - 1 for n in every], axis=1)
    features = features_of(spikes, filters)
    slow = np.array(filters.tau_ms[:-1]) >= 1000
    for unit, n in enumerate(every):
        np.testing.assert_allclose(jax.nn.sigmoid(features.rate_logit[-1, unit]), 1 / n, rtol=0.02)
        levels = features.unit[-1, unit, : len(slow)]
        np.testing.assert_allclose(levels[slow], 0.0, atol=0.1)
        waiting, rhythm = features.unit[-2, unit, len(slow) : len(slow) + 2]  # the bin before the next spike
        np.testing.assert_allclose([waiting, rhythm], 0.0, atol=0.02)


def test_a_burst_raises_fast_levels_first_and_indicators_show_the_last_spike():
    filters = Filters()
    spikes = np.zeros((9000, 1))
    spikes[::100] = 1
    spikes[8950:8960] = 1
    features = np.asarray(features_of(spikes, filters).unit)[:, 0]
    fast, slow = features[:, 2], features[:, 8]
    assert fast[8959] > 2 > 0.5 > slow[8959] and fast[8999] < slow[8999]
    recent = features[:, -5:]
    expected = {0: 0, 1: 1, 2: 2, 4: 3, 9: 4}
    for bins, indicator in expected.items():
        assert recent[8900 + bins].tolist() == np.eye(5)[indicator].tolist()
    assert not recent[8915].any()


def test_features_before_the_first_bin_are_the_prior():
    features = compute_features(Filters(), initial_history(Filters(), 3))
    np.testing.assert_allclose(jax.nn.sigmoid(features.rate_logit), 0.005, rtol=1e-5)  # 5 Hz in bins of 1 ms
    np.testing.assert_allclose(features.unit, 0.0, atol=1e-6)
    np.testing.assert_allclose(features.population, 0.0, atol=1e-6)


def test_the_running_rate_forgets_its_prior():
    spikes = np.zeros((4000, 1))
    spikes[::5] = 1
    rate = jax.nn.sigmoid(features_of(spikes, Filters()).rate_logit[:, 0])
    assert abs(rate[99] - 0.2) < 0.14 and abs(rate[999] - 0.2) < 0.04 and abs(rate[-1] - 0.2) < 0.01


@pytest.mark.parametrize("units", [9, 50])
def test_permuting_units_permutes_states_to_the_last_bit(units):
    spikes = jnp.asarray(RNG.random((130, units)) < 0.1, jnp.float32)
    order = RNG.permutation(units)
    run = jax.jit(lambda spikes: trace_history(FILTERS, initial_history(FILTERS, units), spikes))
    one, other = run(spikes), run(spikes[:, order])
    np.testing.assert_array_equal(one.unit_means[:, order], other.unit_means)
    np.testing.assert_array_equal(one.population_means, other.population_means)
    np.testing.assert_array_equal(one.interval[:, order], other.interval)


def test_absorbing_the_prior_changes_no_feature_and_removes_the_beginning():
    states = TRACE(FILTERS, initial_history(FILTERS, UNITS), jnp.asarray(SPIKES[:40]))
    absorbed = absorb_prior(FILTERS, states)
    assert_same(FEATURES(FILTERS, absorbed), FEATURES(FILTERS, states), 1e-4)
    assert (absorbed.n_bins == NO_SPIKE).all()
    silent = TRACE(FILTERS, last_state(absorbed), jnp.zeros((4000, UNITS)))
    assert (FEATURES(FILTERS, last_state(silent)).unit[:, 2] < -2).all(), "the prior decays like observed spikes"


def test_states_are_clipped_to_the_range_of_the_past_and_rates_to_its_end():
    past = absorb_prior(FILTERS, TRACE(FILTERS, initial_history(FILTERS, UNITS), jnp.asarray(SPIKES)))
    last = last_state(past)
    halves = [
        history_range(jax.tree.map(lambda leaf, half=half: leaf[half], past)) for half in (slice(115), slice(115, None))
    ]
    bounds = merge_ranges(jax.tree.map(lambda *parts: jnp.stack(parts), *halves), last)
    np.testing.assert_array_equal(bounds.low.unit_means[:, :-1], past.unit_means[:, :, :-1].min(axis=0))
    longest = np.where(past.since_spike < NO_SPIKE, past.since_spike, 0).max(axis=0)
    assert longest[4] == 0 and np.sum(longest > 0) > 4
    np.testing.assert_array_equal(bounds.high.since_spike, longest)
    assert_same(clip_history(last, bounds), last)
    silent = clip_history(last_state(TRACE(FILTERS, last, jnp.zeros((4000, UNITS)))), bounds)
    np.testing.assert_allclose(silent.unit_means[:, :-1], bounds.low.unit_means[:, :-1])
    np.testing.assert_array_equal(silent.since_spike, np.where(longest > 0, longest, NO_SPIKE))
    np.testing.assert_array_equal(FEATURES(FILTERS, silent).rate_logit, FEATURES(FILTERS, last).rate_logit)
    busy = clip_history(last_state(TRACE(FILTERS, last, jnp.ones((4000, UNITS)))), bounds)
    np.testing.assert_allclose(busy.unit_means[:, :-1], bounds.high.unit_means[:, :-1])
    np.testing.assert_allclose(busy.population_means[:-1], bounds.high.population_means[:-1])
    assert (busy.since_spike == 0).all(), "a spike resets the time since the last spike"


def test_invalid_filters_are_refused():
    with pytest.raises(ValueError, match="two or more ascending time constants above 0"):
        Filters(tau_ms=(10.0, 5.0))
    with pytest.raises(ValueError, match="in bins of 0.0 ms"):
        Filters(bin_ms=0.0)
