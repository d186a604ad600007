"""Populations: the twelve simulated ones, six "in vitro" and six "in vivo", and the parameters that one of them draws.

They share one generator (``generator.py``) and differ in what a model could use: network states, an oscillation, bursts of single
cells, heavy-tailed rates, refractoriness, coupling, drift. In vitro: dense, bursting, unstable, a few cells that fire most of
the spikes. In vivo: sparse, about 3 Hz, with an oscillation or short events.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np

from data_prep.spikes.spike_times import SpikesError

PHASES = 12  # of a cycle: the phase is a Markov chain, so cycles have a coefficient of variation of about 0.3
HIGHEST = 250.0  # Hz, of a unit's own rate
NEAR_MS = 10.0  # how long a spike acts on others
TIRED_MS = 200.0  # how long a spike tires its own cell
INHIBITORY = 0.2  # share of units that act against others
PARTNERS = 6  # units that act on a unit


@dataclass(frozen=True)
class Kind:
    """What sets a population apart."""

    name: str
    domain: str
    rate: float  # Hz, mean over units
    spread: float  # sd of the log rates
    dwell: tuple[float, ...] = (1.0,)  # s, mean stay in each network state
    level: tuple[float, ...] = (0.0,)  # log gain of each
    hertz: float = 0.0  # of the oscillation
    swing: float = 0.0  # its log gain
    refractory: int = 0  # bins of silence after a spike
    burst: float = 0.0  # what a spike adds to its cell's log rate at once
    burst_ms: float = 5.0
    tired: float = 0.0  # what a spike takes from it, for TIRED_MS
    coupling: float = 0.0  # sd of what partners do to the log rate
    drift: float = 0.0  # sd over units of the log rate's change from the first bin to the last


# fmt: off
KINDS = (
    Kind("vitro_bursts", "in vitro", 12, 1.8, (4.0, 0.3), (0.0, 1.5), burst=0.6, tired=0.02, coupling=0.3),
    Kind("vitro_states", "in vitro", 12, 1.8, (1.5, 1.0), (-0.6, 0.6), refractory=1, burst=0.5, coupling=0.2),
    Kind("vitro_heavy", "in vitro", 15, 2.1, burst=0.8, burst_ms=8.0, tired=0.02, coupling=0.2),
    Kind("vitro_drift", "in vitro", 12, 1.8, (20.0, 10.0), (0.0, 0.8), burst=0.6, drift=0.8),
    Kind("vitro_coupled", "in vitro", 12, 1.7, (6.0, 0.5), (0.0, 1.2), refractory=1, burst=0.5, coupling=0.8),
    Kind("vitro_tonic", "in vitro", 20, 1.5, refractory=4, tired=0.06, coupling=0.3, drift=0.4),
    Kind("vivo_theta", "in vivo", 3, 1.1, hertz=8.0, swing=0.9, refractory=2, burst=1.5, tired=0.05),
    Kind("vivo_slow", "in vivo", 3, 1.0, (0.4, 0.5), (-1.5, 0.7), refractory=2, burst=1.0, coupling=0.2),
    Kind("vivo_gamma", "in vivo", 4, 1.0, hertz=40.0, swing=1.0, refractory=2, burst=0.5, coupling=0.3),
    Kind("vivo_bursty", "in vivo", 2.5, 1.2, refractory=2, burst=3.0, burst_ms=6.0, tired=0.1),
    Kind("vivo_sparse", "in vivo", 1.5, 1.3, hertz=1.0, swing=0.7, refractory=3, burst=0.8),
    Kind("vivo_events", "in vivo", 3, 1.1, (1.8, 0.1), (0.0, 1.5), refractory=2, burst=1.0, coupling=0.5),
)
# fmt: on


@dataclass(frozen=True)
class Population:
    """The parameters of one population: all that the generator needs. Bins of 1 ms."""

    kind: Kind
    base: np.ndarray  # [unit]: expected spikes a bin
    gain: np.ndarray  # [state, unit]: of mean 1 over the states a unit is in
    step: np.ndarray  # [state, state]: probability from row to column, from one bin to the next
    stay: np.ndarray  # [state]: how often each state is met
    weight: np.ndarray  # [unit, unit]: what a spike of the column adds to the log rate of the row
    slope: np.ndarray  # [unit]: change of the log rate over the whole recording


def kind_of(name: str) -> Kind:
    known = {kind.name: kind for kind in KINDS}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        raise SpikesError(f"there is no population {name!r}: did you mean {near[0] if near else ', '.join(known)}")
    return known[name]


def draw(kind: Kind, units: int, seed: int) -> Population:
    """A population of its own for every kind and seed, whichever others are drawn."""
    if units < PARTNERS + 2:
        raise SpikesError(f"{units} units are too few for {PARTNERS} partners each: give {PARTNERS + 2} or more")
    rng = np.random.default_rng([seed, *kind.name.encode(), 0])
    rates = np.exp(kind.spread * rng.standard_normal(units))
    base = np.minimum(kind.rate * rates / rates.mean(), HIGHEST) / 1000
    step, stay = states(kind)
    log_gain = np.outer(np.repeat(kind.level, phases(kind)), rng.uniform(0.5, 1.5, units))
    if kind.hertz:
        preferred = rng.vonmises(0.0, 1.0, units)
        angle = 2 * np.pi * np.tile(np.arange(PHASES), len(kind.level)) / PHASES
        log_gain += kind.swing * np.cos(angle[:, None] - preferred)
    gain = np.exp(log_gain)
    weight = coupling(kind, base, rng)
    slope = kind.drift * rng.standard_normal(units)
    return Population(kind, base, gain / (stay @ gain), step, stay, weight, slope)


def phases(kind: Kind) -> int:
    return PHASES if kind.hertz else 1


def states(kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """The chain over (network state, phase): its step from bin to bin, and how often each state is met."""
    dwell = 1000 * np.array(kind.dwell)
    count = len(dwell)
    leave = 1 / dwell if count > 1 else np.zeros(1)
    modes = np.diag(1 - leave) + np.roll(np.diag(leave), 1, axis=1) if count > 1 else np.ones((1, 1))
    on = kind.hertz * phases(kind) / 1000  # probability of going on to the next phase
    cycle = (1 - on) * np.eye(phases(kind)) + on * np.roll(np.eye(phases(kind)), 1, axis=1)
    return np.kron(modes, cycle), np.kron(dwell / dwell.sum(), np.full(phases(kind), 1 / phases(kind)))


def coupling(kind: Kind, base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sparse weights, scaled so that the partners of a unit move its log rate by about ``kind.coupling``.

    A unit's trace over NEAR_MS has a variance of about base * NEAR_MS / 2.
    """
    units = len(base)
    weight = np.zeros((units, units))
    sign = np.where(rng.random(units) < INHIBITORY, -1.0, 1.0)
    for row in range(units):
        others = rng.choice(np.delete(np.arange(units), row), PARTNERS, replace=False)
        sd = np.sqrt(base[others] * NEAR_MS / 2) + 0.1
        weight[row, others] = kind.coupling * sign[others] * rng.uniform(0.5, 1.5, PARTNERS) / np.sqrt(PARTNERS) / sd
    return weight
