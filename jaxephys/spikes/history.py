"""What the past of each unit, and of the population, says about the next bin: filters, waiting times, running rates.

Everything is relative to the unit's own running rate, and bounded, because a model carried to another recording meets
rates that it has never seen: absolute features made a shared GLM lose 0.7 bits per spike from in vivo to in vitro. With
e_k an exponential mean of the spikes with time constant tau_k, and r the slowest of them, the running rate,

    level_k = log((e_k + kappa r) / ((1 + kappa) r)),

0 when a unit fires as always. The running rate itself goes to the output: a model adds to ``log r / (1 - r)`` what the
features say, and so begins as the running-rate baseline in any recording.

The state is of fixed size and knows all of the past. ``trace`` carries it through a window in a few large products,
``advance`` through one bin; nothing here is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxephys.dimensions import AnyArray

CHUNK = 64  # bins whose filters are one product
UNKNOWN = 2**24  # bins since a spike that was never seen; time since one that was is counted up to it
PRIOR_HZ, PRIOR_MS = 5.0, 200.0  # a unit not yet seen fires at so many Hz; so much time weighs this guess
KAPPA = 0.1  # silence is this share of the running rate, so that its logarithm is finite
BOUND = 6.0  # of a logarithm: e^6 = 400 times the running rate
RECENT_MS = (1.0, 2.0, 3.0, 5.0, 10.0)  # a spike within the first, between the first two, ...: refractoriness, bursts


@dataclass(frozen=True)
class Filters:
    """The time constants of the exponential means, the last and slowest of which is the running rate."""

    tau_ms: tuple[float, ...] = (1.5, 4.0, 10.0, 25.0, 60.0, 150.0, 400.0, 1000.0, 2500.0, 6000.0, 30000.0)
    bin_ms: float = 1.0

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.tau_ms[:-1], self.tau_ms[1:], strict=True))
        if len(self.tau_ms) < 2 or not (rising and self.tau_ms[0] > 0 and self.bin_ms > 0):
            raise ValueError(
                f"filters of {self.tau_ms} ms in bins of {self.bin_ms} ms: give two or more time constants above 0 that rise"
            )

    @property
    def decay(self) -> Float[np.ndarray, "filter"]:
        """What is left of a mean after one bin."""
        return np.exp(-self.bin_ms / np.array(self.tau_ms))

    @property
    def features(self) -> int:
        """Numbers a unit: levels, two waiting times, recent spikes, and how fast it is."""
        return len(self.tau_ms) - 1 + 2 + len(RECENT_MS) + 1

    @property
    def population_features(self) -> int:
        return len(self.tau_ms) - 1


class History(NamedTuple):
    """All that is kept of the past: after one bin, or with a leading time axis after each bin of a window."""

    own: Float[AnyArray, "*time unit filter"]  # exponential means of a unit's spikes, spikes a bin
    population: Float[AnyArray, "*time filter"]  # the same of the mean over units
    since: Int[AnyArray, "*time unit"]  # bins since the last spike, 0 in its own bin
    interval: Int[AnyArray, "*time unit"]  # between the last two spikes
    age: Int[AnyArray, "*time"]  # bins seen


class Range(NamedTuple):
    """Between what bounds the states of a stretch of time lay."""

    low: History
    high: History


class Reading(NamedTuple):
    """What a model is given. None of it depends on the order of units."""

    features: Float[Array, "*time unit feature"]
    population: Float[Array, "*time filter"]
    offset: Float[Array, "*time unit"]  # the logit of the running rate


def no_history(filters: Filters, units: int) -> History:
    """Before the first bin of a recording."""
    count = len(filters.tau_ms)
    never = jnp.full(units, UNKNOWN, jnp.int32)
    return History(jnp.zeros((units, count)), jnp.zeros(count), never, never, jnp.int32(0))


def advance(filters: Filters, state: History, spikes: Float[AnyArray, "unit"]) -> History:
    """One bin: ``e <- a e + (1 - a) s``."""
    decay = jnp.asarray(filters.decay, jnp.float32)
    gain = jnp.asarray(1 - filters.decay, jnp.float32)
    fired = spikes > 0.5
    since = jnp.minimum(state.since + 1, UNKNOWN)
    return History(
        own=decay * state.own + gain * spikes[:, None],
        population=decay * state.population + gain * _mean(spikes),
        since=jnp.where(fired, 0, since),
        interval=jnp.where(fired, since, state.interval),
        age=state.age + 1,
    )


def trace(filters: Filters, state: History, spikes: Float[AnyArray, "time unit"]) -> History:
    """The state after each bin of a window that follows ``state``."""
    columns = jnp.concatenate([spikes, _mean(spikes)[:, None]], axis=1)
    means = _means(filters, jnp.concatenate([state.own, state.population[None]]), columns)
    bins = jnp.arange(len(spikes), dtype=jnp.int32)[:, None]
    fired = spikes > 0.5
    last = lax.cummax(jnp.where(fired, bins, -1))  # the bin of the last spike
    since = jnp.where(last >= 0, bins - last, jnp.minimum(state.since + 1 + bins, UNKNOWN))
    waited = jnp.minimum(jnp.concatenate([state.since[None], since[:-1]]) + 1, UNKNOWN)
    interval = jnp.take_along_axis(waited, jnp.maximum(last, 0), axis=0)
    interval = jnp.where(last >= 0, interval, state.interval)
    return History(means[:, :-1], means[:, -1], since, interval, state.age + 1 + bins[:, 0])


def last_of(states: History) -> History:
    """The state after the last bin of a window."""
    return jax.tree.map(lambda leaf: leaf[-1], states)


def settle(filters: Filters, state: History) -> History:
    """What reads the same, the guesses for what lies before the first bin having become part of the means."""

    def settled(means: Float[AnyArray, "*rest filter"], age: Int[AnyArray, "*_"]) -> Float[Array, "*rest filter"]:
        rate, unseen = _rate(filters, means, age), _unseen(filters, age)
        slow = rate * (1 + PRIOR_MS / filters.tau_ms[-1]) - _guess(filters)
        return jnp.concatenate([means[..., :-1] + unseen[..., :-1] * rate[..., None], slow[..., None]], axis=-1)

    age = jnp.asarray(state.age)
    own, population = settled(state.own, age[..., None]), settled(state.population, age)
    return state._replace(own=own, population=population, age=jnp.full_like(age, UNKNOWN))


def range_of(states: History) -> Range:
    """Of settled states; time is the first axis."""
    low = jax.tree.map(lambda leaf: jnp.min(leaf, axis=0), states)
    known = states._replace(since=jnp.where(states.since < UNKNOWN, states.since, 0))
    return Range(low, jax.tree.map(lambda leaf: jnp.max(leaf, axis=0), known))


def range_after(windows: Range, last: History) -> Range:
    """What holds after a past: the ranges of its windows [window ...] together, but of running rates those it has left."""
    low, high = range_of(windows.low).low, range_of(windows.high).high

    def fixed(bound: History) -> History:
        own, population = (jnp.asarray(means).at[..., -1] for means in (bound.own, bound.population))
        return bound._replace(own=own.set(last.own[..., -1]), population=population.set(last.population[..., -1]))

    return Range(fixed(low), fixed(high))


def keep(state: History, within: Range) -> History:
    """Means no further out than in ``within``, and no longer a wait since the last spike."""
    own = jnp.clip(state.own, within.low.own, within.high.own)
    population = jnp.clip(state.population, within.low.population, within.high.population)
    longest = within.high.since
    since = jnp.where(longest > 0, jnp.minimum(state.since, longest), state.since)  # 0: it has not fired yet
    return state._replace(own=own, population=population, since=since)


def read(filters: Filters, state: History) -> Reading:
    """Features of a state, or of the states of a window."""
    seconds = filters.bin_ms / 1000
    rate, levels = _levels(filters, state.own, state.age[..., None])
    _, population = _levels(filters, state.population, state.age)
    known, between = state.since < UNKNOWN, state.interval < UNKNOWN
    waited = jnp.log(state.since + 1.0)
    waiting = jnp.where(known, waited + jnp.log(rate), 0.0)  # 0: as long as the mean interval
    rhythm = jnp.where(
        between, waited - jnp.log(state.interval.astype(jnp.float32)), 0.0
    )  # 0: as long as the last interval
    silence = state.since[..., None] * filters.bin_ms
    edges = jnp.array((0.0, *RECENT_MS))
    recent = ((silence >= edges[:-1]) & (silence < edges[1:])).astype(jnp.float32)
    speed = jnp.tanh(jnp.log(rate / (PRIOR_HZ * seconds)) / 2)
    rest = [jnp.clip(waiting, -BOUND, BOUND), jnp.clip(rhythm, -BOUND, BOUND), speed]
    features = jnp.concatenate([levels, jnp.stack(rest, axis=-1), recent], axis=-1)
    return Reading(features, population, jnp.log(rate) - jnp.log1p(-rate))


def _levels(
    filters: Filters, means: Float[Array, "*rest filter"], age: Int[Array, "*_"]
) -> tuple[Float[Array, "*rest"], Float[Array, "*rest _"]]:
    """The running rate, and the levels of the other means relative to it.

    What lies before the first bin seen counts as the guess for the rate, and as the running rate for the faster means.
    """
    rate = _rate(filters, means, age)
    base = rate[..., None]
    filled = means[..., :-1] + _unseen(filters, age)[..., :-1] * base
    levels = jnp.log(filled + KAPPA * base) - jnp.log((1 + KAPPA) * base)
    return rate, jnp.clip(levels, -BOUND, BOUND)


def _rate(filters: Filters, means: Float[AnyArray, "*rest filter"], age: Int[AnyArray, "*_"]) -> Float[Array, "*rest"]:
    weight = PRIOR_MS / filters.tau_ms[-1]
    return (means[..., -1] + _guess(filters)) / (1 - _unseen(filters, age)[..., -1] + weight)


def _guess(filters: Filters) -> float:
    """Of the running rate before anything was seen, with its weight."""
    return PRIOR_MS / filters.tau_ms[-1] * min(PRIOR_HZ * filters.bin_ms / 1000, 0.5)


def _unseen(filters: Filters, age: Int[AnyArray, "*_"]) -> Float[Array, "*_ filter"]:
    """The share of each mean that lies before the first bin."""
    return jnp.exp(-filters.bin_ms / jnp.array(filters.tau_ms) * age[..., None].astype(jnp.float32))


def _means(
    filters: Filters, state: Float[Array, "_ filter"], spikes: Float[Array, "time _"]
) -> Float[Array, "time _ filter"]:
    """Exponential means after each bin. Within a chunk one product with ``(1 - a) a^(t - s)``; chunks follow one another.

    All chunks are multiplied at once; only what a chunk hands on, ``e <- a^CHUNK e + its own``, goes one after the other.
    """
    time, columns = spikes.shape
    size = min(CHUNK, time)
    chunks = jnp.pad(spikes, ((0, -time % size), (0, 0))).reshape(-1, size, columns)
    lag = np.arange(size)[:, None] - np.arange(size)[None, :]
    decay = filters.decay[:, None, None]
    kernel = np.where(lag >= 0, (1 - decay) * decay ** np.maximum(lag, 0), 0.0)
    within = jnp.einsum("fts,nsc->ntcf", jnp.asarray(kernel, jnp.float32), chunks)
    over = jnp.asarray(filters.decay**size, jnp.float32)

    def hand_on(before: Array, own: Array) -> tuple[Array, Array]:
        return over * before + own, before

    _, before = lax.scan(hand_on, state, within[:, -1])
    left = jnp.asarray(filters.decay ** np.arange(1, size + 1)[:, None], jnp.float32)
    means = within + left[:, None, :] * before[:, None]
    return means.reshape(-1, columns, len(filters.tau_ms))[:time]


def _mean(spikes: Float[AnyArray, "*time unit"]) -> Float[Array, "*time"]:
    """Over units; a sum of zeros and ones is exact in any order."""
    return jnp.sum(spikes, axis=-1) / spikes.shape[-1]
