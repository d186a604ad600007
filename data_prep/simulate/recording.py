"""Record simulated cells: noise and resolution of the amplifier, and the defect of each cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE, Recording, Sweep
from data_prep.simulate.cells import Cell, random_stream
from data_prep.simulate.neuron import HOLD
from data_prep.simulate.session import (
    ABOVE_RHEOBASE,
    LONG,
    ONSET,
    RATE,
    RESOLUTION,
    Response,
    Stimulus,
    correlated_noise,
    run_experiment,
)

CONVERTER = 32  # steps of the converter in a mV, as in the archive
WHITE_NOISE, SLOW_NOISE, SLOW_TIME = 0.035, 0.1, 200.0  # mV, mV and ms; noise on the voltage
NOISY_CURRENT = 0.5  # pA
LOW_RATE_FACTOR = 4  # 12.5 kHz is a quarter of the rate


@dataclass(frozen=True)
class SimulatedCell(Cell):
    """A simulated cell with its recording.

    Parameters
    ----------
    species, number, cell, specimen, donor, subclass, t_type, structure, condition, sex, defect, parameters : str, int or mapping
        See :class:`data_prep.simulate.cells.Cell`.
    recording : Recording
        The sweeps, in mV, pA and Hz.
    """

    recording: Recording


def record_cells(cells: Sequence[Cell], seed: int) -> Iterator[SimulatedCell]:
    """Simulate the recordings of cells.

    Parameters
    ----------
    cells : sequence of Cell
        The cells; they are integrated together.
    seed : int
        Seed of the simulation.

    Yields
    ------
    SimulatedCell
        Each cell with its recording, in order.
    """
    session = run_experiment(cells, seed)
    for index, cell in enumerate(cells):
        rng = random_stream(seed, cell.species, "amplifier", cell.number)
        rheobase = session.rheobase(index)
        responses = _without_defective(session.recorded(index), rheobase, cell.defect, rng)
        sweeps = [
            _digitized(number, *response, rheobase, cell.defect, rng) for number, response in enumerate(responses)
        ]
        if cell.defect == "truncated_sweep":
            _truncate_one(sweeps, rng)
        source = {"simulated": True, "seed": seed, "rheobase": rheobase}
        recording = Recording(cell.cell, sweeps, cell.donor, cell.species, source=source)
        yield SimulatedCell(**vars(cell), recording=recording)


def _without_defective(
    responses: list[Response], rheobase: float, defect: str, rng: np.random.Generator
) -> list[Response]:
    """Remove the sweeps that a cell with this defect lacks."""
    lost_level = rheobase + rng.choice(ABOVE_RHEOBASE[:-1])
    is_lost = {
        "no_ramp": lambda stimulus: stimulus.protocol == RAMP,
        "no_short_square": lambda stimulus: stimulus.protocol == SHORT_SQUARE,
        "missing_level": lambda stimulus: stimulus.protocol == LONG_SQUARE and stimulus.amplitude == lost_level,
    }.get(defect)
    return responses if is_lost is None else [response for response in responses if not is_lost(response[0])]


def _digitized(
    number: int, stimulus: Stimulus, trace: np.ndarray, rheobase: float, defect: str, rng: np.random.Generator
) -> Sweep:
    """Add slow and white noise to the voltage and round it to the steps of the converter. The current has no noise."""
    gain = 10.0 if defect == "noise" else 1.0
    slow = correlated_noise(rng, len(trace) // HOLD, gain * SLOW_NOISE, SLOW_TIME)
    voltage = trace + np.repeat(slow.astype(np.float32), HOLD)
    current, rate = np.repeat(stimulus.current().astype(np.float32), HOLD), RATE
    if defect == "low_rate":
        rate, count = RATE / LOW_RATE_FACTOR, len(voltage) // LOW_RATE_FACTOR
        voltage = voltage[: count * LOW_RATE_FACTOR].reshape(count, LOW_RATE_FACTOR).mean(1)
        current = current[: count * LOW_RATE_FACTOR : LOW_RATE_FACTOR]
    voltage += np.float32(gain * WHITE_NOISE) * rng.standard_normal(len(voltage), dtype=np.float32)
    if defect == "noisy_current":
        current = current + NOISY_CURRENT * rng.standard_normal(len(current), dtype=np.float32)
        current = np.rint(current * RESOLUTION) / RESOLUTION
    return Sweep(number, stimulus.code(rheobase), np.rint(voltage * CONVERTER) / CONVERTER, current, rate)


def _truncate_one(sweeps: list[Sweep], rng: np.random.Generator) -> None:
    """End one of the long squares within its step, in place; as in the archive the rest of the voltage is zero."""
    index = int(rng.choice([i for i, sweep in enumerate(sweeps) if sweep.protocol == LONG_SQUARE]))
    voltage = sweeps[index].voltage.copy()
    voltage[round((ONSET + rng.uniform(0.2, 0.8) * LONG) * sweeps[index].rate) :] = 0
    sweeps[index] = replace(sweeps[index], voltage=voltage)
