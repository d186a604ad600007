"""The score table: reading and writing ``scores.csv``, and means over seeds and folds.

Every number of a report comes from this table, which holds one `jaxephys.evaluation.scores.Score` per metric and run. Models and
baselines differ in ``variant``. `summarize` computes means and standard deviations; `jaxephys.reporting.tables` and
`jaxephys.reporting.plots` show them.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxephys.evaluation.intervals import mean_sd
from jaxephys.evaluation.scores import SCORE_COLUMNS, Score
from jaxephys.reporting.files import write_csv

RunKey = tuple[int, int]  # seed, fold


class Summary(NamedTuple):
    """Mean and standard deviation of the scores of a group.

    Parameters
    ----------
    mean : float
        Mean over seeds of the mean over folds; NaN if no value is finite.
    sd : float
        Standard deviation over seeds; NaN if there are fewer than two seeds.
    n_seeds, n_folds : int
        Number of seeds and of folds.
    n_missing : int
        Number of values that are not finite and are left out.
    """

    mean: float
    sd: float
    n_seeds: int
    n_folds: int
    n_missing: int


def write_scores(path: Path, scores: Iterable[Score]) -> Path:
    """Write a score table as CSV.

    Parameters
    ----------
    path : path-like
        File to create or replace.
    scores : iterable of Score
        Scores in any order. Rows are sorted by their columns, so that equal scores give equal files.

    Returns
    -------
    Path
        The path of the file.
    """
    rows = [Score(*score)._replace(value=float(score[8])) for score in scores]
    rows.sort(key=lambda score: (*score[:8], repr(score.value), score.n))
    return write_csv(path, SCORE_COLUMNS, rows)


def read_scores(path: Path) -> list[Score]:
    """Read a score table that `write_scores` wrote.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    list of Score
        Scores in the order of the file.

    Raises
    ------
    ValueError
        If a column is missing or a value has the wrong type.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in SCORE_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} lacks the columns {', '.join(missing)} of a score table")
        return [_parse_score(row, f"{path}, line {reader.line_num}") for row in reader]


def _parse_score(row: Mapping[str, str], location: str) -> Score:
    values = []
    for name, kind in Score.__annotations__.items():
        try:
            values.append(kind(row[name]))
        except (TypeError, ValueError):
            raise ValueError(f"{location}: {name} is {row[name]!r}, which is not of type {kind.__name__}") from None
    return Score(*values)


def summarize(
    scores: Iterable[Score], by: Sequence[str] = ("variant", "metric"), split: str = "test"
) -> dict[tuple, Summary]:
    """Return the mean and standard deviation of each group of scores.

    Parameters
    ----------
    scores : iterable of Score
        The scores.
    by : sequence of str, default ("variant", "metric")
        Columns whose values define a group.
    split : str, default "test"
        Part of the rows to summarize.

    Returns
    -------
    dict of tuple to Summary
        Summaries by the values of the columns ``by``.

    Raises
    ------
    ValueError
        If a group has two values for one seed and fold, for example of two data sets.

    Notes
    -----
    The folds of a seed are parts of the same rows and together one measurement, so their mean is taken first. A standard
    deviation over all runs would mix the differences between folds with those between seeds.
    """
    summaries = {}
    for key, runs in group_scores(scores, by, split).items():
        mean, sd = mean_sd(list(seed_means(runs).values()))
        finite = [run for run, value in runs.items() if math.isfinite(value)]
        n_seeds, n_folds = (len({run[i] for run in finite}) for i in (0, 1))
        summaries[key] = Summary(mean, sd, n_seeds, n_folds, len(runs) - len(finite))
    return summaries


def group_scores(scores: Iterable[Score], by: Sequence[str], split: str) -> dict[tuple, dict[RunKey, float]]:
    """Return the values of each group by seed and fold.

    Parameters
    ----------
    scores : iterable of Score
        The scores.
    by : sequence of str
        Columns whose values define a group.
    split : str
        Part of the rows.

    Returns
    -------
    dict of tuple to dict
        For each group the value of each (seed, fold).

    Raises
    ------
    ValueError
        If a column or the split does not exist, or a group has two values for one seed and fold.
    """
    scores = list(scores)
    check_known("column", by, set(SCORE_COLUMNS))
    check_known("split", [split], {score.split for score in scores})
    groups: dict[tuple, dict[RunKey, float]] = {}
    for score in (score for score in scores if score.split == split):
        key, run = tuple(getattr(score, name) for name in by), (score.seed, score.fold)
        if run in groups.setdefault(key, {}):
            raise ValueError(
                f"{key} has two values for seed {run[0]}, fold {run[1]}; "
                "select or group by experiment, metric, train_on and test_on"
            )
        groups[key][run] = score.value
    return groups


def seed_means(runs: Mapping[RunKey, float]) -> dict[int, float]:
    """Return the mean over the folds of each seed.

    Parameters
    ----------
    runs : mapping of (int, int) to float
        Values by seed and fold. Those that are not finite are left out.

    Returns
    -------
    dict of int to float
        Means by seed, for the seeds with a finite value.
    """
    folds: dict[int, list[float]] = {}
    for (seed, _), value in sorted(runs.items()):
        if math.isfinite(value):
            folds.setdefault(seed, []).append(value)
    return {seed: float(np.mean(values)) for seed, values in folds.items()}


def check_known(kind: str, names: Iterable[str], known: set[str]) -> None:
    """Raise an error that lists the names that do not exist.

    Parameters
    ----------
    kind : str
        What the names denote, for the message.
    names : iterable of str
        Names to check.
    known : set of str
        Names that exist.

    Raises
    ------
    ValueError
        If a name does not exist.
    """
    if unknown := sorted(set(names) - known):
        raise ValueError(f"there is no {kind} {', '.join(unknown)}; there are {sorted(known)}")
