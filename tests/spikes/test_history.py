"""History filters against a loop over bins in float64; streaming; bounds; what a running rate is worth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes import history
from jaxephys.spikes.history import (
    BOUND,
    UNKNOWN,
    Filters,
    advance,
    keep,
    last_of,
    no_history,
    range_after,
    range_of,
    read,
    settle,
    trace,
)

RNG = np.random.default_rng(3)
FILTERS = Filters(tau_ms=(2.0, 15.0, 200.0, 5000.0), bin_ms=0.5)
UNITS = 9
SPIKES = (RNG.random((230, UNITS)) < RNG.random(UNITS) ** 3).astype(np.float32)
SPIKES[:, 4] = 0  # a unit that never fires
TRACE, READ = (jax.jit(function, static_argnums=0) for function in (trace, read))


def looped(filters, spikes):
    """Bin by bin, unit by unit."""
    columns = np.concatenate([spikes, spikes.mean(axis=1, keepdims=True)], axis=1).astype(float)
    means, since, interval = np.zeros((columns.shape[1], len(filters.tau_ms))), [UNKNOWN] * UNITS, [UNKNOWN] * UNITS
    kept = []
    for row in columns:
        for f, tau in enumerate(filters.tau_ms):
            a = np.exp(-filters.bin_ms / tau)
            means[:, f] = a * means[:, f] + (1 - a) * row
        for unit in range(UNITS):
            since[unit] = min(since[unit] + 1, UNKNOWN)
            if row[unit] == 1:
                interval[unit], since[unit] = since[unit], 0
        kept.append((means[:-1].copy(), means[-1].copy(), list(since), list(interval)))
    return [np.array(part) for part in zip(*kept, strict=True)]


def assert_same(got, wanted, tolerance=1e-6):
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance if np.asarray(one).dtype == np.float32 else 0)


def test_the_trace_of_a_window_is_the_loop_over_its_bins():
    states = TRACE(FILTERS, no_history(FILTERS, UNITS), jnp.asarray(SPIKES))
    assert_same(states[:4], looped(FILTERS, SPIKES))
    assert states.age.tolist() == list(range(1, 231))


@pytest.mark.parametrize("bins", [1, 64, 65])
def test_whole_windows_and_single_bins_agree(bins):
    before = last_of(TRACE(FILTERS, no_history(FILTERS, UNITS), jnp.asarray(SPIKES[:30])))
    window = jnp.asarray(SPIKES[30 : 30 + bins])
    states = TRACE(FILTERS, before, window)

    def one(state, spikes):
        state = advance(FILTERS, state, spikes)
        return state, (state, read(FILTERS, state))

    _, (singles, readings) = jax.lax.scan(one, before, window)
    assert_same(states, singles)
    assert_same(READ(FILTERS, states), readings, 2e-5)  # logarithms of small means


@pytest.mark.parametrize("at", [64, 100])
def test_a_window_goes_on_where_the_one_before_it_ended(at):
    whole = TRACE(FILTERS, no_history(FILTERS, UNITS), jnp.asarray(SPIKES))
    first = TRACE(FILTERS, no_history(FILTERS, UNITS), jnp.asarray(SPIKES[:at]))
    second = TRACE(FILTERS, last_of(first), jnp.asarray(SPIKES[at:]))
    assert_same(jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second), whole)


def reading_of(spikes, filters):
    return READ(filters, TRACE(filters, no_history(filters, spikes.shape[1]), jnp.asarray(spikes, jnp.float32)))


def test_whatever_the_rate_features_are_finite_and_bounded():
    filters = Filters()
    spikes = np.zeros((3000, 5))
    spikes[:, 0] = 1
    spikes[1500, 2] = spikes[2999, 2] = 1
    spikes[::2, 3] = 1
    spikes[2000:, 4] = 1
    reading = reading_of(spikes, filters)
    assert reading.features.shape == (3000, 5, filters.features)
    assert reading.population.shape == (3000, filters.population_features)
    assert np.abs(reading.features).max() <= BOUND and np.abs(reading.population).max() <= BOUND
    assert np.isfinite(reading.offset).all()
    long = jnp.full(1, UNKNOWN - 1)
    old = history.History(jnp.zeros((1, 11)), jnp.zeros(11), long, long, jnp.int32(2**30))
    after = advance(filters, old, jnp.zeros(1))  # silent for hours
    assert all(np.isfinite(part).all() for part in read(filters, after))
    assert advance(filters, after, jnp.zeros(1)).since[0] == UNKNOWN


def test_units_of_any_rate_look_alike_when_they_fire_as_always():
    """Regular trains of 250 and 10 Hz: the offset knows the rate, the slow levels and the waiting times do not."""
    filters, every = Filters(), (4, 100)
    spikes = np.stack([np.arange(20_000) % n == n - 1 for n in every], axis=1)
    reading = reading_of(spikes, filters)
    slow = np.array(filters.tau_ms[:-1]) >= 1000
    for unit, n in enumerate(every):
        np.testing.assert_allclose(jax.nn.sigmoid(reading.offset[-1, unit]), 1 / n, rtol=0.02)
        levels = reading.features[-1, unit, : len(slow)]
        np.testing.assert_allclose(levels[slow], 0.0, atol=0.1)
        waiting, rhythm = reading.features[-2, unit, len(slow) : len(slow) + 2]  # the bin before the next spike
        np.testing.assert_allclose([waiting, rhythm], 0.0, atol=0.02)


def test_a_burst_lifts_fast_levels_first_and_indicators_tell_the_last_spike():
    filters = Filters()
    spikes = np.zeros((9000, 1))
    spikes[::100] = 1
    spikes[8950:8960] = 1
    features = np.asarray(reading_of(spikes, filters).features)[:, 0]
    fast, slow = features[:, 2], features[:, 8]
    assert fast[8959] > 2 > 0.5 > slow[8959] and fast[8999] < slow[8999]
    recent = features[:, -5:]
    place = {0: 0, 1: 1, 2: 2, 4: 3, 9: 4}
    for bins, indicator in place.items():
        assert recent[8900 + bins].tolist() == np.eye(5)[indicator].tolist()
    assert not recent[8915].any()


def test_before_the_first_bin_nothing_is_said_but_the_guess():
    reading = read(Filters(), no_history(Filters(), 3))
    np.testing.assert_allclose(jax.nn.sigmoid(reading.offset), 0.005, rtol=1e-5)  # 5 Hz in bins of 1 ms
    np.testing.assert_allclose(reading.features, 0.0, atol=1e-6)
    np.testing.assert_allclose(reading.population, 0.0, atol=1e-6)


def test_the_running_rate_forgets_its_guess():
    spikes = np.zeros((4000, 1))
    spikes[::5] = 1
    rate = jax.nn.sigmoid(reading_of(spikes, Filters()).offset[:, 0])
    assert abs(rate[99] - 0.2) < 0.14 and abs(rate[999] - 0.2) < 0.04 and abs(rate[-1] - 0.2) < 0.01


@pytest.mark.parametrize("units", [9, 50])
def test_another_order_of_units_is_another_order_of_states_to_the_last_bit(units):
    spikes = jnp.asarray(RNG.random((130, units)) < 0.1, jnp.float32)
    order = RNG.permutation(units)
    run = jax.jit(lambda spikes: trace(FILTERS, no_history(FILTERS, units), spikes))
    one, other = run(spikes), run(spikes[:, order])
    np.testing.assert_array_equal(one.own[:, order], other.own)
    np.testing.assert_array_equal(one.population, other.population)
    np.testing.assert_array_equal(one.interval[:, order], other.interval)


def test_a_settled_state_reads_as_before_and_knows_no_beginning():
    states = TRACE(FILTERS, no_history(FILTERS, UNITS), jnp.asarray(SPIKES[:40]))
    settled = settle(FILTERS, states)
    assert_same(READ(FILTERS, settled), READ(FILTERS, states), 1e-4)
    assert (settled.age == UNKNOWN).all()
    silent = TRACE(FILTERS, last_of(settled), jnp.zeros((4000, UNITS)))
    assert (READ(FILTERS, last_of(silent)).features[:, 2] < -2).all(), "what was guessed fades like what was seen"


def test_states_are_kept_to_the_range_of_a_past_and_rates_to_its_end():
    past = settle(FILTERS, TRACE(FILTERS, no_history(FILTERS, UNITS), jnp.asarray(SPIKES)))
    last = last_of(past)
    halves = [
        range_of(jax.tree.map(lambda leaf, half=half: leaf[half], past)) for half in (slice(115), slice(115, None))
    ]
    within = range_after(jax.tree.map(lambda *parts: jnp.stack(parts), *halves), last)
    np.testing.assert_array_equal(within.low.own[:, :-1], past.own[:, :, :-1].min(axis=0))
    longest = np.where(past.since < UNKNOWN, past.since, 0).max(axis=0)
    assert longest[4] == 0 and np.sum(longest > 0) > 4
    np.testing.assert_array_equal(within.high.since, longest)
    assert_same(keep(last, within), last)
    silent = keep(last_of(TRACE(FILTERS, last, jnp.zeros((4000, UNITS)))), within)
    np.testing.assert_allclose(silent.own[:, :-1], within.low.own[:, :-1])
    np.testing.assert_array_equal(silent.since, np.where(longest > 0, longest, UNKNOWN))
    np.testing.assert_array_equal(READ(FILTERS, silent).offset, READ(FILTERS, last).offset)
    busy = keep(last_of(TRACE(FILTERS, last, jnp.ones((4000, UNITS)))), within)
    np.testing.assert_allclose(busy.own[:, :-1], within.high.own[:, :-1])
    np.testing.assert_allclose(busy.population[:-1], within.high.population[:-1])
    assert (busy.since == 0).all(), "a spike is a spike"


def test_filters_without_order_are_refused():
    with pytest.raises(ValueError, match="two or more time constants above 0 that rise"):
        Filters(tau_ms=(10.0, 5.0))
    with pytest.raises(ValueError, match="in bins of 0.0 ms"):
        Filters(bin_ms=0.0)
