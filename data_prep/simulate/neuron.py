"""Neurons: point neurons of the Hodgkin-Huxley type, many of them and all their sweeps in one vector of NumPy.

    C dV/dt = sum_k g_k (E_k - V) + I            dx/dt = (x_inf(V) - x) / tau_x(V)

with the conductances  Na m^3 h,  delayed rectifier n^2,  Kv3 p^2 (narrow spikes, fast afterhyperpolarisation),  D a b (its
inactivation b lets a late spiker ramp for hundreds of milliseconds),  M w (adaptation),  Ih r (sag)  and a leak.

The gates stand half a step off the voltage (Hines), so that both halves are exact for what they see: a gate relaxes by
exp(-dt / tau), read from a table over voltage; the voltage takes a Crank-Nicolson step. That is of second order, stable at any
step, and needs no exponential in the loop. All work is element by element: a neuron's trace does not depend on its company.
Single precision halves the time; it comes to rest some 0.01 mV short, a third of a step of the recorded voltage.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

STEP = 0.02  # ms, one sample at 50 kHz
HOLD = 10  # samples through which the injected current stands still: 0.2 ms
CHUNK = 50  # such stretches between two transfers from the running block to the traces
SODIUM, POTASSIUM, MIXED = 55.0, -90.0, -40.0  # reversal potentials, mV

LOWEST, HIGHEST, PER_MILLIVOLT = -150.0, 80.0, 50  # the table: 0.02 mV a row

# gate: half activation mV, slope mV (negative: closes with depolarisation), fastest and slowest time constant ms, and the
# voltage mV and the width mV of the bell between them.
GATES = {
    "m": (-28.0, 5.5, 0.02, 0.10, -36.0, 18.0),
    "h": (-42.0, -5.5, 0.3, 5.0, -58.0, 12.0),
    "n": (-20.0, 8.0, 0.4, 2.5, -32.0, 14.0),
    "p": (-8.0, 8.0, 0.15, 0.8, -20.0, 14.0),
    "a": (-50.0, 6.0, 1.0, 2.0, -50.0, 20.0),
    "b": (-74.0, -6.0, 60.0, 300.0, -65.0, 18.0),
    "w": (-34.0, 6.0, 30.0, 110.0, -45.0, 20.0),
    "r": (-84.0, -7.0, 30.0, 120.0, -78.0, 14.0),
}


class Neurons(NamedTuple):
    """Parameters, one entry a neuron: pF, nS and mV."""

    capacitance: np.ndarray
    leak: np.ndarray
    sodium: np.ndarray
    rectifier: np.ndarray
    kv3: np.ndarray
    delay: np.ndarray
    slow: np.ndarray
    sag: np.ndarray
    rest: np.ndarray  # where the membrane stands without current; the leak's reversal potential follows from it
    shift: np.ndarray  # of all gates along the voltage: the spike threshold

    def pick(self, index: np.ndarray) -> Neurons:
        return Neurons(*(np.asarray(values)[index] for values in self))


def steady(voltage: np.ndarray) -> np.ndarray:
    """The gates x_inf at these voltages, one column a gate."""
    half, slope = (np.array(column) for column in list(zip(*GATES.values(), strict=True))[:2])
    return 1 / (1 + np.exp((half - np.asarray(voltage, float)[:, None]) / slope))


def gate_tables(step: float) -> tuple[np.ndarray, np.ndarray]:
    """Per row of voltage and gate: what is kept of the gate over a step, and what is added."""
    voltage = np.arange(LOWEST, HIGHEST, 1 / PER_MILLIVOLT)
    fastest, slowest, centre, width = (np.array(column) for column in list(zip(*GATES.values(), strict=True))[2:])
    tau = fastest + (slowest - fastest) / np.cosh((voltage[:, None] - centre) / width)
    kept = np.exp(-step / tau)
    return kept.astype(np.float32), ((1 - kept) * steady(voltage)).astype(np.float32)


def conductances(neurons: Neurons, gates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """nS of the sodium, the potassium and the mixed current at these gates [neuron, gate]; for the start, not for the loop."""
    m, h, n, p, a, b, w, r = gates.T
    potassium = neurons.rectifier * n**2 + neurons.kv3 * p**2 + neurons.delay * a * b + neurons.slow * w
    return neurons.sodium * m**3 * h, potassium, neurons.sag * r


def leak_reversal(neurons: Neurons) -> np.ndarray:
    """The leak's reversal potential that makes ``rest`` the resting potential: all currents sum to nothing there."""
    sodium, potassium, mixed = conductances(neurons, steady(neurons.rest - neurons.shift))
    active = sodium * (SODIUM - neurons.rest) + potassium * (POTASSIUM - neurons.rest) + mixed * (MIXED - neurons.rest)
    return neurons.rest - active / neurons.leak


class Membranes:
    """The state of many neurons and one step of all of them. Rows that are done are let go from the end."""

    def __init__(self, neurons: Neurons, step: float) -> None:
        self.tables = gate_tables(step)
        scale = step / (2 * neurons.capacitance)  # of a half step; goes into every conductance
        self.scale, self.leak = scale, scale * neurons.leak * leak_reversal(neurons)
        columns = {"own": 1 + scale * neurons.leak, "offset": 0.5 - (neurons.shift + LOWEST) * PER_MILLIVOLT}
        for name in ("sodium", "rectifier", "kv3", "delay", "slow", "sag"):
            columns[name] = scale * getattr(neurons, name)
        self.columns = {name: np.asarray(values, np.float32) for name, values in columns.items()}
        self.voltage = np.asarray(neurons.rest, np.float32)
        self.gates = steady(neurons.rest - neurons.shift).astype(np.float32)
        self.keep(len(self.voltage))

    def keep(self, count: int) -> None:
        """Go on with the first ``count`` neurons."""
        self.voltage, self.gates = self.voltage[:count].copy(), self.gates[:count].copy()
        self.columns = {name: values[:count] for name, values in self.columns.items()}
        self.row = np.empty(count, np.intp)
        self.rows = np.empty_like(self.gates), np.empty_like(self.gates)
        self.spare = [np.empty_like(self.voltage) for _ in range(4)]

    def source(self, current: np.ndarray) -> np.ndarray:
        """What does not depend on the gates, for as long as the current (pA) stands."""
        count = len(self.voltage)
        return (self.scale[:count] * current + self.leak[:count]).astype(np.float32)

    def step(self, source: np.ndarray) -> None:
        """Gates by half a step ahead of the voltage, then the voltage by a whole one, in place."""
        voltage, (kept, added), (total, pull, one, two), g = self.voltage, self.rows, self.spare, self.columns
        multiply, add = np.multiply, np.add
        multiply(voltage, PER_MILLIVOLT, out=one)
        add(one, g["offset"], out=one)
        self.row[:] = one
        self.tables[0].take(self.row, axis=0, out=kept, mode="clip")
        self.tables[1].take(self.row, axis=0, out=added, mode="clip")
        multiply(self.gates, kept, out=self.gates)
        add(self.gates, added, out=self.gates)
        m, h, n, p, a, b, w, r = self.gates.T
        # potassium
        multiply(multiply(n, n, out=one), g["rectifier"], out=total)
        add(total, multiply(multiply(p, p, out=one), g["kv3"], out=one), out=total)
        add(total, multiply(multiply(a, b, out=one), g["delay"], out=one), out=total)
        add(total, multiply(w, g["slow"], out=one), out=total)
        multiply(total, POTASSIUM, out=pull)
        # sodium and the mixed current
        multiply(multiply(multiply(multiply(m, m, out=one), m, out=one), h, out=one), g["sodium"], out=one)
        add(total, one, out=total)
        add(pull, multiply(one, SODIUM, out=one), out=pull)
        multiply(r, g["sag"], out=two)
        add(total, two, out=total)
        add(pull, multiply(two, MIXED, out=two), out=pull)
        # (V + pull) / (1 + total) is the voltage half a step on; as far again is the whole step
        add(total, g["own"], out=total)
        add(add(pull, source, out=pull), voltage, out=pull)
        np.divide(pull, total, out=one)
        np.subtract(add(one, one, out=one), voltage, out=voltage)


def integrate(neurons: Neurons, currents: list[np.ndarray], substeps: int = 1) -> list[np.ndarray]:
    """The voltage (mV, 50 kHz) of each neuron under its current (pA, one value for every HOLD samples).

    Sweeps may differ in length. ``substeps`` divides the step, not the samples: it is for the test of the step.
    """
    order = sorted(range(len(currents)), key=lambda index: -len(currents[index]))
    lengths = np.array([len(currents[index]) for index in order])
    drive = np.zeros((lengths[0], len(order)), np.float32)
    for column, index in enumerate(order):
        drive[: lengths[column], column] = currents[index]
    membranes = Membranes(neurons.pick(np.array(order)), STEP / substeps)
    traces = np.empty((len(order), lengths[0] * HOLD), np.float32)  # pages that are never written cost nothing
    block = np.empty((CHUNK * HOLD, len(order)), np.float32)
    edges = sorted({*range(0, lengths[0], CHUNK), *lengths.tolist()})
    for start, stop in itertools.pairwise(edges):
        count = int((lengths >= stop).sum())
        if count < len(membranes.voltage):
            membranes.keep(count)
        for at in range(start, stop):
            source = membranes.source(drive[at, :count])
            for sample in range((at - start) * HOLD, (at - start + 1) * HOLD):
                block[sample, :count] = membranes.voltage
                for _ in range(substeps):
                    membranes.step(source)
        traces[:count, start * HOLD : stop * HOLD] = block[: (stop - start) * HOLD, :count].T
    place = np.argsort(order)
    return [traces[place[index], : len(currents[index]) * HOLD] for index in range(len(currents))]
