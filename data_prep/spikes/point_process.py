"""Generator: a point process with a hidden state, and the exact probability of each bin given the spikes before it.

In bin t the network is in state s, a Markov chain that spikes do not act on. Given s and the past, units are independent::

    p[t, u] = 1 - exp(-rate[t, u] gain[s, u])
    rate[t, u] = base[u] exp(slope[u] (t / T - 1/2)) exp(CAP tanh(drive[t, u] / CAP)), 0 in the refractory bins
    drive[t]   = burst * trace(burst_ms) - tired * trace(TIRED_MS) + weight @ trace(NEAR_MS), each less its expectation
    trace[t]   = decay trace[t - 1] + spikes[t - 1]

The bound CAP keeps it stable. A model sees the spikes and not s, so the truth to compare it with is the mean of p over
P(s | spikes before t), which the forward recursion of hidden Markov models gives without approximation::

    P(s[t] | x[<t]) ~ sum_r step[r, s] P(r[t-1] | x[<t-1]) P(x[t-1] | r, x[<t-1])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.signal import lfilter

from data_prep.spikes.simulated_populations import NEAR_MS, PHASES, TIRED_MS, Population, phases

CAP = 2.0  # history multiplies a rate by e^2 at most
BLOCK = 4096  # bins at a time


def run(population: Population, bins: int, seed: int, advance: Callable[[], None] | None = None) -> np.ndarray:
    """uint8 [bin, unit]: spikes of one run. ``advance`` hears of every block.

    A unit fires where its rate exceeds an exponential variate, that is where drive / CAP exceeds
    arctanh(log(variate / level) / CAP), which is known for a whole block; and the three parts of the drive decay by themselves
    and jump at the few spikes of a bin. So a bin costs five operations of NumPy.
    """
    kind, units = population.kind, len(population.base)
    rng = np.random.default_rng([seed, *kind.name.encode(), 1])
    state = walk(population, bins, rng)
    spikes = np.zeros((bins, units), np.uint8)
    decay, _ = decays(population)
    own, weight = np.array([[kind.burst], [-kind.tired]]) / CAP, population.weight / CAP
    expected = np.concatenate([own * population.base, [weight @ population.base]])
    drive, free = np.zeros((3, units)), np.zeros(units, int)
    for start in range(0, bins, BLOCK):
        stop = min(start + BLOCK, bins)
        level = own_rate(population, start, stop, bins) * population.gain[state[start:stop]]
        with np.errstate(divide="ignore"):  # arctanh(1): no drive is enough
            bar = np.arctanh(np.clip(np.log(rng.exponential(size=level.shape) / level) / CAP, -1, 1))
        for t in range(start, stop):
            fired = np.flatnonzero(drive.sum(axis=0) > bar[t - start])
            fired = fired[free[fired] <= t]
            drive *= decay
            drive -= expected
            if fired.size:
                spikes[t, fired] = 1
                drive[:2, fired] += own
                drive[2] += weight[:, fired].sum(axis=1)
                free[fired] = t + 1 + kind.refractory
        if advance is not None:
            advance()
    return spikes


def true_rate(population: Population, spikes: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
    """float32 [bin, unit]: the probability of a spike in each bin of [start, stop), given all bins before it and no hidden state."""
    stop = len(spikes) if stop is None else stop
    found = []
    for at, rate, belief in beliefs(population, spikes):
        wanted = slice(max(start - at, 0), max(stop - at, 0))
        mean = np.zeros_like(rate[wanted])
        for chance, gain in zip(belief[wanted].T, population.gain, strict=True):
            mean -= chance[:, None] * np.expm1(-rate[wanted] * gain)
        found.append(mean.astype(np.float32))
        if at + BLOCK >= stop:
            break
    return np.concatenate(found)


def beliefs(population: Population, spikes: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Block by block: its first bin, the rate [bin, unit] without gain, and P(state | spikes before) [bin, state]."""
    now = population.stay
    for at, rate in rates(population, spikes):
        score = log_likelihood(population, rate, spikes[at : at + len(rate)])
        evidence = np.exp(score - score.max(axis=1, keepdims=True))
        belief = np.empty_like(evidence)
        for t, seen in enumerate(evidence):
            belief[t] = now
            now = (now * seen) @ population.step
            now = now / now.sum()
        yield at, rate, belief


def log_likelihood(population: Population, rate: np.ndarray, spikes: np.ndarray) -> np.ndarray:
    """[bin, state]: log P(spikes of the bin | state, past). A unit that is silent adds -rate gain, one that fires
    log(1 - exp(-rate gain)); so all add the first, and those that fire log(exp(rate gain) - 1) as well."""
    score = -rate @ population.gain.T
    bins, units = np.nonzero(spikes)
    extra = np.log(np.expm1(rate[bins, units, None] * population.gain.T[units]))
    np.add.at(score, bins, extra)
    return score


def rates(population: Population, spikes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Block by block: its first bin and ``rate`` [bin, unit], the traces by a recursive filter over the whole block."""
    decay, mean = decays(population)
    before, since = mean.copy(), np.full(spikes.shape[1], np.inf)
    for at in range(0, len(spikes), BLOCK):
        block = spikes[at : at + BLOCK].astype(float)
        traces = []
        for k in range(len(decay)):
            # After bin t: decay trace + spikes[t]; what bin t itself sees is the value before.
            after, _ = lfilter([1.0], [1.0, -decay[k, 0]], block, axis=0, zi=decay[k] * before[k : k + 1])
            traces.append(np.concatenate([before[k : k + 1], after[:-1]]))
            before[k] = after[-1]
        waited, since = waits(block, since)
        shape = factor(population, np.stack(traces, axis=1) - mean, waited)
        yield at, own_rate(population, at, at + len(block), len(spikes)) * shape


def waits(block: np.ndarray, since: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bins since the last spike as each bin sees it [bin, unit], and as the bin after the block does."""
    place = np.arange(len(block), dtype=float)[:, None]
    last = np.maximum.accumulate(np.where(block > 0, place, -np.inf), axis=0)
    seen = np.concatenate([np.full((1, block.shape[1]), -np.inf), last])
    waited = np.arange(len(block) + 1)[:, None] - np.maximum(seen, -since)
    return waited[:-1], waited[-1]


def factor(population: Population, trace: np.ndarray, since: np.ndarray) -> np.ndarray:
    """What history multiplies the rate by; ``trace`` [..., 3, unit] less its expectation, ``since`` [..., unit] in bins."""
    kind = population.kind
    drive = kind.burst * trace[..., 0, :] - kind.tired * trace[..., 1, :] + trace[..., 2, :] @ population.weight.T
    return np.exp(CAP * np.tanh(drive / CAP)) * (since > kind.refractory)


def decays(population: Population) -> tuple[np.ndarray, np.ndarray]:
    """The decay of each trace a bin [3, 1], and the traces' expectation [3, unit] at the units' own rates."""
    decay = np.exp(-1 / np.array([[population.kind.burst_ms], [TIRED_MS], [NEAR_MS]]))
    return decay, population.base / (1 - decay)


def own_rate(population: Population, start: int, stop: int, bins: int) -> np.ndarray:
    """[bin, unit]: the rate without history and state, which drifts over the recording."""
    when = np.arange(start, stop) / bins - 0.5
    return population.base * np.exp(when[:, None] * population.slope)


def walk(population: Population, bins: int, rng: np.random.Generator) -> np.ndarray:
    """int [bin]: the hidden state, network state * phases + phase."""
    kind, count = population.kind, len(population.kind.dwell)
    mode = np.zeros(bins, int)
    if count > 1:
        first = rng.choice(count, p=np.array(kind.dwell) / sum(kind.dwell))
        order = (first + np.arange(bins)) % count
        ends = np.cumsum(rng.geometric(1 / (1000 * np.array(kind.dwell))[order]))
        mode = order[np.searchsorted(ends, np.arange(bins), side="right")]
    steps = rng.random(bins) < kind.hertz * phases(kind) / 1000
    phase = (rng.integers(PHASES) + np.cumsum(steps)) % PHASES if kind.hertz else np.zeros(bins, int)
    return mode * phases(kind) + phase
