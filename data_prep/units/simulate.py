"""Simulated units of known class, subject and technology, for use without real units.

Scores on them do not predict scores on real units. Start with :func:`simulate_units`. A class has a waveform (a trough,
the repolarization after it, a small rise before it), a firing rate, a regularity (intervals are a refractory period and
a gamma variate) and a tendency to burst. A subject shifts all its units a little and is recorded with one technology,
which is a band-pass filter. The waveform of the same unit under every other technology is therefore known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.signal import butter, sosfilt

from data_prep.progress import ProgressReport
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_features import SortedUnit, make_unit_table, waveform
from jaxephys.schemas.unit_table import UnitTable

DURATION = 300.0  # s of recording
FINE_RATE = 100_000.0  # Hz, sampling rate of waveforms before the filters
FINE_TIME = np.arange(-0.002, 0.008, 1 / FINE_RATE)  # s around the trough
NOISE = 1.5  # uV, standard deviation of the noise of a mean waveform
# Pass band in Hz of a probe's action-potential band, a wide-band amplifier, and a pipette's amplifier.
PASS_BANDS = {"neuropixels": (300.0, 10_000.0), "silicon_probe": (10.0, 6_000.0), "juxtacellular": (100.0, 2_500.0)}
# Standard deviation between units of the logarithm of each parameter of a CellClass, in the order of PARAMETERS: wide
# enough that no method classifies all units. The square of SUBJECT_WEIGHT is the share of that variance which the units
# of a subject have in common.
LOG_SPREAD = np.array([0.15, 0.2, 0.4, 0.6, 0.4, 0.25, 0.6, 0.25])
SUBJECT_WEIGHT = 0.4


@dataclass(frozen=True)
class CellClass:
    """Median parameters of a cell class, or the parameters of one unit.

    Parameters
    ----------
    share : float
        Share of the class among all units.
    width : float
        Standard deviation of the Gaussian trough in ms.
    peak_time : float
        Time from trough to peak in ms.
    peak : float
        Height of the peak relative to the depth of the trough.
    rate : float
        Rate of single spikes and bursts in Hz.
    regularity : float
        Shape parameter of the gamma distribution of intervals; at 1 they are as irregular as those of a Poisson
        process.
    refractory : float
        Refractory period in ms.
    bursting : float
        Probability that a spike begins a burst.
    burst : float
        Median interval within a burst in ms.
    """

    share: float
    width: float
    peak_time: float
    peak: float
    rate: float
    regularity: float
    refractory: float
    bursting: float
    burst: float


CELL_CLASSES = {
    "regular": CellClass(0.32, 0.16, 0.60, 0.35, 4.0, 1.2, 4.0, 0.05, 8.0),
    "bursting": CellClass(0.18, 0.14, 0.50, 0.25, 2.5, 1.0, 3.0, 0.50, 5.0),
    "fast": CellClass(0.22, 0.09, 0.28, 0.50, 14.0, 1.6, 1.5, 0.02, 4.0),
    "pacemaker": CellClass(0.15, 0.11, 0.34, 0.40, 22.0, 5.0, 3.0, 0.01, 5.0),
    "sparse": CellClass(0.13, 0.13, 0.42, 0.15, 1.0, 0.7, 5.0, 0.15, 15.0),
}
PARAMETERS = [entry.name for entry in fields(CellClass) if entry.name != "share"]


def simulate_units(units: int = 300, subjects: int = 6, seed: int = 0) -> UnitTable:
    """Simulate units of five classes.

    Parameters
    ----------
    units : int, default 300
        Number of units.
    subjects : int, default 6
        Number of subjects, at most one per unit; unit i belongs to subject i modulo ``subjects``, subject s is recorded
        with the technology s modulo 3.
    seed : int, default 0
        Seed of the random numbers. A unit is the same whatever the number of units.

    Returns
    -------
    UnitTable
        Waveforms of 50 samples at 20 kHz in uV, interval histograms of 100 and autocorrelograms of 201 bins of 1 ms
        (counts of 300 s). ``truth["waveform_under"]`` [unit, technology, sample] is the waveform without noise under
        each technology of ``provenance["technologies"]``; ``truth["parameter"]`` [unit, parameter] are the parameters
        of the unit, named by ``provenance["parameters"]``.

    Raises
    ------
    DataError
        If there is no unit or no subject, or there are more subjects than units.

    Examples
    --------
    >>> units = simulate_units(12, subjects=3, seed=1)
    >>> units
    UnitTable(12 units: wave 12, isi 12, acg 12; 12 labelled)
    >>> units.raw["wave"].shape, units.truth["waveform_under"].shape
    ((12, 50), (12, 3, 50))
    """
    if units < 1 or not 1 <= subjects <= units:
        raise DataError(f"{units} units of {subjects} subjects: give at least one subject, and one unit per subject")
    drawn = [_draw_unit(seed, number, number % subjects) for number in range(units)]
    with ProgressReport("units", units) as progress:
        table = make_unit_table(_sorted_units(drawn, seed, subjects, progress), {})
    under = np.stack([amplitude * _filtered_waveforms(cell) for _, cell, amplitude in drawn])
    recorded = under[np.arange(units), np.arange(units) % subjects % len(PASS_BANDS)]
    noise = np.stack([np.random.default_rng([seed, 2, i]).normal(0, NOISE, recorded.shape[1]) for i in range(units)])
    truth = {
        "waveform_under": under.astype(np.float32),
        "parameter": np.array([[getattr(cell, name) for name in PARAMETERS] for _, cell, _ in drawn]),
    }
    provenance = {
        "source": "simulated",
        "seed": seed,
        "subjects": subjects,
        "technologies": list(PASS_BANDS),
        "parameters": PARAMETERS,
        "notes": [],
    }
    raw = {**table.raw, "wave": (recorded + noise).astype(np.float32)}
    return replace(table, raw=raw, truth=truth, provenance=provenance)


def _draw_unit(seed: int, number: int, subject: int) -> tuple[str, CellClass, float]:
    """Draw the class of a unit, its parameters and its amplitude in uV."""
    rng = np.random.default_rng([seed, 0, number])
    shared = np.random.default_rng([seed, 1, subject]).normal(size=len(LOG_SPREAD))
    label = str(rng.choice(list(CELL_CLASSES), p=[cell.share for cell in CELL_CLASSES.values()]))
    deviation = SUBJECT_WEIGHT * shared + np.sqrt(1 - SUBJECT_WEIGHT**2) * rng.normal(size=len(LOG_SPREAD))
    factors = np.exp(LOG_SPREAD * np.clip(deviation, -2, 2)).tolist()
    median = CELL_CLASSES[label]
    parameters = {name: getattr(median, name) * factor for name, factor in zip(PARAMETERS, factors, strict=True)}
    parameters["bursting"] = min(parameters["bursting"], 0.9)
    parameters["burst"] = max(parameters["burst"], 1.5 * parameters["refractory"])
    return label, replace(median, **parameters), float(rng.lognormal(np.log(90), 0.4))


def _sorted_units(
    drawn: Sequence[tuple[str, CellClass, float]], seed: int, subjects: int, progress: ProgressReport
) -> Iterator[SortedUnit]:
    for number, (label, cell, _) in enumerate(drawn):
        subject = number % subjects
        about = {"label": label, "subject": f"subject {subject}", "session": f"subject {subject}"}
        about |= {
            "technology": list(PASS_BANDS)[subject % len(PASS_BANDS)],
            "species": "simulated",
            "region": "simulated",
        }
        times = _spike_times(cell, np.random.default_rng([seed, 3, number]))
        yield SortedUnit(f"unit {number}", times, about=about)
        progress.advance()


def _filtered_waveforms(cell: CellClass) -> np.ndarray:
    """Return the aligned waveforms [technology, sample] of a unit whose trough has depth one before the filters."""

    def bump(center: float, sd: float) -> np.ndarray:
        return np.exp(-0.5 * ((1e3 * FINE_TIME - center) / sd) ** 2)

    # Trough, slower peak after it, a rise of a tenth before it.
    after = cell.peak * bump(cell.peak_time, 0.6 * cell.peak_time)
    shape = -bump(0.0, cell.width) + after + 0.1 * bump(-3 * cell.width, cell.width)
    filters = (butter(2, band, "bandpass", fs=FINE_RATE, output="sos") for band in PASS_BANDS.values())
    return np.stack([waveform(np.asarray(sosfilt(sections, shape)), FINE_RATE) for sections in filters])


def _spike_times(cell: CellClass, rng: np.random.Generator) -> np.ndarray:
    """Draw spike times in s: gamma intervals after a refractory period, some spikes followed by a burst."""
    refractory = cell.refractory / 1e3
    gamma_mean = max(1 / cell.rate - refractory, 0.1 / cell.rate)
    events = int(1.2 * cell.rate * DURATION) + 20
    single = refractory + rng.gamma(cell.regularity, gamma_mean / cell.regularity, events)
    burst_spikes = np.where(rng.random(events) < cell.bursting, rng.geometric(0.5, events), 0)
    count = events + int(burst_spikes.sum())
    intervals = refractory + (cell.burst / 1e3 - refractory) * rng.lognormal(0, 0.25, count)
    intervals[np.cumsum(1 + burst_spikes) - 1 - burst_spikes] = single
    times = np.cumsum(intervals)
    return times[times < DURATION]
