"""Session: the experiment on a batch of cells. Quick looks, a search for the rheobase in steps, then the levels above it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter

from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE
from data_prep.simulate.cells import Cell, generator
from data_prep.simulate.neuron import HOLD, STEP, Neurons, integrate
from data_prep.simulate.protocol import (
    ABOVE_RHEOBASE,
    BELOW_RHEOBASE,
    HOLDS,
    LONG_WINDOW,
    REPEATS,
    SHORT,
    SUBTHRESHOLD,
    Stimulus,
)

FLICKER = 5.0  # ms, correlation time of the current noise in the membrane
STRONGEST = 1200.0  # pA, of a ramp or a long square
LARGEST = 2000.0  # pA, what 16 bits hold
SHORT_SQUARES = np.arange(150.0, LARGEST - 50, 50.0)  # pA
SEARCHED = 16  # levels of one round of the search: with luck rheobase + 100 pA is among them

Response = tuple[Stimulus, np.ndarray]  # the voltage in mV [time]


def correlated_noise(rng: np.random.Generator, holds: int, spread: float, time: float) -> np.ndarray:
    """An Ornstein-Uhlenbeck process of this standard deviation and correlation time (ms), one value every HOLD samples."""
    kept = np.exp(-HOLD * STEP / time)
    white = rng.standard_normal(holds) * spread
    white[1:] *= np.sqrt(1 - kept**2)
    return np.asarray(lfilter([1.0], [1.0, -kept], white))


class Session:
    """A batch of cells on the rig, and what each has answered so far."""

    def __init__(self, cells: Sequence[Cell], seed: int) -> None:
        self.cells = cells
        self.neurons = Neurons(*(np.array([cell.parameters[name] for cell in cells]) for name in Neurons._fields))
        self.noise = [generator(seed, cell.species, "membrane", cell.number) for cell in cells]
        self.responses: list[list[Response]] = [[] for _ in cells]

    def apply(self, wanted: Sequence[Sequence[Stimulus]]) -> None:
        """Give each cell its stimuli, all of them in one integration, and keep the responses."""
        pairs = [(index, stimulus) for index, stimuli in enumerate(wanted) for stimulus in stimuli]
        if not pairs:
            return
        currents = []
        for index, stimulus in pairs:
            current, spread = stimulus.current(), self.cells[index].parameters["noise"]
            currents.append(current + correlated_noise(self.noise[index], len(current), spread, FLICKER))
        traces = integrate(self.neurons.pick(np.array([index for index, _ in pairs])), currents)
        for (index, stimulus), trace in zip(pairs, traces, strict=True):
            self.responses[index].append((stimulus, trace))

    def ramp_thresholds(self) -> list[float]:
        """A quick look without noise: the current at which each cell fires on a steep ramp, above its rheobase."""
        steep = np.linspace(0, STRONGEST, HOLDS)
        traces = integrate(self.neurons, [steep] * len(self.cells))
        return [float(steep[np.argmax(trace > 0) // HOLD]) if fires(trace) else STRONGEST for trace in traces]

    def short_thresholds(self) -> list[float]:
        """Another: the least short square that makes each cell fire."""
        owner = np.repeat(np.arange(len(self.cells)), len(SHORT_SQUARES))
        pulse = np.arange(round(0.02 * HOLDS)) < round(SHORT * HOLDS)
        traces = integrate(self.neurons.pick(owner), [level * pulse for _ in self.cells for level in SHORT_SQUARES])
        fired = np.array([fires(trace) for trace in traces]).reshape(len(self.cells), -1)
        return np.where(fired.any(1), SHORT_SQUARES[fired.argmax(1)], SHORT_SQUARES[-1]).tolist()

    def steps(self, index: int) -> dict[float, Response]:
        """The depolarising long squares of a cell by amplitude; of two alike the later one."""
        steps = [response for response in self.responses[index] if response[0].protocol == LONG_SQUARE]
        return {step[0].amplitude: step for step in steps if step[0].amplitude > 0}

    def rheobase(self, index: int) -> float:
        """The lowest amplitude that has made the cell fire."""
        return min(amplitude for amplitude, (_, trace) in self.steps(index).items() if fires(trace))

    def search(self, index: int, estimate: float) -> list[Stimulus]:
        """The next levels to try, until the lowest that fires lies above one that does not. In steps of 10 or 20 pA."""
        grid = 10.0 if estimate < 120 else 20.0
        tried = self.steps(index)
        if not tried:
            lowest = grid * (0.5 * estimate // grid)
        elif not any(fires(trace) for _, trace in tried.values()):
            lowest = max(tried) + grid
        elif fires(tried[min(tried)][1]):
            lowest = min(tried) - grid * SEARCHED
        else:
            return []
        if lowest > STRONGEST:
            name = f"cell {self.cells[index].number} ({self.cells[index].species})"
            raise RuntimeError(f"{name} does not fire at {max(tried):g} pA: its parameters in cells.py are at fault")
        levels = lowest + grid * np.arange(SEARCHED)
        return [Stimulus(LONG_SQUARE, level) for level in levels[levels > 0].tolist()]

    def above(self, index: int) -> list[Stimulus]:
        """The levels above the rheobase that are still missing."""
        rheobase, tried = self.rheobase(index), self.steps(index)
        levels = [Stimulus(LONG_SQUARE, rheobase + more) for more in ABOVE_RHEOBASE if rheobase + more not in tried]
        if self.cells[index].fault == "long_window":
            levels.append(Stimulus(LONG_SQUARE, rheobase + ABOVE_RHEOBASE[-1], LONG_WINDOW))
        return levels

    def kept(self, index: int) -> list[Response]:
        """What goes into the recording, the long squares above rest last: of the search, only what belongs to the protocol."""
        steps, rheobase = self.steps(index), self.rheobase(index)
        below = sorted(amplitude for amplitude in steps if amplitude < rheobase)[-BELOW_RHEOBASE:]
        levels = [*below, rheobase, *(rheobase + more for more in ABOVE_RHEOBASE)]
        rest = [r for r in self.responses[index] if r[0].protocol != LONG_SQUARE or r[0].amplitude < 0]
        return rest + [steps[level] for level in levels]


def fires(trace: np.ndarray) -> bool:
    return bool(trace.max() > 0)


def experiment(cells: Sequence[Cell], seed: int) -> Session:
    """All sweeps of these cells."""
    session = Session(cells, seed)
    ramps, shorts = session.ramp_thresholds(), session.short_thresholds()
    wanted = []
    for index, (ramp, short) in enumerate(zip(ramps, shorts, strict=True)):
        hyperpolarising = [Stimulus(LONG_SQUARE, amplitude) for amplitude in SUBTHRESHOLD]
        # A margin on both sides, since the membrane's noise moves the threshold; and a slow ramp lets it rise.
        squares = [Stimulus(SHORT_SQUARE, level, SHORT) for level in (short - 100, *[short + 50] * REPEATS)]
        rising = [Stimulus(RAMP, min(25 * np.ceil(1.7 * ramp / 25), LARGEST))] * REPEATS
        wanted.append([*hyperpolarising, *squares, *rising, *session.search(index, ramp)])
    while any(wanted):
        session.apply(wanted)
        wanted = [session.search(index, ramp) for index, ramp in enumerate(ramps)]
    session.apply([session.above(index) for index in range(len(cells))])
    return session
