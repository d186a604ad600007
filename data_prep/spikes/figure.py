"""A figure of one recording on one page: raster, population rate, rates of units, intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_prep.spikes.check import REFRACTORY_MS, STEP_MS, RecordingStatistics
from jaxephys.schemas.recording import SPLITS, Recording

RASTER_SECONDS = 10.0
SPLIT_COLORS = {"train": "#4c72b0", "validation": "#dd8452", "test": "#55a868"}
DARK_GRAY = "#333333"


def draw_recording(recording: Recording, statistics: RecordingStatistics, path: Path) -> None:
    """Draw a recording in four panels.

    Parameters
    ----------
    recording : Recording
        The recording.
    statistics : RecordingStatistics
        Its statistics, from :func:`data_prep.spikes.check.compute_statistics`.
    path : Path
        File to write; its suffix gives the format, such as ``.png``.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    _draw_raster(axes[0, 0], recording)
    _draw_population_rate(axes[0, 1], recording, statistics)
    _draw_unit_rates(axes[1, 0], statistics)
    _draw_intervals(axes[1, 1], statistics)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{recording.name} ({recording.domain}): {recording.units} units, bins of {recording.bin_ms:g} ms")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _draw_raster(axis: Axes, recording: Recording) -> None:
    """Draw the first seconds of the test bins, units ordered by rate."""
    start, stop = recording.span("test")
    stop = min(stop, start + round(RASTER_SECONDS * 1000 / recording.bin_ms))
    bins, units = recording.events(start, stop)
    rank = np.argsort(np.argsort(np.bincount(units, minlength=recording.units), kind="stable"))
    axis.plot(bins * recording.bin_ms / 1000, rank[units], "|", color=DARK_GRAY, markersize=2, markeredgewidth=0.5)
    axis.set(xlabel="Time (s)", ylabel="Unit, by rate", title="First seconds of the test bins")


def _draw_population_rate(axis: Axes, recording: Recording, statistics: RecordingStatistics) -> None:
    time = np.arange(len(statistics.population)) * STEP_MS / 60_000
    axis.plot(time, statistics.population, color=DARK_GRAY, linewidth=0.4)
    for split in SPLITS:
        start, stop = (x * recording.bin_ms / 60_000 for x in recording.span(split))
        axis.axvspan(start, stop, color=SPLIT_COLORS[split], alpha=0.25, linewidth=0, label=split)
    for i, seam in enumerate(recording.seams):
        axis.axvline(seam * recording.bin_ms / 60_000, color="black", linestyle=":", label="" if i else "seam of files")
    axis.set(xlabel="Time (min)", ylabel="Mean rate (Hz)", title=f"Population rate in steps of {STEP_MS:g} ms")
    axis.margins(x=0)
    axis.legend(fontsize=8, ncols=2, frameon=False)


def _draw_unit_rates(axis: Axes, statistics: RecordingStatistics) -> None:
    """Draw each unit's rate in training and in test."""
    train, test = statistics.rates["train"], statistics.rates["test"]
    active = (train > 0) & (test > 0)
    axis.loglog(
        train[active], test[active], "o", color=SPLIT_COLORS["train"], markersize=4, alpha=0.7, markeredgewidth=0
    )
    if active.any():
        ends = [min(train[active].min(), test[active].min()), max(train[active].max(), test[active].max())]
        axis.plot(ends, ends, color=DARK_GRAY, linewidth=0.8)
    silent = int((~active).sum())
    title = "Rates of units" + (f" ({silent} silent in one split are left out)" if silent else "")
    axis.set(xlabel="Rate in training (Hz)", ylabel="Rate in test (Hz)", title=title)


def _draw_intervals(axis: Axes, statistics: RecordingStatistics) -> None:
    intervals = statistics.intervals
    if intervals.size:
        edges = np.geomspace(max(intervals.min(), 1e-3) * 0.9, intervals.max() * 1.1, 60)
        axis.hist(intervals, edges, color=SPLIT_COLORS["train"], alpha=0.8)
        axis.set_xscale("log")
    axis.axvline(REFRACTORY_MS, color=DARK_GRAY, linestyle=":", linewidth=1)
    short = np.nanmean(statistics.violations) if np.isfinite(statistics.violations).any() else np.nan
    title = f"Intervals; {100 * short:.2f} % below {REFRACTORY_MS:g} ms (mean over units)"
    axis.set(xlabel="Inter-spike interval (ms)", ylabel="Count", title=title)
