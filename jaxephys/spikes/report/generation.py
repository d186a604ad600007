"""Table and figures of generated spikes. Start with :func:`distance_table`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Real
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxephys.evaluation.scores import Score
from jaxephys.reporting.plots import PALETTE, STYLE, draw_legend, save_figure
from jaxephys.reporting.score_table import summarize
from jaxephys.reporting.tables import Cell, Table, summary_cell
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.spike_statistics import RATE_OFFSET_HZ, SpikeStatistics

DISTANCES = {  # of spike_statistics.compare_statistics, and headings of the table
    "rate": "firing rate (octaves)",
    "intervals": "inter-spike intervals (octaves)",
    "cv2": "CV2",
    "autocorrelation": "autocorrelation",
    "pairwise_correlation": "pairwise correlation",
    "population_coupling": "population coupling",
}
RASTER_BINS = 1500
INTERVALS_PER_DECADE = 8  # bins of the histogram of inter-spike intervals
MARKERS = ("o", "s", "^", "D", "v", "P")


def distance_table(scores: Sequence[Score], recording: str, variants: Sequence[str], compared: Sequence[str]) -> Table:
    """Summarize the distances of spikes from the real test bins of a recording.

    Parameters
    ----------
    scores : sequence of Score
        Distances.
    recording : str
        Name of the recording.
    variants : sequence of str
        Origins of the spikes, one row each.
    compared : sequence of str
        Variants of which the nearest is bold.

    Returns
    -------
    Table
        Mean and standard deviation over seeds.
    """
    summaries = summarize([score for score in scores if score.test_on == recording])
    columns = {"spikes": [Cell(variant) for variant in variants]}
    for metric, heading in DISTANCES.items():
        nearest = min(compared, key=lambda variant, metric=metric: summaries[variant, metric].mean)
        columns[heading] = [summary_cell(summaries[variant, metric], variant == nearest) for variant in variants]
    return Table(columns, ["Lower is nearer. Bold: the nearest of those that read none of the compared bins."])


@matplotlib.rc_context(STYLE)
def draw_rasters(folder: Path, recording: Recording, rasters: Mapping[str, Real[np.ndarray, "time unit"]]) -> Path:
    """Draw the first bins of several rasters of the same units below each other.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    recording : Recording
        The recording, for its name and bin width.
    rasters : mapping of str to array of shape (bins, units)
        Zeros and ones by title; units are sorted by their rate in the raster "real".

    Returns
    -------
    Path
        The figure; a CSV file with the drawn spikes is written beside it.
    """
    order = np.argsort(rasters["real"].sum(axis=0), kind="stable")
    figure = Figure(figsize=(7.0, 0.9 + 1.2 * len(rasters)), layout="constrained")
    rows = []
    for axes, (title, raster) in zip(figure.subplots(len(rasters), 1, sharex=True), rasters.items(), strict=True):
        bins, units = np.nonzero(raster[:RASTER_BINS, order])
        axes.plot(bins * recording.bin_ms, units, "|", color="black", markersize=2.5, markeredgewidth=0.6)
        axes.set(ylim=(-1, raster.shape[1]))
        axes.set_title(title, fontsize=9, loc="left")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        rows += [(title, int(b), int(order[u])) for b, u in zip(bins, units, strict=True)]
    figure.axes[-1].set_xlabel("Time from the start of the test bins (ms)")
    figure.supylabel("Unit, sorted by its real rate", fontsize=9)
    note = f"One mark per spike. All panels show the same {len(order)} units of {recording.name}."
    return save_figure(figure, folder, f"raster_{recording.name}", ("panel", "bin", "unit"), rows, note)


@matplotlib.rc_context(STYLE)
def draw_rates_and_intervals(
    folder: Path, recording: Recording, statistics: Mapping[str, SpikeStatistics], real: str = "real"
) -> Path:
    """Draw the rate of each unit against its real rate, and the distribution of inter-spike intervals.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    recording : Recording
        The recording, for its name and bin width.
    statistics : mapping of str to SpikeStatistics
        Statistics by origin of the spikes.
    real : str, default "real"
        Key of the real bins.

    Returns
    -------
    Path
        The figure; a CSV file with the drawn numbers is written beside it.
    """
    figure = Figure(figsize=(7.2, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    others = [name for name in statistics if name != real]
    true_rate = statistics[real].rate + RATE_OFFSET_HZ
    rows: list[tuple] = []
    for name, color, marker in zip(others, PALETTE, MARKERS, strict=False):
        rate = statistics[name].rate
        left.plot(
            true_rate,
            rate + RATE_OFFSET_HZ,
            marker,
            color=color,
            markersize=4,
            alpha=0.7,
            markeredgewidth=0,
            label=name,
        )
        rows += [(name, "rate (Hz)", unit, float(value)) for unit, value in enumerate(rate)]
    rows += [(real, "rate (Hz)", unit, float(value)) for unit, value in enumerate(statistics[real].rate)]
    ends = [true_rate.min(), true_rate.max()]
    left.plot(ends, ends, color="black", linewidth=1)
    left.set(xscale="log", yscale="log", title="Rate of each unit")
    left.set(
        xlabel=f"Real rate + {RATE_OFFSET_HZ:g} (Hz)", ylabel=f"Rate of generated spikes + {RATE_OFFSET_HZ:g} (Hz)"
    )
    edges = _interval_edges(statistics, recording.bin_ms)
    for name, color in zip((real, *others), ("black", *PALETTE), strict=False):
        intervals = np.concatenate([np.zeros(0), *statistics[name].intervals]) * recording.bin_ms
        share = np.histogram(intervals, edges)[0] / max(len(intervals), 1) / np.diff(np.log10(edges))
        right.stairs(share, edges, color=color, linewidth=2.0 if name == real else 1.4, label=name)
        rows += [
            (name, "share of intervals per decade", float(edge), float(value))
            for edge, value in zip(edges, share, strict=False)
        ]
    right.set(xscale="log", title="Inter-spike intervals of all units", ylim=(0, None))
    right.set(xlabel="Interval (ms)", ylabel="Share of all intervals per decade")
    for axes in (left, right):
        axes.grid(True)
    draw_legend(figure, *right.get_legend_handles_labels())
    note = f"{recording.name}, n = {len(true_rate)} units; one dot per unit. Black: real bins."
    columns = ("spikes", "quantity", "unit or interval", "value")
    return save_figure(figure, folder, f"rates_{recording.name}", columns, rows, note)


def _interval_edges(statistics: Mapping[str, SpikeStatistics], bin_ms: float) -> Real[np.ndarray, "interval"]:
    """Return the ends of the bins of intervals in ms, evenly spaced on a logarithmic axis, none within a time bin."""
    longest = max(
        (int(intervals.max()) for one in statistics.values() for intervals in one.intervals if len(intervals)),
        default=1,
    )
    decades = np.log10(longest + 1)
    edges = np.logspace(0, decades, max(2, round(decades * INTERVALS_PER_DECADE) + 1))
    return (np.unique(np.round(edges)) - 0.5) * bin_ms
