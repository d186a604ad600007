"""Bars of a score over the groups of a transfer grid, with intervals and published values. Start with :func:`draw_group_bars`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jaxephys.evaluation.intervals import Interval
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.pairs import pair_interval
from jaxephys.reporting.plots import GREY, PALETTE, STYLE, draw_legend, save_figure

HATCHES = ("", "///", "...", "xxx")  # of baselines, which are all gray
CHANCE = {"roc_auc": 0.5, "roc_auc_within_unit": 0.5}
BLOCK_NOTE = "One pair in a group: 95 % interval over time blocks of the test bins."
RECORDING_NOTE = "Bars: means over pairs. Error bars: 95 % interval over resampled recordings, of three or more."

Pairs = Sequence[tuple[str, str]]


@matplotlib.rc_context(STYLE)
def draw_group_bars(
    folder: Path,
    matrices: Mapping[str, Float[np.ndarray, "recording recording"]],
    names: Sequence[str],
    groups: Mapping[str, Pairs],
    metric: str,
    *,
    baselines: Sequence[str] = (),
    published: Mapping[str, str] | None = None,
    block_intervals: Mapping[tuple[str, str, str, str], Interval] | None = None,
    name: str | None = None,
) -> Path:
    """Draw the mean score of each model over the pairs of each group, beside the published means.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    matrices : mapping of str to float array of shape (recordings, recordings)
        Test scores by model, networks first; rows are training recordings.
    names : sequence of str
        Names of the recordings.
    groups : mapping of str to sequence of (str, str)
        Pairs by name of the group.
    metric : str
        Metric of the scores.
    baselines : sequence of str, optional
        Models to draw in gray.
    published : mapping of str to str, optional
        Published mean and standard deviation over pairs by group, such as "0.93 ± 0.05": a line with a band.
    block_intervals : mapping, optional
        Intervals of a pair over time blocks, by training recording, test recording, model and metric. They are drawn where a group
        is one pair.
    name : str, optional
        Name of the files, ``groups_<metric>`` by default.

    Returns
    -------
    Path
        The figure; a CSV file with the drawn numbers is written beside it.
    """
    figure = Figure(figsize=(max(5.6, 0.9 + 0.21 * len(groups) * (len(matrices) + 1)), 4.2), layout="constrained")
    axes = figure.subplots()
    width, rows, used_blocks = 0.8 / len(matrices), [], False
    for (i, group), (j, model) in product(enumerate(groups), enumerate(matrices)):
        pairs, matrix = groups[group], matrices[model]
        values = np.array([matrix[names.index(a), names.index(b)] for a, b in pairs])
        interval = pair_interval(dict(zip(pairs, values.tolist(), strict=True)))
        if interval is None and len(pairs) == 1:
            interval = (block_intervals or {}).get((*pairs[0], model, metric))
            used_blocks |= interval is not None
        mean = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        low, high = (interval.low, interval.high) if interval is not None else (float("nan"),) * 2
        x = i + (j - (len(matrices) - 1) / 2) * width
        axes.bar(x, mean, 0.9 * width, **_bar_style(model, j, baselines))
        axes.plot([x, x], [low, high], color="black", linewidth=1.4)
        rows.append((group, model, len(pairs), mean, low, high, (published or {}).get(group, "")))
    for i, group in enumerate(groups):
        _draw_published(axes, i, (published or {}).get(group, ""))
    _label_axes(axes, groups, metric, rows)
    _draw_model_legend(figure, matrices, baselines, bool(published))
    note = f"{RECORDING_NOTE} {BLOCK_NOTE}" if used_blocks else RECORDING_NOTE
    columns = ("group", "model", "pairs", "mean", "low", "high", "published")
    return save_figure(figure, folder, name or f"groups_{metric}", columns, rows, note)


def _bar_style(model: str, index: int, baselines: Sequence[str]) -> dict:
    if model not in baselines:
        return dict(color=PALETTE[index % len(PALETTE)])
    hatch = HATCHES[list(baselines).index(model) % len(HATCHES)]
    return dict(facecolor="#CFCFCF", edgecolor=GREY, hatch=hatch, linewidth=0.6)


def _draw_published(axes: Axes, position: int, text: str) -> None:
    """Draw a published mean as a line across the bars of a group, and its standard deviation as a band."""
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", text)]
    if not numbers:
        return
    ends = position - 0.46, position + 0.46
    axes.plot(ends, [numbers[0]] * 2, color="black", linestyle="--", linewidth=1.6, zorder=5)
    if len(numbers) > 1:
        low, high = numbers[0] - numbers[1], min(numbers[0] + numbers[1], 1.0)
        axes.fill_between(ends, low, high, color="black", alpha=0.12, linewidth=0, zorder=0.6)  # behind the bars


def _label_axes(axes: Axes, groups: Mapping[str, Pairs], metric: str, rows: Sequence[tuple]) -> None:
    labels = [
        f"{group.replace(' -> ', chr(10) + '-> ').replace(', ', ',' + chr(10))}\n({len(pairs)})"
        for group, pairs in groups.items()
    ]
    axes.set_xticks(range(len(groups)), labels)
    axes.tick_params(axis="x", length=0)
    axes.grid(True, axis="y")
    axes.set(ylabel=metric_label(metric), title=f"{metric_label(metric)} by group of pairs (number of pairs)")
    if metric in CHANCE:
        lowest = min((value for row in rows for value in row[3:5] if np.isfinite(value)), default=CHANCE[metric])
        axes.set_ylim(min(CHANCE[metric], lowest) - 0.02, 1.0)
        axes.axhline(CHANCE[metric], color="black", linewidth=0.8)
        axes.annotate(
            "chance", (1, CHANCE[metric]), (3, -2), axes.get_yaxis_transform(), "offset points", fontsize=7, ha="left"
        )


def _draw_model_legend(
    figure: Figure, models: Mapping[str, object], baselines: Sequence[str], with_published: bool
) -> None:
    handles: list = [Patch(**_bar_style(model, j, baselines)) for j, model in enumerate(models)]
    labels = list(models)
    if with_published:
        handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1.6))
        labels.append("published, mean ± sd over pairs")
    draw_legend(figure, handles, labels)
