"""What a reader sees of a transfer grid: the groups of Table 2, every pair with its intervals, the heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import ttest_rel

from jaxephys.evaluation.intervals import Interval
from jaxephys.reporting.plots import GREY, STYLE, save_figure
from jaxephys.reporting.score_table import EMPTY, Cell, Score, Table, mean_sd, show
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.grid import METRICS, Intervals, label

PUBLISHED = {  # Table 2: pooled ROC-AUC, mean and sd over pairs
    "in vitro, training": "0.92 ± 0.06",
    "in vivo, training": "0.93 ± 0.06",
    "in vitro, self": "0.93 ± 0.05",
    "in vitro, others": "0.75 ± 0.07",
    "in vivo, self": "0.77 ± 0.10",
    "in vivo, others": "0.74 ± 0.10",
    "in vitro -> in vivo": "0.70 ± 0.09",
    "in vivo -> in vitro": "0.80 ± 0.10",
}
SHORT = {
    "roc_auc": "AUC",
    "roc_auc_within_unit": "within unit",
    "average_precision": "AP",
    "bits_per_spike": "bits/spike",
}
Grid = Float[np.ndarray, "recording recording"]  # row: trained on, column: tested on


def grid_of(scores: Sequence[Score], variant: str, metric: str, names: Sequence[str], split: str = "test") -> Grid:
    """Mean over seeds; nan where a pair has no score."""
    values: dict[tuple[str, str], list[float]] = {}
    for score in scores:
        if (score.variant, score.metric, score.split) == (variant, metric, split):
            values.setdefault((score.train_on, score.test_on), []).append(score.value)
    return np.array([[np.mean(values.get((i, j), [np.nan])) for j in names] for i in names])


def groups_of(recordings: Sequence[Recording]) -> dict[str, list[tuple[str, str]]]:
    """The pairs (trained on, tested on) of each group, in the order of Table 2."""
    domains = list(dict.fromkeys(recording.domain for recording in recordings))
    named = {domain: [r.name for r in recordings if r.domain == domain] for domain in domains}
    found = {f"{domain}, training": [(name, name) for name in named[domain]] for domain in domains}
    for domain in domains:
        found[f"{domain}, self"] = [(name, name) for name in named[domain]]
        found[f"{domain}, others"] = [(i, j) for i, j in product(named[domain], named[domain]) if i != j]
    for one, other in product(domains, repeat=2):
        if one != other:
            found[f"{one} -> {other}"] = list(product(named[one], named[other]))
    return {name: pairs for name, pairs in found.items() if pairs}


def group_table(
    scores: Sequence[Score], recordings: Sequence[Recording], variants: Sequence[str], metric: str
) -> Table:
    """Mean and sd over the pairs of a group, seeds averaged first; the published AUC beside ours."""
    names = [recording.name for recording in recordings]
    groups = groups_of(recordings)
    columns = {"group": [Cell(name) for name in groups], "pairs": [Cell(str(len(pairs))) for pairs in groups.values()]}
    if metric == "roc_auc":
        columns["published"] = [Cell(PUBLISHED.get(name, EMPTY)) for name in groups]
    for variant in variants:
        grids = {split: grid_of(scores, variant, metric, names, split) for split in ("test", "train")}
        column = []
        for name, pairs in groups.items():
            grid = grids["train" if name.endswith("training") else "test"]
            values = np.array([grid[names.index(i), names.index(j)] for i, j in pairs])
            column.append(Cell(show(*mean_sd(values[np.isfinite(values)])) if np.isfinite(values).any() else EMPTY))
        columns[variant] = column
    notes = [
        f"{metric}, mean ± sd over pairs (trained on, tested on). Published: of models that saw the bins they were asked for.",
        "Training: on as many of the training bins as there are test bins, the last.",
        "Between recordings the training rate and the per-unit GLM pair units by channel number: strangers.",
    ]
    return Table(columns, notes)


def pair_table(scores: Sequence[Score], found: Intervals, names: Sequence[str], variants: Sequence[str]) -> Table:
    """Every model of every pair with 95 % intervals, and the difference of the first model from it."""
    first = variants[0]
    columns: dict[str, list[Cell]] = {"trained on -> tested on": [], "model": []}
    columns |= {SHORT[metric]: [] for metric in METRICS}
    columns |= {f"{first} minus it, {SHORT[metric]}": [] for metric in METRICS}
    for (i, j), variant in product(product(names, repeat=2), variants):
        columns["trained on -> tested on"].append(Cell(f"{i} -> {j}"))
        columns["model"].append(Cell(label(variant, i, j)))
        for metric in METRICS:
            digits = 4 if metric == "average_precision" else 3
            value = found.get((i, j, variant, metric))
            mean = grid_of(scores, variant, metric, (i, j))[0, 1]
            text = f"{mean:.{digits}f}" if value is None else f"{value.estimate:.{digits}f} {span(value, digits)}"
            columns[SHORT[metric]].append(Cell(text))
            apart = found.get((i, j, f"{first} - {variant}", metric))
            text = EMPTY if apart is None else f"{apart.estimate:+.{digits}f} {span(apart, digits)}"
            columns[f"{first} minus it, {SHORT[metric]}"].append(Cell(text, apart is not None and apart.low > 0))
    notes = [
        "In brackets 95 % over resampled blocks of time, of the first seed; bold: the first model is better, its interval without 0.",
        "bits/spike: against the mean of each unit in these very test bins, which no forecast knows beforehand.",
    ]
    return Table(columns, notes)


def span(interval: Interval, digits: int) -> str:
    return f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def winners(scores: Sequence[Score], names: Sequence[str], network: str, others: Sequence[str]) -> list[str]:
    """In how many pairs the network is ahead of every baseline, a sentence a metric."""
    said = []
    for metric in METRICS:
        ours = grid_of(scores, network, metric, names)
        best = np.nanmax([grid_of(scores, other, metric, names) for other in others], axis=0)
        own = np.eye(len(names), dtype=bool)
        said.append(
            f"{metric}: {network} is ahead of every baseline in {int((ours > best)[own].sum())} of {len(names)} pairs of a "
            f"recording with itself, and in {int((ours > best)[~own].sum())} of {int((~own).sum())} of two recordings."
        )
    return said


def paired(a: np.ndarray, b: np.ndarray) -> str:
    """The mean difference and, of three or more that are not all alike, the p of a paired t test."""
    both = np.isfinite(a) & np.isfinite(b)
    mean = f"{(a - b)[both].mean():+.3f}" if both.any() else "-"
    if both.sum() < 3 or np.ptp((a - b)[both]) == 0:
        return mean
    return f"{mean}, p = {ttest_rel(a[both], b[both]).pvalue:.2g}"  # pyright: ignore[reportAttributeAccessIssue]


@matplotlib.rc_context(STYLE)
def draw_grid(folder: Path, grids: Mapping[str, Grid], recordings: Sequence[Recording], metric: str, name: str) -> Path:
    """Heat maps side by side on one scale: rows trained on, columns tested on, lines between domains."""
    names = [recording.name for recording in recordings]
    side = 1.5 + 0.42 * len(names)
    figure = Figure(figsize=(side * len(grids) + 1.2, side + 1.1), layout="constrained")
    panels = figure.subplots(1, len(grids), squeeze=False)[0]
    low = min(float(np.nanmin(grid)) for grid in grids.values())
    top = max(float(np.nanmax(grid)) for grid in grids.values())
    low = max(low, 0.5) if metric.startswith("roc_auc") else low
    image = None
    for axes, (title, grid) in zip(panels, grids.items(), strict=True):
        image = axes.imshow(grid, cmap="Blues", vmin=low, vmax=top)
        for i, j in np.ndindex(grid.shape):
            ink = "white" if grid[i, j] > low + 0.65 * (top - low) else "black"
            axes.text(j, i, f"{grid[i, j]:.2f}".lstrip("0"), ha="center", va="center", fontsize=7, color=ink)
        axes.set(title=title, xlabel="tested on")
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names if axes is panels[0] else [""] * len(names))
        axes.tick_params(length=0)
        for place in np.flatnonzero([a.domain != b.domain for a, b in pairwise(recordings)]):
            axes.axhline(place + 0.5, color="black", lw=1)
            axes.axvline(place + 0.5, color="black", lw=1)
    panels[0].set_ylabel("trained on")
    assert image is not None
    figure.colorbar(image, ax=panels, pad=0.01, aspect=30).set_label(metric)
    figure.supxlabel("Mean over seeds, on the test bins.", fontsize=8, color=GREY)
    rows = [(title, names[i], names[j], grid[i, j]) for title, grid in grids.items() for i, j in np.ndindex(grid.shape)]
    return save_figure(figure, folder, name, ("model", "train_on", "test_on", metric), rows)
