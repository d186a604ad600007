"""A toy neuron that is fast to simulate, a leaky membrane to which spikes of one shape are added; and a minimal NWB file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.patchseq.sweeps import Sweep

# First line of a child process, which would otherwise ignore Ctrl-C where the tests run in the background.
HEAR_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"

REST, RESISTANCE, TAU = -70.0, 0.15, 0.012  # mV, GOhm, s
RHEOBASE, GAIN = 50.0, 0.35  # pA, spikes/s/pA


def step_current(
    amplitude: float, rate: float, length: float = 1.0, onset: float = 0.7, after: float = 0.3
) -> np.ndarray:
    """Return a test pulse of -10 pA at 50 ms, followed by the step, in pA."""
    current = np.zeros(round((onset + length + after) * rate))
    current[round(0.05 * rate) : round(0.06 * rate)] = -10.0
    current[round(onset * rate) : round((onset + length) * rate)] = amplitude
    return current


def membrane(current: np.ndarray, rate: float) -> np.ndarray:
    from scipy.signal import lfilter

    decay = np.exp(-1 / (rate * TAU))
    return REST + lfilter([RESISTANCE * (1 - decay)], [1, -decay], current)


def spike(rate: float) -> np.ndarray:
    """Return a spike of 85 mV and 1 ms with an afterhyperpolarization of 10 mV, in mV."""
    time = np.arange(round(0.02 * rate)) / rate
    return 85 * np.exp(-(((time - 0.001) / 0.0003) ** 2)) - 10 * np.exp(-(time - 0.002) / 0.004) * (time > 0.0018)


def respond(current: np.ndarray, rate: float, times: np.ndarray, noise: float = 0.02, seed: int = 0) -> np.ndarray:
    voltage, shape = membrane(current, rate), spike(rate)
    for time in times:
        first = round(time * rate)
        voltage[first : first + len(shape)] += shape[: len(voltage) - first]
    return voltage + noise * np.random.default_rng(seed).normal(size=len(voltage))


def square(number: int, amplitude: float, rate: float = 50_000, **window) -> Sweep:
    """Return a long square, with evenly spaced spikes from rheobase on."""
    current = step_current(amplitude, rate, **window)
    onset, length = window.get("onset", 0.7), window.get("length", 1.0)
    spikes = int(max(amplitude - RHEOBASE, 0) * GAIN * length) + (amplitude >= RHEOBASE)
    times = onset + 0.01 + np.arange(spikes) * (length - 0.05) / max(spikes, 1)
    return Sweep(number, "X4PS_SupraThresh_DA_0", respond(current, rate, times, seed=number), current, rate)


def short(number: int, amplitude: float, rate: float = 50_000) -> Sweep:
    current = step_current(amplitude, rate, length=0.003)
    times = np.array([0.7025]) if amplitude >= 200 else np.array([])
    return Sweep(number, "X6SP_Rheo_DA_0", respond(current, rate, times, seed=number), current, rate)


def ramp(number: int, rate: float = 50_000) -> Sweep:
    current = step_current(0, rate)
    inside = slice(round(0.7 * rate), round(1.7 * rate))
    current[inside] = np.linspace(0, 200, inside.stop - inside.start + 1)[1:]
    return Sweep(number, "X7Ramp_DA_0", respond(current, rate, np.arange(1.0, 1.6, 0.05), seed=number), current, rate)


def sweeps(rate: float = 50_000) -> list[Sweep]:
    """Return all sweeps of a cell: subthreshold steps, the six levels, short squares and ramps."""
    amplitudes = (-110, -90, -70, -50, -30, -10, 30, 50, 70, 90, 110, 130, 150)
    long = [square(number, amplitude, rate) for number, amplitude in enumerate(amplitudes)]
    return [*long, short(20, 100, rate), *(short(n, 250, rate) for n in (21, 22, 23)), ramp(30, rate), ramp(31, rate)]


def write_nwb(path: Path, recorded: list[Sweep], *, donor: str = "d1", species: str = "Mus musculus") -> Path:
    """Write the parts of an NWB file that a reader needs, with h5py."""
    import h5py

    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file["general/subject/subject_id"] = donor
        file["general/subject/species"] = species
        for index, sweep in enumerate(recorded):
            parts = (
                (f"acquisition/data_{index:05d}_AD0", "CurrentClampSeries", sweep.voltage, "volts", 1e-3),
                (
                    f"stimulus/presentation/data_{index:05d}_DA0",
                    "CurrentClampStimulusSeries",
                    sweep.current,
                    "amperes",
                    1e-12,
                ),
            )
            for name, kind, samples, unit, conversion in parts:
                group = file.create_group(name)
                group.attrs["neurodata_type"] = kind
                group.attrs["sweep_number"] = sweep.number
                group.attrs.create("stimulus_description", sweep.stimulus, dtype=text)
                data = group.create_dataset("data", data=samples)
                data.attrs["unit"], data.attrs["conversion"] = unit, conversion
                start = group.create_dataset("starting_time", data=0.0)
                start.attrs["rate"] = sweep.rate
    return path
