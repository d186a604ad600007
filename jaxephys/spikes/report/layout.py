"""Tables and figure of the map of recordings. Start with :func:`layout_tables` and :func:`draw_layout`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.spatial import procrustes
from scipy.stats import spearmanr

from jaxephys.evaluation.scores import Score
from jaxephys.reporting.headline import SummaryRow
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.maps import spread_labels
from jaxephys.reporting.plots import GREY, PALETTE, STYLE, draw_legend, save_figure
from jaxephys.reporting.tables import Cell, Table
from jaxephys.spikes.layout import Layout, find_substitutes, predictability, source_quality
from jaxephys.spikes.report.transfer import ScoreMatrix, score_matrix

SAME_MAP = 0.01  # Procrustes disparity below which two maps are the same


def layout_tables(
    matrix: ScoreMatrix, names: Sequence[str], scores: Sequence[Score], variant: str, metric: str
) -> dict[str, Table]:
    """Rank the recordings, and list substitutes of each.

    Parameters
    ----------
    matrix : float array of shape (recordings, recordings)
        Scores; rows are training recordings.
    names : sequence of str
        Names of the recordings.
    scores : sequence of Score
        Scores of all models, for the agreement of rankings.
    variant, metric : str
        Model and metric of the matrix.

    Returns
    -------
    dict of str to Table
        By heading.
    """
    quality, ease = source_quality(matrix), predictability(matrix)
    order = np.argsort(-quality)
    ranking = Table(
        {
            "recording": [Cell(str(names[i])) for i in order],
            "to train on": [Cell(f"{quality[i]:.3f}") for i in order],
            "to predict": [Cell(f"{ease[i]:.3f}", ease[i] == ease.max()) for i in order],
            "on itself": [Cell(f"{matrix[i, i]:.3f}") for i in order],
        },
        [
            f"To train on: mean {metric_label(metric)} of the model of this recording on the others. To predict: mean over the "
            "models of the others on this recording.",
            *rank_correlations(scores, names, variant, metric),
        ],
    )
    substitutes = find_substitutes(matrix, names)
    columns = {
        "recording": [Cell(name) for name in names],
        "its own model": [Cell(f"{matrix[i, i]:.3f}") for i in range(len(names))],
    }
    for index in range(len(next(iter(substitutes.values())))):
        nearest = [substitutes[name][index] for name in names]
        columns[f"substitute {index + 1}"] = [
            Cell(f"{recording.name} ({recording.score:.3f})") for recording in nearest
        ]
    note = "The recordings at the smallest distance d; in brackets the score of their models on the recording."
    return {"Good to train on, easy to predict": ranking, "Substitutes in training": Table(columns, [note])}


def rank_correlations(scores: Sequence[Score], names: Sequence[str], variant: str, metric: str) -> list[str]:
    """Compare the ranking of recordings with those of other seeds and other models.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models.
    names : sequence of str
        Names of the recordings.
    variant, metric : str
        Model and metric; its first seed is compared.

    Returns
    -------
    list of str
        A sentence for each other seed and model with Spearman's rank correlations.
    """
    scores = [score for score in scores if score.metric == metric]
    off_diagonal, compared = ~np.eye(len(names), dtype=bool), {}
    for seed in sorted({score.seed for score in scores if score.variant == variant}):
        of_seed = [score for score in scores if score.seed == seed]
        compared[f"seed {seed}"] = score_matrix(of_seed, variant, metric, names)
    first = compared.pop(next(iter(compared)))
    for name in sorted({score.variant for score in scores} - {variant}):
        matrix = score_matrix(scores, name, metric, names)
        if np.isfinite(matrix[off_diagonal]).any():  # the true probability of simulated spikes has no transfer
            compared[name] = matrix
    return [
        f"Rank correlation with {name}: to train on {_correlate(source_quality(first), source_quality(matrix))}, "
        f"to predict {_correlate(predictability(first), predictability(matrix))}."
        for name, matrix in compared.items()
    ]


def method_table(layouts: Mapping[str, Layout], chosen: str) -> Table:
    """Compare the maps of several methods.

    Parameters
    ----------
    layouts : mapping of str to Layout
        Maps of the same scores by method.
    chosen : str
        Method whose map is drawn.

    Returns
    -------
    Table
        One row per method.
    """
    points = {method: layout.points for method, layout in layouts.items()}
    columns = {
        "method": [Cell(method.replace("_", " ")) for method in layouts],
        "least stress": [Cell(f"{layout.stress[0]:.4g}") for layout in layouts.values()],
        "median stress of the starts": [Cell(f"{np.median(layout.stress):.4g}") for layout in layouts.values()],
        "relative stress": [Cell(f"{layout.relative_stress:.3f}") for layout in layouts.values()],
        "starts that found this map": [
            Cell(f"{int((layout.disparity < SAME_MAP).sum())} of {len(layout.stress)}") for layout in layouts.values()
        ],
        "disparity from the drawn map": [Cell(f"{procrustes(points[chosen], one)[2]:.4f}") for one in points.values()],
    }
    note = (
        f"Both methods begin with the same random starts; the map of {chosen.replace('_', ' ')} is drawn. The paper uses one gradient "
        "descent from a random start, whose stress is that of an average start. Disparity: 0 for the same map, 1 for an unrelated one."
    )
    return Table(columns, [note])


def layout_row(layouts: Mapping[str, Layout]) -> SummaryRow:
    """Return the comparison of the map with that of the paper's method, for the summary of a report.

    Parameters
    ----------
    layouts : mapping of str to Layout
        Maps of the same scores by method, "smacof" and "gradient_descent" among them.

    Returns
    -------
    SummaryRow
        Relative stress of the best start of SMACOF, and median stress of one gradient descent relative to it.
    """
    best, other = layouts["smacof"], layouts["gradient_descent"]
    median = best.relative_stress * float(np.sqrt(np.median(other.stress) / max(best.stress[0], 1e-30)))
    text = (
        f"The map has a relative stress of {best.relative_stress:.3f}; one gradient descent from a random start, as in the paper, has "
        f"{median:.3f} in the median. 0 is an exact map, and above 0.2 a map is misleading."
    )
    baseline = "one gradient descent, median"
    score = f"{best.relative_stress:.3f}"
    row = SummaryRow("", "relative stress", "map by SMACOF", score, baseline=baseline, baseline_score=f"{median:.3f}")
    return replace(row, text=text)


def layout_notes(layout: Layout, matrix: ScoreMatrix) -> list[str]:
    """Describe how well the map represents the distances.

    Parameters
    ----------
    layout : Layout
        The map.
    matrix : float array of shape (recordings, recordings)
        Scores that it was made from.

    Returns
    -------
    list of str
        Sentences on stress, agreement of the restarts, and asymmetry of the scores.
    """
    same = int((layout.disparity < SAME_MAP).sum())
    asymmetry = np.abs(matrix - matrix.T)[np.triu_indices(len(matrix), 1)].mean()
    return [
        f"The least stress is {layout.stress[0]:.4g}, the relative stress {layout.relative_stress:.3f}: 0 is an exact map, and "
        "above 0.2 the map is misleading.",
        f"{same} of {len(layout.stress)} starts found this map (Procrustes disparity below {SAME_MAP}); the median disparity is "
        f"{np.median(layout.disparity):.3f}.",
        f"The scores are not symmetric: the two directions of a pair differ by {asymmetry:.3f} on average, which no map shows.",
    ]


@matplotlib.rc_context(STYLE)
def draw_layout(folder: Path, layout: Layout, names: Sequence[str]) -> Path:
    """Draw the map along its three widest axes, colored by the kind of recording.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    layout : Layout
        The map.
    names : sequence of str
        Names of the recordings; the kind is "in vitro" or "in vivo" if the name contains it, or else its first word.

    Returns
    -------
    Path
        The figure; a CSV file with the drawn numbers is written beside it.
    """
    kind_of = [_kind(name) for name in names]
    points = np.pad(layout.points, ((0, 0), (0, max(0, 3 - layout.points.shape[1]))))
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    for axes, (x, y) in zip(figure.subplots(1, 2), ((0, 1), (0, 2)), strict=True):
        for kind, color in zip(dict.fromkeys(kind_of), PALETTE, strict=False):
            kind_members = [i for i, recording_kind in enumerate(kind_of) if recording_kind == kind]
            axes.plot(points[kind_members, x], points[kind_members, y], "o", color=color, label=kind)
        plane = points[:, [x, y]]
        size = max(float(np.ptp(plane, axis=0).max()), 1e-9)
        width = 0.022 * size * max(map(len, names))
        labels = spread_labels(plane + 0.02 * size, 0.055 * size, width)
        for name, point, label in zip(names, plane, labels, strict=True):
            line = dict(arrowstyle="-", color=GREY, lw=0.5) if label[1] - point[1] > 0.05 * size else None
            axes.annotate(name, point, xytext=label, fontsize=7, arrowprops=line)
        axes.set(xlabel=f"Axis {x + 1} of the map (distance)", ylabel=f"Axis {y + 1} of the map (distance)")
        axes.set_aspect("equal", "datalim")
        axes.margins(0.15)
        axes.grid(True)
    draw_legend(figure, *figure.axes[0].get_legend_handles_labels())
    note = (
        f"n = {len(names)} recordings. Relative stress {layout.relative_stress:.3f}. Distances represent 1 / score - 1."
    )
    rows = [(name, *point[:3]) for name, point in zip(names, points, strict=True)]
    return save_figure(figure, folder, "map", ("recording", "x", "y", "z"), rows, note)


def _correlate(a: Float[np.ndarray, "recording"], b: Float[np.ndarray, "recording"]) -> str:
    """Spearman's correlation, unless one of the rankings has ties only."""
    if np.ptp(a) < 1e-9 or np.ptp(b) < 1e-9 or not np.isfinite(b).all():
        return "undefined"
    return f"{spearmanr(a, b).statistic:+.2f}"  # pyright: ignore[reportAttributeAccessIssue]


def _kind(name: str) -> str:
    for kind in ("vitro", "vivo"):
        if kind in name:
            return f"in {kind}"
    return name.split("_")[0]
