"""Figures of matrices and of embeddings: confusion matrices, attention, importance of families, and cells in the plane.

As in `jaxephys.reporting.plots`, every function writes a PNG file and a CSV file with the numbers that are drawn.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Real, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke

from jaxephys.reporting.plots import GREY, PALETTE, STYLE, draw_legend, make_panels, save_figure

MARKERS = ("o", "^", "s", "D", "v", "P", "X")
SHARE = "Share of the true class"
N_LAYERS = 20  # layers of cells drawn above each other


@matplotlib.rc_context(STYLE)
def draw_confusion(
    folder: Path, confusion: Real[np.ndarray, "class class"], classes: Sequence[str], title: str
) -> Path:
    """Draw a confusion matrix with the share of each true class above the count.

    Parameters
    ----------
    folder : path-like
        Run folder.
    confusion : array, shape (n_classes, n_classes)
        Number of cells by true class (row) and predicted class (column).
    classes : sequence of str
        Names of the classes.
    title : str
        Title of the figure.

    Returns
    -------
    Path
        The path of the PNG file.
    """
    share, total = _row_shares(confusion), confusion.sum(axis=1)
    side = 1.6 + (0.68 if len(classes) < 8 else 0.48) * len(classes)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    row_names = [f"{label} ({_count(n)})" for label, n in zip(classes, total, strict=False)]
    _draw_bar(axes, _heat_map(axes, share, _share_texts(share, confusion), row_names, classes, 1.0), SHARE)
    axes.set(title=title, xlabel="Predicted class", ylabel="True class (number of cells)")
    rows = [(classes[i], classes[j], confusion[i, j], share[i, j]) for i, j in np.ndindex(confusion.shape)]
    return save_figure(figure, folder, "confusion", ("true", "predicted", "count", "share"), rows)


@matplotlib.rc_context(STYLE)
def draw_confusions(
    folder: Path,
    confusions: Mapping[str, Real[np.ndarray, "class class"]],
    classes: Sequence[str],
    *,
    n_columns: int = 3,
) -> Path:
    """Draw the confusion matrices of several models on one page, each with shares of the true class above the counts.

    Parameters
    ----------
    folder : path-like
        Run folder.
    confusions : mapping of str to array, shape (n_classes, n_classes)
        Number of cells by true class (row) and predicted class (column), by the title of the panel.
    classes : sequence of str
        Names of the classes.
    n_columns : int, default 3
        Number of panels side by side.

    Returns
    -------
    Path
        The path of the PNG file.

    Raises
    ------
    ValueError
        If there is no matrix.
    """
    if not confusions:
        raise ValueError("there is no confusion matrix to draw: give at least one model")
    n_columns, side = min(n_columns, len(confusions)), 0.8 + 0.33 * len(classes)
    figure, panels = make_panels(len(confusions), n_columns, side + 0.1, side)
    images, rows = [], []
    for number, (axes, (title, counts)) in enumerate(zip(panels, confusions.items(), strict=True)):
        share = _row_shares(counts)
        rows += [(title, classes[i], classes[j], counts[i, j], share[i, j]) for i, j in np.ndindex(counts.shape)]
        images.append(_heat_map(axes, share, _share_texts(share, counts), classes, classes, 1.0, size=5.5))
        last_row = number + n_columns >= len(confusions)
        axes.set(title=title, xlabel="Predicted class" * last_row, ylabel="True class" * (number % n_columns == 0))
        axes.tick_params(labelsize=6.5)
    _draw_bar(panels, images[0], SHARE)
    return save_figure(figure, folder, "confusions", ("panel", "true", "predicted", "count", "share"), rows)


@matplotlib.rc_context(STYLE)
def draw_attention(
    folder: Path, attention: Float[np.ndarray, "class family"], classes: Sequence[str], families: Sequence[str]
) -> Path:
    """Draw the mean attention weight of each feature family for the cells of each class.

    Parameters
    ----------
    folder : path-like
        Run folder.
    attention : array, shape (n_classes, n_families)
        Mean attention weights.
    classes, families : sequence of str
        Names of the rows and columns.

    Returns
    -------
    Path
        The path of the PNG file.
    """
    size = (2.2 + 0.44 * len(families), 2.2 + 0.38 * len(classes))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    _attention_map(axes, attention, classes, families, f"Mean attention weight\n(uniform: {1 / len(families):.3f})")
    axes.set(title="Attention by class and feature family", xlabel="Feature family", ylabel="Class")
    rows = [(classes[i], families[j], attention[i, j]) for i, j in np.ndindex(attention.shape)]
    return save_figure(figure, folder, "attention", ("class", "family", "attention"), rows)


@matplotlib.rc_context(STYLE)
def draw_importance(
    folder: Path,
    attention: Float[np.ndarray, "family class"],
    families: Sequence[str],
    classes: Sequence[str],
    losses: Mapping[str, Float[np.ndarray, "draw family"]],
) -> Path:
    """Draw the attention of each class to each family, and beside it the loss of macro F1 without each family.

    Parameters
    ----------
    folder : path-like
        Run folder.
    attention : array, shape (n_families, n_classes)
        Mean attention weights.
    families, classes : sequence of str
        Names of the rows and columns.
    losses : mapping of str to array, shape (n_seeds, n_families)
        Loss of macro F1 by title of the panel. Mean, one standard deviation either side, and seeds are drawn.

    Returns
    -------
    Path
        The path of the PNG file.
    """
    size = (2.8 + 0.52 * len(classes) + 1.5 * len(losses), 1.6 + 0.36 * len(families))
    figure = Figure(figsize=size, layout="constrained")
    widths = [1.8 + 0.52 * len(classes), *(1.5 for _ in losses)]
    first, *others = figure.subplots(1, 1 + len(losses), width_ratios=widths, squeeze=False)[0]
    _attention_map(first, attention, families, classes, f"Mean attention weight (uniform: {1 / len(families):.2f})")
    first.set(title="Attention", xlabel="Class", ylabel="Feature family")
    for axes, (title, loss) in zip(others, losses.items(), strict=True):
        for y, seeds in enumerate(loss.T):
            axes.plot(seeds, np.full(len(seeds), y), "o", ms=3.5, mew=0, alpha=0.3, color=PALETTE[0])
            spread = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else 0.0
            axes.errorbar(float(np.mean(seeds)), y, xerr=spread, fmt="o", ms=5, capsize=2, color=PALETTE[0])
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set(title=title, xlabel="Loss of macro F1", ylim=(len(families) - 0.5, -0.5), yticks=[])
        axes.grid(True, axis="x")
    rows = [(families[i], f"attention of {classes[j]}", "", attention[i, j]) for i, j in np.ndindex(attention.shape)]
    for title, loss in losses.items():
        rows += [(families[i], title, seed, loss[seed, i]) for seed, i in np.ndindex(loss.shape)]
    return save_figure(figure, folder, "importance", ("family", "what", "seed", "value"), rows)


@matplotlib.rc_context(STYLE)
def draw_embedding(
    folder: Path,
    points: Float[np.ndarray, "... 2"] | Mapping[str, Float[np.ndarray, "... 2"]],  # (cell, 2), checked below
    labels: Shaped[np.ndarray, "cell"],
    *,
    name: str = "embedding",
    note: str = "",
    write_names: bool = True,
) -> Path:
    """Draw cells in the plane with a color and marker per class.

    Parameters
    ----------
    folder : path-like
        Run folder.
    points : array, shape (n_cells, 2), or mapping of str to array
        Coordinates, or several embeddings of the same cells by title, which are drawn in panels. Axes have no ticks, since the
        directions of an embedding have no meaning.
    labels : array, shape (n_cells,)
        Class of each cell.
    name : str, default "embedding"
        Name of the files.
    note : str, default ""
        Sentence below the panels.
    write_names : bool, default True
        Whether the name of each class is written at its median, which also serves grey prints. Without it only the legend names
        the classes, for classes that overlap.

    Returns
    -------
    Path
        The path of the PNG file.

    Raises
    ------
    ValueError
        If an embedding has not one point of two coordinates per label.
    """
    panels = points if isinstance(points, Mapping) else {"": points}
    for title, plane in panels.items():
        if plane.shape != (len(labels), 2):
            raise ValueError(
                f"embedding {title!r} has shape {plane.shape}, but {len(labels)} labels need shape ({len(labels)}, 2)"
            )
    classes = np.unique(labels).tolist()
    figure, all_axes = make_panels(len(panels), min(3, len(panels)), 3.4 if len(panels) < 3 else 2.5, 2.7)
    for axes, (title, plane) in zip(all_axes, panels.items(), strict=True):
        axes.set_title(title)
        _scatter(axes, plane, labels, classes, write_names)
    draw_legend(figure)
    rows = [(title, i, labels[i], *plane[i]) for title, plane in panels.items() for i in range(len(labels))]
    return save_figure(figure, folder, name, ("panel", "row", "class", "x", "y"), rows, note)


@matplotlib.rc_context(STYLE)
def draw_labelled_planes(
    folder: Path, planes: Mapping[str, tuple[np.ndarray, np.ndarray]], *, name: str = "planes", note: str = ""
) -> Path:
    """Draw several sets of cells in the plane, each in a panel with a legend of its own classes.

    Parameters
    ----------
    folder : path-like
        Run folder.
    planes : mapping of str to (array of shape (n_cells, 2), array of str of shape (n_cells,))
        Coordinates and classes by the title of the panel.
    name : str, default "planes"
        Name of the files.
    note : str, default ""
        Sentence below the panels.

    Returns
    -------
    Path
        The path of the PNG file.

    Raises
    ------
    ValueError
        If there is no panel.
    """
    if not planes:
        raise ValueError("there is no plane to draw: give at least one")
    n_columns = min(3, len(planes))
    n_classes = max(len(np.unique(labels)) for _, labels in planes.values())
    height = 2.3 + 0.18 * ((n_classes + 1) // 2)
    figure, all_axes = make_panels(len(planes), n_columns, max(2.4, 4.8 / n_columns), height)
    rows = []
    for axes, (title, (plane, labels)) in zip(all_axes, planes.items(), strict=True):
        classes = np.unique(labels).tolist()
        _scatter(axes, plane, labels, classes, write_names=False)
        axes.set_title(title, fontsize=9)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, fontsize=7, handletextpad=0.2)
        rows += [(title, i, labels[i], *plane[i]) for i in range(len(labels))]
    return save_figure(figure, folder, name, ("panel", "row", "class", "x", "y"), rows, note)


def spread_labels(
    positions: Float[np.ndarray, "class 2"], height: float, width: float | None = None
) -> Float[np.ndarray, "class 2"]:
    """Move labels up where they would cover another, starting with the lowest one.

    Parameters
    ----------
    positions : array, shape (n, 2)
        Positions of the labels in the units of the axes.
    height : float
        Height of a label.
    width : float, optional
        Distance at which labels side by side do not touch; by default four times the height.

    Returns
    -------
    array, shape (n, 2)
        The positions, some of them higher.
    """
    placed, width = positions.copy(), 4 * height if width is None else width
    order = np.argsort(positions[:, 1], kind="stable")
    for n_placed, i in enumerate(order):
        for j in order[:n_placed]:
            near = abs(placed[i, 0] - placed[j, 0]) < width
            if near and abs(placed[i, 1] - placed[j, 1]) < height:
                placed[i, 1] = placed[j, 1] + height
    return placed


def _attention_map(
    axes: Axes, attention: Float[np.ndarray, "..."], rows: Sequence[str], columns: Sequence[str], label: str
) -> None:
    texts = [[f"{weight:.2f}".lstrip("0") for weight in row] for row in attention]
    low, high = float(np.nanmin(attention)), float(np.nanmax(attention))
    _draw_bar(axes, _heat_map(axes, attention, texts, rows, columns, high, low=low), label)


def _heat_map(
    axes: Axes,
    values: Float[np.ndarray, "..."],
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    top: float,
    *,
    size: float = 8.0,
    low: float = 0.0,
) -> AxesImage:
    """Draw a matrix in shades from white (``low``) to dark blue (``top``) with a text in each cell."""
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"{len(rows)} x {len(columns)} names were given for an array of shape {values.shape}")
    image = axes.imshow(values, cmap="Blues", vmin=low, vmax=top, aspect="auto")
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            color = "white" if values[i, j] > low + 0.65 * (top - low) else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color=color)
    turned: dict[str, Any] = dict(rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_xticks(range(len(columns)), columns, **(turned if max(map(len, columns)) > 6 else {}))
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(rows)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    return image


def _draw_bar(axes: Axes | Sequence[Axes], image: AxesImage, label: str) -> None:
    """Draw the scale of the shades beside one panel, or beside all panels that share it."""
    figure = (axes if isinstance(axes, Axes) else axes[0]).figure
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=25 if isinstance(axes, Axes) else 40)
    bar.set_label(label)
    bar.outline.set_visible(False)


def _row_shares(counts: Real[np.ndarray, "class class"]) -> Float[np.ndarray, "class class"]:
    """Divide each row of a confusion matrix by its sum; NaN for a class without cells."""
    total = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, total, out=np.full(counts.shape, math.nan), where=total > 0)


def _share_texts(share: Float[np.ndarray, "class class"], counts: Real[np.ndarray, "class class"]) -> list[list[str]]:
    """The share of the true class above the number of cells, for each cell of a confusion matrix that is not empty."""
    return [
        [f"{100 * s:.0f}%\n{_count(c)}" if c else "" for s, c in zip(*row, strict=True)]
        for row in zip(share, counts, strict=True)
    ]


def _count(number: float | np.number) -> str:
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.1f}"


def _scatter(
    axes: Axes, plane: Float[np.ndarray, "cell 2"], labels: Shaped[np.ndarray, "cell"], classes: list, write_names: bool
) -> None:
    """Draw the cells in layers of randomly chosen cells; if one class were drawn after the other, the last would hide the rest."""
    styles: dict[str, dict[str, Any]] = {
        name: dict(color=PALETTE[i % len(PALETTE)], marker=MARKERS[(i + i // len(PALETTE)) % len(MARKERS)])
        for i, name in enumerate(classes)
    }
    size = float(np.clip(6000 / len(plane), 4, 24))  # square points
    layers = np.array_split(np.random.default_rng(0).permutation(len(plane)), N_LAYERS)
    for layer in layers:
        for name in classes:
            x, y = plane[layer[labels[layer] == name]].T
            axes.scatter(x, y, s=size, linewidths=0, alpha=0.75, **styles[name])
    for name in classes:
        axes.scatter([], [], s=28, linewidths=0, label=str(name), **styles[name])
    if write_names:
        medians = np.array([np.median(plane[labels == name], axis=0) for name in classes])
        halo = [withStroke(linewidth=3, foreground="white")]
        positions = spread_labels(medians, 0.07 * float(np.ptp(plane, axis=0).max()))
        for name, (x, y) in zip(classes, positions, strict=True):
            axes.text(x, y, str(name), ha="center", va="center", fontsize=10, weight="bold", path_effects=halo)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", "datalim")
    axes.spines[:].set_visible(True)
