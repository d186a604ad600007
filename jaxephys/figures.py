"""The figures of a run: `figures/NAME.png`, beside it `NAME.csv` with exactly the numbers drawn.

No pyplot and none of its global state: figures are drawn without a display and leave none open.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from jaxtyping import Float, Real
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxephys.report import (
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


def _save(figure: Figure, folder: Path, name: str, columns: Sequence[str], rows: Iterable[Sequence]) -> Path:
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
    _legend(figure, *figure.axes[0].get_legend_handles_labels())
    note = "Mean and sd over live runs; a line ends (dot) when fewer than half of its runs live."
    figure.supxlabel(note, fontsize=8, color=GREY)
    return _save(figure, folder, name, ("variant", "metric", "epoch", "mean", "sd", "live"), rows)


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


def _legend(figure: Figure, handles: Sequence, labels: Sequence[str]) -> None:
    """Above the panels, in as many columns as the longest name leaves room for."""
    room = figure.get_figwidth() / (0.55 + 0.067 * max(map(len, labels), default=1))
    columns = max(1, min(len(labels), int(room)))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, handlelength=1.8)


def _axis_name(metric: str) -> str:
    return f"{metric} (lower is better)" if metric in LOWER_IS_BETTER else metric


@matplotlib.rc_context(STYLE)
def draw_confusion(
    folder: Path,
    confusion: Real[np.ndarray, "class class"],
    classes: Sequence[str],
    title: str,
    name: str = "confusion",
) -> Path:
    """Rows are true classes and sum to 100%; a cell shows share over count, nothing if 0."""
    total = confusion.sum(axis=1, keepdims=True)
    share = np.divide(confusion, total, out=np.full(confusion.shape, math.nan), where=total > 0)
    side = 1.6 + (0.68 if len(classes) < 8 else 0.48) * len(classes)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    labels = [
        [f"{100 * s:.0f}%\n{_count(c)}" if c else "" for s, c in zip(*row, strict=True)]
        for row in zip(share, confusion, strict=True)
    ]
    rows_named = [f"{label} ({_count(n)})" for label, n in zip(classes, total[:, 0], strict=False)]
    _heat_map(axes, share, labels, rows_named, classes, 1.0, "share of the true class")
    axes.set(title=title, xlabel="predicted", ylabel="true (count)")
    columns = ("true", "predicted", "count", "share")
    rows = [(classes[i], classes[j], confusion[i, j], share[i, j]) for i, j in np.ndindex(confusion.shape)]
    return _save(figure, folder, name, columns, rows)


@matplotlib.rc_context(STYLE)
def draw_attention(
    folder: Path,
    attention: Float[np.ndarray, "class family"],
    classes: Sequence[str],
    families: Sequence[str],
    name: str = "attention",
) -> Path:
    """Mean attention weight that the cells of a class give to a feature family."""
    size = (2.6 + 0.56 * len(families), 2.0 + 0.42 * len(classes))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    labels = [[f"{weight:.2f}".lstrip("0") for weight in row] for row in attention]
    top = float(np.nanmax(attention))
    meaning = f"mean attention weight\n(even: {1 / len(families):.3f})"
    _heat_map(axes, attention, labels, classes, families, top, meaning)
    axes.set(xlabel="feature family")
    rows = [(classes[i], families[j], attention[i, j]) for i, j in np.ndindex(attention.shape)]
    return _save(figure, folder, name, ("class", "family", "attention"), rows)


def _heat_map(
    axes: Axes,
    values: Float[np.ndarray, "class ..."],
    labels: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    top: float,
    meaning: str,
) -> None:
    """White to dark blue from 0 to `top`: lightness alone carries the value, 0 is the paper."""
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"{len(rows)} x {len(columns)} names for an array of {values.shape}.")
    image = axes.imshow(values, cmap="Blues", vmin=0.0, vmax=top, aspect="auto")
    for i, row in enumerate(labels):
        for j, text in enumerate(row):
            ink = "white" if values[i, j] > 0.65 * top else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(len(columns)), columns)
    if max(map(len, columns)) > 6:
        axes.tick_params(axis="x", rotation=40)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(rows)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, aspect=25)
    bar.set_label(meaning)
    bar.outline.set_visible(False)


def _count(number: float | np.number) -> str:
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.1f}"


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
    return _save(figure, folder, name or f"bars_{metric}", columns, rows)


def _draw_lines(axes: Axes, lines: Mapping[str, float]) -> None:
    for place, (label, value) in enumerate(lines.items()):
        colour, dash = PALETTE[1 + place % (len(PALETTE) - 1)], DASHES[1 + place % 3]
        axes.axvline(value, color=colour, ls=dash, lw=1.4, label=f"{label} ({value:.3f})")
    if lines:
        _legend(cast(Figure, axes.figure), *axes.get_legend_handles_labels())


def _draw_row(axes: Axes, place: int, seeds: Sequence[float], mean: float, sd: float, colour: str) -> None:
    scatter = place + 0.22 * np.resize([1.0, -1.0], len(seeds))
    axes.plot(seeds, scatter, "o", color=colour, alpha=0.3, markersize=4, markeredgewidth=0)
    axes.plot([mean - sd, mean + sd], [place, place], color=colour, lw=2.2, solid_capstyle="butt")
    axes.plot(mean, place, "o", color=colour, markersize=7, markeredgecolor="white")
    beside = axes.get_yaxis_transform()
    axes.text(1.02, place, show(mean, sd), transform=beside, va="center", fontsize=8)
