"""The style of all figures, how they are written, learning curves, and selective accuracy. Bars are in `jaxephys.reporting.bars`.

Every function writes ``figures/NAME.png`` and beside it ``NAME.csv`` with the numbers that are drawn, and returns the path of the PNG
file. Figures are made without pyplot, so that they need no display and none stays open. `save_figure` writes other figures the same way.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxephys.evaluation.intervals import mean_sd
from jaxephys.reporting.files import write_csv
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.score_table import check_known
from jaxephys.schemas.storage import replace_file

# Colors of Okabe and Ito, which are distinguishable with any color vision, without their faint yellow.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
GREY = "#6B6B6B"
FIGURE_DPI = 150
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
NOTE_LETTERS_PER_INCH = 15  # of the note below a figure, which is wrapped to its width


def save_figure(
    figure: Figure, folder: Path, name: str, columns: Sequence[str], rows: Iterable[Sequence], note: str = ""
) -> Path:
    """Write a figure as PNG and the numbers that it shows as CSV.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    folder : path-like
        Run folder; files go to its subfolder ``figures``.
    name : str
        Name of both files, without suffix.
    columns : sequence of str
        Columns of the CSV file.
    rows : iterable of sequences
        Rows of the CSV file.
    note : str, default ""
        Sentence below the panels.

    Returns
    -------
    Path
        The path of the PNG file.
    """
    if note:
        letters = max(30, int(NOTE_LETTERS_PER_INCH * figure.get_figwidth()))
        lines = [textwrap.fill(line, letters) for line in note.splitlines()]
        figure.supxlabel("\n".join(lines), fontsize=8, color=GREY)
    png = write_csv(Path(folder) / "figures" / f"{name}.csv", columns, rows).with_suffix(".png")
    with replace_file(png) as temporary:
        figure.savefig(temporary, format="png", dpi=FIGURE_DPI, metadata={"Software": None})
    return png


@matplotlib.rc_context(STYLE)
def draw_curves(
    folder: Path,
    history: Mapping[str, Float[np.ndarray, "run epoch"]],
    variant_of_run: Sequence[str],
    metrics: Sequence[str],
    note: str = "",
) -> Path:
    """Draw the mean and standard deviation of metrics over the epochs, one panel per metric and one line per variant.

    Parameters
    ----------
    folder : path-like
        Run folder.
    history : mapping of str to array, shape (n_runs, n_epochs)
        Values by metric; NaN after a run has stopped.
    variant_of_run : sequence of str
        Variant of each run.
    metrics : sequence of str
        Metrics to draw.
    note : str, default ""
        Sentence added below the panels, such as the network that the runs are of.

    Returns
    -------
    Path
        The path of the PNG file.

    Raises
    ------
    ValueError
        If a metric is missing, or the numbers of runs differ.

    Notes
    -----
    Only runs that are still training at an epoch enter its mean; a stopped run is not continued at its last value. A line ends when
    fewer than half of the runs of its variant are training, since the mean of the others would not represent the variant.
    """
    check_known("metric", metrics, set(history))
    variants_array = np.array(variant_of_run)
    for metric in metrics:
        if len(history[metric]) != len(variants_array):
            raise ValueError(f"{metric} has {len(history[metric])} runs, but there are {len(variants_array)} variants")
    variants = list(dict.fromkeys(variant_of_run))
    rows = []
    figure, panels = make_panels(len(metrics), 2 if len(metrics) == 4 else min(3, len(metrics)), 2.5, 2.4)
    for axes, metric in zip(panels, metrics, strict=True):
        for i, variant in enumerate(variants):
            points = _curve(history[metric][variants_array == variant])
            rows += [(variant, metric, *point) for point in points]
            epoch, mean, sd, _ = np.array(points).reshape(-1, 4).T
            color = PALETTE[i % len(PALETTE)]
            _draw_band(axes, epoch, mean, sd, color, DASHES[i // len(PALETTE) % len(DASHES)], variant)
            axes.plot(epoch[-1:], mean[-1:], "o", color=color, markersize=4)
        key = metric.removeprefix("valid_").removeprefix("train_")
        axes.set_title(textwrap.fill(metric_label(metric), 24), fontsize=9.5)
        axes.set(xlabel="Epoch", ylabel=textwrap.fill(metric_label(key), 24))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.02)
        axes.grid(True)
    draw_legend(figure)
    text = "Mean and standard deviation over the runs that still train. A line ends (dot) when fewer than half do."
    columns = ("variant", "metric", "epoch", "mean", "sd", "live")
    text += f"\nn = {len(variants_array)} runs."
    return save_figure(figure, folder, "curves", columns, rows, f"{text}\n{note}".strip())


@matplotlib.rc_context(STYLE)
def draw_selective(
    folder: Path, coverage: Float[np.ndarray, "score"], accuracy: Mapping[str, Float[np.ndarray, "run score"]]
) -> Path:
    """Draw the accuracy on the most confident cells against their share.

    Parameters
    ----------
    folder : path-like
        Run folder.
    coverage : array, shape (n,)
        Shares of cells that are answered.
    accuracy : mapping of str to array, shape (n_seeds, n)
        Accuracy on these cells by model and seed.

    Returns
    -------
    Path
        The path of the PNG file.
    """
    figure = Figure(figsize=(5.6, 4.3), layout="constrained")
    axes = figure.subplots()
    rows = []
    for i, (model, values) in enumerate(accuracy.items()):
        mean, sd = np.array([mean_sd(column) for column in values.T]).T
        _draw_band(axes, coverage, mean, sd, PALETTE[i % len(PALETTE)], DASHES[i % len(DASHES)], model)
        rows += [(model, *point) for point in zip(coverage, mean, sd, strict=True)]
    axes.set(xlabel="Share of cells answered, the most confident first", ylabel="Accuracy on these cells")
    axes.set_title("Accuracy of selective prediction")
    axes.margins(x=0.01)
    axes.grid(True)
    draw_legend(figure)
    note = "Line: mean over seeds, folds averaged first. Band: one standard deviation either side."
    return save_figure(figure, folder, "selective", ("variant", "coverage", "mean", "sd"), rows, note)


def make_panels(n_panels: int, n_columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with a grid of panels.

    Parameters
    ----------
    n_panels : int
        Number of panels.
    n_columns : int
        Number of columns of the grid.
    width, height : float
        Size of a panel in inches.

    Returns
    -------
    figure : matplotlib.figure.Figure
        The figure, with room for a legend above the panels.
    panels : list of matplotlib.axes.Axes
        The panels. The rest of the grid is empty.
    """
    n_rows = math.ceil(n_panels / n_columns)
    figure = Figure(figsize=(max(4.8, width * n_columns), height * n_rows + 0.8), layout="constrained")
    panels = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for unused in panels[n_panels:]:
        unused.set_visible(False)
    return figure, panels[:n_panels]


def draw_legend(figure: Figure, handles: Sequence | None = None, labels: Sequence[str] = ()) -> None:
    """Draw a legend above all panels, in as many columns as the longest label leaves room for.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        A figure with constrained layout.
    handles : sequence of artists, optional
        Entries of the legend; by default the labelled artists of the first panel.
    labels : sequence of str
        Text of each entry.
    """
    if handles is None:
        handles, labels = figure.axes[0].get_legend_handles_labels()
    room = figure.get_figwidth() / (0.5 + 0.06 * max(map(len, labels), default=1))
    columns = max(1, min(len(labels), int(room)))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, handlelength=1.8, fontsize=8)


def _curve(values: Float[np.ndarray, "run epoch"]) -> list[tuple[int, float, float, int]]:
    """Return (epoch from 1, mean, sd, number of training runs) wherever at least half of the runs are training."""
    points = []
    for epoch, column in enumerate(values.T, start=1):
        live = column[np.isfinite(column)]
        if 2 * len(live) >= len(column):
            points.append((epoch, *mean_sd(live), len(live)))
    return points


def _draw_band(axes: Axes, x: np.ndarray, mean: np.ndarray, sd: np.ndarray, color: str, dash: str, label: str) -> None:
    """Draw a line of means in a band of one standard deviation either side."""
    axes.fill_between(x, mean - sd, mean + sd, color=color, alpha=0.15, linewidth=0)
    axes.plot(x, mean, dash, color=color, linewidth=1.6, label=label)
