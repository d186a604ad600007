"""Figures of scores: bars of models, the same in small panels, and scores of classes.

As in `jaxephys.reporting.plots`, every function writes a PNG file and a CSV file with the numbers that are drawn.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxephys.evaluation.intervals import mean_sd
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.labels import LOWER_IS_BETTER, metric_label
from jaxephys.reporting.plots import DASHES, GREY, PALETTE, STYLE, draw_legend, make_panels, save_figure
from jaxephys.reporting.score_table import check_known, group_scores, seed_means
from jaxephys.reporting.tables import format_mean_sd

GROUP_MARKERS = ("D", "^", "v", "P")  # of groups of models beside networks (dots) and baselines (squares)
LINE_COLORS = ("#000000", "#CC79A7", "#009E73", "#E69F00")  # of reference lines
SEEDS_NOTE = "Dot: mean over seeds, folds averaged first. Bar: one standard deviation either side. Faint dots: seeds."


class BarPanel(NamedTuple):
    """A panel of `draw_bar_panels`.

    Parameters
    ----------
    title : str
        Title of the panel, such as the data set.
    scores : list of Score
        Scores of one data set.
    metric : str
        Metric to draw.
    lines : mapping of str to float
        Values to mark by vertical lines, such as the published one and chance.
    """

    title: str
    scores: list[Score]
    metric: str
    lines: Mapping[str, float] = {}


@matplotlib.rc_context(STYLE)
def draw_bars(
    folder: Path,
    scores: Iterable[Score],
    metric: str,
    reference_lines: Mapping[str, float] | None = None,
    *,
    baselines: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    label: str = "network",
    name: str | None = None,
    note: str = "",
) -> Path:
    """Draw the test score of every model with its standard deviation over seeds, from the best to the worst.

    Parameters
    ----------
    folder : path-like
        Run folder.
    scores : iterable of Score
        Scores of one data set.
    metric : str
        Metric to draw.
    reference_lines : mapping of str to float, optional
        Values to mark by a vertical line, such as a published value or that of the optimal classifier of simulated data.
    baselines : sequence of str, optional
        Models to draw as grey squares. The mean of the best one is marked by a line.
    groups : mapping of str to sequence of str, optional
        Other models that have a color of their own, by the name of the group in the legend, such as ensembles.
    label : str, default "network"
        What the models are that are neither baselines nor in a group, for the legend.
    name : str, optional
        Name of the files, ``"bars_<metric>"`` by default.
    note : str, default ""
        Sentence added below the bars, such as the network that the models are of.

    Returns
    -------
    Path
        The path of the PNG file.

    Raises
    ------
    ValueError
        If the metric or a baseline has no test scores.

    Notes
    -----
    The axis does not start at 0, since the differences between models are small compared with the scores.
    """
    panel = BarPanel("", list(scores), metric, reference_lines or {})
    seeds = _seeds_by_model(panel)
    check_known("model", baselines, set(seeds))
    order = _rank(seeds, metric)
    styles = _group_styles(order, baselines, groups or {})
    figure = Figure(figsize=(7.0, 2.0 + 0.36 * len(order)), layout="constrained")
    axes = figure.subplots()
    rows = []
    for y, model in enumerate(order):
        rows += [(model, *point) for point in _draw_seeds(axes, y, seeds[model], styles[model])]
    rows.sort(key=lambda row: row[1] == "seed")
    _label_rows(axes, range(len(order)), order, metric, f"{metric_label(metric)}, test set")
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    handles = _group_handles(styles, groups or {}, label)
    handles += _draw_lines(axes, panel.lines, _best_baseline(seeds, baselines, metric))
    if handles:
        draw_legend(figure, handles, [str(handle.get_label()) for handle in handles])
    rows += [(label, "reference line", "", float(value)) for label, value in panel.lines.items()]
    text = f"{SEEDS_NOTE}\n{describe_rows(panel.scores, metric)} test rows. {note}".strip()
    return save_figure(figure, folder, name or f"bars_{metric}", ("name", "drawn as", "seed", "value"), rows, text)


@matplotlib.rc_context(STYLE)
def draw_bar_panels(
    folder: Path,
    panels: Sequence[BarPanel],
    *,
    baselines: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    n_columns: int = 3,
    name: str = "bars",
    note: str = "",
) -> Path:
    """Draw test scores of the same models on several data sets, as small panels on one page.

    Parameters
    ----------
    folder : path-like
        Run folder.
    panels : sequence of BarPanel
        Title, scores, metric and reference lines of each panel.
    baselines : sequence of str, optional
        Models to draw as grey squares. The mean of the best one is marked by a line in each panel.
    groups : mapping of str to sequence of str, optional
        Other models that have a color of their own, by the name of the group in the legend.
    n_columns : int, default 3
        Number of panels side by side.
    name : str, default "bars"
        Name of the files.
    note : str, default ""
        Sentence added below the panels.

    Returns
    -------
    Path
        The path of the PNG file.

    Raises
    ------
    ValueError
        If there is no panel, or a metric has no test scores.
    """
    if not panels:
        raise ValueError("there is no panel to draw: give at least one")
    seeds = [_seeds_by_model(panel) for panel in panels]
    order = _common_order(seeds, panels)
    styles = _group_styles(order, baselines, groups or {})
    n_columns = min(n_columns, len(panels))
    label_width = 0.075 * max(map(len, order))
    width = max(1.7, (7.2 - label_width) / n_columns)
    figure, all_axes = make_panels(len(panels), n_columns, width, 0.75 + 0.2 * len(order))
    figure.set_figwidth(label_width + width * n_columns)
    rows, handles = [], _group_handles(styles, groups or {}, "network")
    for number, (axes, panel, of_panel) in enumerate(zip(all_axes, panels, seeds, strict=True)):
        for y, model in enumerate(order):
            if model in of_panel:
                points = _draw_seeds(axes, y, of_panel[model], styles[model], small=True)
                rows += [(panel.title, model, *point) for point in points]
        lines = _draw_lines(axes, panel.lines, _best_baseline(of_panel, baselines, panel.metric), with_values=False)
        handles += [line for line in lines if str(line.get_label()) not in {str(one.get_label()) for one in handles}]
        axes.set_yticks(range(len(order)), order if number % n_columns == 0 else [""] * len(order))
        axes.tick_params(axis="y", length=0, labelsize=7.5)
        axes.tick_params(axis="x", labelsize=7.5)
        axes.set_title(f"{panel.title}\n{describe_rows(panel.scores, panel.metric)}", fontsize=8.5)
        axes.set_ylim(len(order) - 0.5, -0.5)
        direction = " (lower is better)" if panel.metric in LOWER_IS_BETTER else ""
        axes.set_xlabel(textwrap.fill(metric_label(panel.metric) + direction, 30), fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.grid(True, axis="x")
        rows += [(panel.title, label, "reference line", "", float(value)) for label, value in panel.lines.items()]
    if handles:
        draw_legend(figure, handles, [str(handle.get_label()) for handle in handles])
    columns = ("panel", "name", "drawn as", "seed", "value")
    return save_figure(figure, folder, name, columns, rows, f"{SEEDS_NOTE}\n{note}".strip())


@matplotlib.rc_context(STYLE)
def draw_classes(
    folder: Path,
    scores: Iterable[Score],
    metric: str,
    classes: Sequence[str],
    models: Sequence[str],
    *,
    split: str = "test",
    name: str | None = None,
    title: str = "",
) -> Path:
    """Draw a score of each class for a few models side by side.

    Parameters
    ----------
    folder : path-like
        Run folder.
    scores : iterable of Score
        Scores with metrics named ``"<metric> <class>"``.
    metric : str
        Metric of a class, such as ``"f1"``.
    classes : sequence of str
        Names of the classes.
    models : sequence of str
        Models to draw.
    split : str, default "test"
        Part of the rows.
    name : str, optional
        Name of the files, ``"classes_<metric>"`` by default.
    title : str, default ""
        Title of the figure; by default it names the metric.

    Returns
    -------
    Path
        The path of the PNG file.
    """
    class_of = {f"{metric} {label}": label for label in classes}
    selected = (score for score in scores if score.metric in class_of and score.variant in models)
    runs = group_scores(selected, ("metric", "variant"), split)
    seeds = {(class_of[key], model): seed_means(values) for (key, model), values in runs.items()}
    step = len(models) + 1
    figure = Figure(figsize=(7.0, 1.6 + 0.23 * step * len(classes)), layout="constrained")
    axes = figure.subplots()
    rows = []
    for (i, label), (j, model) in product(enumerate(classes), enumerate(models)):
        points = _draw_seeds(axes, step * i + j, seeds[label, model], (PALETTE[j % len(PALETTE)], "os^D"[j % 4]))
        rows += [(label, model, *point) for point in points]
    middles = [step * i + (len(models) - 1) / 2 for i in range(len(classes))]
    _label_rows(axes, middles, classes, metric, title or f"{metric_label(metric)} of each class, {split} set")
    axes.set_ylim(step * len(classes) - 1.5, -0.7)
    handles = [
        Line2D([], [], color=PALETTE[j % len(PALETTE)], marker="os^D"[j % 4], lw=2.2) for j in range(len(models))
    ]
    draw_legend(figure, handles, models)
    columns = ("class", "variant", "drawn as", "seed", "value")
    return save_figure(figure, folder, name or f"classes_{metric}", columns, rows, SEEDS_NOTE)


def describe_rows(scores: Iterable[Score], metric: str, split: str = "test") -> str:
    """Return how many rows and runs a score is computed from, for the caption of a figure.

    Parameters
    ----------
    scores : iterable of Score
        Scores of one data set.
    metric : str
        The metric.
    split : str, default "test"
        Part of the rows.

    Returns
    -------
    str
        Such as "n = 840", or "n = 140 to 141 in each of 5 folds".
    """
    selected = [score for score in scores if (score.metric, score.split) == (metric, split)]
    sizes, n_folds = sorted({score.n for score in selected}), len({score.fold for score in selected})
    if not sizes:
        return ""
    text = f"n = {sizes[0]:,}" + f" to {sizes[-1]:,}" * (len(sizes) > 1)
    return f"{text} in each of {n_folds} folds" if n_folds > 1 else text


def _seeds_by_model(panel: BarPanel) -> dict[str, dict[int, float]]:
    """The mean over folds of each seed, by model."""
    check_known("metric", [panel.metric], {score.metric for score in panel.scores})
    runs = group_scores((score for score in panel.scores if score.metric == panel.metric), ("variant",), "test")
    return {model: seed_means(values) for (model,), values in runs.items()}


def _means(seeds: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    return {model: mean_sd(list(values.values())).mean for model, values in seeds.items()}


def _rank(seeds: Mapping[str, Mapping[int, float]], metric: str) -> list[str]:
    """The models from the best to the worst mean; those without a finite mean are last."""
    means, sign = _means(seeds), 1 if metric in LOWER_IS_BETTER else -1
    return sorted(means, key=lambda model: (math.isnan(means[model]), sign * means[model]))


def _common_order(seeds: Sequence[Mapping[str, Mapping[int, float]]], panels: Sequence[BarPanel]) -> list[str]:
    """The models of all panels by their mean rank."""
    ranks: dict[str, list[float]] = {}
    for of_panel, panel in zip(seeds, panels, strict=True):
        order = _rank(of_panel, panel.metric)
        for position, model in enumerate(order):
            ranks.setdefault(model, []).append(position / max(1, len(order) - 1))
    return sorted(ranks, key=lambda model: float(np.mean(ranks[model])))


def _best_baseline(
    seeds: Mapping[str, Mapping[int, float]], baselines: Sequence[str], metric: str
) -> tuple[str, float] | None:
    """Name and mean of the best baseline that has a score."""
    means = {model: value for model, value in _means(seeds).items() if model in baselines and math.isfinite(value)}
    best = _rank({model: seeds[model] for model in means}, metric)[:1]
    return (best[0], means[best[0]]) if best else None


def _group_styles(
    models: Sequence[str], baselines: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, str]]:
    """Color and marker of each model: blue dots, grey squares for baselines, and a color and marker for each other group."""
    styles = {}
    for model in models:
        found = [index for index, members in enumerate(groups.values()) if model in members]
        if model in baselines:
            styles[model] = (GREY, "s")
        elif found:
            styles[model] = (PALETTE[1 + found[0] % (len(PALETTE) - 1)], GROUP_MARKERS[found[0] % len(GROUP_MARKERS)])
        else:
            styles[model] = (PALETTE[0], "o")
    return styles


def _group_handles(
    styles: Mapping[str, tuple[str, str]], groups: Mapping[str, Sequence[str]], label: str
) -> list[Line2D]:
    """Entries of the legend for the kinds of models; none if there is one kind only."""
    names = {(PALETTE[0], "o"): label, (GREY, "s"): "baseline"}
    for index, name in enumerate(groups):
        names[PALETTE[1 + index % (len(PALETTE) - 1)], GROUP_MARKERS[index % len(GROUP_MARKERS)]] = name
    used = [style for style in names if style in styles.values()]
    if len(used) < 2:
        return []
    return [Line2D([], [], color=color, marker=marker, lw=2.2, label=names[color, marker]) for color, marker in used]


def _draw_lines(
    axes: Axes, lines: Mapping[str, float], best: tuple[str, float] | None, *, with_values: bool = True
) -> list[Line2D]:
    """Draw vertical lines at reference values and at the best baseline; return the entries of the legend."""
    handles = []
    for i, (label, value) in enumerate(lines.items()):
        color, dash = LINE_COLORS[i % len(LINE_COLORS)], DASHES[1 + i % 3]
        text = f"{label} ({value:.3f})" if with_values else label
        handles.append(axes.axvline(value, color=color, ls=dash, lw=1.4, label=text, zorder=1))
    if best is not None:
        text = f"best baseline, {best[0]} ({best[1]:.3f})" if with_values else "best baseline"
        handles.append(axes.axvline(best[1], color=GREY, ls="-", lw=1.0, alpha=0.7, label=text, zorder=1))
    return handles


def _draw_seeds(
    axes: Axes, y: int | float, seeds: Mapping[int, float], style: tuple[str, str], *, small: bool = False
) -> list[tuple]:
    """Draw seeds as faint dots, standard deviation as a bar, mean as a dot, and both as text at the right; return the numbers."""
    values, (color, marker) = list(seeds.values()), style
    mean, sd = mean_sd(values)
    scatter = y + 0.22 * np.resize([1.0, -1.0], len(values))
    size = 4.5 if small else 7
    axes.plot(values, scatter, "o", color=color, alpha=0.3, markersize=0.55 * size, markeredgewidth=0)
    axes.plot([mean - sd, mean + sd], [y, y], color=color, lw=1.4 if small else 2.2, solid_capstyle="butt")
    axes.plot(mean, y, marker, color=color, markersize=size, markeredgecolor="white", markeredgewidth=0.6)
    if not small:
        axes.text(1.02, y, format_mean_sd(mean, sd), transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    return [("mean", "", mean), ("sd", "", sd), *(("seed", seed, value) for seed, value in seeds.items())]


def _label_rows(axes: Axes, positions: Sequence[int | float], names: Sequence[str], metric: str, title: str) -> None:
    axes.set_yticks(positions, names)
    direction = " (lower is better)" if metric in LOWER_IS_BETTER else ""
    axes.set(title=title, xlabel=metric_label(metric) + direction)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
