"""Panels of scores against the options of a network, on validation and on test bins. Start with :func:`draw_size_panels`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from jaxephys.evaluation.scores import Score
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.plots import GREY, PALETTE, STYLE, draw_legend, make_panels, save_figure
from jaxephys.spikes.report.sensitivity import REFERENCE, OptionChange
from jaxephys.spikes.report.transfer import score_matrix

PANEL_METRICS = ("roc_auc", "average_precision")
SPLITS = {"validation": ("Validation, selected epoch", "--"), "test": ("Test, one step ahead", "-")}


@matplotlib.rc_context(STYLE)
def draw_size_panels(
    folder: Path,
    scores: Sequence[Score],
    names: Sequence[str],
    reference: Mapping[str, float | int],
    changes: Sequence[OptionChange],
    note: str = "",
) -> Path:
    """Draw ROC AUC and average precision on the training recording against each option.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    scores : sequence of Score
        Scores of the splits "validation" and "test"; their variant is :attr:`OptionChange.name`.
    names : sequence of str
        Names of the recordings.
    reference : mapping of str to float or int
        Value of each option in the reference.
    changes : sequence of OptionChange
        All networks.
    note : str, default ""
        Sentence added below the panels.

    Returns
    -------
    Path
        The figure; a CSV file with the drawn numbers is written beside it.
    """
    options = list(dict.fromkeys(change.option for change in changes if change.option))
    figure, panels = make_panels(len(PANEL_METRICS) * len(options), len(options), 2.6, 2.6)
    rows = []
    for panel, axes in enumerate(panels):
        metric, option = PANEL_METRICS[panel // len(options)], options[panel % len(options)]
        variants = {reference[option]: REFERENCE}
        variants |= {change.value: change.name for change in changes if change.option == option}
        ticks = sorted(variants)
        for split, (label, dash) in SPLITS.items():
            values = np.array([np.diag(score_matrix(scores, variants[x], metric, names, split)) for x in ticks])
            axes.plot(range(len(ticks)), values, dash, color=GREY, linewidth=0.8, alpha=0.5)
            axes.plot(range(len(ticks)), values.mean(axis=1), f"o{dash}", color=PALETTE[0], linewidth=1.8, label=label)
            rows += [
                (option, x, split, metric, name, values[i, j])
                for i, x in enumerate(ticks)
                for j, name in enumerate(names)
            ]
        axes.set_xticks(range(len(ticks)), [f"{x:g}" for x in ticks])
        axes.set(xlabel=option, ylabel=metric_label(metric))
        axes.grid(True)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    draw_legend(figure, handles, labels)
    text = f"Gray: recordings. Blue: their mean. Seeds averaged first. {note}".strip()
    return save_figure(figure, folder, "panels", ("size", "value", "split", "metric", "recording", "score"), rows, text)
