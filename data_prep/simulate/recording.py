"""Recording: what the amplifier makes of a cell's responses, with its noise, its steps and its faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE, Recording, Sweep
from data_prep.simulate.cells import Cell, generator
from data_prep.simulate.neuron import HOLD
from data_prep.simulate.protocol import ABOVE_RHEOBASE, LONG, ONSET, RATE, RESOLUTION, Stimulus
from data_prep.simulate.session import Response, correlated_noise, experiment

CONVERTER = 32  # steps of a millivolt, those of the recordings in the archive
WHITE, SLOW, DRIFT = 0.035, 0.1, 200.0  # mV, mV and ms of noise on the voltage
NOISY_CURRENT = 0.5  # pA
SLOWER = 4  # 12.5 kHz is a quarter of the rate


@dataclass(frozen=True)
class SimulatedCell(Cell):
    """A cell and its recording."""

    recording: Recording


def record(cells: Sequence[Cell], seed: int) -> Iterator[SimulatedCell]:
    """Each cell with its recording, in order."""
    session = experiment(cells, seed)
    for index, cell in enumerate(cells):
        rng = generator(seed, cell.species, "amplifier", cell.number)
        rheobase = session.rheobase(index)
        responses = present(session.kept(index), rheobase, cell.fault, rng)
        sweeps = [digitise(number, *response, rheobase, cell.fault, rng) for number, response in enumerate(responses)]
        if cell.fault == "truncated_sweep":
            truncate(sweeps, rng)
        source = {"simulated": True, "seed": seed, "rheobase": rheobase}
        recording = Recording(cell.cell, sweeps, cell.donor, cell.species, source=source)
        yield SimulatedCell(**vars(cell), recording=recording)


def present(responses: list[Response], rheobase: float, fault: str, rng: np.random.Generator) -> list[Response]:
    """The sweeps that this fault has left."""
    lost = rheobase + rng.choice(ABOVE_RHEOBASE[:-1])
    gone = {
        "no_ramp": lambda stimulus: stimulus.protocol == RAMP,
        "no_short_square": lambda stimulus: stimulus.protocol == SHORT_SQUARE,
        "missing_level": lambda stimulus: stimulus.protocol == LONG_SQUARE and stimulus.amplitude == lost,
    }.get(fault)
    return responses if gone is None else [response for response in responses if not gone(response[0])]


def digitise(
    number: int, stimulus: Stimulus, trace: np.ndarray, rheobase: float, fault: str, rng: np.random.Generator
) -> Sweep:
    """Slow and white noise on the voltage, then the steps of the converter. The current is the command, without noise."""
    louder = 10.0 if fault == "noise" else 1.0
    slow = correlated_noise(rng, len(trace) // HOLD, louder * SLOW, DRIFT)
    voltage = trace + np.repeat(slow.astype(np.float32), HOLD)
    current, rate = np.repeat(stimulus.current().astype(np.float32), HOLD), RATE
    if fault == "low_rate":
        rate, count = RATE / SLOWER, len(voltage) // SLOWER
        voltage, current = voltage[: count * SLOWER].reshape(count, SLOWER).mean(1), current[: count * SLOWER : SLOWER]
    voltage += np.float32(louder * WHITE) * rng.standard_normal(len(voltage), dtype=np.float32)
    if fault == "noisy_current":
        current = current + NOISY_CURRENT * rng.standard_normal(len(current), dtype=np.float32)
        current = np.rint(current * RESOLUTION) / RESOLUTION
    return Sweep(number, stimulus.code(rheobase), np.rint(voltage * CONVERTER) / CONVERTER, current, rate)


def truncate(sweeps: list[Sweep], rng: np.random.Generator) -> None:
    """One of the long squares, in place: its voltage ends within the step, and zeros stand for the rest, as in the archive."""
    place = int(rng.choice([at for at, sweep in enumerate(sweeps) if sweep.protocol == LONG_SQUARE]))
    voltage = sweeps[place].voltage.copy()
    voltage[round((ONSET + rng.uniform(0.2, 0.8) * LONG) * sweeps[place].rate) :] = 0
    sweeps[place] = replace(sweeps[place], voltage=voltage)
