"""Check: what stands in a recording, and what in it would mislead a model or a score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.spikes.recording import Recording
from data_prep.spikes.splits import NAMES, repeats
from data_prep.spikes.stationarity import Stationarity, dickey_fuller

STEPS = 200  # of the population rate that a test needs at least: fewer reject nothing
STEP_MS = 100.0  # of the population rate that is tested: at 1 ms its lags would only cover the refractory time
REFRACTORY_MS = 2.0
VIOLATION = 0.01  # share of a unit's intervals within the refractory time that one neuron does not have
FEW = 10  # spikes in the test bins below which a unit's own AUC means nothing
CHANGE = 2.0  # factor between a unit's rates in training and test that is worth a word
LEVEL = 0.05


@dataclass(frozen=True)
class Statistics:
    """Numbers of one recording; the report says them and the picture draws them."""

    rates: Mapping[str, np.ndarray]  # Hz [unit] by split, and of all bins as "all"
    intervals: np.ndarray  # ms, of all units
    owner: np.ndarray  # unit of each interval
    population: np.ndarray  # Hz, mean over units, in steps of STEP_MS
    occupied: float  # share of bins with a spike of any unit

    @property
    def violations(self) -> np.ndarray:
        """Share of each unit's intervals below REFRACTORY_MS, NaN without intervals."""
        units = len(self.rates["all"])
        count = np.bincount(self.owner, minlength=units)
        short = np.bincount(self.owner[self.intervals < REFRACTORY_MS], minlength=units)
        return np.where(count > 0, short / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Report:
    facts: Mapping[str, str]
    findings: Sequence[str]

    def lines(self) -> list[str]:
        head = f"{len(self.findings)} to look at:" if self.findings else "nothing looks wrong"
        return [
            *(f"{name:<14} {fact}" for name, fact in self.facts.items()),
            "",
            head,
            *(f"  - {x}" for x in self.findings),
        ]


def statistics(recording: Recording) -> Statistics:
    bins, units = recording.events()
    count, total = len(recording.unit), len(recording.packed)
    rates = {"all": np.bincount(units, minlength=count) / (total * recording.bin_ms / 1000)}
    for name in NAMES:
        start, stop = recording.range(name)
        inside = units[slice(*np.searchsorted(bins, (start, stop)))]
        rates[name] = np.bincount(inside, minlength=count) / ((stop - start) * recording.bin_ms / 1000)
    intervals, owner = intervals_of(recording, bins, units)
    step = max(round(STEP_MS / recording.bin_ms), 1)
    per_step = np.bincount(bins // step, minlength=-(-total // step))[: total // step]
    population = per_step / (count * step * recording.bin_ms / 1000)
    return Statistics(rates, intervals, owner, population, len(np.unique(bins)) / total)


def intervals_of(recording: Recording, bins: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The intervals (ms) between the spikes of each unit and whose they are; none over a seam."""
    order = np.argsort(units, kind="stable")
    bins, units = bins[order], units[order]
    part = np.searchsorted(recording.seams, bins, side="right")
    own = (np.diff(units) == 0) & (np.diff(part) == 0)
    return np.diff(bins)[own] * recording.bin_ms, units[1:][own]


def report(recording: Recording, found: Statistics | None = None) -> Report:
    """Look at a recording."""
    found = statistics(recording) if found is None else found
    tests = stationarity(recording, found)
    checks = (silent, refractory, roots(tests), changed, few_spikes, copied, notes)
    return Report(facts(recording, found, tests), [text for check in checks for text in check(recording, found)])


def facts(recording: Recording, found: Statistics, tests: Mapping[str, Stationarity]) -> dict[str, str]:
    rates, intervals = found.rates["all"], found.intervals
    minutes = len(recording.packed) * recording.bin_ms / 60_000
    splits = ", ".join(f"{name} [{start}, {stop})" for name, (start, stop) in zip(NAMES, recording.splits, strict=True))
    by_split = ", ".join(f"{name} {found.rates[name].mean():.3g}" for name in NAMES)
    said = {
        "name": f"{recording.name} ({recording.domain}), {recording.sha256[:12]}",
        "size": f"{len(recording.unit)} units, {len(recording.packed):,} bins of {recording.bin_ms:g} ms = {minutes:.2f} min",
        "splits": splits + (f"; seams at {', '.join(map(str, recording.seams))}" if recording.seams else ""),
        "rate (Hz)": f"mean {rates.mean():.3g}, median {np.median(rates):.3g}, max {rates.max():.3g}; {by_split}",
        "density": f"{rates.mean() * recording.bin_ms / 1000:.5f} of all bits, {found.occupied:.3f} of bins have a spike",
    }
    if intervals.size:
        quartiles = ", ".join(f"{x:g}" for x in np.percentile(intervals, (25, 50, 75)))
        said["interval (ms)"] = f"quartiles {quartiles}; CV of the median unit {variation(found):.2f}"
        short = ", ".join(
            f"<= {k * recording.bin_ms:g} ms {np.mean(intervals <= k * recording.bin_ms):.4f}" for k in (1, 2, 3)
        )
        said["refractory"] = f"share of intervals {short}"
    for name, test in tests.items():
        said[f"ADF {name}"] = (
            f"{test.statistic:.2f} (5 %: {test.critical:.2f}), p {test.p:.2g}, {test.lags} lags, n {test.n}"
        )
    return said


def variation(found: Statistics) -> float:
    """Median over units of sd / mean of their intervals, for units with at least FEW of them."""
    units = len(found.rates["all"])
    count, total, square = (np.bincount(found.owner, found.intervals**k, minlength=units) for k in range(3))
    kept = count >= FEW
    mean = total[kept] / count[kept]
    return (
        float(np.median(np.sqrt(np.maximum(square[kept] / count[kept] - mean**2, 0)) / mean)) if kept.any() else np.nan
    )


def stationarity(recording: Recording, found: Statistics) -> dict[str, Stationarity]:
    """The test on the population rate of all bins and of each split, where it is long enough and not constant."""
    step = max(round(STEP_MS / recording.bin_ms), 1)
    ranges = {"all": (0, len(recording.packed)), **{name: recording.range(name) for name in NAMES}}
    series = {name: found.population[-(-start // step) : stop // step] for name, (start, stop) in ranges.items()}
    return {name: dickey_fuller(own) for name, own in series.items() if len(own) >= STEPS and np.ptp(own) > 0}


def silent(recording: Recording, found: Statistics) -> Iterator[str]:
    for name, rates in found.rates.items():
        none = int(np.sum(rates == 0))
        if none:
            yield f"{none} units have no spike in {'the recording' if name == 'all' else name}"


def refractory(recording: Recording, found: Statistics) -> Iterator[str]:
    if recording.bin_ms >= REFRACTORY_MS:
        return
    many = int(np.sum(found.violations > VIOLATION))
    if many:
        yield (
            f"{many} units have more than {100 * VIOLATION:g} % of their intervals below {REFRACTORY_MS:g} ms: several cells in a "
            f"unit, or a tick that is not as long as was said"
        )


def roots(tests: Mapping[str, Stationarity]):
    def unit_root(recording: Recording, found: Statistics) -> Iterator[str]:
        for name, test in tests.items():
            if test.p > LEVEL:
                yield f"the population rate of {name} may wander like a random walk (ADF p {test.p:.2g}): not stationary"

    return unit_root


def changed(recording: Recording, found: Statistics) -> Iterator[str]:
    before, after = found.rates["train"], found.rates["test"]
    enough = np.minimum(before, after) > 0
    ratio = np.maximum(before[enough] / after[enough], after[enough] / before[enough])
    many = int(np.sum(ratio > CHANGE))
    if many:
        yield f"{many} units fire in test more than {CHANGE:g} times as much as in train, or less than 1/{CHANGE:g} of it"


def few_spikes(recording: Recording, found: Statistics) -> Iterator[str]:
    start, stop = recording.range("test")
    many = int(np.sum(found.rates["test"] * (stop - start) * recording.bin_ms / 1000 < FEW - 0.5))
    if many:
        yield f"{many} units have fewer than {FEW} test spikes: they count in pooled scores, not in those within units"


def copied(recording: Recording, found: Statistics) -> Iterator[str]:
    again = repeats(recording.packed, recording.splits, within=True)
    if again:
        yield f"{again[0]}" + (f", and {len(again) - 1} more such chunks" if len(again) > 1 else "")


def notes(recording: Recording, found: Statistics) -> Iterator[str]:
    yield from recording.provenance.get("notes", ())
