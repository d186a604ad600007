"""Point neurons of the Hodgkin-Huxley type: many neurons and all their sweeps are integrated as one NumPy vector.

    C dV/dt = sum_k g_k (E_k - V) + I            dx/dt = (x_inf(V) - x) / tau_x(V)

with the conductances  Na m^3 h,  delayed rectifier n^2,  Kv3 p^2 (narrow spikes, fast afterhyperpolarisation),  D a b (its
slow inactivation b delays the first spike by hundreds of milliseconds),  M w (adaptation),  Ih r (sag)  and a leak.

The gates are staggered by half a step against the voltage (Hines): a gate relaxes by exp(-dt / tau), read from a table over
voltage, and the voltage takes a Crank-Nicolson step. The scheme is of second order, stable at any step, and needs no
exponential in the loop. All operations are elementwise, so that a trace does not depend on the other neurons of the batch.
Single precision halves the time; the resting potential is then about 0.01 mV too low, a third of a step of the recorded
voltage. Start with :func:`integrate`.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

STEP = 0.02  # ms, one sample at 50 kHz
HOLD = 10  # samples for which the injected current is constant: 0.2 ms
CHUNK = 50  # number of HOLD intervals between two copies from the working block to the traces
SODIUM, POTASSIUM, MIXED = 55.0, -90.0, -40.0  # reversal potentials, mV

LOWEST, HIGHEST, PER_MILLIVOLT = -150.0, 80.0, 50  # mV, mV, rows of the table in a mV

# Gate: half activation and slope in mV (negative: closes with depolarisation), smallest and largest time constant in ms, and
# center and width in mV of the bell-shaped dependence of the time constant on voltage.
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
    """Parameters of neurons.

    Parameters
    ----------
    capacitance : ndarray of float, shape (n_neurons,)
        Capacitance in pF.
    leak, sodium, rectifier, kv3, delay, slow, sag : ndarray of float, shape (n_neurons,)
        Conductances in nS of the leak, sodium, delayed rectifier, Kv3, D, M and Ih currents.
    rest : ndarray of float, shape (n_neurons,)
        Resting potential in mV; the reversal potential of the leak follows from it.
    shift : ndarray of float, shape (n_neurons,)
        Shift in mV of all gates along the voltage, which shifts the spike threshold.
    """

    capacitance: np.ndarray
    leak: np.ndarray
    sodium: np.ndarray
    rectifier: np.ndarray
    kv3: np.ndarray
    delay: np.ndarray
    slow: np.ndarray
    sag: np.ndarray
    rest: np.ndarray
    shift: np.ndarray

    def take(self, index: np.ndarray) -> Neurons:
        """Return some of the neurons.

        Parameters
        ----------
        index : ndarray of int, shape (n_chosen,)
            Indices of the neurons; they may repeat.

        Returns
        -------
        Neurons
            Their parameters.
        """
        return Neurons(*(np.asarray(values)[index] for values in self))


def integrate(neurons: Neurons, currents: list[np.ndarray], substeps: int = 1) -> list[np.ndarray]:
    """Integrate each neuron under its injected current.

    Parameters
    ----------
    neurons : Neurons
        Parameters; each neuron has one sweep.
    currents : list of ndarray of float
        Injected current of each sweep in pA, one value for every HOLD samples. Lengths may differ.
    substeps : int, default 1
        Integration steps for each sample; more than one serves to test the accuracy of the step.

    Returns
    -------
    list of ndarray of float32
        Voltage of each sweep in mV at 50 kHz.
    """
    order = sorted(range(len(currents)), key=lambda index: -len(currents[index]))
    lengths = np.array([len(currents[index]) for index in order])
    drive = np.zeros((lengths[0], len(order)), np.float32)
    for column, index in enumerate(order):
        drive[: lengths[column], column] = currents[index]
    membranes = _Membranes(neurons.take(np.array(order)), STEP / substeps)
    traces = np.empty((len(order), lengths[0] * HOLD), np.float32)  # memory that is not written is not allocated
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
    row_of = np.argsort(order)
    return [traces[row_of[index], : len(currents[index]) * HOLD] for index in range(len(currents))]


def _steady_state(voltage: np.ndarray) -> np.ndarray:
    """Return x_inf [voltage, gate] at voltages in mV."""
    half, slope = (np.array(column) for column in list(zip(*GATES.values(), strict=True))[:2])
    return 1 / (1 + np.exp((half - np.asarray(voltage, float)[:, None]) / slope))


def _gate_tables(step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return two tables [voltage, gate]: the factor of a gate over one step in ms, and what is added to it."""
    voltage = np.arange(LOWEST, HIGHEST, 1 / PER_MILLIVOLT)
    fastest, slowest, center, width = (np.array(column) for column in list(zip(*GATES.values(), strict=True))[2:])
    tau = fastest + (slowest - fastest) / np.cosh((voltage[:, None] - center) / width)
    kept = np.exp(-step / tau)
    return kept.astype(np.float32), ((1 - kept) * _steady_state(voltage)).astype(np.float32)


def _leak_reversal(neurons: Neurons) -> np.ndarray:
    """Return the reversal potential in mV of the leak at which all currents sum to zero at the resting potential."""
    m, h, n, p, a, b, w, r = _steady_state(neurons.rest - neurons.shift).T
    potassium = neurons.rectifier * n**2 + neurons.kv3 * p**2 + neurons.delay * a * b + neurons.slow * w
    sodium, mixed = neurons.sodium * m**3 * h, neurons.sag * r
    active = sodium * (SODIUM - neurons.rest) + potassium * (POTASSIUM - neurons.rest) + mixed * (MIXED - neurons.rest)
    return neurons.rest - active / neurons.leak


class _Membranes:
    """The state of many neurons. Sweeps are sorted by length, so that finished ones can be removed from the end."""

    def __init__(self, neurons: Neurons, step: float) -> None:
        self.tables = _gate_tables(step)
        scale = step / (2 * neurons.capacitance)  # factor of a half step, contained in every conductance below
        self.scale, self.leak = scale, scale * neurons.leak * _leak_reversal(neurons)
        columns = {"passive": 1 + scale * neurons.leak, "offset": 0.5 - (neurons.shift + LOWEST) * PER_MILLIVOLT}
        for name in ("sodium", "rectifier", "kv3", "delay", "slow", "sag"):
            columns[name] = scale * getattr(neurons, name)
        self.columns = {name: np.asarray(values, np.float32) for name, values in columns.items()}
        self.voltage = np.asarray(neurons.rest, np.float32)
        self.gates = _steady_state(neurons.rest - neurons.shift).astype(np.float32)
        self.keep(len(self.voltage))

    def keep(self, count: int) -> None:
        """Keep the first ``count`` neurons."""
        self.voltage, self.gates = self.voltage[:count].copy(), self.gates[:count].copy()
        self.columns = {name: values[:count] for name, values in self.columns.items()}
        self.row = np.empty(count, np.intp)
        self.rows = np.empty_like(self.gates), np.empty_like(self.gates)
        self.spare = [np.empty_like(self.voltage) for _ in range(4)]

    def source(self, current: np.ndarray) -> np.ndarray:
        """Return the terms that do not depend on the gates, for a current in pA."""
        count = len(self.voltage)
        return (self.scale[:count] * current + self.leak[:count]).astype(np.float32)

    def step(self, source: np.ndarray) -> None:
        """Advance the gates, which are half a step ahead of the voltage, and then the voltage, in place."""
        voltage, (kept, added), g, multiply, add = self.voltage, self.rows, self.columns, np.multiply, np.add
        conductance_sum, reversal_sum, buffer, buffer_2 = self.spare
        multiply(voltage, PER_MILLIVOLT, out=buffer)
        add(buffer, g["offset"], out=buffer)
        self.row[:] = buffer
        self.tables[0].take(self.row, axis=0, out=kept, mode="clip")
        self.tables[1].take(self.row, axis=0, out=added, mode="clip")
        multiply(self.gates, kept, out=self.gates)
        add(self.gates, added, out=self.gates)
        m, h, n, p, a, b, w, r = self.gates.T
        # potassium
        multiply(multiply(n, n, out=buffer), g["rectifier"], out=conductance_sum)
        add(conductance_sum, multiply(multiply(p, p, out=buffer), g["kv3"], out=buffer), out=conductance_sum)
        add(conductance_sum, multiply(multiply(a, b, out=buffer), g["delay"], out=buffer), out=conductance_sum)
        add(conductance_sum, multiply(w, g["slow"], out=buffer), out=conductance_sum)
        multiply(conductance_sum, POTASSIUM, out=reversal_sum)
        # sodium and the mixed current
        multiply(multiply(multiply(multiply(m, m, out=buffer), m, out=buffer), h, out=buffer), g["sodium"], out=buffer)
        add(conductance_sum, buffer, out=conductance_sum)
        add(reversal_sum, multiply(buffer, SODIUM, out=buffer), out=reversal_sum)
        multiply(r, g["sag"], out=buffer_2)
        add(conductance_sum, buffer_2, out=conductance_sum)
        add(reversal_sum, multiply(buffer_2, MIXED, out=buffer_2), out=reversal_sum)
        # (V + reversal_sum) / (1 + conductance_sum) is the voltage after half a step; extrapolation gives the whole step
        add(conductance_sum, g["passive"], out=conductance_sum)
        add(add(reversal_sum, source, out=reversal_sum), voltage, out=reversal_sum)
        np.divide(reversal_sum, conductance_sum, out=buffer)
        np.subtract(add(buffer, buffer, out=buffer), voltage, out=voltage)
