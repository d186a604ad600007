"""Tables of a report: models against metrics, classes against models, and differences from a reference model.

`model_table` and `class_table` make a `Table` from the score table. `print_table` prints it on a terminal, and
`jaxephys.reporting.markdown.table_to_markdown` writes it into a report.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from jaxephys.evaluation.intervals import PairedTest, corrected_test
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.labels import LOWER_IS_BETTER, in_sentence, metric_label
from jaxephys.reporting.score_table import RunKey, Summary, check_known, group_scores, summarize

EMPTY = "-"
TOO_FEW = "Too few runs for an interval of the difference from"
MAX_SENTENCES = 8  # models that are each compared in a sentence of their own


class Cell(NamedTuple):
    """A cell of a table.

    Parameters
    ----------
    text : str
        Text of the cell.
    bold : bool, default False
        Whether the text is emphasized, as the best of its column.
    """

    text: str
    bold: bool = False


class Table(NamedTuple):
    """A table with the notes below it.

    Parameters
    ----------
    columns : dict of str to list of Cell
        Cells by heading, all columns of the same length.
    notes : list of str
        Sentences below the table.
    """

    columns: dict[str, list[Cell]]
    notes: list[str]


class Difference(NamedTuple):
    """Difference in one metric between a model and a reference model.

    Parameters
    ----------
    model, reference : str
        Names of the two models.
    metric : str
        Key of the metric.
    test : PairedTest or None
        Mean difference and interval over the runs that both have; None if there are fewer than two.
    n_shared : int
        Number of runs with a finite value of both.
    unpaired : list of (int, int)
        Seed and fold of the runs that only one of them has.
    """

    model: str
    reference: str
    metric: str
    test: PairedTest | None
    n_shared: int
    unpaired: list[RunKey]

    @property
    def better(self) -> str | None:
        """Name of the better model; None if the interval contains 0 or there is none."""
        if self.test is None or self.test.low <= 0 <= self.test.high:
            return None
        return self.model if (self.test.difference > 0) != (self.metric in LOWER_IS_BETTER) else self.reference

    @property
    def text(self) -> str:
        """Mean difference and interval, such as ``"+0.012 [-0.003, +0.027]"``; ``"-"`` if there are too few runs."""
        if self.test is None:
            return EMPTY
        return f"{self.test.difference:+.3f} [{self.test.low:+.3f}, {self.test.high:+.3f}]"


def format_mean_sd(mean: float, sd: float) -> str:
    """Return a mean and standard deviation with three decimals.

    Parameters
    ----------
    mean, sd : float
        Mean and standard deviation; NaN if undefined.

    Returns
    -------
    str
        Text such as ``"0.812 ± 0.010"``; without a standard deviation the mean alone, without a mean ``"-"``.

    Examples
    --------
    >>> format_mean_sd(0.8123, 0.0099), format_mean_sd(0.8123, float("nan"))
    ('0.812 ± 0.010', '0.812')
    """
    if math.isnan(mean):
        return EMPTY
    return f"{mean:.3f}" if math.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"


def summary_cell(summary: Summary | None, bold: bool = False) -> Cell:
    """Return the cell of a table that shows mean and standard deviation.

    Parameters
    ----------
    summary : Summary, optional
        Mean and standard deviation; the cell shows "-" without it.
    bold : bool, default False
        Print the cell in bold.

    Returns
    -------
    Cell
        The cell.
    """
    return Cell(EMPTY, bold) if summary is None else Cell(format_mean_sd(summary.mean, summary.sd), bold)


def model_table(
    scores: Iterable[Score],
    metrics: Sequence[str],
    published: Mapping[str, Mapping[str, str]] | None = None,
    reference: str | None = None,
    *,
    split: str = "test",
    n_train: int | None = None,
    ranked: bool = True,
) -> Table:
    """Return a table with one row per model and one column per metric.

    Parameters
    ----------
    scores : iterable of Score
        Scores of one data set.
    metrics : sequence of str
        Metric keys, in the order of the columns.
    published : mapping of str to mapping of str to str, optional
        Published numbers by model and metric, shown as they are in a column beside ours.
    reference : str, optional
        Model from which the paired difference of every other model in the first metric is shown.
    split : str, default "test"
        Part of the rows.
    n_train : int, optional
        Number of training rows, for the interval of the difference. By default it is taken from the scores of the split
        ``"train"``.
    ranked : bool, default True
        Whether the best means of each column are bold.

    Returns
    -------
    Table
        Mean ± standard deviation over seeds, and notes on seeds, missing values and differences in words.

    Raises
    ------
    ValueError
        If a metric, model or split does not exist, or ``n_train`` is needed.
    """
    scores, published = list(scores), published or {}
    summaries = summarize(scores, split=split)
    check_known("metric", metrics, {metric for _, metric in summaries})
    check_known("metric", {name for row in published.values() for name in row}, set(metrics))
    models = list(dict.fromkeys([*(model for model, _ in summaries), *published]))

    columns = {"Model": [Cell(model) for model in models]}
    for metric in metrics:
        means = _metric_column(summaries, metric, models)
        columns[metric_label(metric)] = means if ranked else [Cell(cell.text) for cell in means]
        quoted = [Cell(published.get(model, {}).get(metric, EMPTY)) for model in models]
        if any(cell.text != EMPTY for cell in quoted):
            columns[f"{metric_label(metric)}, published"] = quoted
    notes = _notes({key: value for key, value in summaries.items() if key[1] in metrics}, ranked)
    if reference is not None:
        check_known("model", [reference], {model for model, _ in summaries})
        differences = [
            difference(scores, metrics[0], model, reference, split=split, n_train=n_train)
            for model in models
            if model != reference and (model, metrics[0]) in summaries
        ]
        texts = {found.model: found.text for found in differences} | {reference: "reference"}
        heading = f"{metric_label(metrics[0])} minus {reference} [95 % interval]"
        columns[heading] = [Cell(texts.get(model, EMPTY)) for model in models]
        notes += _difference_notes(differences, separate=len(models) <= MAX_SENTENCES)
        notes.append("Intervals: corrected resampled t test (Nadeau and Bengio 2003), 95 %.")
    return Table(columns, notes)


def class_table(
    scores: Iterable[Score],
    classes: Sequence[str],
    models: Sequence[str],
    measures: Sequence[str] = ("precision", "recall", "f1"),
    *,
    split: str = "test",
) -> Table:
    """Return a table with one row per class and one column per measure and model.

    Parameters
    ----------
    scores : iterable of Score
        Scores with metrics named ``"<measure> <class>"``.
    classes : sequence of str
        Names of the classes, in the order of the rows.
    models : sequence of str
        Models to compare.
    measures : sequence of str, default ("precision", "recall", "f1")
        Measures of a class.
    split : str, default "test"
        Part of the rows.

    Returns
    -------
    Table
        Mean ± standard deviation over seeds.

    Raises
    ------
    ValueError
        If a model or a metric of a class does not exist.
    """
    metrics = {f"{measure} {name}" for measure in measures for name in classes}
    scores = list(scores)
    check_known("metric", metrics, {score.metric for score in scores})
    check_known("model", models, {score.variant for score in scores})
    selected = [score for score in scores if score.metric in metrics and score.variant in models]
    summaries = summarize(selected, split=split)
    columns = {"Class": [Cell(name) for name in classes]}
    for measure in measures:
        rows = [_metric_column(summaries, f"{measure} {name}", models) for name in classes]
        for i, model in enumerate(models):
            columns[f"{metric_label(measure)}, {model}"] = [row[i] for row in rows]
    return Table(columns, [*_notes(summaries), "Bold: the best model for a measure and class."])


def difference(
    scores: Iterable[Score],
    metric: str,
    model: str,
    reference: str,
    *,
    split: str = "test",
    n_train: int | None = None,
) -> Difference:
    """Compare two models on the runs that both have.

    Parameters
    ----------
    scores : iterable of Score
        Scores of one data set.
    metric : str
        Key of the metric.
    model, reference : str
        The two models.
    split : str, default "test"
        Part of the rows.
    n_train : int, optional
        Number of training rows. By default it is taken from the scores of the split ``"train"``.

    Returns
    -------
    Difference
        Test of the mean difference, model minus reference.

    Raises
    ------
    ValueError
        If the number of training rows is unknown.
    """
    scores = [score for score in scores if score.metric == metric]
    runs = group_scores(scores, ("variant",), split)
    ours, theirs = runs.get((model,), {}), runs.get((reference,), {})
    shared = sorted(run for run in ours.keys() & theirs.keys() if math.isfinite(ours[run] + theirs[run]))
    unpaired = sorted((ours.keys() | theirs.keys()) - set(shared))
    test = None
    if len(shared) >= 2:
        a, b = (np.array([values[run] for run in shared]) for values in (ours, theirs))
        test = corrected_test(a, b, *_split_sizes(scores, split, n_train))
    return Difference(model, reference, metric, test, len(shared), unpaired)


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table and its notes on a terminal.

    Parameters
    ----------
    table : Table
        The table.
    console : rich.console.Console, optional
        Where to print; standard output by default. Texts are printed without interpreting rich markup.
    """
    console, grid = console or Console(), RichTable(box=None, pad_edge=False)
    for i, heading in enumerate(table.columns):
        grid.add_column(Text(heading, "bold cyan"), justify="right" if i else "left", overflow="fold")
    for row in zip(*table.columns.values(), strict=True):
        grid.add_row(*(Text(cell.text, "bold green" if cell.bold else "") for cell in row))
    console.print(grid)
    for note in table.notes:
        console.print(Text(note, "dim"))


def _metric_column(summaries: Mapping[tuple, Summary], metric: str, models: Sequence[str]) -> list[Cell]:
    """Return the cells of a metric; all means that print like the best one are bold."""
    values = [summaries.get((model, metric)) for model in models]
    means = [round(value.mean, 3) for value in values if value and math.isfinite(value.mean)]
    best = (min if metric in LOWER_IS_BETTER else max)(means, default=None)
    return [summary_cell(summary, summary is not None and round(summary.mean, 3) == best) for summary in values]


def _notes(summaries: Mapping[tuple, Summary], ranked: bool = True) -> list[str]:
    seeds = {value.n_seeds for value in summaries.values()}
    folds = {value.n_folds for value in summaries.values()}
    note = f"Mean ± standard deviation over {_range(seeds)} seeds" if max(seeds) > 1 else "Mean of one seed"
    notes = [note + (f"; the value of a seed is the mean of its {_range(folds)} folds." if max(folds) > 1 else ".")]
    if lower := sorted({metric for _, metric in summaries} & LOWER_IS_BETTER):
        notes.append(f"Lower is better for {', '.join(in_sentence(metric) for metric in lower)}.")
        if ranked:
            notes[-1] += " Bold: the best mean of a column."
    for (model, metric), value in summaries.items():
        if value.n_missing:
            runs, are = ("run", "is") if value.n_missing == 1 else ("runs", "are")
            notes.append(
                f"{model}: {value.n_missing} {runs} without a finite {in_sentence(metric)} {are} left out of the mean."
            )
    return notes


def _range(counts: set[int]) -> str:
    return f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(*counts)


def _difference_notes(differences: Sequence[Difference], *, separate: bool) -> list[str]:
    """Return the results of the comparisons in words, one sentence per model or, for many models, per result."""
    notes, models = [], {"Better than": [], "Worse than": [], "Not clearly different from": [], TOO_FEW: []}
    for found in differences:
        model, reference, metric = found.model, found.reference, in_sentence(found.metric)
        if found.unpaired:
            runs = [f"seed {seed}, fold {fold}" for seed, fold in found.unpaired[:3]]
            runs += [f"{len(found.unpaired) - 3} more"] if len(found.unpaired) > 3 else []
            runs = "; ".join(runs)
            notes.append(f"The comparison of {model} and {reference} leaves out runs that one of them lacks: {runs}.")
        if found.test is None:
            result = TOO_FEW
            sentence = f"{model} and {reference} have too few runs in common ({found.n_shared}) for an interval."
        else:
            result, sentence = {
                model: ("Better than", f"{model} is better than {reference}"),
                reference: ("Worse than", f"{reference} is better than {model}"),
                None: ("Not clearly different from", f"{model} and {reference} do not differ clearly"),
            }[found.better]
            sentence += f" in {metric}: difference {found.text} over {found.test.n} paired runs."
        models[result].append(model)
        notes += [sentence] if separate else []
    if separate or not differences:
        return notes
    where = f"{differences[0].reference} in {in_sentence(differences[0].metric)}"
    return [f"{result} {where}: {', '.join(names)}." for result, names in models.items() if names] + notes


def _split_sizes(scores: Iterable[Score], split: str, n_train: int | None) -> tuple[int, int]:
    """Return the mean number of training and of test rows, whose ratio the corrected test needs."""
    rows: dict[str, list[int]] = {}
    for score in scores:
        rows.setdefault(score.split, []).append(score.n)
    if n_train is None and "train" not in rows:
        raise ValueError("a paired test needs n_train, or the metric on the split 'train' as well")
    return n_train or round(np.mean(rows["train"])), round(np.mean(rows[split]))
