"""The twelve simulated populations, six "in vitro" and six "in vivo", and the parameters drawn for one of them.

All use the point process of :mod:`data_prep.spikes.point_process` and differ in what a model could use: network states,
an oscillation, bursts of single cells, heavy-tailed rates, refractoriness, coupling, drift. In vitro they are dense,
bursting and unstable, and a few cells fire most of the spikes; in vivo they are sparse, about 3 Hz, with an oscillation
or short events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.lookup import find_by_name
from jaxephys.schemas.storage import DataError

PHASES = 12  # of a cycle; the phase is a Markov chain, so that cycles have a coefficient of variation of about 0.3
MAX_RATE = 250.0  # Hz, of a unit without history
COUPLING_MS = 10.0  # time constant of the effect of a spike on other units
ADAPTATION_MS = 200.0  # time constant of the adaptation of a unit after its own spikes
INHIBITORY_SHARE = 0.2
PARTNERS = 6  # units that act on a unit


@dataclass(frozen=True)
class PopulationKind:
    """Description of a kind of population.

    Parameters
    ----------
    name : str
        Name of the kind.
    domain : str
        "in vitro" or "in vivo".
    rate : float
        Mean rate over units in Hz.
    spread : float
        Standard deviation of the logarithms of the rates.
    dwell : tuple of float
        Mean duration of each network state in s.
    level : tuple of float
        Logarithm of the gain of each network state.
    frequency : float
        Frequency of the oscillation in Hz; 0 for none.
    modulation : float
        Logarithm of the gain of the oscillation at its peak.
    refractory : int
        Bins of 1 ms after a spike in which the unit cannot fire.
    burst : float
        Amount that a spike adds to the logarithm of its unit's rate at once.
    burst_ms : float
        Time constant of the decay of that amount in ms.
    adaptation : float
        Amount that a spike subtracts from it; it decays with ``ADAPTATION_MS``.
    coupling : float
        Standard deviation of the effect of the partners on the logarithm of the rate.
    drift : float
        Standard deviation over units of the change of the logarithm of the rate from the first to the last bin.
    """

    name: str
    domain: str
    rate: float
    spread: float
    dwell: tuple[float, ...] = (1.0,)
    level: tuple[float, ...] = (0.0,)
    frequency: float = 0.0
    modulation: float = 0.0
    refractory: int = 0
    burst: float = 0.0
    burst_ms: float = 5.0
    adaptation: float = 0.0
    coupling: float = 0.0
    drift: float = 0.0

    @property
    def phases(self) -> int:
        """Number of phases of the oscillation, 1 without one."""
        return PHASES if self.frequency else 1


# fmt: off
KINDS = (
    PopulationKind("vitro_bursts", "in vitro", 12, 1.8, (4.0, 0.3), (0.0, 1.5), burst=0.6, adaptation=0.02, coupling=0.3),
    PopulationKind("vitro_states", "in vitro", 12, 1.8, (1.5, 1.0), (-0.6, 0.6), refractory=1, burst=0.5, coupling=0.2),
    PopulationKind("vitro_heavy", "in vitro", 15, 2.1, burst=0.8, burst_ms=8.0, adaptation=0.02, coupling=0.2),
    PopulationKind("vitro_drift", "in vitro", 12, 1.8, (20.0, 10.0), (0.0, 0.8), burst=0.6, drift=0.8),
    PopulationKind("vitro_coupled", "in vitro", 12, 1.7, (6.0, 0.5), (0.0, 1.2), refractory=1, burst=0.5, coupling=0.8),
    PopulationKind("vitro_tonic", "in vitro", 20, 1.5, refractory=4, adaptation=0.06, coupling=0.3, drift=0.4),
    PopulationKind("vivo_theta", "in vivo", 3, 1.1, frequency=8.0, modulation=0.9, refractory=2, burst=1.5, adaptation=0.05),
    PopulationKind("vivo_slow", "in vivo", 3, 1.0, (0.4, 0.5), (-1.5, 0.7), refractory=2, burst=1.0, coupling=0.2),
    PopulationKind("vivo_gamma", "in vivo", 4, 1.0, frequency=40.0, modulation=1.0, refractory=2, burst=0.5, coupling=0.3),
    PopulationKind("vivo_bursty", "in vivo", 2.5, 1.2, refractory=2, burst=3.0, burst_ms=6.0, adaptation=0.1),
    PopulationKind("vivo_sparse", "in vivo", 1.5, 1.3, frequency=1.0, modulation=0.7, refractory=3, burst=0.8),
    PopulationKind("vivo_events", "in vivo", 3, 1.1, (1.8, 0.1), (0.0, 1.5), refractory=2, burst=1.0, coupling=0.5),
)
# fmt: on


@dataclass(frozen=True)
class Population:
    """Parameters of one population, in bins of 1 ms.

    Parameters
    ----------
    kind : PopulationKind
        Its kind.
    base : ndarray of shape (n_units,)
        Expected spikes per bin without history and state.
    gain : ndarray of shape (n_states, n_units)
        Factor of the rate in each hidden state; its mean over the stationary distribution is 1 for every unit.
    transition : ndarray of shape (n_states, n_states)
        Probability of going from the state of the row to that of the column from one bin to the next.
    stationary : ndarray of shape (n_states,)
        Stationary distribution of the states.
    weight : ndarray of shape (n_units, n_units)
        Amount that a spike of the column's unit adds to the logarithm of the rate of the row's unit.
    slope : ndarray of shape (n_units,)
        Change of the logarithm of the rate over the whole recording.
    """

    kind: PopulationKind
    base: np.ndarray
    gain: np.ndarray
    transition: np.ndarray
    stationary: np.ndarray
    weight: np.ndarray
    slope: np.ndarray


def find_kind(name: str) -> PopulationKind:
    """Find a kind of population by its name.

    Parameters
    ----------
    name : str
        One of the twelve names.

    Returns
    -------
    PopulationKind
        The description.

    Raises
    ------
    DataError
        If there is none; the message suggests a similar name.
    """
    return find_by_name(name, {kind.name: kind for kind in KINDS}, "population")


def draw_population(kind: PopulationKind, units: int, seed: int) -> Population:
    """Draw the parameters of a population.

    Parameters
    ----------
    kind : PopulationKind
        Its kind.
    units : int
        Number of units, at least 8.
    seed : int
        Seed of the random numbers. A population depends on kind and seed, and not on which others are drawn.

    Returns
    -------
    Population
        The parameters.

    Raises
    ------
    DataError
        If there are too few units for the partners of each.
    """
    if units < PARTNERS + 2:
        raise DataError(f"{units} units are too few for {PARTNERS} partners each: give {PARTNERS + 2} or more")
    rng = np.random.default_rng([seed, *kind.name.encode(), 0])
    rates = np.exp(kind.spread * rng.standard_normal(units))
    base = np.minimum(kind.rate * rates / rates.mean(), MAX_RATE) / 1000
    transition, stationary = state_chain(kind)
    log_gain = np.outer(np.repeat(kind.level, kind.phases), rng.uniform(0.5, 1.5, units))
    if kind.frequency:
        preferred = rng.vonmises(0.0, 1.0, units)
        angle = 2 * np.pi * np.tile(np.arange(PHASES), len(kind.level)) / PHASES
        log_gain += kind.modulation * np.cos(angle[:, None] - preferred)
    gain = np.exp(log_gain)
    weight = _draw_weights(kind, base, rng)
    slope = kind.drift * rng.standard_normal(units)
    return Population(kind, base, gain / (stationary @ gain), transition, stationary, weight, slope)


def state_chain(kind: PopulationKind) -> tuple[np.ndarray, np.ndarray]:
    """Return the Markov chain over (network state, phase of the oscillation).

    Parameters
    ----------
    kind : PopulationKind
        The kind of population.

    Returns
    -------
    transition : ndarray of shape (n_states, n_states)
        Probability of going from the state of the row to that of the column from one bin to the next; state k is
        network state k // phases at phase k % phases.
    stationary : ndarray of shape (n_states,)
        Stationary distribution.
    """
    dwell = 1000 * np.array(kind.dwell)
    count, phases = len(dwell), kind.phases
    leave = 1 / dwell if count > 1 else np.zeros(1)
    network = np.diag(1 - leave) + np.roll(np.diag(leave), 1, axis=1) if count > 1 else np.ones((1, 1))
    advance = kind.frequency * phases / 1000  # probability of the next phase
    cycle = (1 - advance) * np.eye(phases) + advance * np.roll(np.eye(phases), 1, axis=1)
    return np.kron(network, cycle), np.kron(dwell / dwell.sum(), np.full(phases, 1 / phases))


def _draw_weights(kind: PopulationKind, base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw sparse weights, scaled so that the partners of a unit change the log of its rate by about ``kind.coupling``.

    The trace of a unit over COUPLING_MS has a variance of about base * COUPLING_MS / 2.
    """
    units = len(base)
    weight = np.zeros((units, units))
    sign = np.where(rng.random(units) < INHIBITORY_SHARE, -1.0, 1.0)
    for row in range(units):
        others = rng.choice(np.delete(np.arange(units), row), PARTNERS, replace=False)
        sd = np.sqrt(base[others] * COUPLING_MS / 2) + 0.1
        weight[row, others] = kind.coupling * sign[others] * rng.uniform(0.5, 1.5, PARTNERS) / np.sqrt(PARTNERS) / sd
    return weight
