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
from scipy.stats import ttest_rel

from jaxephys.evaluation.intervals import Interval, mean_sd
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.headline import Headline
from jaxephys.reporting.labels import in_sentence, metric_label
from jaxephys.reporting.plots import STYLE, make_panels, save_figure
from jaxephys.reporting.tables import EMPTY, Cell, Table, format_mean_sd
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.baselines import USED_BY_CHANNEL
from jaxephys.spikes.grid import ADAPTED, ALONE, DESCRIBED, METRICS, REFERENCES, Intervals
from jaxephys.spikes.published_values import PUBLISHED_AUC
from jaxephys.spikes.report.curves import CAPTION, RankedBins, draw_ranking_curves
from jaxephys.spikes.report.group_bars import CHANCE, draw_group_bars
from jaxephys.spikes.report.recordings import recordings_by_domain, recordings_table

FORECAST, RECONSTRUCTION = "legacy, next bin", "legacy, reconstruction"  # forms in which the legacy network is scored
MAX_PAIR_TABLES = 4  # with more recordings, the tables of every pair are left out
NOTES = [
    "Pooled over units, ROC AUC and average precision are high if a model predicts which units fire often; within a unit, only "
    "if it predicts when the unit fires. A constant rate has a within-unit ROC AUC of 0.5 by construction.",
    "All models read the bins of the tested recording before its test bins. Nothing is fitted to them but scale and shift of the models "
    "that are named adapted.",
    "Networks with history filters are mixed with a linear model, the running rate and exponential means of the tested recording, weighted "
    "by how well each has predicted it so far. Rows named alone are of the network without the mixture, those of experts without a network "
    "of the mixture without it.",
    "intervals.csv holds every interval and the paired differences of the networks from each baseline.",
]
LEGACY_NOTES = [
    f"{RECONSTRUCTION}: the published layer sees all bins, also the one that it is scored on, as in the published code. It is "
    "not a forecast: a copy of its input would have a score of 1.",
    f"{FORECAST}: the same weights, scored on the bin after the last one that they see. Compare with the training rate, which "
    "is a constant.",
]

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
        By heading: groups for each metric, with up to four recordings every pair for each network and metric, and the recordings.
    """
    names = [recording.name for recording in recordings]
    tables = {
        f"Groups, {metric_label(metric)}": group_table(scores, recordings, variants, metric) for metric in METRICS
    }
    if len(names) <= MAX_PAIR_TABLES:
        for network in networks:
            baselines = [name for name in REFERENCES if name in {score.variant for score in scores}]
            for metric in METRICS:
                heading = f"Every pair, {network} and the best baseline, {in_sentence(metric)}"
                tables[heading] = pair_table(scores, intervals, names, network, baselines, metric)
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
    names = recordings_by_domain(recordings)
    groups = {f"{domain}, training": [(name, name) for name in members] for domain, members in names.items()}
    for domain, members in names.items():
        groups[f"{domain}, self"] = [(name, name) for name in members]
        groups[f"{domain}, others"] = list(permutations(members, 2))
    for source, target in permutations(names, 2):
        groups[f"{source} -> {target}"] = list(product(names[source], names[target]))
    return {name: pairs for name, pairs in groups.items() if pairs}


def group_headlines(
    recordings: Sequence[Recording], networks: Sequence[str], baselines: Sequence[str], metric: str = "roc_auc"
) -> list[Headline]:
    """Return the comparisons of networks with the best baseline over the pairs of each group, for the summary of a report.

    Parameters
    ----------
    recordings : sequence of Recording
        All recordings.
    networks : sequence of str
        Names of the networks. A reconstruction has no baseline, since it sees the bin that it is scored on.
    baselines : sequence of str
        Names of the baselines.
    metric : str, default "roc_auc"
        Metric. Published values are quoted for ROC AUC, but not beside the next bins of the published script, which are another task.

    Returns
    -------
    list of Headline
        One comparison per network and group of `pair_groups`, without the training bins.
    """
    headlines = []
    for network in networks:
        quoted = PUBLISHED_AUC if metric == "roc_auc" and network != FORECAST else {}
        others = [] if network == RECONSTRUCTION else baselines
        for group, pairs in pair_groups(recordings).items():
            if not group.endswith("training"):
                published = quoted.get(group)
                headlines.append(Headline(metric, network, others, published=published, label=group, pairs=pairs))
    return headlines


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


def pair_table(
    scores: Sequence[Score],
    intervals: Intervals,
    names: Sequence[str],
    network: str,
    baselines: Sequence[str],
    metric: str,
) -> Table:
    """Compare a network with the best baseline on every pair of recordings.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models.
    intervals : dict
        Result of :func:`jaxephys.spikes.grid.score_intervals`.
    names : sequence of str
        Names of the recordings.
    network : str
        Name of the network.
    baselines : sequence of str
        Names of the baselines. The best one on the test bins of a pair is shown, which favors the baseline.
    metric : str
        Metric.

    Returns
    -------
    Table
        One row per pair. The column of differences is left out if there are no intervals; one above 0 is bold.
    """
    number = ".4f" if metric == "average_precision" else ".3f"
    ours = score_matrix(scores, network, metric, names)
    others = {name: score_matrix(scores, name, metric, names) for name in baselines}
    difference = f"{network} minus baseline [95 % interval]"
    columns: dict[str, list[Cell]] = {"trained on -> tested on": [], network: [], "best baseline": []}
    columns |= {"its score": [], difference: []}
    for i, j in product(range(len(names)), repeat=2):
        train_on, test_on = names[i], names[j]
        scored = {name: matrix[i, j] for name, matrix in others.items() if np.isfinite(matrix[i, j])}
        best = max(scored, key=lambda name, scored=scored: scored[name]) if scored else EMPTY
        columns["trained on -> tested on"].append(Cell(f"{train_on} -> {test_on}"))
        columns[network].append(
            interval_cell(intervals.get((train_on, test_on, network, metric)), number, f"{ours[i, j]:{number}}")
        )
        columns["best baseline"].append(Cell(mark_channel_models(best, train_on, test_on)))
        mean = f"{scored[best]:{number}}" if scored else EMPTY
        columns["its score"].append(interval_cell(intervals.get((train_on, test_on, best, metric)), number, mean))
        columns[difference].append(
            interval_cell(intervals.get((train_on, test_on, f"{network} - {best}", metric)), f"+{number}")
        )
    notes = ["The best baseline is the best one on these test bins."]
    if all(cell.text == EMPTY for cell in columns[difference]):
        del columns[difference]
    else:
        notes.append(
            "In brackets: 95 % interval over resampled time blocks, of the first seed. Bold: the network is better, and the "
            "interval excludes 0."
        )
    if metric == "bits_per_spike":
        notes.append(
            "Bits are relative to the mean rate of each unit in these very test bins, which a forecast cannot use."
        )
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
    network = variant.removesuffix(ADAPTED).removesuffix(ALONE)
    by_channel = variant in USED_BY_CHANNEL or network in ("units", "published", DESCRIBED)
    by_channel |= variant.startswith("legacy")
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
        drawn = [one for one in ranked if one.model not in REFERENCES or one.model in shown]
        figures[CAPTION] = draw_ranking_curves(folder, drawn, baselines=shown, published=PUBLISHED_AUC)
    return figures


@matplotlib.rc_context(STYLE)
def draw_score_matrices(
    folder: Path, matrices: Mapping[str, ScoreMatrix], recordings: Sequence[Recording], metric: str, name: str
) -> Path:
    """Draw transfer grids as heat maps on one scale that spans all scores.

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
    n_columns = min(2, len(matrices))
    side = 0.8 + max(0.24 * len(names), 1.5)
    figure, panels = make_panels(len(matrices), n_columns, side + 0.5, side)
    low, high = (float(bound([*matrices.values()])) for bound in (np.nanmin, np.nanmax))
    image = None
    for number, (axes, (title, matrix)) in enumerate(zip(panels, matrices.items(), strict=True)):
        image = axes.imshow(matrix, cmap="cividis", vmin=low, vmax=high)
        for i, j in np.ndindex(matrix.shape):
            color = "black" if matrix[i, j] > low + 0.55 * (high - low) else "white"
            text = f"{matrix[i, j]:.2f}".replace("0.", ".")
            axes.text(j, i, text, ha="center", va="center", fontsize=6 if len(names) > 6 else 8, color=color)
        last_row, first_column = number + n_columns >= len(matrices), number % n_columns == 0
        axes.set(title=title, xlabel="Tested on" * last_row, ylabel="Trained on" * first_column)
        turned: dict = dict(rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
        axes.set_xticks(range(len(names)), names if last_row else [""] * len(names), **turned)
        axes.set_yticks(range(len(names)), names if first_column else [""] * len(names), fontsize=7)
        axes.tick_params(length=0)
        for index in np.flatnonzero([a.domain != b.domain for a, b in pairwise(recordings)]):
            axes.axhline(index + 0.5, color="white", lw=1.5)
            axes.axvline(index + 0.5, color="white", lw=1.5)
    assert image is not None
    bar = figure.colorbar(image, ax=panels, pad=0.01, aspect=30)
    bar.set_label(metric_label(metric))
    note = f"Mean over seeds, on the test bins. n = {len(names)} recordings."
    if metric in CHANCE and low < CHANCE[metric] < high:
        bar.ax.axhline(CHANCE[metric], color="red", lw=1.5)
        note += f" Red line of the scale: {CHANCE[metric]:g}, chance."
    rows = [
        (title, names[i], names[j], matrix[i, j])
        for title, matrix in matrices.items()
        for i, j in np.ndindex(matrix.shape)
    ]
    return save_figure(figure, folder, name, ("model", "train_on", "test_on", metric), rows, note)
