"""Table and figure of generated spikes. Start with :func:`distance_table`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Real
from matplotlib.figure import Figure

from jaxephys.evaluation.scores import Score
from jaxephys.reporting.plots import GREY, STYLE, save_figure
from jaxephys.reporting.score_table import summarize
from jaxephys.reporting.tables import Cell, Table, summary_cell
from jaxephys.schemas.recording import Recording

DISTANCES = {  # of spike_statistics.compare_statistics, and headings of the table
    "rate": "firing rate (octaves)",
    "intervals": "inter-spike intervals (octaves)",
    "cv2": "CV2",
    "autocorrelation": "autocorrelation",
    "pairwise_correlation": "pairwise correlation",
    "population_coupling": "population coupling",
}
RASTER_BINS = 1500


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
    return Table(columns, ["Lower is nearer. Bold: the nearest of those that use earlier bins only."])


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
    figure = Figure(figsize=(8.0, 6.4), layout="constrained")
    rows = []
    for axes, (title, raster) in zip(figure.subplots(len(rasters), 1, sharex=True), rasters.items(), strict=True):
        bins, units = np.nonzero(raster[:RASTER_BINS, order])
        axes.plot(bins * recording.bin_ms, units, "|", color="black", markersize=2.5, markeredgewidth=0.6)
        axes.set(title=title, ylabel="Unit, by rate", ylim=(-1, raster.shape[1]))
        rows += [(title, int(b), int(order[u])) for b, u in zip(bins, units, strict=True)]
    figure.axes[-1].set_xlabel("Time from the start of the test bins (ms)")
    figure.supxlabel("One mark per spike; all panels show the same units.", fontsize=8, color=GREY)
    return save_figure(figure, folder, f"raster_{recording.name}", ("panel", "bin", "unit"), rows)
