"""Figure: one recording on one page: raster, population rate, rates of units, intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_prep.spikes.check import REFRACTORY_MS, STEP_MS, Statistics
from data_prep.spikes.recording import Recording
from data_prep.spikes.splits import NAMES

SHOWN_S = 10.0  # of the raster
COLOURS = {"train": "#4c72b0", "validation": "#dd8452", "test": "#55a868"}
INK = "#333333"


def draw(recording: Recording, found: Statistics, path: Path) -> None:
    """Four panels as PNG (or what the suffix says)."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    raster(axes[0, 0], recording)
    population(axes[0, 1], recording, found)
    rates(axes[1, 0], found)
    intervals(axes[1, 1], found)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"{recording.name} ({recording.domain}): {len(recording.unit)} units, bins of {recording.bin_ms:g} ms"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def raster(axis: Axes, recording: Recording) -> None:
    """The first seconds of the test bins, units by rate."""
    start, stop = recording.range("test")
    stop = min(stop, start + round(SHOWN_S * 1000 / recording.bin_ms))
    bins, units = recording.events(start, stop)
    rank = np.argsort(np.argsort(np.bincount(units, minlength=len(recording.unit)), kind="stable"))
    axis.plot(bins * recording.bin_ms / 1000, rank[units], "|", color=INK, markersize=2, markeredgewidth=0.5)
    axis.set(xlabel="time (s)", ylabel="unit, by rate", title="first seconds of test")


def population(axis: Axes, recording: Recording, found: Statistics) -> None:
    time = np.arange(len(found.population)) * STEP_MS / 60_000
    axis.plot(time, found.population, color=INK, linewidth=0.4)
    for name in NAMES:
        start, stop = (x * recording.bin_ms / 60_000 for x in recording.range(name))
        axis.axvspan(start, stop, color=COLOURS[name], alpha=0.25, linewidth=0, label=name)
    for i, seam in enumerate(recording.seams):
        axis.axvline(seam * recording.bin_ms / 60_000, color="black", linestyle=":", label="" if i else "seam")
    axis.set(xlabel="time (min)", ylabel="mean rate (Hz)", title=f"population rate in {STEP_MS:g} ms")
    axis.margins(x=0)
    axis.legend(fontsize=8, ncols=2, frameon=False)


def rates(axis: Axes, found: Statistics) -> None:
    """Each unit's rate in training and in test."""
    before, after = found.rates["train"], found.rates["test"]
    both = (before > 0) & (after > 0)
    axis.loglog(before[both], after[both], "o", color=COLOURS["train"], markersize=4, alpha=0.7, markeredgewidth=0)
    if both.any():
        ends = [min(before[both].min(), after[both].min()), max(before[both].max(), after[both].max())]
        axis.plot(ends, ends, color=INK, linewidth=0.8)
    left = int((~both).sum())
    title = "rates of units" + (f" ({left} silent in one are left out)" if left else "")
    axis.set(xlabel="in training (Hz)", ylabel="in test (Hz)", title=title)


def intervals(axis: Axes, found: Statistics) -> None:
    if found.intervals.size:
        edges = np.geomspace(max(found.intervals.min(), 1e-3) * 0.9, found.intervals.max() * 1.1, 60)
        axis.hist(found.intervals, edges, color=COLOURS["train"], alpha=0.8)
        axis.set_xscale("log")
    axis.axvline(REFRACTORY_MS, color=INK, linestyle=":", linewidth=1)
    short = np.nanmean(found.violations) if np.isfinite(found.violations).any() else np.nan
    title = f"intervals; below {REFRACTORY_MS:g} ms: {100 * short:.2f} % (mean over units)"
    axis.set(xlabel="interval (ms)", ylabel="count", title=title)
