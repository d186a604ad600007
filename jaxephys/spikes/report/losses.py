"""Tables that compare losses. Start with :func:`loss_table`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from jaxephys.evaluation.intervals import mean_sd
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.tables import Cell, Table, format_mean_sd
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.grid import METRICS, Intervals
from jaxephys.spikes.report.transfer import interval_cell, paired_difference, score_matrix

NOTES = [
    "Outputs of networks trained with Dice or focal loss only rank bins: all networks are calibrated on validation bins before "
    "bits per spike are computed.",
    "The published curves belong to a model that sees the bins that it predicts and therefore learns to copy spikes.",
]


def loss_table(scores: Sequence[Score], names: Sequence[str], losses: Sequence[str]) -> Table:
    """Summarize the scores of each loss over recordings.

    Parameters
    ----------
    scores : sequence of Score
        Scores whose variant is the name of the loss.
    names : sequence of str
        Names of the recordings.
    losses : sequence of str
        Names of the losses.

    Returns
    -------
    Table
        Mean and standard deviation over recordings of models tested on their own recording.
    """
    columns = {"loss": [Cell(loss) for loss in losses]}
    for metric in METRICS:
        values = [np.diag(score_matrix(scores, loss, metric, names)) for loss in losses]
        columns[metric_label(metric)] = [Cell(format_mean_sd(*mean_sd(scored))) for scored in values]
    return Table(columns, [f"Mean ± sd over {len(names)} recordings, seeds averaged first."])


def loss_differences(
    scores: Sequence[Score],
    intervals: Intervals,
    names: Sequence[str],
    losses: Sequence[str],
    *,
    recordings: Sequence[Recording] = (),
) -> Table:
    """Compare each pair of losses, over all recordings, over those of each domain, and on each recording.

    Parameters
    ----------
    scores : sequence of Score
        Scores whose variant is the name of the loss.
    intervals : dict
        Intervals of the differences on each recording.
    names : sequence of str
        Names of the recordings.
    losses : sequence of str
        Names of the losses.
    recordings : sequence of Recording, optional
        The recordings, whose domains are compared separately too; by default only all together.

    Returns
    -------
    Table
        Paired t tests over recordings, and intervals over resampled time blocks on each.
    """
    short = {metric: metric_label(metric) for metric in METRICS}
    columns: dict[str, list[Cell]] = {"difference": [], "on": []} | {short[metric]: [] for metric in METRICS}
    groups = {"all recordings": list(names)}
    for recording in recordings:
        groups.setdefault(f"all {recording.domain}", []).append(recording.name)
    for a, b in combinations(losses, 2):
        columns["difference"] += [Cell(f"{a} - {b}")] * (len(groups) + len(names))
        columns["on"] += [Cell(name) for name in (*groups, *names)]
        for metric in METRICS:
            for members in groups.values():
                of_losses = (np.diag(score_matrix(scores, loss, metric, members)) for loss in (a, b))
                columns[short[metric]].append(Cell(paired_difference(*of_losses)))
            found = [intervals.get((name, name, f"{a} - {b}", metric)) for name in names]
            columns[short[metric]] += [Cell(interval_cell(interval, "+.3f").text) for interval in found]
    notes = [
        "All recordings, or all of a domain: mean difference and p value of a paired t test over recordings, each the mean of its "
        "seeds; p needs three or more.",
        "One recording: difference of the first seed and 95 % interval over resampled time blocks.",
    ]
    return Table(columns, notes)
