"""Maps: what stands in a table of numbers as shades, what lies in a plane as points; a csv beside each, as for all figures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Real, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from jaxephys.reporting.plots import GREY, PALETTE, STYLE, draw_legend, save_figure

MARKERS = ("o", "^", "s", "D", "v", "P", "X")
LAYERS = 20  # in which the points are laid down


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
    return save_figure(figure, folder, name, columns, rows)


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
    return save_figure(figure, folder, name, ("class", "family", "attention"), rows)


@matplotlib.rc_context(STYLE)
def draw_importance(
    folder: Path,
    attention: Float[np.ndarray, "family class"],
    families: Sequence[str],
    classes: Sequence[str],
    losses: Mapping[str, Float[np.ndarray, "draw family"]],
    name: str = "importance",
) -> Path:
    """Where each class looks, and beside it what is lost without each family: mean, one sd either side, seeds faint."""
    size = (4.6 + 0.62 * len(classes) + 1.9 * len(losses), 1.6 + 0.4 * len(families))
    figure = Figure(figsize=size, layout="constrained")
    widths = [2.2 + 0.62 * len(classes), *(1.9 for _ in losses)]
    first, *others = figure.subplots(1, 1 + len(losses), width_ratios=widths, squeeze=False)[0]
    labels = [[f"{weight:.2f}".lstrip("0") for weight in row] for row in attention]
    meaning = f"mean attention weight (even: {1 / len(families):.2f})"
    _heat_map(first, attention, labels, families, classes, float(np.nanmax(attention)), meaning)
    for axes, (title, lost) in zip(others, losses.items(), strict=True):
        for place, seeds in enumerate(lost.T):
            axes.plot(seeds, np.full(len(seeds), place), "o", ms=3.5, mew=0, alpha=0.3, color=PALETTE[0])
            spread = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else 0.0
            axes.errorbar(float(np.mean(seeds)), place, xerr=spread, fmt="o", ms=5, capsize=2, color=PALETTE[0])
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set(title=title, xlabel="macro-F1", ylim=(len(families) - 0.5, -0.5), yticks=[])
        axes.grid(True, axis="x")
    rows = [(families[i], f"attention of {classes[j]}", "", attention[i, j]) for i, j in np.ndindex(attention.shape)]
    rows += [
        (families[i], title, seed, lost[seed, i])
        for title, lost in losses.items()
        for seed, i in np.ndindex(lost.shape)
    ]
    return save_figure(figure, folder, name, ("family", "what", "seed", "value"), rows)


def _heat_map(
    axes: Axes,
    values: Float[np.ndarray, "..."],
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
def draw_embedding(
    folder: Path,
    points: Float[np.ndarray, "... 2"] | Mapping[str, Float[np.ndarray, "... 2"]],  # [cell, 2], checked below
    label: Shaped[np.ndarray, "cell"],
    *,
    name: str = "embedding",
    note: str = "",
    written: bool = True,
) -> Path:
    """Cells in a plane, a colour and a marker a class; one panel for each embedding of the same cells, by its title.

    The name of a class is written at its median, so that a grey print can be read; where classes lie over one another
    (``written=False``) the legend alone names them. Axes have no ticks: the directions of an embedding mean nothing.
    """
    panels = points if isinstance(points, Mapping) else {"": points}
    for title, plane in panels.items():
        if plane.shape != (len(label), 2):
            raise ValueError(
                f"embedding {title!r} has shape {plane.shape}, but there are {len(label)} labels: two a cell"
            )
    classes = np.unique(label).tolist()
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(max(4.8, 3.6 * across), 3.7 * down + 0.7), layout="constrained")
    figure.subplots(down, across, squeeze=False)
    for axes, (title, plane) in zip(figure.axes, panels.items(), strict=False):
        axes.set_title(title)
        _scatter(axes, plane, label, classes, written)
    for axes in figure.axes[len(panels) :]:
        axes.set_visible(False)
    draw_legend(figure, *figure.axes[0].get_legend_handles_labels())
    figure.supxlabel(note, fontsize=8, color=GREY)
    rows = [(title, i, label[i], *plane[i]) for title, plane in panels.items() for i in range(len(label))]
    return save_figure(figure, folder, name, ("panel", "row", "class", "x", "y"), rows)


def _scatter(
    axes: Axes, plane: Float[np.ndarray, "cell 2"], label: Shaped[np.ndarray, "cell"], classes: list, written: bool
) -> None:
    """In layers of shuffled cells: drawn a class at a time, the last class would hide the others."""
    looks: dict[str, dict[str, Any]] = {
        each: dict(color=PALETTE[i % len(PALETTE)], marker=MARKERS[(i + i // len(PALETTE)) % len(MARKERS)])
        for i, each in enumerate(classes)
    }
    size = float(np.clip(6000 / len(plane), 4, 24))  # square points
    layers = np.array_split(np.random.default_rng(0).permutation(len(plane)), LAYERS)
    for layer in layers:
        for each in classes:
            x, y = plane[layer[label[layer] == each]].T
            axes.scatter(x, y, s=size, linewidths=0, alpha=0.75, **looks[each])
    for each in classes:
        axes.scatter([], [], s=28, linewidths=0, label=str(each), **looks[each])
    if written:
        medians = np.array([np.median(plane[label == each], axis=0) for each in classes])
        halo = [withStroke(linewidth=3, foreground="white")]
        for each, (x, y) in zip(classes, _apart(medians, 0.07 * float(np.ptp(plane, axis=0).max())), strict=True):
            axes.text(x, y, str(each), ha="center", va="center", fontsize=10, weight="bold", path_effects=halo)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", "datalim")
    axes.spines[:].set_visible(True)


def _apart(places: Float[np.ndarray, "class 2"], height: float) -> Float[np.ndarray, "class 2"]:
    """Moved up where a name would hide another: from below, each clears those placed before it."""
    placed = places.copy()
    order = np.argsort(places[:, 1], kind="stable")
    for turn, i in enumerate(order):
        for j in order[:turn]:
            beside = abs(placed[i, 0] - placed[j, 0]) < 4 * height
            if beside and abs(placed[i, 1] - placed[j, 1]) < height:
                placed[i, 1] = placed[j, 1] + height
    return placed
