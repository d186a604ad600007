"""Leakage audit: checks of a table of units for anything that could make test scores too high.

    row position           how well the row number alone predicts the class, and columns that follow the row number
    shuffled labels        the score of features with randomly permuted labels, which should be at chance
    copies                 units, or single curves, that occur in several folds
    subjects and sessions  units of one subject or session in both training and test folds
    rows                   missing or constant curves, waveforms whose spikes are not aligned

Each check reports at least one `Finding`. The severity "leak" means that scores are worthless, "warning" that they overstate how well
a model generalizes in some way; "note" and "ok" are for the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from scipy.stats import rankdata
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from jaxephys.hippie.benchmark import assign_folds
from jaxephys.hippie.feature_views import spike_positions
from jaxephys.hippie.preprocessing import prepare
from jaxephys.hippie.probes import make_probe
from jaxephys.schemas.unit_table import UnitTable, informative

Matrix = Float[np.ndarray, "row column"]
Codes = Int[np.ndarray, "row"]
# Features of all rows, computed anew for given labels and training rows: an embedding may have been trained on test labels.
FeatureFunction = Callable[[Codes, Int[np.ndarray, "some"]], Matrix]

MAX_ABOVE_CHANCE = 0.05  # of shuffled labels
MAX_BY_POSITION = 0.1  # above chance, of the row position
FOLLOWS = 0.99  # rank correlation with the row position
COPY_TOLERANCE = 1e-4  # of the range of a curve: copies that were scaled or rounded
MISALIGNED = 0.05  # of the waveform's length: a wider interquartile range of spike positions is misalignment
SHUFFLES = 10


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Parameters
    ----------
    severity : {"leak", "warning", "note", "ok"}
        How serious it is.
    check : str
        Name of the check.
    text : str
        What was found.
    units : tuple of str
        Units concerned; empty if it is the whole table.
    """

    severity: str
    check: str
    text: str
    units: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.severity:<8} {self.check}: {self.text}"


def audit(
    table: UnitTable,
    features: Matrix | FeatureFunction | None = None,
    *,
    folds: int = 5,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> list[Finding]:
    """Run all checks on the labelled units of a table.

    Parameters
    ----------
    table : UnitTable of n_units
        Units with labels, and their folds if they have any.
    features : array (n_units, n_columns) or callable, optional
        What the score is computed from. A function receives class codes and training rows of the labelled units and returns their
        features. By default the preprocessed curves.
    folds : int
        Number of stratified folds, if the table has no folds.
    shuffles : int
        Number of permutations of the labels.
    seed : int
        Seed of folds and permutations.

    Returns
    -------
    list of Finding
        Results of all checks.

    Raises
    ------
    ValueError
        If fewer than two classes have enough labelled units.

    Examples
    --------
    >>> from jaxephys.hippie.synthetic import make_synthetic_units
    >>> findings = audit(make_synthetic_units(60), shuffles=2)
    >>> sorted({finding.severity for finding in findings})
    ['note', 'ok']
    """
    labelled, fold = assign_folds(table, folds, seed)
    units, codes = table.rows(labelled), table.codes()[labelled]
    if features is None:
        features = np.concatenate(list(prepare(table.raw).curves.values()), axis=1)
    compute = features if callable(features) else _fixed(np.asarray(features, float)[labelled])
    checks = (
        check_row_position(units, compute(codes, np.arange(len(codes))), codes, fold),
        check_shuffled_labels(compute, codes, fold, shuffles, seed),
        check_copies(units, fold),
        check_groups(units, fold),
        check_rows(table),
    )
    return [finding for check in checks for finding in check]


def check_row_position(units: UnitTable, values: Matrix, codes: Codes, fold: Codes) -> Iterator[Finding]:
    """Check for information in the row number. Rows are often sorted by class, so a column with the row number contains the label.

    Parameters
    ----------
    units : UnitTable of n_units
        Labelled units.
    values : array (n_units, n_columns)
        Their features.
    codes, fold : int arrays (n_units,)
        Class and fold of each.

    Yields
    ------
    Finding
        One for the rows, and one for each column whose ranks follow the row number.
    """
    position = np.arange(len(codes), dtype=float)[:, None]
    accuracy = cross_validated_accuracy(_fixed(position), codes, fold, KNeighborsClassifier(5))
    chance = 1 / len(np.unique(codes))
    text = f"the row number alone reaches {accuracy:.3f} (chance {chance:.3f})"
    if accuracy > chance + MAX_BY_POSITION:
        yield Finding("warning", "row position", f"{text}: rows are sorted by class")
    else:
        yield Finding("ok", "row position", text)
    for name, columns in {**units.raw, "features": values}.items():
        for column in np.flatnonzero(_follows_rows(np.asarray(columns, float))):
            yield Finding("leak", "row position", f"column {column} of {name} follows the row number: remove it")


def check_shuffled_labels(
    compute: FeatureFunction, codes: Codes, fold: Codes, shuffles: int, seed: int
) -> Iterator[Finding]:
    """Check that a balanced support vector machine cannot predict permuted labels.

    The mean over some permutations is used, because a single one of a hundred units varies by 0.05.

    Parameters
    ----------
    compute : callable
        Returns the features for class codes and training rows.
    codes, fold : int arrays (n_units,)
        Class and fold of each unit.
    shuffles : int
        Number of permutations.
    seed : int
        Seed of the permutations.

    Yields
    ------
    Finding
        A leak if the balanced accuracy differs from chance by more than 0.05.
    """
    rng, model = np.random.default_rng(seed), make_probe("svm")
    accuracies = [cross_validated_accuracy(compute, rng.permutation(codes), fold, model) for _ in range(shuffles)]
    accuracy, chance = np.mean(accuracies), 1 / len(np.unique(codes))
    text = f"{accuracy:.3f} over {shuffles} permutations (chance {chance:.3f})"
    if abs(accuracy - chance) > MAX_ABOVE_CHANCE:
        yield Finding("leak", "shuffled labels", f"{text}: the features contain the labels of test units")
    else:
        yield Finding("ok", "shuffled labels", text)


def check_copies(units: UnitTable, fold: Codes) -> Iterator[Finding]:
    """Check for units that occur twice, perhaps on another scale, and for single curves that do.

    Parameters
    ----------
    units : UnitTable of n_units
        Labelled units.
    fold : int array (n_units,)
        Fold of each.

    Yields
    ------
    Finding
        A leak for copies of whole units in different folds, a warning for copies of one curve, which can occur by chance where there
        are few spikes.
    """
    prepared = prepare(units.raw)
    all_curves = np.concatenate(list(prepared.curves.values()), axis=1)
    copies = _copied_across_folds(all_curves, np.any(prepared.present, axis=1), fold)
    if copies.any():
        text = f"{copies.sum()} units occur in several folds: keep one copy of each"
        yield Finding("leak", "copies", text, tuple(units.unit[copies].tolist()))
    else:
        yield Finding("ok", "copies", "no unit occurs in several folds")
    for index, (name, curves) in enumerate(prepared.curves.items()):
        partial = _copied_across_folds(curves, prepared.present[:, index], fold) & ~copies
        if partial.any():
            text = f"the {name} of {partial.sum()} units is that of another unit in another fold"
            yield Finding("warning", "copies", text, tuple(units.unit[partial].tolist()))


def check_groups(units: UnitTable, fold: Codes) -> Iterator[Finding]:
    """Check whether folds divide subjects or sessions: scores then do not show how well a model works on a new animal.

    Parameters
    ----------
    units : UnitTable of n_units
        Labelled units.
    fold : int array (n_units,)
        Fold of each.

    Yields
    ------
    Finding
        One for subjects and one for sessions.
    """
    check = "subjects and sessions"
    for name in ("subject", "session"):
        groups = units.column(name)
        known = np.unique(groups[groups != ""])
        if not len(known):
            yield Finding("note", check, f"the {name} of the units is unknown: folds cannot be grouped by it")
            continue
        divided = [group for group in known if len(set(fold[groups == group])) > 1]
        concerned = np.isin(groups, divided)
        if divided:
            number = f"{len(divided)} of {len(known)} {name}s are in several folds ({concerned.sum()} units)"
            ids = tuple(units.unit[concerned].tolist())
            yield Finding("warning", check, f"{number}: use folds by {name} too", ids)
        else:
            yield Finding("ok", check, f"each of {len(known)} {name}s is in one fold")


def check_rows(table: UnitTable) -> Iterator[Finding]:
    """Check the curves of all units, labelled or not, for rows without information and for misaligned spikes.

    Parameters
    ----------
    table : UnitTable of n_units
        Units.

    Yields
    ------
    Finding
        One for each problem.
    """
    for name, curves in table.raw.items():
        if not curves.shape[1]:
            yield Finding("note", "rows", f"no unit has {name}")
            continue
        finite = np.isfinite(curves).all(axis=1)
        for problem, rows in (("missing", ~finite), ("constant", finite & ~informative(curves))):
            if rows.any():
                text = f"{name} is {problem} in {rows.sum()} of {len(table)} units"
                yield Finding("warning", "rows", text, tuple(table.unit[rows].tolist()))
    wave = table.raw["wave"][informative(table.raw["wave"])]
    if len(wave):
        peak = spike_positions(wave)
        low, high = np.percentile(peak, [25, 75])
        if high - low > MISALIGNED * wave.shape[1]:
            count = int((np.abs(peak - np.median(peak)) > MISALIGNED * wave.shape[1]).sum())
            text = f"the middle half of the spikes is between samples {low:.0f} and {high:.0f} of {wave.shape[1]}"
            yield Finding("warning", "rows", f"{text}, {count} of {len(wave)} waveforms are misaligned")


def cross_validated_accuracy(compute: FeatureFunction, codes: Codes, fold: Codes, model: Any) -> float:
    """Return the balanced accuracy of a classifier, averaged over folds.

    Parameters
    ----------
    compute : callable
        Returns the features for class codes and training rows.
    codes, fold : int arrays (n_units,)
        Class and fold of each unit.
    model : scikit-learn classifier
        The classifier, which is fitted anew in each fold.

    Returns
    -------
    float
        Mean balanced accuracy on the test rows.
    """
    accuracies = []
    for number in np.unique(fold):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        values = compute(codes, train)
        predicted = model.fit(values[train], codes[train]).predict(values[test])
        accuracies.append(balanced_accuracy_score(codes[test], predicted))
    return float(np.mean(accuracies))


def _fixed(values: Matrix) -> FeatureFunction:
    return lambda codes, train: values


def _copied_across_folds(values: Matrix, present: Bool[np.ndarray, "row"], fold: Codes) -> Bool[np.ndarray, "row"]:
    """Return which rows agree in every column with a row of another fold."""
    rows, copied = np.flatnonzero(present), np.zeros(len(values), bool)
    if len(rows):
        pairs = rows[KDTree(values[rows]).query_pairs(COPY_TOLERANCE, p=np.inf, output_type="ndarray")]
        copied[pairs[fold[pairs[:, 0]] != fold[pairs[:, 1]]]] = True
    return copied


def _follows_rows(columns: Matrix) -> Bool[np.ndarray, "column"]:
    """Return columns whose ranks rise or fall with the row number. Ties share a rank, so a constant column does not count."""
    if len(columns) < 3 or not columns.shape[1]:
        return np.zeros(columns.shape[1], bool)
    ranks = rankdata(np.nan_to_num(columns), axis=0)
    ranks = ranks - ranks.mean(axis=0)
    position = np.arange(len(columns)) - (len(columns) - 1) / 2
    size = np.sqrt((ranks**2).sum(axis=0) * (position**2).sum())
    return np.abs(position @ ranks) > FOLLOWS * np.maximum(size, 1e-9)
