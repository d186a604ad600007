"""The figures of a run: `figures/NAME.png`, beside it `NAME.csv` with exactly the numbers drawn.

No pyplot and none of its global state: figures are drawn without a display and leave none open.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxephys.reporting.score_table import (
    LOWER_IS_BETTER,
    Score,
    check_names,
    group,
    mean_sd,
    seed_means,
    show,
    write_csv,
)

# The colours of Okabe and Ito, told apart with any colour vision, without their faint yellow.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
GREY = "#6B6B6B"
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


def save_figure(figure: Figure, folder: Path, name: str, columns: Sequence[str], rows: Iterable[Sequence]) -> Path:
    png = write_csv(Path(folder) / "figures" / f"{name}.csv", columns, rows).with_suffix(".png")
    temporary = png.with_name(f".{png.name}.{os.getpid()}")
    figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    os.replace(temporary, png)
    return png


@matplotlib.rc_context(STYLE)
def draw_curves(
    folder: Path,
    history: Mapping[str, Float[np.ndarray, "run epoch"]],
    variant_of_run: Sequence[str],
    metrics: Sequence[str],
    name: str = "curves",
) -> Path:
    """Mean and sd over the runs of a variant that are live at an epoch, one panel a metric.

    A value is NaN once its run has stopped. It is not carried forward: that would draw a plateau
    that no run was on. And as the mean of a few late survivors is not that of the variant, a line
    ends where fewer than half of its runs are live.
    """
    check_names("metric", metrics, set(history))
    member = np.array(variant_of_run)
    for metric in metrics:
        if len(history[metric]) != len(member):
            raise ValueError(f"{metric} has {len(history[metric])} runs, but {len(member)} names.")
    variants = list(dict.fromkeys(variant_of_run))
    rows = [
        (variant, metric, *point)
        for metric in metrics
        for variant in variants
        for point in _curve(history[metric][member == variant])
    ]
    across = 2 if len(metrics) == 4 else min(3, len(metrics))
    down = math.ceil(len(metrics) / across)
    width = max(4.8, 3.3 * across)
    figure = Figure(figsize=(width, 2.7 * down + 0.8), layout="constrained")
    figure.subplots(down, across, squeeze=False)
    for axes, metric in zip(figure.axes, metrics, strict=False):
        _draw_panel(axes, metric, variants, [row for row in rows if row[1] == metric])
    for axes in figure.axes[len(metrics) :]:
        axes.set_visible(False)
    draw_legend(figure, *figure.axes[0].get_legend_handles_labels())
    note = "Mean and sd over live runs; a line ends (dot) when fewer than half of its runs live."
    figure.supxlabel(note, fontsize=8, color=GREY)
    return save_figure(figure, folder, name, ("variant", "metric", "epoch", "mean", "sd", "live"), rows)


def _curve(values: Float[np.ndarray, "run epoch"]) -> list[tuple[int, float, float, int]]:
    """`(epoch from 1, mean, sd, live runs)` wherever at least half of the runs are live."""
    points = []
    for epoch, column in enumerate(values.T, start=1):
        live = column[np.isfinite(column)]
        if 2 * len(live) >= len(column):
            points.append((epoch, *mean_sd(live), len(live)))
    return points


def _draw_panel(axes: Axes, metric: str, variants: Sequence[str], rows: Sequence[tuple]) -> None:
    for place, variant in enumerate(variants):
        points = np.array([row[2:5] for row in rows if row[0] == variant]).reshape(-1, 3)
        epoch, mean, sd = points.T
        colour, dash = PALETTE[place % len(PALETTE)], DASHES[place // len(PALETTE) % len(DASHES)]
        axes.fill_between(epoch, mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)
        axes.plot(epoch, mean, dash, color=colour, linewidth=1.6, label=variant)
        axes.plot(epoch[-1:], mean[-1:], "o", color=colour, markersize=4)
    axes.set(title=_axis_name(metric), xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    axes.grid(True)


def draw_legend(figure: Figure, handles: Sequence, labels: Sequence[str]) -> None:
    """Above the panels, in as many columns as the longest name leaves room for."""
    room = figure.get_figwidth() / (0.55 + 0.067 * max(map(len, labels), default=1))
    columns = max(1, min(len(labels), int(room)))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, handlelength=1.8)


def _axis_name(metric: str) -> str:
    return f"{metric} (lower is better)" if metric in LOWER_IS_BETTER else metric


@matplotlib.rc_context(STYLE)
def draw_bars(
    folder: Path,
    scores: Iterable[Score],
    metric: str,
    reference_lines: Mapping[str, float] | None = None,
    *,
    baselines: Sequence[str] = (),
    split: str = "test",
    name: str | None = None,
) -> Path:
    """Variants from best to worst: mean and sd over seeds, seeds as faint dots, `baselines` grey.

    No bars from zero: the differences that matter are small beside the scores. `reference_lines`
    are scores known from elsewhere, such as that of the Bayes classifier of simulated data.
    """
    scores, lines = list(scores), reference_lines or {}
    check_names("metric", [metric], {score.metric for score in scores})
    runs = group((s for s in scores if s.metric == metric), ("variant",), split)
    seeds = {variant: seed_means(values) for (variant,), values in runs.items()}
    check_names("variant", baselines, set(seeds))
    spread = {name: mean_sd(np.array(list(values.values()))) for name, values in seeds.items()}
    sign = 1 if metric in LOWER_IS_BETTER else -1
    order = sorted(spread, key=lambda v: (math.isnan(spread[v][0]), sign * spread[v][0]))

    figure = Figure(figsize=(7.0, 1.5 + 0.42 * len(order)), layout="constrained")
    axes = figure.subplots()
    for place, variant in enumerate(order):
        colour = GREY if variant in baselines else PALETTE[0]
        _draw_row(axes, place, list(seeds[variant].values()), *spread[variant], colour)
    axes.set_yticks(range(len(order)), order)
    axes.set(ylim=(len(order) - 0.5, -0.5), xlabel=_axis_name(metric))
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    _draw_lines(axes, lines)
    note = "Dot: mean over seeds, folds averaged first. Bar: one sd either side. Faint: seeds."
    figure.supxlabel(note + " Grey: baselines." * bool(baselines), fontsize=8, color=GREY)

    rows = [(v, what, "", spread[v][i]) for v in order for i, what in enumerate(("mean", "sd"))]
    rows += [(v, "seed", seed, value) for v in order for seed, value in seeds[v].items()]
    rows += [(label, "reference line", "", float(value)) for label, value in lines.items()]
    columns = ("name", "drawn as", "seed", "value")
    return save_figure(figure, folder, name or f"bars_{metric}", columns, rows)


@matplotlib.rc_context(STYLE)
def draw_classes(
    folder: Path,
    scores: Iterable[Score],
    metric: str,
    classes: Sequence[str],
    variants: Sequence[str],
    *,
    split: str = "test",
    name: str | None = None,
) -> Path:
    """A few variants side by side for each class, from metrics that are named "metric class"."""
    metrics = {f"{metric} {each}": each for each in classes}
    runs = group((s for s in scores if s.metric in metrics and s.variant in variants), ("metric", "variant"), split)
    seeds = {(metrics[long], variant): seed_means(values) for (long, variant), values in runs.items()}
    step = len(variants) + 1
    figure = Figure(figsize=(7.0, 1.3 + 0.3 * step * len(classes)), layout="constrained")
    axes = figure.subplots()
    rows = []
    for (i, each), (j, variant) in product(enumerate(classes), enumerate(variants)):
        values = seeds[each, variant]
        mean, sd = mean_sd(np.array(list(values.values())))
        _draw_row(axes, step * i + j, list(values.values()), mean, sd, PALETTE[j % len(PALETTE)])
        rows += [(each, variant, "mean", "", mean), (each, variant, "sd", "", sd)]
        rows += [(each, variant, "seed", seed, value) for seed, value in values.items()]
    axes.set_yticks([step * i + (len(variants) - 1) / 2 for i in range(len(classes))], classes)
    axes.set(ylim=(step * len(classes) - 1.5, -0.7), xlabel=metric)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    handles = [Line2D([], [], color=PALETTE[j % len(PALETTE)], marker="o", lw=2.2) for j in range(len(variants))]
    draw_legend(figure, handles, variants)
    note = "Dot: mean over seeds, folds averaged first. Bar: one sd either side. Faint: seeds."
    figure.supxlabel(note, fontsize=8, color=GREY)
    columns = ("class", "variant", "drawn as", "seed", "value")
    return save_figure(figure, folder, name or f"classes_{metric}", columns, rows)


@matplotlib.rc_context(STYLE)
def draw_selective(
    folder: Path,
    coverage: Float[np.ndarray, "score"],
    accuracy: Mapping[str, Float[np.ndarray, "run score"]],
    name: str = "selective",
) -> Path:
    """Accuracy on the surest cells by their share, mean and sd over runs: what it gains to say "unknown" of the others."""
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    rows = []
    for place, (variant, values) in enumerate(accuracy.items()):
        mean, sd = np.array([mean_sd(column) for column in values.T]).T
        colour, dash = PALETTE[place % len(PALETTE)], DASHES[place % len(DASHES)]
        axes.fill_between(coverage, mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)
        axes.plot(coverage, mean, dash, color=colour, linewidth=1.6, label=variant)
        rows += [(variant, *point) for point in zip(coverage, mean, sd, strict=True)]
    axes.set(xlabel="share of the cells that is answered, the surest first", ylabel="accuracy on these cells")
    axes.margins(x=0.01)
    axes.grid(True)
    draw_legend(figure, *axes.get_legend_handles_labels())
    figure.supxlabel("Line: mean over seeds, folds averaged first. Band: one sd.", fontsize=8, color=GREY)
    return save_figure(figure, folder, name, ("variant", "coverage", "mean", "sd"), rows)


def _draw_lines(axes: Axes, lines: Mapping[str, float]) -> None:
    for place, (label, value) in enumerate(lines.items()):
        colour, dash = PALETTE[1 + place % (len(PALETTE) - 1)], DASHES[1 + place % 3]
        axes.axvline(value, color=colour, ls=dash, lw=1.4, label=f"{label} ({value:.3f})")
    if lines:
        draw_legend(cast(Figure, axes.figure), *axes.get_legend_handles_labels())


def _draw_row(axes: Axes, place: int, seeds: Sequence[float], mean: float, sd: float, colour: str) -> None:
    scatter = place + 0.22 * np.resize([1.0, -1.0], len(seeds))
    axes.plot(seeds, scatter, "o", color=colour, alpha=0.3, markersize=4, markeredgewidth=0)
    axes.plot([mean - sd, mean + sd], [place, place], color=colour, lw=2.2, solid_capstyle="butt")
    axes.plot(mean, place, "o", color=colour, markersize=7, markeredgecolor="white")
    beside = axes.get_yaxis_transform()
    axes.text(1.02, place, show(mean, sd), transform=beside, va="center", fontsize=8)
