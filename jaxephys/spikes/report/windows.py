"""Tables of all test windows: what network, experts and adaptation contribute to a score, and accuracies at two thresholds.

Start with :func:`window_tables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from jaxephys.evaluation.intervals import mean_sd
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.tables import EMPTY, Cell, Table, format_mean_sd
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.grid import ADAPTED, ALONE, RATE_THRESHOLD, REFERENCES, SOURCE_THRESHOLD
from jaxephys.spikes.report.transfer import interval_cell, mark_channel_models, pair_groups
from jaxephys.spikes.windows import Windows

BITS, BESIDE = "bits_per_spike", ("roc_auc", "roc_auc_within_unit")
NOTES = [
    "Windows: the test bins, and all stretches of this length after them. Mean ± sd over windows and, in a group of several pairs, over "
    "pairs; seeds are averaged first. Each model was fitted once, before the first window.",
    "Interval: 95 %, of the first seed; windows and time blocks within them are resampled. Only in groups of one pair.",
    "alone: the network without the mixture. experts without a network: the mixture with the linear expert in the place of the network. "
    "adapted: scale and shift refitted on the bins that are read before each window. mixed: the per-unit GLM in the place of the network.",
]
THRESHOLD_NOTES = [
    "Means over all test windows. Threshold of the source: chosen on validation bins of the training recording. Threshold at the target's "
    "rate: predicts as many spikes as the tested recording has in the bins that are read before each window.",
]


def window_tables(
    scores: Sequence[Score], windows: Windows, recordings: Sequence[Recording], networks: Sequence[str]
) -> dict[str, Table]:
    """Make the tables of all test windows.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models, those of the split "window" among them.
    windows : dict
        Summaries over windows, see :class:`jaxephys.spikes.grid.RecordingScores`.
    recordings : sequence of Recording
        All recordings.
    networks : sequence of str
        Names of the networks.

    Returns
    -------
    dict of str to Table
        By heading: one table per network, and the accuracies at the thresholds.
    """
    by_window = [score for score in scores if score.split == "window"]
    tables = {
        f"All test windows, {network} and what it consists of": _network_table(by_window, windows, recordings, network)
        for network in networks
    }
    return tables | {"Accuracy at two thresholds": _threshold_table(by_window, recordings, networks)}


def _network_table(scores: Sequence[Score], windows: Windows, recordings: Sequence[Recording], network: str) -> Table:
    """One row per group of pairs and model."""
    present = {score.variant for score in scores}
    parts = (network, f"{network}{ALONE}", f"{network}{ALONE}{ADAPTED}", f"{network}{ADAPTED}")
    models = [name for name in (*parts, *reversed(REFERENCES)) if name in present]
    headers = ["Group", "Model", "Windows", f"{metric_label(BITS)}", "Range", "95 % interval"]
    headers += [f"{network} minus model", *map(metric_label, BESIDE)]
    columns: dict[str, list[Cell]] = {header: [] for header in headers}
    for (group, pairs), model in product(_tested_groups(recordings), models):
        bits = _seed_means(scores, model, BITS, pairs)
        single = windows.get((*pairs[0], model, BITS)) if len(pairs) == 1 else None
        key = *pairs[0], f"{network} - {model}", BITS
        difference = windows.get(key) if len(pairs) == 1 else None
        beside = [format_mean_sd(*mean_sd(_seed_means(scores, model, metric, pairs))) for metric in BESIDE]
        interval = None if single is None else single.interval
        low_high = EMPTY if interval is None else f"[{interval.low:.3f}, {interval.high:.3f}]"
        cells = [
            Cell(group),
            Cell(mark_channel_models(model, *pairs[0])),
            Cell(str(len(bits))),
            Cell(format_mean_sd(*mean_sd(bits))),
            Cell(f"{bits.min():.3f} to {bits.max():.3f}" if len(bits) else EMPTY),
            Cell(low_high),
            interval_cell(difference.interval, "+.3f") if difference else Cell(EMPTY),
            *map(Cell, beside),
        ]
        for header, cell in zip(headers, cells, strict=True):
            columns[header].append(cell)
    return Table(columns, list(NOTES))


def _threshold_table(scores: Sequence[Score], recordings: Sequence[Recording], networks: Sequence[str]) -> Table:
    """One row per group of pairs, model and threshold."""
    present = {score.variant for score in scores}
    names = [f"{network}{label}" for network in networks for label in (SOURCE_THRESHOLD, RATE_THRESHOLD)]
    names += [f"{model}{RATE_THRESHOLD}" for model in reversed(REFERENCES)]
    shown = {"Spikes predicted": "accuracy_on_1", "Silent bins predicted as silent": "accuracy_on_0"}
    columns: dict[str, list[Cell]] = {header: [] for header in ("Group", "Model and threshold", *shown)}
    for (group, pairs), name in product(_tested_groups(recordings), names):
        if name not in present:
            continue
        columns["Group"].append(Cell(group))
        columns["Model and threshold"].append(Cell(name))
        for header, metric in shown.items():
            mean, sd = mean_sd(_seed_means(scores, name, metric, pairs))
            columns[header].append(Cell(f"{mean:.4f}" if np.isnan(sd) else f"{mean:.4f} ± {sd:.4f}"))
    return Table(columns, list(THRESHOLD_NOTES))


def _tested_groups(recordings: Sequence[Recording]) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(name, pairs) for name, pairs in pair_groups(recordings).items() if not name.endswith("training")]


def _seed_means(scores: Sequence[Score], variant: str, metric: str, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Scores of a model, one per pair and window, seeds averaged."""
    values: dict[tuple[str, str, int], list[float]] = {}
    for score in scores:
        if (score.variant, score.metric) == (variant, metric) and (score.train_on, score.test_on) in pairs:
            values.setdefault((score.train_on, score.test_on, score.fold), []).append(score.value)
    means = np.array([np.mean(some) for some in values.values()])
    return means[np.isfinite(means)] if len(means) else means
