"""The published tables beside our scores: what each network was trained with, the ablation as a table and as a figure.

``network_table`` serves every experiment with networks; ``ablation_table`` and ``draw_ablation`` are Tables 4 and 5 of Schwider &
Ramezani (2026), with the scores of the same variants here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxephys.engine.config import TrainConfig
from jaxephys.evaluation.scores import Score
from jaxephys.patchseq.grid import NetworkRecord
from jaxephys.patchseq.preprocessing import Scale, fit_log_z_score, fit_quantiles, fit_signed_log, fit_z_score
from jaxephys.patchseq.published import COMPONENT_FOREST, PublishedScore, PublishedTable
from jaxephys.patchseq.task import ABLATION, Variant
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.plots import GREY, PALETTE, STYLE, draw_legend, save_figure
from jaxephys.reporting.score_table import Summary, summarize
from jaxephys.reporting.tables import EMPTY, Cell, Table, summary_cell

METRICS = ("macro_f1", "accuracy")
RULES = {"as published": "published ", "as released": "released ", "our encoder": ""}  # prefix of the names of models
PAPER = "paper"
MARKERS = {PAPER: "D", "as published": "o", "as released": "s", "our encoder": "^"}
SCALES: dict[Callable[[np.ndarray], Scale], str] = {
    fit_z_score: "z-scores",
    fit_log_z_score: "logarithm of skewed positive features, z-scores",
    fit_signed_log: "signed logarithms",
    fit_quantiles: "normal quantiles",
}


def network_table(records: Mapping[str, NetworkRecord]) -> Table:
    """Return the network, the features, the loss and the optimizer of each row of a report.

    Parameters
    ----------
    records : mapping of str to NetworkRecord
        What each model was trained with.

    Returns
    -------
    Table
        One row per model.
    """
    columns = {"Model": [Cell(model) for model in records]}
    descriptions = {
        "Network": [describe_pooling(record) for record in records.values()],
        "Features": [SCALES[record.fit_scale] for record in records.values()],
        "Loss": [describe_loss(record.variant) for record in records.values()],
        "Optimizer": [describe_optimizer(record.config) for record in records.values()],
        "Epoch selected by": [_selection(record) for record in records.values()],
    }
    columns |= {heading: [Cell(text) for text in texts] for heading, texts in descriptions.items()}
    return Table(columns, ["Networks with our encoder and multilayer perceptrons also see which values are missing."])


def describe_pooling(record: NetworkRecord) -> str:
    """Return the architecture of a network with its pooling and head.

    Parameters
    ----------
    record : NetworkRecord
        What the network was trained with.

    Returns
    -------
    str
        Such as "published encoder, BiLSTM of 2 x 128, attention, ArcFace head".
    """
    if record.variant is None:
        return record.network
    pooling = "attention" if record.variant.attention else "no attention"
    return f"{record.network}, {pooling}" + ", ArcFace head" * record.variant.arcface


def describe_loss(variant: Variant | None) -> str:
    """Return the loss of a variant in words, with its class weights and synthetic cells.

    Parameters
    ----------
    variant : Variant or None
        The variant; None for the cross-entropy with smoothed labels of the multilayer perceptron.

    Returns
    -------
    str
        Such as "focal loss (gamma 2), effective-number weights, SMOTE".
    """
    if variant is None:
        return "cross-entropy with smoothed labels"
    weights = {"none": "", "inverse": ", inverse-frequency weights", "effective": ", effective-number weights"}
    loss = f"focal loss (gamma {variant.gamma:g})" if variant.gamma else "cross-entropy"
    return loss + weights[variant.weights] + ", SMOTE" * variant.smote


def describe_optimizer(config: TrainConfig) -> str:
    """Return the optimizer of a config in words.

    Parameters
    ----------
    config : TrainConfig
        Settings of a training.

    Returns
    -------
    str
        Such as "AdamW, rate 0.001, weight decay 0.0001, gradients clipped to 2".

    Examples
    --------
    >>> describe_optimizer(TrainConfig(optimizer="adam", weight_decay=0.0, clip_norm=None))
    'Adam, rate 0.001'
    """
    text = f"{'Adam' if config.optimizer == 'adam' else 'AdamW'}, rate {config.learning_rate:g}"
    text += f", weight decay {config.weight_decay:g}" if config.weight_decay else ""
    return text if config.clip_norm is None else f"{text}, gradients clipped to {config.clip_norm:g}"


def _selection(record: NetworkRecord) -> str:
    """The validation score that selects the epoch of a network."""
    name = record.config.monitor
    if name == "selection" and record.variant is not None:
        name = record.variant.selection
    return "validation " + {"macro_f1": "macro-F1", "accuracy": "accuracy"}.get(name, name)


def ablation_table(scores: Sequence[Score], published: PublishedTable | None = None) -> Table:
    """Return the variants of the ablation by encoder and rules, side by side with the published numbers.

    Parameters
    ----------
    scores : sequence of Score
        Test scores.
    published : mapping of str to mapping of str to PublishedScore, optional
        Published scores by variant and metric. With them the forest has a row as well.

    Returns
    -------
    Table
        One row per variant; a column for each metric and each kind of network that was trained.
    """
    rows = [*ABLATION, *([COMPONENT_FOREST] if published else [])]
    summaries, columns = summarize([score for score in scores if score.metric in METRICS]), {}
    for metric in METRICS:
        if published:
            texts = [published[row][metric].text if row in published else EMPTY for row in rows]
            columns[f"{metric_label(metric)}, {PAPER}"] = [Cell(text) for text in texts]
        for rules in RULES:
            values = [summaries.get((_model(row, rules), metric)) for row in rows]
            if any(values):
                columns[f"{metric_label(metric)}, {rules}"] = [summary_cell(value) for value in values]
    notes = ["Every row is one network per split; the ensemble of the attention variant is in the table of all models."]
    if published:
        notes.append(f"{COMPONENT_FOREST} has no encoder; its score here is in the column 'as published'.")
    return Table({"Variant": [Cell(row) for row in rows], **columns}, notes)


@matplotlib.rc_context(STYLE)
def draw_ablation(folder: Path, scores: Sequence[Score], published: PublishedTable) -> Path:
    """Draw the published scores of the ablation and of the forest, and those of the same variants here.

    Parameters
    ----------
    folder : Path
        The run folder.
    scores : sequence of Score
        Test scores of one kind of split.
    published : mapping of str to mapping of str to PublishedScore
        Published scores by variant and metric.

    Returns
    -------
    Path
        The figure, with one panel per metric.
    """
    names = [*ABLATION, COMPONENT_FOREST]
    summaries = summarize([score for score in scores if score.metric in METRICS])
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    rows = []
    for axes, metric in zip(figure.subplots(1, 2, sharey=True, squeeze=False)[0], METRICS, strict=True):
        drawn: dict[str, dict[str, Any]] = {
            PAPER: {name: published[name][metric] for name in names if name in published}
        }
        for rules in RULES:
            found = {name: summaries.get((_model(name, rules), metric)) for name in names}
            drawn[rules] = {name: summary for name, summary in found.items() if summary is not None}
        drawn = {source: values for source, values in drawn.items() if values}
        for index, (source, values) in enumerate(drawn.items()):
            shift = 0.16 * (index - (len(drawn) - 1) / 2)
            _draw_source(axes, source, {names.index(name) + shift: value for name, value in values.items()})
            rows += [(metric, source, name, value.mean, value.sd) for name, value in values.items()]
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel=f"{metric_label(metric)}, test cells", ylim=(len(names) - 0.5, -0.5))
        axes.grid(True, axis="x")
    draw_legend(figure)
    note = "Mean and one standard deviation over seeds. The paper's values are of other cells and features."
    return save_figure(figure, folder, "ablation", ("metric", "rules", "variant", "mean", "sd"), rows, note)


def _draw_source(axes: Axes, source: str, values: Mapping[float, Summary | PublishedScore]) -> None:
    """Draw the scores of one source at their heights, with a bar of one standard deviation where there is one."""
    color = GREY if source == PAPER else PALETTE[list(RULES).index(source)]
    means = [value.mean for value in values.values()]
    sds = np.nan_to_num([value.sd for value in values.values()])
    label = "published numbers" if source == PAPER else f"here, {source}"
    axes.errorbar(means, list(values), xerr=sds, fmt=MARKERS[source], ms=6, capsize=2, color=color, label=label)


def _model(row: str, rules: str) -> str:
    """The name of the model of a row; the forest is trained by the published rules only."""
    if row == COMPONENT_FOREST:
        return COMPONENT_FOREST if rules == "as published" else ""
    return RULES[rules] + row
