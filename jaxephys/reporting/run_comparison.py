"""Comparison of finished runs: settings that differ, scores side by side, paired differences. Start with `compare_runs`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxephys.evaluation.intervals import corrected_test
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.headline import training_size
from jaxephys.reporting.labels import metric_label
from jaxephys.reporting.saved_run import SavedRun
from jaxephys.reporting.score_table import Summary, seed_means, summarize
from jaxephys.reporting.tables import EMPTY, Cell, Table, summary_cell

MAX_METRICS = 4  # that are compared by default
SAME = "Differences are paired by test set, seed and fold, since both runs have the same data and splits."


def compare_runs(runs: Sequence[SavedRun], metrics: Sequence[str] = ()) -> dict[str, Table]:
    """Compare runs with the first of them.

    Parameters
    ----------
    runs : sequence of SavedRun
        Two or more runs.
    metrics : sequence of str
        Metrics to compare; by default those of the summaries of the runs, or the first ones that all runs have.

    Returns
    -------
    dict of str to Table
        The runs; the settings that differ; for each metric the scores of every model and test set with the difference from the first
        run, where the test rows are the same.

    Raises
    ------
    ValueError
        If there are fewer than two runs, or the runs have no metric in common.
    """
    if len(runs) < 2:
        raise ValueError("a comparison needs two or more run folders")
    common = set.intersection(*({score.metric for score in run.scores} for run in runs))
    unknown = sorted(set(metrics) - common)
    if not common or unknown:
        what = "a metric" if not common else f"the metric {unknown[0]!r}"
        raise ValueError(f"the runs do not have {what} in common; they share {', '.join(sorted(common)) or 'none'}")
    names = run_names(runs)
    tables = {"Runs": _run_table(runs, names), "Settings that differ": _settings_table(runs, names)}
    for metric in metrics or _default_metrics(runs[0], common):
        tables[metric_label(metric)] = _score_table(runs, names, metric)
    return tables


def run_names(runs: Sequence[SavedRun]) -> list[str]:
    """Return short names of runs for the headings of columns.

    Parameters
    ----------
    runs : sequence of SavedRun
        The runs.

    Returns
    -------
    list of str
        Letters from A, with the preset: "A (default)".
    """
    return [f"{chr(ord('A') + index % 26)} ({run.preset or run.path.name})" for index, run in enumerate(runs)]


def _default_metrics(run: SavedRun, common: set[str]) -> list[str]:
    """The metrics of the first run in their order that all runs have, at most four; those of single classes are left out."""
    order = dict.fromkeys(score.metric for score in run.scores if score.metric in common and " " not in score.metric)
    preferred = ("macro_f1", "balanced_accuracy", "roc_auc", "accuracy", "bits_per_spike", "average_precision")
    return [*(name for name in preferred if name in order), *(name for name in order if name not in preferred)][
        :MAX_METRICS
    ]


def _run_table(runs: Sequence[SavedRun], names: Sequence[str]) -> Table:
    columns = {
        "Run": [*names],
        "Folder": [str(run.path) for run in runs],
        "Status": [str(run.manifest.get("status", EMPTY)) for run in runs],
        "Devices": [", ".join(dict.fromkeys(run.manifest.get("devices", []))) or EMPTY for run in runs],
        "Version": [str(run.manifest.get("jaxephys", EMPTY)) for run in runs],
        "Minutes": [f"{run.minutes:.1f}" for run in runs],
        "Verdict": [str(run.manifest.get("summary", {}).get("verdict", EMPTY)) for run in runs],
    }
    notes = []
    for name, run in zip(names[1:], runs[1:], strict=True):
        same = "the same test rows as" if run.has_rows_of(runs[0]) else "other data or splits than"
        notes.append(f"{name} has {same} {names[0]}.")
    notes += [
        f"{name} is a smoke run: its scores mean nothing."
        for name, run in zip(names, runs, strict=True)
        if run.is_smoke
    ]
    return Table({heading: [Cell(text) for text in texts] for heading, texts in columns.items()}, notes)


def _settings_table(runs: Sequence[SavedRun], names: Sequence[str]) -> Table:
    values = [{"experiment": run.experiment, "preset": run.preset, **run.config.get("settings", {})} for run in runs]
    fields = [name for name in dict.fromkeys(key for one in values for key in one) if _differ(values, name)]
    columns = {"Setting": [Cell(name) for name in fields]}
    for name, one in zip(names, values, strict=True):
        columns[name] = [Cell(str(one.get(key, EMPTY))) for key in fields]
    return Table(columns, [] if fields else ["All settings are the same."])


def _differ(values: Sequence[Mapping[str, object]], name: str) -> bool:
    return any(one.get(name, EMPTY) != values[0].get(name, EMPTY) for one in values[1:])


def _score_table(runs: Sequence[SavedRun], names: Sequence[str], metric: str) -> Table:
    """One row per model, training and test set; a column per run, and the difference of each run from the first."""
    chosen = [[s for s in run.scores if s.metric == metric and s.split == _split(run, metric)] for run in runs]
    summaries = [
        summarize(scores, ("variant", "train_on", "test_on"), _split(run, metric))
        for run, scores in zip(runs, chosen, strict=True)
    ]
    keys = list(dict.fromkeys(key for summary in summaries for key in summary))
    columns: dict[str, list[Cell]] = {
        "Model": [Cell(model) for model, _, _ in keys],
        "Data": [Cell(test if train == test else f"{train} -> {test}") for _, train, test in keys],
    }
    for name, summary in zip(names, summaries, strict=True):
        columns[name] = [_cell(summary.get(key)) for key in keys]
    notes = ["Mean ± standard deviation over seeds, folds averaged first."]
    for name, run, scores in zip(names[1:], runs[1:], chosen[1:], strict=True):
        if run.has_rows_of(runs[0]):
            columns[f"{name} minus {names[0]} [95 %]"] = [
                Cell(_paired(scores, chosen[0], key, _split(run, metric))) for key in keys
            ]
            notes.append(
                f"{name} minus {names[0]}: {SAME} Intervals need two pairs and are corrected for resampled splits."
            )
        else:
            notes.append(f"{name} has no difference from {names[0]}: its data or splits are others.")
    return Table(columns, notes)


def _cell(summary: Summary | None) -> Cell:
    return Cell(EMPTY) if summary is None else summary_cell(summary)


def _split(run: SavedRun, metric: str) -> str:
    """The part of the rows that is compared: test rows, or the first part that has the metric."""
    splits = list(dict.fromkeys(score.split for score in run.scores if score.metric == metric))
    return "test" if "test" in splits or not splits else splits[0]


def _paired(scores: Sequence[Score], reference: Sequence[Score], key: tuple, split: str) -> str:
    """The mean difference of a model between two runs, with its interval if there are two paired runs or more."""
    ours, theirs = ([s for s in some if (s.variant, s.train_on, s.test_on) == key] for some in (scores, reference))
    values, others = ({(s.seed, s.fold): s.value for s in some} for some in (ours, theirs))
    shared = sorted(run for run in values.keys() & others.keys() if math.isfinite(values[run] + others[run]))
    if not shared:
        return EMPTY
    a, b = (np.array([one[run] for run in shared]) for one in (values, others))
    n_train = training_size(ours, split, None)
    if len(shared) < 2 or n_train is None:
        means = seed_means({run: values[run] - others[run] for run in shared})
        return f"{np.mean(list(means.values())):+.3f}"
    test = corrected_test(a, b, n_train, float(np.mean([score.n for score in ours])))
    return f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"
