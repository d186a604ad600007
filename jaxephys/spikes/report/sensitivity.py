"""Table and figure that compare networks with one changed option to a reference. Start with :func:`sensitivity_table`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxephys.evaluation.intervals import mean_sd
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.plots import GREY, PALETTE, STYLE, save_figure
from jaxephys.reporting.tables import EMPTY, Cell, Table, format_mean_sd
from jaxephys.spikes.grid import METRICS
from jaxephys.spikes.report.transfer import paired_difference, score_matrix

REFERENCE = "reference"


class OptionChange(NamedTuple):
    """A network that differs from the reference in one option, or the reference itself.

    Parameters
    ----------
    option : str
        Name of the option; "" for the reference.
    value : float or int
        Value of the option; unused for the reference.
    """

    option: str
    value: float | int

    @property
    def name(self) -> str:
        """Name of the variant in scores and tables, such as "depth 2" or "reference"."""
        return f"{self.option} {self.value:g}" if self.option else REFERENCE


def sensitivity_table(
    scores: Sequence[Score],
    names: Sequence[str],
    changes: Sequence[OptionChange],
    n_parameters: Mapping[str, int],
    *,
    same_recording: bool,
) -> Table:
    """Summarize the scores of each network, and their differences from those of the reference.

    Parameters
    ----------
    scores : sequence of Score
        Scores on test bins; their variant is :attr:`OptionChange.name`.
    names : sequence of str
        Names of the recordings.
    changes : sequence of OptionChange
        All networks, the reference first.
    n_parameters : mapping of str to int
        Number of parameters of each network by its name.
    same_recording : bool
        True: use the scores on the training recording. False: use those on the other recordings.

    Returns
    -------
    Table
        One row per network.
    """
    columns: dict[str, list[Cell]] = {
        "network": [Cell(change.name) for change in changes],
        "parameters": [Cell(f"{n_parameters[change.name]:,}") for change in changes],
    }
    values = {
        metric: [_scores_of_pairs(scores, change.name, metric, names, same_recording) for change in changes]
        for metric in METRICS
    }
    for metric in METRICS:
        columns[metric_label(metric)] = [Cell(format_mean_sd(*mean_sd(scored))) for scored in values[metric]]
    for metric in METRICS:
        reference, *others = values[metric]
        differences = [Cell(paired_difference(other, reference)) for other in others]
        columns[f"{metric_label(metric)}, minus reference"] = [Cell(EMPTY), *differences]
    samples = "recordings" if same_recording else "pairs of two recordings"
    note = f"Mean ± sd over {samples}, seeds averaged first; p of a paired t test over {samples}, if there are three or more."
    return Table(columns, [note])


@matplotlib.rc_context(STYLE)
def draw_sensitivity(
    folder: Path,
    scores: Sequence[Score],
    names: Sequence[str],
    reference: Mapping[str, float | int],
    changes: Sequence[OptionChange],
) -> Path:
    """Draw bits per spike on the training recording as a function of each option.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    scores : sequence of Score
        Scores on test bins; their variant is :attr:`OptionChange.name`.
    names : sequence of str
        Names of the recordings.
    reference : mapping of str to float or int
        Value of each option in the reference.
    changes : sequence of OptionChange
        All networks.

    Returns
    -------
    Path
        The figure; a CSV file with the drawn numbers is written beside it.
    """
    metric = "bits_per_spike"
    options = list(dict.fromkeys(change.option for change in changes if change.option))
    figure = Figure(figsize=(max(3.6, 2.6 * len(options)), 3.0), layout="constrained")
    panels = figure.subplots(1, len(options), sharey=True, squeeze=False)[0]
    rows = []
    for axes, option in zip(panels, options, strict=True):
        variants = {change.value: change.name for change in changes if change.option == option}
        variants.setdefault(reference[option], REFERENCE)
        ticks = sorted(variants)
        lines = np.array([_scores_of_pairs(scores, variants[tick], metric, names, True) for tick in ticks])
        axes.plot(range(len(ticks)), lines, color=GREY, linewidth=0.8, alpha=0.6)
        axes.plot(range(len(ticks)), lines.mean(axis=1), "o-", color=PALETTE[0], linewidth=1.8, markersize=5)
        axes.set_xticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
        axes.set(xlabel=option)
        axes.grid(True)
        rows += [(option, tick, name, lines[i, j]) for i, tick in enumerate(ticks) for j, name in enumerate(names)]
    panels[0].set_ylabel(metric_label(metric))
    figure.supxlabel("Gray: recordings. Blue: their mean.", fontsize=8, color=GREY)
    return save_figure(figure, folder, "sizes", ("size", "value", "recording", metric), rows)


def _scores_of_pairs(
    scores: Sequence[Score], variant: str, metric: str, names: Sequence[str], same_recording: bool
) -> Float[np.ndarray, "_"]:
    """Return one score per recording, or per ordered pair of two different recordings; seeds are averaged."""
    matrix = score_matrix(scores, variant, metric, names)
    diagonal = np.eye(len(names), dtype=bool)  # trained and tested on the same recording
    return matrix[diagonal if same_recording else ~diagonal]
