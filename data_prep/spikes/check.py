"""Summarize a recording, and list problems in it that would make models or scores misleading. Start with :func:`check_recording`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.report import Report
from data_prep.spikes.splits import find_repeats
from jaxephys.schemas.recording import SPLITS, Recording

# Step of the population rate that is tested: at 1 ms the lags of the test would only cover the refractory period.
STEP_MS = 100.0
MIN_STEPS = 200  # values of the population rate that a test needs: with fewer it rejects nothing
SIGNIFICANCE = 0.05
REFRACTORY_MS = 2.0
MAX_VIOLATIONS = 0.01  # share of a unit's intervals within the refractory period that one neuron does not exceed
MIN_SPIKES = 10  # of a unit: with fewer its own AUC, or coefficient of variation, means nothing
MAX_RATE_RATIO = 2.0  # between a unit's rates in training and test; a larger one is reported


@dataclass(frozen=True)
class RecordingStatistics:
    """Rates and intervals of a recording.

    Parameters
    ----------
    rates : mapping of str to ndarray of shape (n_units,)
        Rate of each unit in Hz in "train", "validation", "test" and in "all" bins.
    intervals : ndarray of shape (n_intervals,)
        Intervals between successive spikes of a unit in ms, of all units; none across a seam.
    interval_unit : ndarray of int of shape (n_intervals,)
        Index of the unit of each interval.
    population : ndarray of shape (n_steps,)
        Mean rate over units in Hz, in steps of 100 ms.
    occupied : float
        Share of bins with a spike of any unit.
    """

    rates: Mapping[str, np.ndarray]
    intervals: np.ndarray
    interval_unit: np.ndarray
    population: np.ndarray
    occupied: float

    @property
    def violations(self) -> np.ndarray:
        """Share of each unit's intervals below 2 ms, NaN for units without intervals."""
        units = len(self.rates["all"])
        count = np.bincount(self.interval_unit, minlength=units)
        short = np.bincount(self.interval_unit[self.intervals < REFRACTORY_MS], minlength=units)
        return np.where(count > 0, short / np.maximum(count, 1), np.nan)


def check_recording(recording: Recording, statistics: RecordingStatistics | None = None) -> Report:
    """Describe a recording and list what would mislead a model or a score.

    Parameters
    ----------
    recording : Recording
        The recording.
    statistics : RecordingStatistics, optional
        Its statistics, if they were computed before.

    Returns
    -------
    Report
        Facts and findings: silent units, violations of the refractory period, rates that are not stationary or change
        between training and test, few test spikes, copied bins, and the notes of data preparation.

    Examples
    --------
    >>> import numpy as np
    >>> spikes = np.random.default_rng(0).random((9000, 8)) < 0.02
    >>> spikes[1:][spikes[:-1]] = False
    >>> spikes[:, 3] = False
    >>> check_recording(Recording.from_array(spikes)).findings[0]
    '1 units have no spike in the recording'
    """
    statistics = compute_statistics(recording) if statistics is None else statistics
    tests = _test_stationarity(recording, statistics)
    findings = [
        *_silent_units(statistics),
        *_refractory_violations(recording, statistics),
        *_unit_roots(tests),
        *_changed_rates(statistics),
        *_few_test_spikes(recording, statistics),
        *_copied_bins(recording),
        *recording.provenance.get("notes", ()),
    ]
    return Report(_facts(recording, statistics, tests), findings)


def compute_statistics(recording: Recording) -> RecordingStatistics:
    """Compute rates and intervals of a recording.

    Parameters
    ----------
    recording : Recording
        The recording.

    Returns
    -------
    RecordingStatistics
        The statistics.
    """
    bins, units = recording.events()
    count, total = recording.units, len(recording)
    rates = {"all": np.bincount(units, minlength=count) / (total * recording.bin_ms / 1000)}
    for split in SPLITS:
        start, stop = recording.span(split)
        inside = units[slice(*np.searchsorted(bins, (start, stop)))]
        rates[split] = np.bincount(inside, minlength=count) / ((stop - start) * recording.bin_ms / 1000)
    intervals, interval_unit = _intervals(recording, bins, units)
    step = max(round(STEP_MS / recording.bin_ms), 1)
    per_step = np.bincount(bins // step, minlength=-(-total // step))[: total // step]
    population = per_step / (count * step * recording.bin_ms / 1000)
    return RecordingStatistics(rates, intervals, interval_unit, population, len(np.unique(bins)) / total)


def _intervals(recording: Recording, bins: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the intervals (ms) between the spikes of each unit, and its index; none across a seam."""
    order = np.argsort(units, kind="stable")
    bins, units = bins[order], units[order]
    part = np.searchsorted(recording.seams, bins, side="right")
    valid = (np.diff(units) == 0) & (np.diff(part) == 0)
    return np.diff(bins)[valid] * recording.bin_ms, units[1:][valid]


def dickey_fuller(series: np.ndarray, lags: int | None = None) -> Any:
    """Test the null hypothesis that a series has a unit root, that is, wanders like a random walk.

    Parameters
    ----------
    series : array-like of shape (n_values,)
        Values at equal intervals of time.
    lags : int, optional
        Number of lagged differences. By default that of Schwert, 12 (n_values / 100)^(1/4) rounded down, which depends
        on the length of the series only.

    Returns
    -------
    statsmodels.tsa.stattools.ADFullerResult
        ``statistic``, ``pvalue``, ``lags``, ``nobs`` and ``critical_values``. A small p value means that the series is
        stationary.

    Raises
    ------
    ValueError
        If the series is constant or too short for the number of lags.

    Notes
    -----
    ``statsmodels.tsa.stattools.adfuller`` fits, by least squares, a constant and no trend::

        y[t] - y[t-1] = a + g y[t-1] + sum_{i=1..lags} d_i (y[t-i] - y[t-i-1]) + e[t]

    and takes MacKinnon's approximations for the distribution of g over its standard error. Version 0.1.0 of this
    package had its own implementation. On 1,440 series of 30 to 7,000 values (random walks, white noise, moving
    averages and counts, some with a large offset) the two agree in the statistic to a relative difference of 2e-11 and
    in p to 6e-12; critical values are equal.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=500)
    >>> bool(dickey_fuller(noise).pvalue < 0.05), bool(dickey_fuller(noise.cumsum()).pvalue < 0.05)
    (True, False)
    """
    from statsmodels.tsa.stattools import adfuller

    lags = int(12 * (len(series) / 100) ** 0.25) if lags is None else lags
    fixed_lags: Any = None  # the annotation of autolag lacks None
    return adfuller(np.asarray(series, float), maxlag=lags, regression="c", autolag=fixed_lags, result_object=True)


def _test_stationarity(recording: Recording, statistics: RecordingStatistics) -> dict[str, Any]:
    """Test the population rate of all bins and of each split, where it is long enough and not constant."""
    step = max(round(STEP_MS / recording.bin_ms), 1)
    ranges = {"all": (0, len(recording)), **{split: recording.span(split) for split in SPLITS}}
    series = {name: statistics.population[-(-start // step) : stop // step] for name, (start, stop) in ranges.items()}
    return {name: dickey_fuller(rate) for name, rate in series.items() if len(rate) >= MIN_STEPS and np.ptp(rate) > 0}


# Facts.


def _facts(recording: Recording, statistics: RecordingStatistics, tests: Mapping[str, Any]) -> dict[str, str]:
    rates, intervals = statistics.rates["all"], statistics.intervals
    minutes = len(recording) * recording.bin_ms / 60_000
    by_split = ", ".join(f"{split} {statistics.rates[split].mean():.3g}" for split in SPLITS)
    facts = {
        "name": f"{recording.name} ({recording.domain}), {recording.sha256[:12]}",
        "size": f"{recording.units} units, {len(recording):,} bins of {recording.bin_ms:g} ms = {minutes:.2f} min",
        "splits": list_splits(recording)
        + (f"; seams at {', '.join(map(str, recording.seams))}" if recording.seams else ""),
        "rate (Hz)": f"mean {rates.mean():.3g}, median {np.median(rates):.3g}, max {rates.max():.3g}; {by_split}",
        "density": f"{rates.mean() * recording.bin_ms / 1000:.5f} of all bits, {statistics.occupied:.3f} of bins have a spike",
    }
    if intervals.size:
        quartiles = ", ".join(f"{x:g}" for x in np.percentile(intervals, (25, 50, 75)))
        facts["interval (ms)"] = f"quartiles {quartiles}; CV of the median unit {_median_variation(statistics):.2f}"
        short = ", ".join(
            f"<= {k * recording.bin_ms:g} ms {np.mean(intervals <= k * recording.bin_ms):.4f}" for k in (1, 2, 3)
        )
        facts["refractory"] = f"share of intervals {short}"
    for name, test in tests.items():
        facts[f"ADF {name}"] = (
            f"{test.statistic:.2f} (5 %: {test.critical_values['5%']:.2f}), p {test.pvalue:.2g}, {test.lags} lags, n {test.nobs}"
        )
    return facts


def list_splits(recording: Recording) -> str:
    """List the splits of a recording.

    Parameters
    ----------
    recording : Recording
        The recording.

    Returns
    -------
    str
        First bin of each split, and the bin after its last.
    """
    return ", ".join(f"{name} [{start}, {stop})" for name, (start, stop) in zip(SPLITS, recording.splits, strict=True))


def _median_variation(statistics: RecordingStatistics) -> float:
    """Return the median coefficient of variation of intervals, over units with enough of them."""
    units = len(statistics.rates["all"])
    count, total, square = (
        np.bincount(statistics.interval_unit, statistics.intervals**power, minlength=units) for power in range(3)
    )
    kept = count >= MIN_SPIKES
    if not kept.any():
        return np.nan
    mean = total[kept] / count[kept]
    return float(np.median(np.sqrt(np.maximum(square[kept] / count[kept] - mean**2, 0)) / mean))


# Findings.


def _silent_units(statistics: RecordingStatistics) -> Iterator[str]:
    for name, rates in statistics.rates.items():
        silent = int(np.sum(rates == 0))
        if silent:
            yield f"{silent} units have no spike in {'the recording' if name == 'all' else name}"


def _refractory_violations(recording: Recording, statistics: RecordingStatistics) -> Iterator[str]:
    if recording.bin_ms >= REFRACTORY_MS:
        return
    units = int(np.sum(statistics.violations > MAX_VIOLATIONS))
    if units:
        yield (
            f"{units} units have more than {100 * MAX_VIOLATIONS:g} % of their intervals below {REFRACTORY_MS:g} ms: several cells "
            "in a unit, or a wrong length of a tick"
        )


def _unit_roots(tests: Mapping[str, Any]) -> Iterator[str]:
    for name, test in tests.items():
        if test.pvalue > SIGNIFICANCE:
            yield f"the population rate of {name} may wander like a random walk (ADF p {test.pvalue:.2g}): not stationary"


def _changed_rates(statistics: RecordingStatistics) -> Iterator[str]:
    train, test = statistics.rates["train"], statistics.rates["test"]
    active = np.minimum(train, test) > 0
    ratio = np.maximum(train[active] / test[active], test[active] / train[active])
    units = int(np.sum(ratio > MAX_RATE_RATIO))
    if units:
        yield f"{units} units fire in test more than {MAX_RATE_RATIO:g} times as much as in train, or less than 1/{MAX_RATE_RATIO:g} of it"


def _few_test_spikes(recording: Recording, statistics: RecordingStatistics) -> Iterator[str]:
    start, stop = recording.span("test")
    units = int(np.sum(statistics.rates["test"] * (stop - start) * recording.bin_ms / 1000 < MIN_SPIKES - 0.5))
    if units:
        yield f"{units} units have fewer than {MIN_SPIKES} test spikes: they count in pooled scores, not in those within units"


def _copied_bins(recording: Recording) -> Iterator[str]:
    repeats = find_repeats(recording.packed, recording.splits, within=True)
    if repeats:
        yield f"{repeats[0]}" + (f", and {len(repeats) - 1} more such chunks" if len(repeats) > 1 else "")
