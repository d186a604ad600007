"""Tables and figures of attention. Start with :func:`attention_tables` and :func:`attention_figures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxephys.evaluation.intervals import mean_sd
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.headline import Headline
from jaxephys.reporting.labels import in_sentence, metric_label
from jaxephys.reporting.plots import GREY, PALETTE, STYLE, save_figure
from jaxephys.reporting.tables import EMPTY, Cell, Table, format_mean_sd
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.attention_analysis import (
    EARLY_BINS,
    MAP_BINS,
    MEASURES,
    MIN_SAMPLES,
    RATES,
    RUNNING_RATE,
    SIGNIFICANCE,
    TRAINED,
    WITHOUT_ATTENTION,
    AttentionAnalysis,
    mean_correlation,
    shuffled_name,
    t_test_correlations,
    uniform_lag_profile,
)
from jaxephys.spikes.attention_grid import altered_groups, variant_name
from jaxephys.spikes.grid import Intervals
from jaxephys.spikes.report.group_bars import draw_group_bars
from jaxephys.spikes.report.recordings import drawn_recordings, recordings_by_domain, recordings_table
from jaxephys.spikes.report.transfer import MAX_PAIR_TABLES, interval_cell, score_matrix

NOTES = [
    "attended_rate, entropy and awi_row belong to the query bin, received and awi_column to the key bin; "
    "jaxephys/spikes/attribution.py has the formulas. The importance in awi_row and awi_column is the gradient of the loss that the "
    "network was trained with.",
    "uniform: the same correlation for attention that is uniform over all earlier bins. What does not exceed it follows from the "
    "causal mask and slow rates alone.",
    "training spikes: number of spikes of the population in training windows. spikes, forecast and generated are of test windows: the "
    "number of spikes, the number expected one step ahead, and the number predicted one step ahead by the threshold that was chosen on "
    "validation bins, which the paper calls generated data.",
    f"{RUNNING_RATE}: a forecast from each unit's own rate in the window so far. If shuffled units reduce its scores as much as those of "
    "the network, the shuffle has only shown that units differ in rate.",
    "Scores are of the second half of windows that begin without a past; windows and bins are the same for all models. On another "
    "recording, units are paired by channel number. Networks are not calibrated, so that bits per spike, in scores.csv, mean little.",
]
PUBLISHED_SIGNS = {  # Figure 5e and f of Shimono (2026), each at p < .01
    ("awi_row", "training spikes"): "positive",
    ("awi_column", "training spikes"): "negative",
    ("awi_row", "generated"): "not significant",
    ("awi_column", "generated"): "not significant",
}
RANKING_METRICS = ("roc_auc", "roc_auc_within_unit", "average_precision")  # networks are not calibrated here
LOWEST_WEIGHT = 1e-5  # of the maps, whose scale is logarithmic


Analyses = Mapping[str, Mapping[str, Sequence[AttentionAnalysis]]]  # by loss and recording, one per seed


def attention_tables(
    scores: Sequence[Score],
    intervals: Intervals,
    analyses: Analyses,
    recordings: Sequence[Recording],
) -> dict[str, Table]:
    """Make the tables of the analysis of attention.

    Parameters
    ----------
    scores : sequence of Score
        Scores of :func:`jaxephys.spikes.attention_grid.score_altered`.
    intervals : dict
        Intervals over windows.
    analyses : mapping of str to mapping of str to sequence of AttentionAnalysis
        By loss and recording, one per seed.
    recordings : sequence of Recording
        All recordings.

    Returns
    -------
    dict of str to Table
        By heading: scores of altered networks, correlations over the recordings of each domain with three or more, and with up to four
        recordings correlations in each, for each loss; the recordings.
    """
    tables = {}
    variants = [*dict.fromkeys(score.variant for score in scores if score.metric == RANKING_METRICS[0])]
    for metric in RANKING_METRICS:
        heading = f"Altered attention and shuffled units, {in_sentence(metric)}"
        tables[heading] = altered_table(scores, recordings, variants, metric, intervals)
    for loss, of_recordings in analyses.items():
        for domain in dict.fromkeys(recording.domain for recording in recordings):
            members = [recording.name for recording in recordings if recording.domain == domain]
            if len(members) >= MIN_SAMPLES:
                first = {name: of_recordings[name][0] for name in members}
                tables[f"{domain}, {loss}: correlation with rates"] = domain_correlation_table(first)
        for name, of_seeds in of_recordings.items() if len(recordings) <= MAX_PAIR_TABLES else ():
            tables[f"{name}, {loss}: correlation with rates"] = correlation_table(of_seeds)
    return tables | {"Recordings": recordings_table(recordings)}


def attention_headlines(recordings: Sequence[Recording], losses: Sequence[str]) -> list[Headline]:
    """Return the comparisons of the trained layer with layers without attention, for the summary of a report.

    Parameters
    ----------
    recordings : sequence of Recording
        All recordings.
    losses : sequence of str
        Losses that networks are trained with.

    Returns
    -------
    list of Headline
        For each loss and domain one comparison on the recordings of training.
    """
    return [
        Headline(
            "roc_auc",
            variant_name(TRAINED, loss),
            [variant_name("attention: none", loss), variant_name(WITHOUT_ATTENTION, loss), RUNNING_RATE],
            label=f"{domain}, self, {loss}",
            pairs=[(name, name) for name in names],
        )
        for loss in losses
        for domain, names in recordings_by_domain(recordings).items()
    ]


def attention_figures(
    folder: Path,
    scores: Sequence[Score],
    intervals: Intervals,
    analyses: Analyses,
    recordings: Sequence[Recording],
    shares: Sequence[float],
) -> dict[str, Path]:
    """Draw the figures of the analysis of attention.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    scores : sequence of Score
        As in `attention_tables`.
    intervals : dict
        As in `attention_tables`.
    analyses : mapping of str to mapping of str to sequence of AttentionAnalysis
        As in `attention_tables`.
    recordings : sequence of Recording
        All recordings.
    shares : sequence of float
        Fractions of a window in which units are shuffled.

    Returns
    -------
    dict of str to Path
        By caption: for each loss scores of altered networks, and the attention in up to four recordings, or in the first of each domain.
    """
    rates = [RUNNING_RATE, *(shuffled_name(RUNNING_RATE, share) for share in shares)]
    figures = {}
    for loss, of_recordings in analyses.items():
        shuffled = [shuffled_name(TRAINED, share) for share in shares]
        networks = [TRAINED, "attention: none", WITHOUT_ATTENTION, *shuffled]
        variants = [variant_name(name, loss) for name in networks]
        options: dict = {"intervals": intervals, "name": f"altered_{loss}"}
        figure = draw_altered_scores(folder, scores, recordings, variants, rates, **options)
        figures[f"{loss}: ROC AUC without attention and with shuffled units"] = figure
        for name in drawn_recordings(recordings):
            of_seeds = of_recordings[name]
            figure = draw_attention_analysis(folder, f"{name}_{loss}", of_seeds[0])
            figures[f"{name}, {loss}: attention"] = figure
    return figures


def correlation_table(analyses: Sequence[AttentionAnalysis]) -> Table:
    """Summarize the correlations of attention measures with rates of the population in one recording.

    Parameters
    ----------
    analyses : sequence of AttentionAnalysis
        One per seed, of the same windows.

    Returns
    -------
    Table
        One row per measure and rate; t tests are over windows, in each of which the seeds are averaged.
    """
    correlations = {
        key: tuple(np.mean([analysis.correlations[key][i] for analysis in analyses], axis=0) for i in range(2))
        for key in analyses[0].correlations
    }
    n_windows = max(len(r) for r, _ in correlations.values())
    note = (
        f"Pearson's r over the bins of a window: mean over up to {n_windows} windows, seeds averaged first. p: t tests of the Fisher "
        f"transforms over windows, which are not independent of each other; * marks p < {SIGNIFICANCE:g}."
    )
    return _test_table(correlations, note)


def domain_correlation_table(analyses: Mapping[str, AttentionAnalysis]) -> Table:
    """Summarize the correlations of attention measures with rates over the recordings of a domain.

    Parameters
    ----------
    analyses : mapping of str to AttentionAnalysis
        Analysis of the first seed of each recording.

    Returns
    -------
    Table
        One row per measure and rate; t tests are over recordings.
    """
    keys = next(iter(analyses.values())).correlations
    correlations = {
        key: tuple(
            np.array([mean_correlation(analysis.correlations[key][i]) for analysis in analyses.values()])
            for i in range(2)
        )
        for key in keys
    }
    note = (
        f"Mean over {len(analyses)} recordings, windows averaged first. p: t tests of the Fisher transforms over recordings, if there "
        f"are {MIN_SAMPLES} or more; * marks p < {SIGNIFICANCE:g}."
    )
    return _test_table(correlations, note)


def altered_table(
    scores: Sequence[Score],
    recordings: Sequence[Recording],
    variants: Sequence[str],
    metric: str,
    intervals: Intervals | None = None,
) -> Table:
    """Summarize scores with altered attention and shuffled units, for networks on their own and on other recordings.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all variants.
    recordings : sequence of Recording
        All recordings.
    variants : sequence of str
        Names of the variants, one row each.
    metric : str
        Metric.
    intervals : dict, optional
        Intervals over windows, which are shown where a group is one pair.

    Returns
    -------
    Table
        Mean and standard deviation over the pairs of each group, seeds averaged first.
    """
    names = [recording.name for recording in recordings]
    columns = {"model": [Cell(variant) for variant in variants]}
    for group, pairs in altered_groups(recordings).items():
        columns[f"{group} ({len(pairs)})"] = []
        for variant in variants:
            matrix = score_matrix(scores, variant, metric, names)
            values = np.array([matrix[names.index(i), names.index(j)] for i, j in pairs])
            mean = format_mean_sd(*mean_sd(values[np.isfinite(values)]))
            interval = (intervals or {}).get((*pairs[0], variant, metric)) if len(pairs) == 1 else None
            columns[f"{group} ({len(pairs)})"].append(interval_cell(interval, ".3f", mean))
    notes = [
        f"{metric_label(metric)}, mean ± sd over pairs (trained on -> tested on), whose number is in brackets. Of a single pair: the "
        "first seed and its 95 % interval over resampled windows."
    ]
    return Table(columns, notes)


def draw_altered_scores(
    folder: Path,
    scores: Sequence[Score],
    recordings: Sequence[Recording],
    variants: Sequence[str],
    baselines: Sequence[str],
    *,
    metric: str = "roc_auc",
    intervals: Intervals | None = None,
    name: str,
) -> Path:
    """Draw scores with altered attention and shuffled units, by group of pairs.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    scores : sequence of Score
        Scores of all variants.
    recordings : sequence of Recording
        All recordings.
    variants : sequence of str
        Names of the networks to draw.
    baselines : sequence of str
        Names of the running rates, in gray.
    metric : str, default "roc_auc"
        Metric.
    intervals : dict, optional
        Intervals over windows, which are drawn where a group is one pair.
    name : str
        Name of the files.

    Returns
    -------
    Path
        The figure; a CSV file with the drawn numbers is written beside it.
    """
    names = [recording.name for recording in recordings]
    matrices = {variant: score_matrix(scores, variant, metric, names) for variant in (*variants, *baselines)}
    groups = altered_groups(recordings)
    return draw_group_bars(
        folder, matrices, names, groups, metric, baselines=baselines, block_intervals=intervals, name=name
    )


@matplotlib.rc_context(STYLE)
def draw_attention_analysis(folder: Path, name: str, analysis: AttentionAnalysis) -> Path:
    """Draw the attention of a few bins, the same weighted by importance, its two sides beside the rate, and the profile over lags.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    name : str
        Name of the recording and of the network, for the files.
    analysis : AttentionAnalysis
        Result of :func:`jaxephys.spikes.attention_analysis.analyze_attention`.

    Returns
    -------
    Path
        The figure; a CSV file with the profile and the sides is written beside it.
    """
    figure = Figure(figsize=(7.2, 6.8), layout="constrained")
    (top_left, top_right), (bottom_left, bottom_right) = figure.subplots(2, 2)
    _draw_map(top_left, analysis.map, "Attention weight, mean over heads")
    _draw_map(top_right, analysis.awi_map / max(analysis.awi_map.max(), 1e-30), "Attention weighted by importance")
    rows = _draw_sides(bottom_left, analysis) + _draw_profile(bottom_right, analysis)
    return save_figure(figure, folder, f"attention_{name}", ("panel", "bin or lag", "curve", "value"), rows)


def _test_table(correlations: Mapping[tuple[str, str], tuple], note: str) -> Table:
    """Arrange mean correlations, those of uniform attention, and p values of t tests."""
    names = ("side", "measure", "rate", "published", "r", "p", "r, uniform", "p of the difference")
    columns: dict[str, list[Cell]] = {name: [] for name in names}
    for rate, (measure, side) in product(RATES, MEASURES.items()):
        r, uniform = correlations[measure, rate]
        texts = (
            side,
            measure,
            rate,
            PUBLISHED_SIGNS.get((measure, rate), EMPTY),
            _format(mean_correlation(r), "+.3f"),
            _format_p(t_test_correlations(r)),
            _format(mean_correlation(uniform), "+.3f"),
            _format_p(t_test_correlations(r, uniform)),
        )
        for heading, text in zip(names, texts, strict=True):
            columns[heading].append(Cell(text))
    return Table(columns, [note])


def _format(value: float, number: str) -> str:
    return format(value, number) if np.isfinite(value) else EMPTY


def _format_p(p_value: float) -> str:
    return _format(p_value, ".2g") + ("*" if p_value < SIGNIFICANCE else "")


def _draw_map(axes: Axes, matrix: Float[np.ndarray, "time key"], title: str) -> None:
    visible = np.tril(np.ones_like(matrix, bool)) if not np.triu(matrix, 1).any() else np.ones_like(matrix, bool)
    shown = np.where(visible, np.log10(np.maximum(matrix, LOWEST_WEIGHT)), np.nan)
    image = axes.imshow(shown, cmap="cividis", interpolation="nearest")
    axes.set(xlabel="Key bin", ylabel="Query bin", title=title)
    figure = axes.get_figure()
    assert figure is not None
    label = "log10 weight" if "importance" not in title else "log10 of the share of the largest"
    figure.colorbar(image, ax=axes, shrink=0.85).set_label(label)


def _draw_sides(axes: Axes, analysis: AttentionAnalysis) -> list[tuple]:
    """Draw both sums of the weighted attention and the spikes of each bin, relative to their means; return the numbers."""
    bins = np.arange(EARLY_BINS, min(EARLY_BINS + MAP_BINS, analysis.n_bins))
    labels = {
        "spikes": ("spikes of the population", GREY),
        "awi_row": ("weighted attention, query side", PALETTE[0]),
        "awi_column": ("weighted attention, key side", PALETTE[1]),
    }
    rows = []
    for key, (label, color) in labels.items():
        values = analysis.first_window[key][bins]
        relative = values / max(float(values.mean()), 1e-30)
        if key == "spikes":
            axes.fill_between(bins, relative, step="mid", color=color, alpha=0.35, linewidth=0, label=label)
        else:
            axes.plot(bins, relative, color=color, linewidth=1.2, label=label)
        rows += [("sides", int(index), label, float(value)) for index, value in zip(bins, relative, strict=True)]
    axes.set(
        xlabel="Bin of the first test window",
        ylabel="Value divided by its mean",
    )
    axes.set_title("Weighted attention and the rate", pad=44)  # above the legend
    axes.margins(x=0.01)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(0, 1.3 * max(row[3] for row in rows))
    axes.legend(fontsize=7.5, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=1, borderaxespad=0.2)  # above the curves
    return rows


def _draw_profile(axes: Axes, analysis: AttentionAnalysis) -> list[tuple]:
    """Draw the mean weight by lag beside that of uniform attention; return the numbers."""
    profile = analysis.lag_profile
    lags, uniform = np.arange(1, len(profile)), uniform_lag_profile(analysis.n_bins, len(profile))
    axes.plot(lags, profile[1:], color=PALETTE[0], linewidth=3, alpha=0.6, label="trained")  # may coincide
    axes.plot(lags, uniform[1:], color="black", linestyle="--", linewidth=1, label="uniform")
    axes.plot([1], [profile[0]], "o", color=PALETTE[1], label="own bin, drawn at lag 1")
    axes.set(xscale="log", xlabel="Lag (bins)", ylabel="Mean attention weight", title="Attention by lag")
    axes.legend(fontsize=7.5)
    return [
        ("lags", lag, name, float(value))
        for name, values in (("attention", profile), ("uniform", uniform))
        for lag, value in enumerate(values)
    ]
