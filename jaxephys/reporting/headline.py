"""The main result of an experiment: its question, its comparisons, and a verdict in one sentence.

An experiment describes each comparison by a `Headline` (metric, model, baselines, published value); `summarize_experiment` looks up the
scores and returns the `ReportSummary` with which ``report.md`` and ``report.html`` begin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from jaxephys.evaluation.intervals import Interval, mean_sd
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.labels import LOWER_IS_BETTER, in_sentence
from jaxephys.reporting.pairs import Pair, pair_interval
from jaxephys.reporting.score_table import check_known, group_scores, seed_means, summarize
from jaxephys.reporting.tables import EMPTY, difference, format_mean_sd

FEW_RUNS = 5  # an interval over fewer paired runs is not reliable
BETTER, WORSE, UNCLEAR, TOO_FEW = "better", "worse", "no clear difference", "too few runs for an interval"
Intervals = Mapping[tuple[str, str, str, str], Interval]  # training set, test set, model or "a - b", metric


class Question(NamedTuple):
    """The question of an experiment, and what is published about it.

    Parameters
    ----------
    text : str
        The question, one sentence with a question mark.
    published : str
        What the paper reports, in one sentence, or that it reports no number.
    paper : str
        Citation of the paper.
    """

    text: str
    published: str = "There is no published number for this comparison."
    paper: str = ""


class Headline(NamedTuple):
    """One comparison of the summary: a model of interest, the baselines on the same rows, and the published value.

    Parameters
    ----------
    metric : str
        Key of the metric.
    model : str
        Model of interest, by its name in the score table.
    baselines : sequence of str
        Models to compare it with. The best one is named.
    test_on : str, optional
        Test set, by its name in the score table. By default the scores have only one.
    n_train : int, optional
        Number of training rows, for the interval of the difference.
    published : str, optional
        Published value of the metric.
    label : str, default ""
        What is compared, such as "held out by donor"; by default the test set.
    pairs : sequence of (str, str), optional
        Training and test set of each pair, for models that are tested on several sets: the scores are means over pairs.
    split : str, default "test"
        Part of the rows.
    """

    metric: str
    model: str
    baselines: Sequence[str]
    test_on: str | None = None
    n_train: int | None = None
    published: str | None = None
    label: str = ""
    pairs: Sequence[Pair] | None = None
    split: str = "test"


@dataclass(frozen=True)
class SummaryRow:
    """One comparison of a summary, as texts.

    Parameters
    ----------
    label : str
        What is compared: a test set or a group of pairs; may be empty.
    metric : str
        Name of the metric in words, as within a sentence.
    model, score : str
        Name of our model and its mean ± standard deviation.
    runs : str, default ""
        Number of runs, such as "10 seeds x 5 folds, n = 840".
    published : str, default ""
        Published value; empty if there is none.
    baseline, baseline_score : str, default ""
        Name and score of the best baseline; empty if there is none.
    difference : str, default ""
        Difference of the model from the baseline with its 95 % interval; empty if there is none.
    result : str, default ""
        "better", "worse", "no clear difference" or "too few runs for an interval"; empty without a baseline.
    n_paired : int, default 0
        Number of runs or pairs that the interval is computed from.
    n_train : int, optional
        Number of training rows of a run.
    text : str, default ""
        The comparison in sentences, where it is not one of test scores.
    test_on : str, default ""
        Name of the test set in the score table.
    """

    label: str
    metric: str
    model: str
    score: str
    runs: str = ""
    published: str = ""
    baseline: str = ""
    baseline_score: str = ""
    difference: str = ""
    result: str = ""
    n_paired: int = 0
    n_train: int | None = None
    text: str = ""
    test_on: str = ""

    @property
    def sentences(self) -> str:
        """Score, published value, best baseline and difference in a few sentences."""
        if self.text:
            return self.text
        where = f" on {self.label}" if self.label else ""
        runs = f" ({self.runs})" if self.runs else ""
        text = f"The model {self.model} has a test {self.metric} of {self.score}{where}{runs}."
        if self.published:
            text += f" The published value is {self.published}."
        if self.baseline:
            text += f" The best baseline, {self.baseline}, has {self.baseline_score}."
        if self.difference:
            text += f" Difference: {self.difference} (95 % interval), {self._conclusion}."
        return text

    @property
    def _conclusion(self) -> str:
        better = {BETTER: self.model, WORSE: self.baseline}.get(self.result)
        return f"{better} is better" if better else UNCLEAR


@dataclass(frozen=True)
class ReportSummary:
    """The first part of a report.

    Parameters
    ----------
    question : Question
        The question and what is published.
    rows : list of SummaryRow
        Comparisons, the main one first.
    verdict : str
        The result in one sentence.
    warnings : list of str
        What limits the result.
    """

    question: Question = field(default_factory=lambda: Question(""))
    rows: Sequence[SummaryRow] = ()
    verdict: str = ""
    warnings: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values, for ``manifest.json``.

        Returns
        -------
        dict of str to object
            Question, verdict, warnings and rows.
        """
        rows = [{name: value for name, value in asdict(row).items() if value not in ("", None, 0)} for row in self.rows]
        return {
            "question": self.question.text,
            "verdict": self.verdict,
            "warnings": [*self.warnings],
            "rows": rows,
        }


def summarize_experiment(
    scores: Iterable[Score],
    question: Question,
    headlines: Sequence[Headline | SummaryRow],
    *,
    intervals: Intervals | None = None,
    warnings: Sequence[str] = (),
) -> ReportSummary:
    """Look up the scores of all comparisons and draw the conclusion.

    Parameters
    ----------
    scores : iterable of Score
        Scores of all models.
    question : Question
        The question of the experiment.
    headlines : sequence of Headline or SummaryRow
        Comparisons, the main one first. Rows of other quantities than scores are given as `SummaryRow`.
    intervals : mapping, optional
        Intervals over time blocks or test rows, by training set, test set, model (or "a - b") and metric. Where there is one, it
        replaces the interval over runs.
    warnings : sequence of str
        What limits the result.

    Returns
    -------
    ReportSummary
        The summary. Without comparisons its verdict counts models, seeds and folds.

    Raises
    ------
    ValueError
        If a model, a metric or a test set of a headline has no scores.
    """
    scores = list(scores)
    rows = [summarize_headline(scores, row, intervals) if isinstance(row, Headline) else row for row in headlines]
    warnings = list(warnings)
    few = [row.n_paired for row in rows if row.difference and 0 < row.n_paired < FEW_RUNS]
    if few:
        warnings.append(f"An interval comes from {min(few)} paired runs only: it is not reliable below {FEW_RUNS}.")
    return ReportSummary(question, rows, verdict_sentence(rows) or overview_sentence(scores), warnings)


def summarize_headline(scores: Sequence[Score], headline: Headline, intervals: Intervals | None = None) -> SummaryRow:
    """Compare a model with the best of its baselines.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models.
    headline : Headline
        The comparison.
    intervals : mapping, optional
        Intervals over time blocks, see `summarize_experiment`.

    Returns
    -------
    SummaryRow
        Scores, difference with its interval, and result.

    Raises
    ------
    ValueError
        If a model, the metric or the test set has no scores.
    """
    selected = [s for s in scores if s.metric == headline.metric and headline.test_on in (None, s.test_on)]
    if headline.pairs is not None:
        selected = [score for score in selected if (score.train_on, score.test_on) in set(headline.pairs)]
    known = {score.variant for score in selected if score.split == headline.split}
    check_known("model", [headline.model, *headline.baselines], known)
    label = headline.label or (f"the test set {headline.test_on}" if headline.test_on else "")
    if headline.pairs is not None and len({(score.train_on, score.test_on) for score in selected}) > 1:
        return _summarize_pairs(selected, headline, label)
    return _summarize_runs(selected, headline, label, intervals or {})


def verdict_sentence(rows: Sequence[SummaryRow]) -> str:
    """Return the result of all comparisons in one sentence.

    Parameters
    ----------
    rows : sequence of SummaryRow
        The comparisons.

    Returns
    -------
    str
        The sentence; empty without comparisons.
    """
    if not rows:
        return ""
    if len(rows) == 1 or not any(row.result for row in rows):
        return _verdict_of_row(rows[0])
    counts = {result: sum(row.result == result for row in rows) for result in (BETTER, WORSE, UNCLEAR, TOO_FEW)}
    compared = sum(counts.values())
    models = list(dict.fromkeys(row.model for row in rows if row.result))
    name = models[0] if len(models) == 1 else "Our model"
    texts = {
        BETTER: f"{name} is better than the best baseline in {counts[BETTER]}",
        WORSE: f"the best baseline is better in {counts[WORSE]}",
        UNCLEAR: f"there is no clear difference in {counts[UNCLEAR]}",
        TOO_FEW: f"there are too few runs for an interval in {counts[TOO_FEW]}",
    }
    parts = [text for result, text in texts.items() if counts[result]]
    sentence = f"Of {compared} comparisons: " + ", ".join(parts) + "."
    return sentence


def overview_sentence(scores: Sequence[Score]) -> str:
    """Return a sentence with the numbers of models, seeds and folds that the scores cover.

    Parameters
    ----------
    scores : sequence of Score
        Scores of all models.

    Returns
    -------
    str
        The sentence; empty without scores.
    """
    if not scores:
        return ""
    counts = [
        (len({score.variant for score in scores}), "model"),
        (len({score.seed for score in scores}), "seed"),
        (len({score.fold for score in scores}), "fold"),
    ]
    models, seeds, folds = (f"{count} {word}{'s' * (count != 1)}" for count, word in counts)
    return f"The report covers {models}, {seeds} and {folds}."


def training_size(scores: Sequence[Score], split: str, n_train: int | None) -> int | None:
    """Return the number of training rows of a run, which the corrected interval needs.

    Parameters
    ----------
    scores : sequence of Score
        Scores of one metric and test set.
    split : str
        Part of the rows that is compared.
    n_train : int, optional
        The number, if it is known.

    Returns
    -------
    int or None
        The given number; otherwise that of the scores of the split "train", or with k folds k - 1 times the test rows; None if it
        is unknown.
    """
    if n_train is not None:
        return n_train
    tested = [score for score in scores if score.split == split]
    if train := [score.n for score in scores if score.split == "train"]:
        return round(sum(train) / len(train))
    n_folds = len({score.fold for score in tested})
    return round(sum(score.n for score in tested) / len(tested)) * (n_folds - 1) if n_folds > 1 else None


def _summarize_runs(scores: Sequence[Score], headline: Headline, label: str, intervals: Intervals) -> SummaryRow:
    """Compare on one test set: mean and sd over seeds, interval over runs, or over time blocks for a single run."""
    split, metric = headline.split, headline.metric
    summaries = {model: value for (model, _), value in summarize(scores, split=split).items()}
    ours, tested = summaries[headline.model], [s for s in scores if s.split == split and s.variant == headline.model]
    runs = f"{ours.n_seeds} seed{'s' * (ours.n_seeds != 1)}" + f" x {ours.n_folds} folds" * (ours.n_folds > 1)
    sizes = sorted({score.n for score in tested})
    runs += f", n = {sizes[0]:,}" + f" to {sizes[-1]:,}" * (len(sizes) > 1)
    n_train = training_size(scores, split, headline.n_train)
    row = SummaryRow(label, in_sentence(metric), headline.model, format_mean_sd(ours.mean, ours.sd), runs=runs)
    row = replace(row, published=headline.published or "", n_train=n_train, test_on=tested[0].test_on)
    if not headline.baselines:
        return row
    means = {name: summaries[name].mean for name in headline.baselines}
    best = _best(means, metric)
    row = replace(row, baseline=best, baseline_score=format_mean_sd(summaries[best].mean, summaries[best].sd))
    key = (tested[0].train_on, tested[0].test_on, f"{headline.model} - {best}", metric)
    if (interval := intervals.get(key)) is not None:
        return _with_interval(row, metric, interval, 0)
    if n_train is not None:
        test = difference(scores, metric, headline.model, best, split=split, n_train=n_train).test
        if test is not None:
            return _with_interval(row, metric, Interval(test.difference, test.low, test.high), test.n)
    return replace(row, result=TOO_FEW)


def _summarize_pairs(scores: Sequence[Score], headline: Headline, label: str) -> SummaryRow:
    """Compare over pairs of data sets: seeds are averaged first, and data sets are resampled for the interval."""
    metric, by_model = headline.metric, {}
    for (model, *pair), runs in group_scores(scores, ("variant", "train_on", "test_on"), headline.split).items():
        means = list(seed_means(runs).values())
        by_model.setdefault(model, {})[tuple(pair)] = mean_sd(means).mean
    ours = by_model[headline.model]
    n_seeds = len({score.seed for score in scores if score.variant == headline.model})
    runs = f"{len(ours)} pairs x {n_seeds} seed{'s' * (n_seeds != 1)}"
    row = SummaryRow(label, in_sentence(metric), headline.model, _format_pairs(ours), runs=runs)
    row = replace(row, published=headline.published or "")
    if not headline.baselines:
        return row
    best = _best({name: mean_sd(_finite(by_model[name])).mean for name in headline.baselines}, metric)
    row = replace(row, baseline=best, baseline_score=_format_pairs(by_model[best]))
    shared = {pair: value - by_model[best][pair] for pair, value in ours.items() if pair in by_model[best]}
    interval = pair_interval(shared)
    if interval is None:
        return replace(row, result=TOO_FEW)
    return _with_interval(row, metric, interval, len(shared))


def _with_interval(row: SummaryRow, metric: str, interval: Interval, n_paired: int) -> SummaryRow:
    """Add a difference and its result. Intervals over time blocks have no number of pairs."""
    text = f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
    result = UNCLEAR
    if interval.low > 0 or interval.high < 0:
        result = BETTER if (interval.low > 0) != (metric in LOWER_IS_BETTER) else WORSE
    return replace(row, difference=text, result=result, n_paired=n_paired)


def _verdict_of_row(row: SummaryRow) -> str:
    where = f" on {row.label}" if row.label else ""
    if row.result in (BETTER, WORSE):
        name, other = (row.model, row.baseline) if row.result == BETTER else (row.baseline, row.model)
        return f"{name} is better than {other} in {row.metric}{where}: difference {row.difference}, 95 % interval."
    if row.result == UNCLEAR:
        return (
            f"{row.model} and the best baseline, {row.baseline}, do not differ clearly in {row.metric}{where}: "
            f"difference {row.difference}, 95 % interval."
        )
    text = f"{row.metric[:1].upper()}{row.metric[1:]} of {row.model}{where}: {row.score}"
    if row.baseline:
        text += f"; of the best baseline, {row.baseline}: {row.baseline_score}"
    return text + ("; there are too few runs for an interval." if row.result == TOO_FEW else ".")


def _best(means: Mapping[str, float], metric: str) -> str:
    """The model with the best finite mean; the first one if none is finite."""
    finite = {name: value for name, value in means.items() if math.isfinite(value)} or dict(means)
    choose = min if metric in LOWER_IS_BETTER else max
    return choose(finite, key=lambda name: finite[name])


def _finite(values: Mapping[Pair, float]) -> list[float]:
    return [value for value in values.values() if math.isfinite(value)]


def _format_pairs(values: Mapping[Pair, float]) -> str:
    finite = _finite(values)
    return format_mean_sd(*mean_sd(finite)) if finite else EMPTY
