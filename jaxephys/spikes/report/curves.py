"""ROC and precision-recall curves of spike predictions, from histograms of logits on test bins.

The threshold whose point is marked was chosen on validation bins; nothing is chosen on the bins that the curves are of.
Start with :func:`representative_pairs`, :func:`rank_bins` and :func:`draw_ranking_curves`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Real
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxephys.reporting.plots import GREY, PALETTE, STYLE, save_figure
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.streaming_scores import HISTOGRAM_BINS, StreamingCounts, areas, histogram_bin, histogram_logit

RATE_BASELINE = "training rate"
RESOLUTION = 400  # points of a curve along each axis, about
LOWEST_PRECISION = (
    0.01  # lower end of the axis of precision, relative to the share of bins with a spike: room for the legend
)
DASHES = ("--", ":", "-.")
CAPTION = "ROC and precision-recall curves on test bins, pooled over units; the first recording of each domain"
NOTE = (
    "Curves of the first seed. Dot: threshold chosen on validation bins of the training recording (best recall minus false positive "
    "rate with at most 5 false positives in 1,000 silent bins). Legend: area under the curve."
)


class RecordingPair(NamedTuple):
    """A training and a test recording, which represent a group of pairs.

    Parameters
    ----------
    group : str
        Name of the group, such as "in vitro, self" or "in vitro -> in vivo".
    train_on, test_on : str
        Names of the recordings.
    """

    group: str
    train_on: str
    test_on: str


class RankedBins(NamedTuple):
    """Predictions of a model on the test bins of a recording, pooled over units.

    Parameters
    ----------
    pair : RecordingPair
        The recordings.
    model : str
        Name of the model.
    histogram : array of shape (histogram bins, 2)
        Number of silent and spiking bins by logit.
    threshold : float or None
        Logit from which on a spike is predicted; None for a model without one.
    """

    pair: RecordingPair
    model: str
    histogram: Real[np.ndarray, "histogram_bin 2"]
    threshold: float | None = None


class CurvePoints(NamedTuple):
    """Points of a ROC and of a precision-recall curve, from the highest threshold to the lowest.

    Parameters
    ----------
    logit : float array of shape (points,)
        Lowest logit that is counted as a predicted spike.
    false_positive_rate, recall, precision : float array of shape (points,)
        Share of silent bins and of spikes that are predicted as spikes, and share of predicted spikes that are spikes.
    """

    logit: Float[np.ndarray, "histogram_bin"]
    false_positive_rate: Float[np.ndarray, "histogram_bin"]
    recall: Float[np.ndarray, "histogram_bin"]
    precision: Float[np.ndarray, "histogram_bin"]


def representative_pairs(recordings: Sequence[Recording], *, transfer: bool = True) -> list[RecordingPair]:
    """Choose pairs of recordings whose curves are drawn: the first recording of each domain, whatever the scores.

    Parameters
    ----------
    recordings : sequence of Recording
        All recordings.
    transfer : bool, default True
        Also the pairs of the first recordings of two domains.

    Returns
    -------
    list of RecordingPair
        Each recording with itself, then with the other.
    """
    first: dict[str, str] = {}
    for recording in recordings:
        first.setdefault(recording.domain, recording.name)
    pairs = [RecordingPair(f"{domain}, self", name, name) for domain, name in first.items()]
    if transfer:
        pairs += [RecordingPair(f"{a} -> {b}", first[a], first[b]) for a, b in permutations(first, 2)]
    return pairs


def rank_bins(
    pairs: Sequence[RecordingPair],
    train_on: str,
    test_on: str,
    models: Mapping[str, StreamingCounts],
    thresholds: Mapping[str, float] | None = None,
) -> list[RankedBins]:
    """Keep the histograms of models on two recordings, if their curves are to be drawn.

    Parameters
    ----------
    pairs : sequence of RecordingPair
        Pairs whose curves are drawn.
    train_on, test_on : str
        Names of the recordings.
    models : mapping of str to StreamingCounts
        Counts by name of the model, without a run axis.
    thresholds : mapping of str to float, optional
        Logits from which on a spike is predicted, chosen on validation bins, of the models that have one.

    Returns
    -------
    list of RankedBins
        One per model; empty if the recordings are not among the pairs.
    """
    return [
        RankedBins(pair, name, np.asarray(counts.histogram).sum((0, 1)), (thresholds or {}).get(name))
        for pair in pairs
        if (pair.train_on, pair.test_on) == (train_on, test_on)
        for name, counts in models.items()
    ]


def rank_by_training_rate(pair: RecordingPair, recording: Recording) -> RankedBins:
    """Rank the test bins of a recording by the constant rate of each unit in its training bins.

    Parameters
    ----------
    pair : RecordingPair
        The recording with itself.
    recording : Recording
        The recording.

    Returns
    -------
    RankedBins
        The baseline, without a threshold.
    """
    n_train, n_test = (stop - start for start, stop in (recording.span("train"), recording.span("test")))
    rate = np.clip(recording.counts("train"), 1, n_train - 1) / n_train
    index = np.asarray(histogram_bin(np.log(rate / (1 - rate)), HISTOGRAM_BINS))
    spikes = recording.counts("test")
    histogram = np.zeros((HISTOGRAM_BINS, 2), np.int64)
    np.add.at(histogram, index, np.stack([n_test - spikes, spikes], axis=1))
    return RankedBins(pair, RATE_BASELINE, histogram)


def curve_points(histogram: Real[np.ndarray, "histogram_bin 2"]) -> CurvePoints:
    """Compute the points of both curves, one per bin of the histogram that holds anything.

    Parameters
    ----------
    histogram : array of shape (histogram bins, 2)
        Number of silent and spiking bins by logit, at least one of each.

    Returns
    -------
    CurvePoints
        The points.
    """
    above = histogram[::-1].cumsum(axis=0)
    used = histogram[::-1].any(axis=1)
    false_positives, true_positives = above[used].T
    logit = histogram_logit(np.arange(len(histogram), dtype=float), len(histogram))[::-1][used]
    precision = true_positives / (true_positives + false_positives)
    return CurvePoints(logit, false_positives / above[-1, 0], true_positives / above[-1, 1], precision)


def operating_point(points: CurvePoints, threshold: float) -> tuple[float, float, float]:
    """Find the point of a threshold.

    Parameters
    ----------
    points : CurvePoints
        Points of a model.
    threshold : float
        Logit from which on a spike is predicted.

    Returns
    -------
    false_positive_rate, recall, precision : float
        All 0, 0 and nan if no logit reaches the threshold.
    """
    reached = np.flatnonzero(
        points.logit >= threshold - 1e-6 * abs(threshold)
    )  # the threshold may have been stored as float32
    if not len(reached):
        return 0.0, 0.0, float("nan")
    last = reached[-1]
    return float(points.false_positive_rate[last]), float(points.recall[last]), float(points.precision[last])


@matplotlib.rc_context(STYLE)
def draw_ranking_curves(
    folder: Path,
    ranked: Sequence[RankedBins],
    *,
    baselines: Sequence[str] = (RATE_BASELINE,),
    published: Mapping[str, str] | None = None,
    name: str = "roc_precision_recall",
) -> Path:
    """Draw a ROC curve beside a precision-recall curve for each pair of recordings, one below the other.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    ranked : sequence of RankedBins
        Models and baselines, each pair with the same ones.
    baselines : sequence of str
        Models to draw in gray; the others have colors.
    published : mapping of str to str, optional
        Published ROC AUC by name of the group, which is written into the legend.
    name : str, default "roc_precision_recall"
        Name of the files.

    Returns
    -------
    Path
        The figure; a CSV file with the drawn points is written beside it.
    """
    pairs = sorted(dict.fromkeys(one.pair for one in ranked), key=lambda pair: pair.train_on != pair.test_on)
    models = [model for model in dict.fromkeys(one.model for one in ranked) if model not in baselines]
    styles = {model: (PALETTE[i % len(PALETTE)], "-") for i, model in enumerate(models)}
    styles |= {model: (GREY, DASHES[i % len(DASHES)]) for i, model in enumerate(baselines)}
    figure = Figure(figsize=(7.0, 0.7 + 3.1 * len(pairs)), layout="constrained")
    rows = []
    for (roc, precision_recall), pair in zip(figure.subplots(len(pairs), 2, squeeze=False), pairs, strict=True):
        of_pair = [one for one in ranked if one.pair == pair]
        rows += [row for one in of_pair for row in _draw_model(roc, precision_recall, one, *styles[one.model])]
        _label_panels(roc, precision_recall, pair, of_pair[0].histogram, (published or {}).get(pair.group))
    columns = ("model", "train_on", "test_on", "drawn as", "logit", "false_positive_rate", "recall", "precision")
    return save_figure(figure, folder, name, columns, rows, NOTE)


def _draw_model(roc: Axes, precision_recall: Axes, one: RankedBins, color: str, dash: str) -> list[tuple]:
    """Draw both curves of a model and the point of its threshold; return the numbers."""
    points = curve_points(one.histogram)
    step = np.floor(RESOLUTION * np.stack([points.false_positive_rate, points.recall]))
    kept = np.append(np.diff(step, axis=1).any(axis=0), True)  # the last point of each step, and the last of all
    shown = CurvePoints(*(values[kept] for values in points))
    auc, ap = areas(one.histogram)
    width = 1.2 if color == GREY else 1.7
    x, y = np.append(0, shown.false_positive_rate), np.append(0, shown.recall)
    roc.plot(x, y, dash, color=color, linewidth=width, label=f"{one.model} {auc:.3f}")
    hit = shown.precision > 0  # the axis is logarithmic
    style: dict[str, Any] = dict(color=color, linewidth=width, label=f"{one.model} {ap:.3f}")
    precision_recall.plot(shown.recall[hit], shown.precision[hit], dash, **style)
    key = one.model, one.pair.train_on, one.pair.test_on
    rows = [(*key, "curve", *point) for point in zip(*shown, strict=True)]
    if one.threshold is not None:
        false_positive_rate, recall, precision = operating_point(points, one.threshold)
        marker: dict[str, Any] = dict(
            color=color, markersize=7, markeredgecolor="black", markeredgewidth=0.8, clip_on=False, zorder=4
        )
        roc.plot([false_positive_rate], [recall], "o", **marker)
        if precision > 0:  # the axis is logarithmic
            precision_recall.plot([recall], [precision], "o", **marker)
        rows.append((*key, "threshold", one.threshold, false_positive_rate, recall, precision))
    return rows


def _label_panels(
    roc: Axes,
    precision_recall: Axes,
    pair: RecordingPair,
    histogram: Real[np.ndarray, "histogram_bin 2"],
    published: str | None,
) -> None:
    """Draw what a ranking by chance has, and write titles, axes and legends."""
    share = float(histogram[:, 1].sum() / histogram.sum())
    roc.plot([0, 1], [0, 1], color="black", linewidth=0.8, alpha=0.5, label="chance 0.500")
    precision_recall.axhline(
        share, color="black", linewidth=0.8, alpha=0.5, label=f"share of bins with a spike {share:.4f}"
    )
    if published is not None:
        roc.plot([], [], " ", label=f"published {published}")
    names = pair.test_on if pair.train_on == pair.test_on else f"{pair.train_on}\n-> {pair.test_on}"
    n_spikes, n_bins = int(histogram[:, 1].sum()), int(histogram.sum())
    roc.set_title(f"{pair.group}\n{names}", fontsize=9)
    precision_recall.set_title(f"n = {n_bins:,} bins\nwith {n_spikes:,} spikes", fontsize=9)
    roc.set(xlabel="False positive rate", ylabel="Recall", xlim=(0, 1), ylim=(0, 1))
    precision_recall.set(
        xlabel="Recall", ylabel="Precision", xlim=(0, 1), yscale="log", ylim=(LOWEST_PRECISION * share, 1)
    )
    corners: dict[Axes, Any] = {roc: "lower right", precision_recall: "lower left"}
    for axes, corner in corners.items():
        axes.grid(True)
        axes.legend(loc=corner, fontsize=7, handlelength=1.6, frameon=True, framealpha=0.85, edgecolor="none")
