"""A point process with a hidden state, and the exact probability of a spike in each bin given all spikes before it.

:func:`simulate_spikes` draws spikes, :func:`true_probability` gives the probability that no model can improve on. In
bin t the network is in state s, a Markov chain that spikes do not influence. Given s and the past, units are
independent::

    p[t, u] = 1 - exp(-rate[t, u] gain[s, u])
    rate[t, u] = base[u] exp(slope[u] (t / T - 1/2)) exp(MAX_DRIVE tanh(drive[t, u] / MAX_DRIVE))
                 and 0 in the refractory bins
    drive[t] = burst trace(burst_ms) - adaptation trace(ADAPTATION_MS) + weight @ trace(COUPLING_MS),
               each less its expectation
    trace[t] = decay trace[t - 1] + spikes[t - 1]

The bound MAX_DRIVE keeps the process stable. A model sees the spikes and not s, so the true probability is the mean of
p over P(s | spikes before t), which the forward recursion of hidden Markov models gives without approximation::

    P(s[t] | x[<t]) ~ sum_r transition[r, s] P(r[t-1] | x[<t-1]) P(x[t-1] | r, x[<t-1])
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.signal import lfilter

from data_prep.spikes.simulated_populations import ADAPTATION_MS, COUPLING_MS, PHASES, Population

MAX_DRIVE = 2.0  # history multiplies a rate by at most e^2
BLOCK = 4096  # bins that are computed at a time


def simulate_spikes(population: Population, bins: int, seed: int) -> np.ndarray:
    """Simulate the spikes of a population.

    Parameters
    ----------
    population : Population
        Its parameters.
    bins : int
        Number of bins of 1 ms.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    ndarray of uint8 of shape (bins, n_units)
        1 where a unit fires, 0 elsewhere.

    Notes
    -----
    A unit fires where its rate exceeds an exponential variate, that is, where drive / MAX_DRIVE exceeds
    arctanh(log(variate / level) / MAX_DRIVE), which is known for a whole block of bins; the three parts of the drive
    decay by themselves and change at the few spikes of a bin. So a bin costs five operations of NumPy.
    """
    kind, units = population.kind, len(population.base)
    rng = np.random.default_rng([seed, *kind.name.encode(), 1])
    state = _draw_states(population, bins, rng)
    spikes = np.zeros((bins, units), np.uint8)
    decay, _ = _decays(population)
    self_effect, weight = np.array([[kind.burst], [-kind.adaptation]]) / MAX_DRIVE, population.weight / MAX_DRIVE
    expected = np.concatenate([self_effect * population.base, [weight @ population.base]])
    drive, refractory_until = np.zeros((3, units)), np.zeros(units, int)
    for start in range(0, bins, BLOCK):
        stop = min(start + BLOCK, bins)
        level = _baseline_rate(population, start, stop, bins) * population.gain[state[start:stop]]
        with np.errstate(divide="ignore"):  # arctanh(1): no drive is enough
            threshold = np.arctanh(np.clip(np.log(rng.exponential(size=level.shape) / level) / MAX_DRIVE, -1, 1))
        for t in range(start, stop):
            fired = np.flatnonzero(drive.sum(axis=0) > threshold[t - start])
            fired = fired[refractory_until[fired] <= t]
            drive *= decay
            drive -= expected
            if fired.size:
                spikes[t, fired] = 1
                drive[:2, fired] += self_effect
                drive[2] += weight[:, fired].sum(axis=1)
                refractory_until[fired] = t + 1 + kind.refractory
    return spikes


def true_probability(population: Population, spikes: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Compute the probability of a spike in each bin, given all spikes before it.

    Parameters
    ----------
    population : Population
        Parameters of the population.
    spikes : ndarray of uint8 of shape (n_bins, n_units)
        All its spikes.
    start : int, default 0
        First bin of the result.
    stop : int, optional
        Bin after the last; all by default.

    Returns
    -------
    ndarray of float32 of shape (stop - start, n_units)
        The probabilities. The hidden state does not enter.
    """
    stop = len(spikes) if stop is None else stop
    found = []
    for first, rate, belief in _state_beliefs(population, spikes):
        rows = slice(max(start - first, 0), max(stop - first, 0))
        mean = np.zeros_like(rate[rows])
        for probability, gain in zip(belief[rows].T, population.gain, strict=True):
            mean -= probability[:, None] * np.expm1(-rate[rows] * gain)
        found.append(mean.astype(np.float32))
        if first + BLOCK >= stop:
            break
    return np.concatenate(found)


def _state_beliefs(population: Population, spikes: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield for each block its first bin, the rate [bin, unit] without gain, and P(state | spikes before it)."""
    current = population.stationary
    for first, rate in _rates(population, spikes):
        score = _log_likelihood(population, rate, spikes[first : first + len(rate)])
        likelihood = np.exp(score - score.max(axis=1, keepdims=True))
        belief = np.empty_like(likelihood)
        for t, bin_likelihood in enumerate(likelihood):
            belief[t] = current
            current = (current * bin_likelihood) @ population.transition
            current = current / current.sum()
        yield first, rate, belief


def _log_likelihood(population: Population, rate: np.ndarray, spikes: np.ndarray) -> np.ndarray:
    """Return log P(spikes of the bin | state, past) as [bin, state].

    A silent unit adds -rate gain, one that fires log(1 - exp(-rate gain)); so all add the first, and those that fire
    add log(exp(rate gain) - 1) as well.
    """
    score = -rate @ population.gain.T
    bins, units = np.nonzero(spikes)
    extra = np.log(np.expm1(rate[bins, units, None] * population.gain.T[units]))
    np.add.at(score, bins, extra)
    return score


def _rates(population: Population, spikes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield for each block its first bin and the rate [bin, unit]; a recursive filter computes the traces."""
    kind, (decay, mean) = population.kind, _decays(population)
    before, since_spike = mean.copy(), np.full(spikes.shape[1], np.inf)
    for first in range(0, len(spikes), BLOCK):
        block = spikes[first : first + BLOCK].astype(float)
        traces = []
        for k in range(len(decay)):
            # After bin t: decay trace + spikes[t]; what bin t itself sees is the value before.
            after, _ = lfilter([1.0], [1.0, -decay[k, 0]], block, axis=0, zi=decay[k] * before[k : k + 1])
            traces.append(np.concatenate([before[k : k + 1], after[:-1]]))
            before[k] = after[-1]
        waited, since_spike = _bins_since_spike(block, since_spike)
        trace = np.stack(traces, axis=1) - mean
        drive = (
            kind.burst * trace[..., 0, :] - kind.adaptation * trace[..., 1, :] + trace[..., 2, :] @ population.weight.T
        )
        factor = np.exp(MAX_DRIVE * np.tanh(drive / MAX_DRIVE)) * (waited > kind.refractory)
        yield first, _baseline_rate(population, first, first + len(block), len(spikes)) * factor


def _bins_since_spike(block: np.ndarray, since_spike: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bins since the last spike for each bin of the block [bin, unit], and for the bin after it [unit]."""
    index = np.arange(len(block), dtype=float)[:, None]
    last = np.maximum.accumulate(np.where(block > 0, index, -np.inf), axis=0)
    last_before = np.concatenate([np.full((1, block.shape[1]), -np.inf), last])
    waited = np.arange(len(block) + 1)[:, None] - np.maximum(last_before, -since_spike)
    return waited[:-1], waited[-1]


def _decays(population: Population) -> tuple[np.ndarray, np.ndarray]:
    """Return the decay of each trace per bin [3, 1] and the expectation of the traces [3, unit] at baseline rates."""
    decay = np.exp(-1 / np.array([[population.kind.burst_ms], [ADAPTATION_MS], [COUPLING_MS]]))
    return decay, population.base / (1 - decay)


def _baseline_rate(population: Population, start: int, stop: int, bins: int) -> np.ndarray:
    """Return the rate [bin, unit] without history and state, which drifts over the recording."""
    time = np.arange(start, stop) / bins - 0.5
    return population.base * np.exp(time[:, None] * population.slope)


def _draw_states(population: Population, bins: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the hidden state [bin], network state * phases + phase."""
    kind, count = population.kind, len(population.kind.dwell)
    network = np.zeros(bins, int)
    if count > 1:
        first = rng.choice(count, p=np.array(kind.dwell) / sum(kind.dwell))
        order = (first + np.arange(bins)) % count
        ends = np.cumsum(rng.geometric(1 / (1000 * np.array(kind.dwell))[order]))
        network = order[np.searchsorted(ends, np.arange(bins), side="right")]
    steps = rng.random(bins) < kind.frequency * kind.phases / 1000
    phase = (rng.integers(PHASES) + np.cumsum(steps)) % PHASES if kind.frequency else np.zeros(bins, int)
    return network * kind.phases + phase
