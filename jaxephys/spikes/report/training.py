"""Figures of training: both losses over the epochs, and run time against depth. Start with :func:`draw_loss_curves`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxephys.evaluation.intervals import mean_sd
from jaxephys.reporting.plots import DASHES, PALETTE, STYLE, draw_legend, make_panels, save_figure

PARTS = {"train_loss": "Training (with dropout)", "valid_objective": "Validation"}


@matplotlib.rc_context(STYLE)
def draw_loss_curves(
    folder: Path, history: Mapping[str, Float[np.ndarray, "run epoch"]], loss_of_run: Sequence[str], note: str = ""
) -> Path:
    """Draw training and validation loss together over the epochs, one panel for each loss that was minimized.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    history : mapping of str to float array of shape (runs, epochs)
        ``train_loss`` and ``valid_objective``, the minimized loss on validation windows; nan after a run has ended.
    loss_of_run : sequence of str
        Name of the loss of each run.
    note : str, default ""
        Sentence added below the panels.

    Returns
    -------
    Path
        The figure; a CSV file with the drawn numbers is written beside it.
    """
    losses, runs_of, rows = list(dict.fromkeys(loss_of_run)), np.array(loss_of_run), []
    figure, panels = make_panels(len(losses), min(3, len(losses)), 3.3, 2.7)
    for axes, loss in zip(panels, losses, strict=True):
        for (key, label), color, dash in zip(PARTS.items(), PALETTE, DASHES, strict=False):
            values = history[key][runs_of == loss]
            columns = [(epoch, column[np.isfinite(column)]) for epoch, column in enumerate(values.T, start=1)]
            points = [(epoch, *mean_sd(column)) for epoch, column in columns if len(column)]
            epoch, mean, sd = np.array(points).reshape(-1, 3).T
            axes.fill_between(epoch, mean - sd, mean + sd, color=color, alpha=0.15, linewidth=0)
            axes.plot(epoch, mean, dash, color=color, linewidth=1.6, label=label)
            rows += [(loss, key, int(first), *rest) for first, *rest in points]
        axes.set(title=loss, xlabel="Epoch", ylabel="Loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(True)
    draw_legend(figure)
    text = f"Mean and standard deviation over recordings and seeds. {note}".strip()
    return save_figure(figure, folder, "losses", ("loss", "part", "epoch", "mean", "sd"), rows, text)


@matplotlib.rc_context(STYLE)
def draw_run_times(folder: Path, seconds: Mapping[int, float], note: str = "") -> Path:
    """Draw the measured time of an epoch of a run against the number of layers.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    seconds : mapping of int to float
        Seconds of an epoch of a run by depth.
    note : str, default ""
        Sentence below the panel, such as the device.

    Returns
    -------
    Path
        The figure; a CSV file with the drawn numbers is written beside it.
    """
    figure = Figure(figsize=(3.6, 3.2), layout="constrained")
    axes = figure.subplots()
    depths = sorted(seconds)
    axes.plot(depths, [seconds[depth] for depth in depths], "o-", color=PALETTE[0], linewidth=1.6)
    axes.set(xlabel="Number of layers", ylabel="Seconds of an epoch of a run", ylim=(0, None), xticks=depths)
    axes.grid(True)
    return save_figure(figure, folder, "run_times", ("depth", "seconds"), [(d, seconds[d]) for d in depths], note)
