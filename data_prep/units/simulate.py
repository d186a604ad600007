"""Simulate: units of known class, subject and technology, where no real ones may lie. Scores on them say nothing about real units.

A class has a waveform family (a trough, the repolarisation after it, a small rise before), a rate, a regularity (intervals are a
refractory time and a gamma variate) and a tendency to burst. A subject shifts all its units a little and is recorded with one
technology, which is a band-pass filter. So the same unit's waveform under every other technology is known: ``truth``
``waveform_under`` [unit, technology, sample], without noise, is what a counterfactual is to be held against, and ``parameter``
[unit, parameter] is what the unit was made of; the names of technologies and parameters stand in ``provenance``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.signal import butter, sosfilt

from data_prep.scale.progress import Report
from data_prep.units.features import SortedUnit, units_of, waveform
from data_prep.units.table import Units, UnitsError

DURATION = 300.0  # s of recording
FINE = 100_000.0  # Hz, where the filters act
TIME = np.arange(-0.002, 0.008, 1 / FINE)  # s around the trough
NOISE = 1.5  # microvolts, of the mean waveform
# Pass band in Hz: of a probe's action-potential band, of a wide-band amplifier, of a pipette's.
BANDS = {"neuropixels": (300.0, 10_000.0), "silicon_probe": (10.0, 6_000.0), "juxtacellular": (100.0, 2_500.0)}
# Spread between units, of the logarithm of each parameter of a Kind but its share; of it, how much a subject's units have in
# common. Wide enough that no method tells all units.
SPREAD = np.array([0.15, 0.2, 0.4, 0.6, 0.4, 0.25, 0.6, 0.25])
OF_SUBJECT = 0.4


@dataclass(frozen=True)
class Kind:
    """A cell class (medians; units spread around them), or one unit of it."""

    share: float
    width: float  # ms, standard deviation of the trough
    peak_time: float  # ms from trough to peak
    peak: float  # height of the peak over the depth of the trough
    rate: float  # Hz, of single spikes and bursts
    regularity: float  # shape of the gamma distribution: 1 is as irregular as a Poisson process
    refractory: float  # ms
    bursting: float  # how often a spike begins a burst
    burst: float  # ms, interval within a burst


KINDS = {
    "regular": Kind(0.32, 0.16, 0.60, 0.35, 4.0, 1.2, 4.0, 0.05, 8.0),
    "bursting": Kind(0.18, 0.14, 0.50, 0.25, 2.5, 1.0, 3.0, 0.50, 5.0),
    "fast": Kind(0.22, 0.09, 0.28, 0.50, 14.0, 1.6, 1.5, 0.02, 4.0),
    "pacemaker": Kind(0.15, 0.11, 0.34, 0.40, 22.0, 5.0, 3.0, 0.01, 5.0),
    "sparse": Kind(0.13, 0.13, 0.42, 0.15, 1.0, 0.7, 5.0, 0.15, 15.0),
}

PARAMETERS = [entry.name for entry in fields(Kind) if entry.name != "share"]


def simulate_units(units: int = 300, subjects: int = 6, seed: int = 0) -> Units:
    """So many units of so many subjects; a unit is the same whatever the number of units."""
    if units < 1 or not 1 <= subjects <= units:
        raise UnitsError(f"{units} units of {subjects} subjects: ask for at least one subject, and one unit a subject")
    drawn = [draw(seed, number, number % subjects) for number in range(units)]
    with Report("units", units, 0, 0) as report:
        made = units_of(sorted_units(drawn, seed, subjects, report), {})
    under = np.stack([amplitude * under_all(kind) for _, kind, amplitude in drawn])
    own = under[np.arange(units), np.arange(units) % subjects % len(BANDS)]
    noise = np.stack([np.random.default_rng([seed, 2, i]).normal(0, NOISE, own.shape[1]) for i in range(units)])
    truth = {
        "waveform_under": under.astype(np.float32),
        "parameter": np.array([[getattr(kind, name) for name in PARAMETERS] for _, kind, _ in drawn]),
    }
    provenance = {
        "source": "simulated",
        "seed": seed,
        "subjects": subjects,
        "technologies": list(BANDS),
        "parameters": PARAMETERS,
        "notes": [],
    }
    return Units(made.unit, (own + noise).astype(np.float32), made.isi, made.acg, made.about, truth, provenance)


def draw(seed: int, number: int, subject: int) -> tuple[str, Kind, float]:
    """The class of a unit, its own parameters and its amplitude in microvolts."""
    rng = np.random.default_rng([seed, 0, number])
    shared = np.random.default_rng([seed, 1, subject]).normal(size=len(SPREAD))
    label = str(rng.choice(list(KINDS), p=[kind.share for kind in KINDS.values()]))
    jitter = OF_SUBJECT * shared + np.sqrt(1 - OF_SUBJECT**2) * rng.normal(size=len(SPREAD))
    factors = np.exp(SPREAD * np.clip(jitter, -2, 2)).tolist()
    own = {name: getattr(KINDS[label], name) * factor for name, factor in zip(PARAMETERS, factors, strict=True)}
    own["bursting"] = min(own["bursting"], 0.9)
    own["burst"] = max(own["burst"], 1.5 * own["refractory"])
    return label, replace(KINDS[label], **own), float(rng.lognormal(np.log(90), 0.4))


def sorted_units(
    drawn: Sequence[tuple[str, Kind, float]], seed: int, subjects: int, report: Report
) -> Iterator[SortedUnit]:
    for number, (label, kind, _) in enumerate(drawn):
        subject = number % subjects
        about = {"label": label, "subject": f"subject {subject}", "session": f"subject {subject}"}
        about |= {"technology": list(BANDS)[subject % len(BANDS)], "species": "simulated", "region": "simulated"}
        times = spike_train(kind, np.random.default_rng([seed, 3, number]))
        yield SortedUnit(f"unit {number}", times, about=about)
        report(failed=False)


def spike_shape(kind: Kind) -> np.ndarray:
    """A waveform [TIME] of depth one: trough, slower peak after it, a rise of a tenth before it."""

    def bump(centre: float, sd: float) -> np.ndarray:
        return np.exp(-0.5 * ((1e3 * TIME - centre) / sd) ** 2)

    after = kind.peak * bump(kind.peak_time, 0.6 * kind.peak_time)
    return -bump(0.0, kind.width) + after + 0.1 * bump(-3 * kind.width, kind.width)


def under_all(kind: Kind) -> np.ndarray:
    """The aligned waveforms [technology, sample] of a unit of depth one."""
    shape = spike_shape(kind)
    bands = (butter(2, band, "bandpass", fs=FINE, output="sos") for band in BANDS.values())
    return np.stack([waveform(np.asarray(sosfilt(band, shape)), FINE) for band in bands])


def spike_train(kind: Kind, rng: np.random.Generator) -> np.ndarray:
    """Spike times in s: a renewal process with gamma intervals after a refractory time, some of its spikes followed by a burst."""
    refractory = kind.refractory / 1e3
    spare = max(1 / kind.rate - refractory, 0.1 / kind.rate)  # mean of the gamma part
    events = int(1.2 * kind.rate * DURATION) + 20
    single = refractory + rng.gamma(kind.regularity, spare / kind.regularity, events)
    more = np.where(rng.random(events) < kind.bursting, rng.geometric(0.5, events), 0)  # spikes that follow at once
    intervals = refractory + (kind.burst / 1e3 - refractory) * rng.lognormal(0, 0.25, events + int(more.sum()))
    intervals[np.cumsum(1 + more) - 1 - more] = single
    times = np.cumsum(intervals)
    return times[times < DURATION]
