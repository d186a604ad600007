"""Tables and figures of transfer grids: groups of recordings, every pair with its intervals, heat maps.

Start with :func:`transfer_tables`; :func:`score_matrix` arranges scores by training and test recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations, product
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import ttest_rel

from jaxephys.evaluation.intervals import Interval, mean_sd
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.plots import GREY, STYLE, save_figure
from jaxephys.reporting.tables import EMPTY, Cell, Table, format_mean_sd
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.baselines import BASELINE_NAMES, USED_BY_CHANNEL
from jaxephys.spikes.grid import DESCRIBED, METRICS, Intervals
from jaxephys.spikes.report.curves import CAPTION, RankedBins, draw_ranking_curves
from jaxephys.spikes.report.group_bars import draw_group_bars
from jaxephys.spikes.report.recordings import recordings_table

FORECAST, RECONSTRUCTION = "legacy, next bin", "legacy, reconstruction"  # forms in which the legacy network is scored
MAX_PAIR_TABLES = 4  # with more recordings, the tables of every pair are left out
NOTES = [
    "Pooled over units, ROC AUC and average precision are high if a model predicts which units fire often; within a unit, only "
    "if it predicts when the unit fires. A constant rate has a within-unit ROC AUC of 0.5 by construction.",
    "All models read the bins of the tested recording before its test bins; nothing is fitted to them.",
    "Networks with history filters are mixed with the running rate and exponential means of the tested recording, weighted by "
    "how well each has predicted it so far.",
    "intervals.csv holds every interval and the paired differences of the networks from each baseline.",
]
LEGACY_NOTES = [
    f"{RECONSTRUCTION}: the published layer sees all bins, also the one that it is scored on, as in the published code. It is "
    "not a forecast: a copy of its input would have a score of 1.",
    f"{FORECAST}: the same weights, scored on the bin after the last one that they see. Compare with the training rate, which "
    "is a constant.",
]

PUBLISHED_AUC = {  # Table 2 of Shimono (2026): pooled ROC AUC, mean and standard deviation over pairs
    "in vitro, training": "0.92 ± 0.06",
    "in vivo, training": "0.93 ± 0.06",
    "in vitro, self": "0.93 ± 0.05",
    "in vitro, others": "0.75 ± 0.07",
    "in vivo, self": "0.77 ± 0.10",
    "in vivo, others": "0.74 ± 0.10",
    "in vitro -> in vivo": "0.70 ± 0.09",
    "in vivo -> in vitro": "0.80 ± 0.10",
}
ScoreMatrix = Float[np.ndarray, "recording recording"]  # row: trained on, column: tested on


def transfer_tables(
    scores: Sequence[Score],
    intervals: Intervals,
    recordings: Sequence[Recording],
    networks: Sequence[str],
    variants: Sequence[str],
) -> dict[str, Table]:
    """Make the tables of a transfer grid.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models.
    intervals : dict
        Result of :func:`jaxephys.spikes.grid.score_intervals`.
    recordings : sequence of Recording
        All recordings.
    networks : sequence of str
        Networks that are compared with the baselines on every pair.
    variants : sequence of str
        All models of the table of groups.

    Returns
    -------
    dict of str to Table
        By heading: groups for each metric, with up to four recordings every pair for each network, and the recordings.
    """
    names = [recording.name for recording in recordings]
    tables = {
        f"Groups, {metric_label(metric)}": group_table(scores, recordings, variants, metric) for metric in METRICS
    }
    if len(names) <= MAX_PAIR_TABLES:
        for network in networks:
            table = pair_table(scores, intervals, names, [network, *BASELINE_NAMES])
            tables[f"Every pair, {network} and the baselines"] = table
    return tables | {"Recordings": recordings_table(recordings)}


def score_matrix(
    scores: Sequence[Score], variant: str, metric: str, names: Sequence[str], split: str = "test"
) -> ScoreMatrix:
    """Arrange the scores of a model by training and test recording.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models.
    variant, metric : str
        Model and metric.
    names : sequence of str
        Names of the recordings, in the order of rows and columns.
    split : str
        Split that was scored.

    Returns
    -------
    float array of shape (recordings, recordings)
        Mean over seeds; rows are training recordings; nan for a pair without a score.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for score in scores:
        if (score.variant, score.metric, score.split) == (variant, metric, split):
            values.setdefault((score.train_on, score.test_on), []).append(score.value)
    return np.array([[np.mean(values.get((i, j), [np.nan])) for j in names] for i in names])


def pair_groups(recordings: Sequence[Recording]) -> dict[str, list[tuple[str, str]]]:
    """Group pairs of recordings by domain, as in Table 2 of the paper.

    Parameters
    ----------
    recordings : sequence of Recording
        Recordings with a domain, such as "in vitro".

    Returns
    -------
    dict of str to list of (str, str)
        Pairs (trained on, tested on) by name of the group: training bins, the recording itself, others of its domain, and
        other domains. Empty groups are left out.
    """
    names: dict[str, list[str]] = {}
    for recording in recordings:
        names.setdefault(recording.domain, []).append(recording.name)
    groups = {f"{domain}, training": [(name, name) for name in members] for domain, members in names.items()}
    for domain, members in names.items():
        groups[f"{domain}, self"] = [(name, name) for name in members]
        groups[f"{domain}, others"] = list(permutations(members, 2))
    for source, target in permutations(names, 2):
        groups[f"{source} -> {target}"] = list(product(names[source], names[target]))
    return {name: pairs for name, pairs in groups.items() if pairs}


def group_table(
    scores: Sequence[Score], recordings: Sequence[Recording], variants: Sequence[str], metric: str
) -> Table:
    """Summarize a metric over the pairs of each group.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models.
    recordings : sequence of Recording
        All recordings.
    variants : sequence of str
        Models, one column each.
    metric : str
        Metric.

    Returns
    -------
    Table
        Mean and standard deviation over pairs, seeds averaged first; for ROC AUC with the published values.
    """
    names = [recording.name for recording in recordings]
    groups = pair_groups(recordings)
    columns = {"group": [Cell(name) for name in groups], "pairs": [Cell(str(len(pairs))) for pairs in groups.values()]}
    if metric == "roc_auc":
        columns["published"] = [Cell(PUBLISHED_AUC.get(name, EMPTY)) for name in groups]
    for variant in variants:
        matrices = {split: score_matrix(scores, variant, metric, names, split) for split in ("test", "train")}
        cells = []
        for name, pairs in groups.items():
            matrix = matrices["train" if name.endswith("training") else "test"]
            values = np.array([matrix[names.index(i), names.index(j)] for i, j in pairs])
            cells.append(Cell(format_mean_sd(*mean_sd(values[np.isfinite(values)]))))
        columns[variant] = cells
    notes = [
        f"{metric_label(metric)}, mean ± sd over pairs (trained on, tested on). The published models see the bins that they "
        "predict.",
        "Training: the last of the training bins, as many as there are test bins.",
        "On other recordings, training rate and per-unit GLM are applied by channel number, which pairs unrelated units.",
    ]
    return Table(columns, notes)


def pair_table(scores: Sequence[Score], intervals: Intervals, names: Sequence[str], variants: Sequence[str]) -> Table:
    """List every model on every pair of recordings with intervals, and its difference from the first model.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models.
    intervals : dict
        Result of :func:`jaxephys.spikes.grid.score_intervals`.
    names : sequence of str
        Names of the recordings.
    variants : sequence of str
        Models; the first is compared with the others.

    Returns
    -------
    Table
        One row per pair and model. Differences whose interval is above 0 are bold.
    """
    first = variants[0]
    short = {metric: metric_label(metric) for metric in METRICS}
    columns: dict[str, list[Cell]] = {"trained on -> tested on": [], "model": []}
    columns |= {short[metric]: [] for metric in METRICS}
    columns |= {f"{first} minus model, {short[metric]}": [] for metric in METRICS}
    for (i, j), variant in product(product(names, repeat=2), variants):
        columns["trained on -> tested on"].append(Cell(f"{i} -> {j}"))
        columns["model"].append(Cell(mark_channel_models(variant, i, j)))
        for metric in METRICS:
            number = ".4f" if metric == "average_precision" else ".3f"
            mean = format(score_matrix(scores, variant, metric, (i, j))[0, 1], number)
            columns[short[metric]].append(interval_cell(intervals.get((i, j, variant, metric)), number, mean))
            difference = intervals.get((i, j, f"{first} - {variant}", metric))
            columns[f"{first} minus model, {short[metric]}"].append(interval_cell(difference, f"+{number}"))
    notes = [
        "In brackets: 95 % interval over resampled time blocks, of the first seed. Bold: the first model is better, and the "
        "interval excludes 0.",
        "Bits per spike are relative to the mean rate of each unit in these very test bins, which a forecast cannot use.",
    ]
    return Table(columns, notes)


def mark_channel_models(variant: str, train_on: str, test_on: str) -> str:
    """Mark a model that is applied to another recording by channel index, which pairs unrelated cells.

    Parameters
    ----------
    variant : str
        Name of the model.
    train_on, test_on : str
        Names of the recordings.

    Returns
    -------
    str
        The name, with "(by channel)" if it applies.
    """
    by_channel = variant in (*USED_BY_CHANNEL, "units", "published", DESCRIBED) or variant.startswith("legacy")
    return f"{variant} (by channel)" if by_channel and train_on != test_on else variant


def wins_over_baselines(
    scores: Sequence[Score], names: Sequence[str], network: str, baselines: Sequence[str]
) -> list[str]:
    """Count on how many pairs of recordings a network scores higher than every baseline.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models.
    names : sequence of str
        Names of the recordings.
    network : str
        Name of the network.
    baselines : sequence of str
        Names of the baselines.

    Returns
    -------
    list of str
        A sentence per metric.
    """
    sentences = []
    diagonal = np.eye(len(names), dtype=bool)
    for metric in METRICS:
        wins = score_matrix(scores, network, metric, names) > np.nanmax(
            [score_matrix(scores, baseline, metric, names) for baseline in baselines], axis=0
        )
        sentences.append(
            f"{metric_label(metric)}: {network} scores higher than every baseline on {int(wins[diagonal].sum())} of "
            f"{len(names)} recordings that it was trained on, and on {int(wins[~diagonal].sum())} of "
            f"{int((~diagonal).sum())} pairs of different recordings."
        )
    return sentences


def paired_difference(a: Float[np.ndarray, "others"], b: Float[np.ndarray, "others"]) -> str:
    """Format the mean difference of paired scores with the p value of a paired t test.

    Parameters
    ----------
    a, b : float array of shape (pairs,)
        Scores; pairs with a nan are left out.

    Returns
    -------
    str
        The mean difference; with p if there are three or more pairs that do not all differ by the same amount.

    Examples
    --------
    >>> import numpy as np
    >>> paired_difference(np.array([0.5, 0.6, 0.7]), np.array([0.4, 0.45, 0.62]))
    '+0.110, p = 0.034'
    """
    both = np.isfinite(a) & np.isfinite(b)
    mean = f"{(a - b)[both].mean():+.3f}" if both.any() else EMPTY
    if both.sum() < 3 or np.ptp((a - b)[both]) == 0:
        return mean
    return f"{mean}, p = {ttest_rel(a[both], b[both]).pvalue:.2g}"  # pyright: ignore[reportAttributeAccessIssue]


def interval_cell(interval: Interval | None, number: str, otherwise: str = EMPTY) -> Cell:
    """Return the cell of a score or of a difference with its interval.

    Parameters
    ----------
    interval : Interval or None
        The interval, if it was computed.
    number : str
        Format of the estimate, such as ``".3f"``, or ``"+.3f"`` for a difference.
    otherwise : str
        Text of the cell without an interval.

    Returns
    -------
    Cell
        ``estimate [low, high]``. A difference is bold if it is above 0 in the whole interval.
    """
    if interval is None:
        return Cell(otherwise)
    low, high = (format(bound, number.lstrip("+")) for bound in (interval.low, interval.high))
    return Cell(f"{interval.estimate:{number}} [{low}, {high}]", number.startswith("+") and interval.low > 0)


def draw_transfer_figures(
    folder: Path,
    scores: Sequence[Score],
    recordings: Sequence[Recording],
    network: str,
    *,
    intervals: Intervals | None = None,
    ranked: Sequence[RankedBins] = (),
) -> dict[str, Path]:
    """Draw the transfer grids and the groups of one network and of three baselines, and curves of all models.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    scores : sequence of Score
        Scores of all models.
    recordings : sequence of Recording
        All recordings.
    network : str
        Name of the network.
    intervals : dict, optional
        Result of :func:`jaxephys.spikes.grid.score_intervals`, for groups of a single pair.
    ranked : sequence of RankedBins, optional
        Predictions of representative pairs, whose ROC and precision-recall curves are drawn.

    Returns
    -------
    dict of str to Path
        Figures by caption: bars of the groups and transfer grids of pooled and of within-unit ROC AUC, and the curves.
    """
    names = [recording.name for recording in recordings]
    groups = {name: pairs for name, pairs in pair_groups(recordings).items() if not name.endswith("training")}
    shown = ("training rate", "exponential", "shared GLM")
    figures = {}
    for metric in ("roc_auc", "roc_auc_within_unit"):
        matrices = {variant: score_matrix(scores, variant, metric, names) for variant in (network, *shown)}
        figures[f"{metric_label(metric)} of {network} and three baselines by group of pairs"] = draw_group_bars(
            folder,
            matrices,
            names,
            groups,
            metric,
            baselines=shown,
            published=PUBLISHED_AUC if metric == "roc_auc" else None,
            block_intervals=intervals,
        )
        figure = draw_score_matrices(folder, matrices, recordings, metric, f"grid_{metric}")
        figures[f"{metric_label(metric)} of four models on every recording"] = figure
    if ranked:
        drawn = [one for one in ranked if one.model not in BASELINE_NAMES or one.model in shown]
        figures[CAPTION] = draw_ranking_curves(folder, drawn, baselines=shown, published=PUBLISHED_AUC)
    return figures


@matplotlib.rc_context(STYLE)
def draw_score_matrices(
    folder: Path, matrices: Mapping[str, ScoreMatrix], recordings: Sequence[Recording], metric: str, name: str
) -> Path:
    """Draw transfer grids as heat maps side by side on one scale.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    matrices : mapping of str to float array of shape (recordings, recordings)
        Scores by title of the panel.
    recordings : sequence of Recording
        Recordings in the order of rows and columns; lines separate domains.
    metric : str
        Metric.
    name : str
        Name of the file.

    Returns
    -------
    Path
        The figure; a CSV file with the drawn numbers is written beside it.
    """
    names = [recording.name for recording in recordings]
    side = 1.5 + 0.42 * len(names)
    figure = Figure(figsize=(side * len(matrices) + 1.2, side + 1.1), layout="constrained")
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    low, high = (float(bound([*matrices.values()])) for bound in (np.nanmin, np.nanmax))
    low = max(low, 0.5) if metric.startswith("roc_auc") else low
    image = None
    for axes, (title, matrix) in zip(panels, matrices.items(), strict=True):
        image = axes.imshow(matrix, cmap="Blues", vmin=low, vmax=high)
        for i, j in np.ndindex(matrix.shape):
            color = "white" if matrix[i, j] > low + 0.65 * (high - low) else "black"
            text = f"{matrix[i, j]:.2f}".lstrip("0")
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color=color)
        axes.set(title=title, xlabel="Tested on")
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names if axes is panels[0] else [""] * len(names))
        axes.tick_params(length=0)
        for index in np.flatnonzero([a.domain != b.domain for a, b in pairwise(recordings)]):
            axes.axhline(index + 0.5, color="black", lw=1)
            axes.axvline(index + 0.5, color="black", lw=1)
    panels[0].set_ylabel("Trained on")
    assert image is not None
    figure.colorbar(image, ax=panels, pad=0.01, aspect=30).set_label(metric_label(metric))
    figure.supxlabel("Mean over seeds, on the test bins.", fontsize=8, color=GREY)
    rows = [
        (title, names[i], names[j], matrix[i, j])
        for title, matrix in matrices.items()
        for i, j in np.ndindex(matrix.shape)
    ]
    return save_figure(figure, folder, name, ("model", "train_on", "test_on", metric), rows)
