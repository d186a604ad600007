"""The stimuli, and the experiment on a batch of cells: estimate thresholds, search the rheobase, record the levels above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE
from data_prep.simulate.cells import Cell, random_stream
from data_prep.simulate.neuron import HOLD, STEP, Neurons, integrate

# The stimuli of the Allen protocols; a small test pulse precedes each of them.
RATE = 1000 / STEP  # Hz
HOLDS = round(RATE / HOLD)  # values of the current in a second
ONSET, TAIL = 0.6, 0.3  # s before and after the stimulus
LONG, SHORT, LONG_WINDOW = 1.0, 0.003, 1.26  # s
TEST_PULSE = 0.05, 0.06, -10.0  # start in s, end in s, amplitude in pA
RESOLUTION = 16  # steps of the converter in a pA

SUBTHRESHOLD = (-110.0, -90.0, -70.0, -50.0, -30.0, -10.0)  # pA
BELOW_RHEOBASE = 3  # number of recorded levels without a spike
ABOVE_RHEOBASE = (20.0, 40.0, 60.0, 80.0, 100.0)  # pA
REPEATS = 3  # number of ramps, and of short squares with a spike

NOISE_TIME = 5.0  # ms, correlation time of the current noise in the membrane
STRONGEST = 1200.0  # pA, largest amplitude of a ramp or a long square
LARGEST = 2000.0  # pA, largest current that 16 bits hold
SHORT_SQUARES = np.arange(150.0, LARGEST - 50, 50.0)  # pA
SEARCH_LEVELS = 16  # levels in one round of the search; often they include rheobase + 100 pA


@dataclass(frozen=True)
class Stimulus:
    """A step from ONSET on, or a ramp that reaches its amplitude at the end.

    Parameters
    ----------
    protocol : str
        "long square", "short square" or "ramp".
    amplitude : float
        Amplitude in pA.
    duration : float, default 1.0
        Duration in s.
    """

    protocol: str
    amplitude: float
    duration: float = LONG

    def current(self) -> np.ndarray:
        """Return the injected current.

        Returns
        -------
        ndarray of float, shape (n_samples / HOLD,)
            Current in pA, one value for every HOLD samples. The test pulse comes first, since readers drop the first pulse.
        """
        start, stop = round(ONSET * HOLDS), round((ONSET + self.duration) * HOLDS)
        current = np.zeros(stop + round(TAIL * HOLDS))
        current[round(TEST_PULSE[0] * HOLDS) : round(TEST_PULSE[1] * HOLDS)] = TEST_PULSE[2]
        shape = np.arange(1, stop - start + 1) / (stop - start) if self.protocol == RAMP else 1.0
        current[start:stop] = np.round(self.amplitude * shape * RESOLUTION) / RESOLUTION
        return current

    def code(self, rheobase: float) -> str:
        """Return the stimulus code that the file has.

        Parameters
        ----------
        rheobase : float
            Rheobase of the cell in pA; stronger long squares have another code.

        Returns
        -------
        str
            A code of the Allen stimulus ontology.
        """
        if self.protocol == LONG_SQUARE and self.amplitude < 0:
            return "X1PS_SubThresh_DA_0"
        if self.protocol == LONG_SQUARE:
            return "X4PS_SupraThresh_DA_0" if self.amplitude > rheobase else "X3LP_Rheo_DA_0"
        return {SHORT_SQUARE: "X6SP_Rheo_DA_0", RAMP: "X7Ramp_DA_0"}[self.protocol]


Response = tuple[Stimulus, np.ndarray]  # stimulus, voltage in mV [time]


class Session:
    """A batch of cells and their responses so far.

    Parameters
    ----------
    cells : sequence of Cell
        The cells.
    seed : int
        Seed of the simulation.
    """

    def __init__(self, cells: Sequence[Cell], seed: int) -> None:
        self.cells = cells
        self.neurons = Neurons(*(np.array([cell.parameters[name] for cell in cells]) for name in Neurons._fields))
        self.noise = [random_stream(seed, cell.species, "membrane", cell.number) for cell in cells]
        self.responses: list[list[Response]] = [[] for _ in cells]

    def apply(self, stimuli: Sequence[Sequence[Stimulus]]) -> None:
        """Apply stimuli to the cells in one integration and store the responses.

        Parameters
        ----------
        stimuli : sequence of sequence of Stimulus
            Stimuli of each cell.
        """
        pairs = [(index, stimulus) for index, some in enumerate(stimuli) for stimulus in some]
        if not pairs:
            return
        currents = []
        for index, stimulus in pairs:
            current, sd = stimulus.current(), self.cells[index].parameters["noise"]
            currents.append(current + correlated_noise(self.noise[index], len(current), sd, NOISE_TIME))
        traces = integrate(self.neurons.take(np.array([index for index, _ in pairs])), currents)
        for (index, stimulus), trace in zip(pairs, traces, strict=True):
            self.responses[index].append((stimulus, trace))

    def ramp_thresholds(self) -> list[float]:
        """Estimate, without noise, the current at which each cell spikes on a steep ramp; it exceeds the rheobase.

        Returns
        -------
        list of float
            Current in pA of each cell.
        """
        steep = np.linspace(0, STRONGEST, HOLDS)
        traces = integrate(self.neurons, [steep] * len(self.cells))
        return [float(steep[np.argmax(trace > 0) // HOLD]) if has_spike(trace) else STRONGEST for trace in traces]

    def short_thresholds(self) -> list[float]:
        """Estimate, without noise, the weakest short square with a spike.

        Returns
        -------
        list of float
            Amplitude in pA of each cell.
        """
        cell_of = np.repeat(np.arange(len(self.cells)), len(SHORT_SQUARES))
        pulse = np.arange(round(0.02 * HOLDS)) < round(SHORT * HOLDS)
        traces = integrate(self.neurons.take(cell_of), [level * pulse for _ in self.cells for level in SHORT_SQUARES])
        spiking = np.array([has_spike(trace) for trace in traces]).reshape(len(self.cells), -1)
        return np.where(spiking.any(1), SHORT_SQUARES[spiking.argmax(1)], SHORT_SQUARES[-1]).tolist()

    def steps(self, index: int) -> dict[float, Response]:
        """Return the depolarising long squares of a cell.

        Parameters
        ----------
        index : int
            Index of the cell in the batch.

        Returns
        -------
        dict of float to (Stimulus, ndarray)
            The last response to each amplitude in pA.
        """
        steps = [response for response in self.responses[index] if response[0].protocol == LONG_SQUARE]
        return {step[0].amplitude: step for step in steps if step[0].amplitude > 0}

    def rheobase(self, index: int) -> float:
        """Return the lowest amplitude at which a cell has spiked.

        Parameters
        ----------
        index : int
            Index of the cell in the batch.

        Returns
        -------
        float
            Amplitude in pA.
        """
        return min(amplitude for amplitude, (_, trace) in self.steps(index).items() if has_spike(trace))

    def search(self, index: int, estimate: float) -> list[Stimulus]:
        """Return the next long squares of the search for the rheobase, in steps of 10 or 20 pA.

        Parameters
        ----------
        index : int
            Index of the cell in the batch.
        estimate : float
            Threshold on a steep ramp, in pA.

        Returns
        -------
        list of Stimulus
            Empty when the lowest amplitude with a spike is above one without.

        Raises
        ------
        RuntimeError
            If the cell does not spike at the largest current.
        """
        grid = 10.0 if estimate < 120 else 20.0
        tried = self.steps(index)
        if not tried:
            lowest = grid * (0.5 * estimate // grid)
        elif not any(has_spike(trace) for _, trace in tried.values()):
            lowest = max(tried) + grid
        elif has_spike(tried[min(tried)][1]):
            lowest = min(tried) - grid * SEARCH_LEVELS
        else:
            return []
        if lowest > STRONGEST:
            name = f"cell {self.cells[index].number} ({self.cells[index].species})"
            raise RuntimeError(f"{name} does not spike at {max(tried):g} pA: its parameters in cells.py are wrong")
        levels = lowest + grid * np.arange(SEARCH_LEVELS)
        return [Stimulus(LONG_SQUARE, level) for level in levels[levels > 0].tolist()]

    def above_rheobase(self, index: int) -> list[Stimulus]:
        """Return the long squares above the rheobase that are not yet recorded.

        Parameters
        ----------
        index : int
            Index of the cell in the batch.

        Returns
        -------
        list of Stimulus
            The missing levels; with the defect ``long_window`` also a longer step.
        """
        rheobase, tried = self.rheobase(index), self.steps(index)
        levels = [Stimulus(LONG_SQUARE, rheobase + more) for more in ABOVE_RHEOBASE if rheobase + more not in tried]
        if self.cells[index].defect == "long_window":
            levels.append(Stimulus(LONG_SQUARE, rheobase + ABOVE_RHEOBASE[-1], LONG_WINDOW))
        return levels

    def recorded(self, index: int) -> list[Response]:
        """Return the responses that the recording contains; of the search only the levels of the protocol.

        Parameters
        ----------
        index : int
            Index of the cell in the batch.

        Returns
        -------
        list of (Stimulus, ndarray)
            Stimuli and voltages in mV, the depolarising long squares last.
        """
        steps, rheobase = self.steps(index), self.rheobase(index)
        below = sorted(amplitude for amplitude in steps if amplitude < rheobase)[-BELOW_RHEOBASE:]
        levels = [*below, rheobase, *(rheobase + more for more in ABOVE_RHEOBASE)]
        others = [
            response
            for response in self.responses[index]
            if response[0].protocol != LONG_SQUARE or response[0].amplitude < 0
        ]
        return others + [steps[level] for level in levels]


def run_experiment(cells: Sequence[Cell], seed: int) -> Session:
    """Record all sweeps of a batch of cells.

    Parameters
    ----------
    cells : sequence of Cell
        The cells.
    seed : int
        Seed of the simulation.

    Returns
    -------
    Session
        The cells with their responses.
    """
    session = Session(cells, seed)
    ramps, shorts = session.ramp_thresholds(), session.short_thresholds()
    stimuli = []
    for index, (ramp, short) in enumerate(zip(ramps, shorts, strict=True)):
        hyperpolarising = [Stimulus(LONG_SQUARE, amplitude) for amplitude in SUBTHRESHOLD]
        # The margins allow for the noise of the membrane; on a slow ramp the threshold is higher than on the steep one.
        squares = [Stimulus(SHORT_SQUARE, level, SHORT) for level in (short - 100, *[short + 50] * REPEATS)]
        rising = [Stimulus(RAMP, min(25 * np.ceil(1.7 * ramp / 25), LARGEST))] * REPEATS
        stimuli.append([*hyperpolarising, *squares, *rising, *session.search(index, ramp)])
    while any(stimuli):
        session.apply(stimuli)
        stimuli = [session.search(index, ramp) for index, ramp in enumerate(ramps)]
    session.apply([session.above_rheobase(index) for index in range(len(cells))])
    return session


def correlated_noise(rng: np.random.Generator, n_values: int, sd: float, time: float) -> np.ndarray:
    """Draw an Ornstein-Uhlenbeck process, one value for every HOLD samples.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    n_values : int
        Length of the process.
    sd : float
        Standard deviation; the unit is that of the result.
    time : float
        Correlation time in ms.

    Returns
    -------
    ndarray of float, shape (n_values,)
        The process.
    """
    kept = np.exp(-HOLD * STEP / time)
    white = rng.standard_normal(n_values) * sd
    white[1:] *= np.sqrt(1 - kept**2)
    return np.asarray(lfilter([1.0], [1.0, -kept], white))


def has_spike(trace: np.ndarray) -> bool:
    """Return whether a voltage exceeds 0 mV.

    Parameters
    ----------
    trace : ndarray of float, shape (n_samples,)
        Voltage in mV.

    Returns
    -------
    bool
        True if there is a spike.
    """
    return bool(trace.max() > 0)
