"""Audit: could a score on these units be higher than it ought to be? One line a check, whether it finds something or not.

    row position      a probe that sees nothing but the number of the row, and columns that follow that number
    shuffled labels   the whole way from curves to score with labels drawn anew: it should end at chance
    copies            units, or single curves of them, that stand in several folds
    siblings          units of one subject or session on both sides of a fold
    rows              curves without information, waveforms whose troughs lie apart

A leak makes a score worthless; a warning says what the score does not tell; a note and an "ok" are for the record.
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
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from jaxephys.hippie.preprocessing import informative, prepare
from jaxephys.schemas.unit_table import UnitTable

Matrix = Float[np.ndarray, "row column"]
Codes = Int[np.ndarray, "row"]
# The features of all rows, made anew for labels and training rows: an embedding may have seen labels that it should not.
Maker = Callable[[Codes, Int[np.ndarray, "some"]], Matrix]
Fresh = Callable[[], Any]  # a classifier of scikit-learn, not fitted yet

ABOVE_CHANCE = 0.05  # that shuffled labels may reach
TOLD = 0.1  # above chance, by the row position
FOLLOWS = 0.99  # rank correlation with the row position
ALIKE = 1e-4  # of the range of a curve: copies that were scaled or rounded on the way
APART = 0.05  # of the waveform's length: a wider middle half of the troughs is misalignment
SHUFFLES = 10


@dataclass(frozen=True)
class Finding:
    severity: str  # "leak", "warning", "note" or "ok"
    check: str
    text: str
    units: tuple[str, ...] = ()  # those concerned, where it is not the table

    def __str__(self) -> str:
        return f"{self.severity:<8} {self.check}: {self.text}"


def audit(
    table: UnitTable,
    features: Matrix | Maker | None = None,
    *,
    folds: int = 5,
    shuffles: int = SHUFFLES,
    probe: Fresh | None = None,
    seed: int = 0,
) -> list[Finding]:
    """All checks of the labelled units in the folds that the table tells, or in ``folds`` stratified ones.

    ``features``: what the score is computed from, a row a unit of ``table``, or how it is made; without it the prepared
    curves. ``probe`` makes a fresh classifier for the shuffled labels.
    """
    chosen, fold = folds_of(table, folds, seed)
    units, codes = table.rows(chosen), table.codes()[chosen]
    if features is None:
        features = np.concatenate(list(prepare(table.raw).curves.values()), axis=1)
    make = features if callable(features) else _constant(np.asarray(features, float)[chosen])
    checks = (
        row_position(units, make(codes, np.arange(len(codes))), codes, fold),
        shuffled_labels(make, codes, fold, probe or _svm, shuffles, seed),
        copies(units, fold),
        siblings(units, fold),
        rows(table),
    )
    return [finding for found in checks for finding in found]


def folds_of(table: UnitTable, folds: int, seed: int) -> tuple[Int[np.ndarray, "some"], Int[np.ndarray, "some"]]:
    """The labelled units that take part, and the test fold of each."""
    if (table.fold >= 0).any():
        chosen = np.flatnonzero((table.fold >= 0) & (table.label != ""))
        return chosen, table.fold[chosen]
    names, counts = np.unique(table.label, return_counts=True)
    chosen = np.flatnonzero(np.isin(table.label, names[(counts >= folds) & (names != "")]))
    if len(np.unique(table.label[chosen])) < 2:
        raise ValueError(f"fewer than two classes have {folds} units: label more units, or ask for fewer folds")
    fold = np.zeros(len(chosen), int)
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed).split(chosen, table.label[chosen])
    for place, (_, test) in enumerate(cut):
        fold[test] = place
    return chosen, fold


def row_position(units: UnitTable, values: Matrix, codes: Codes, fold: Codes) -> Iterator[Finding]:
    """Rows are often sorted by class: whatever carries the number of the row then carries the label."""
    position = np.arange(len(codes), dtype=float)[:, None]
    reached = cross_validated(_constant(position), codes, fold, lambda: KNeighborsClassifier(5))
    chance = 1 / len(np.unique(codes))
    text = f"the number of the row alone reaches {reached:.3f} (chance {chance:.3f})"
    if reached > chance + TOLD:
        yield Finding("warning", "row position", f"{text}: rows are sorted by class")
    else:
        yield Finding("ok", "row position", text)
    for name, columns in {**units.raw, "features": values}.items():
        for column in np.flatnonzero(_follows(np.asarray(columns, float))):
            yield Finding(
                "leak", "row position", f"column {column} of {name} follows the number of the row: take it out"
            )


def shuffled_labels(
    make: Maker, codes: Codes, fold: Codes, probe: Fresh, shuffles: int, seed: int
) -> Iterator[Finding]:
    """Labels without meaning must end at chance, on the mean of some draws: a single one of a hundred units spreads by 0.05."""
    rng = np.random.default_rng(seed)
    reached = np.mean([cross_validated(make, rng.permutation(codes), fold, probe) for _ in range(shuffles)])
    chance = 1 / len(np.unique(codes))
    text = f"{reached:.3f} over {shuffles} draws (chance {chance:.3f})"
    if abs(reached - chance) > ABOVE_CHANCE:
        yield Finding("leak", "shuffled labels", f"{text}: features know the labels of test units")
    else:
        yield Finding("ok", "shuffled labels", text)


def copies(units: UnitTable, fold: Codes) -> Iterator[Finding]:
    """The same unit twice, perhaps on another scale. One curve alone may be alike by chance where there are few spikes."""
    prepared = prepare(units.raw)
    whole = np.concatenate(list(prepared.curves.values()), axis=1)
    across = _alike_across(whole, np.any(prepared.present, axis=1), fold)
    if across:
        text = f"{len(across)} units stand in several folds: keep one copy of each"
        yield Finding("leak", "copies", text, _names(units, across))
    else:
        yield Finding("ok", "copies", "no unit stands in several folds")
    for place, (name, curves) in enumerate(prepared.curves.items()):
        alone = _alike_across(curves, prepared.present[:, place], fold) - across
        if alone:
            text = f"the {name} of {len(alone)} units is that of another unit in another fold"
            yield Finding("warning", "copies", text, _names(units, alone))


def siblings(units: UnitTable, fold: Codes) -> Iterator[Finding]:
    """Units of one animal share what the recording does to them: folds that cut through it say nothing of a new animal."""
    for name in ("subject", "session"):
        groups = units.about.get(name)
        if groups is None or not (groups != "").any():
            yield Finding("note", "siblings", f"the {name} of the units is unknown: folds cannot be told to respect it")
            continue
        cut = {group for group in set(groups) - {""} if len(set(fold[groups == group])) > 1}
        concerned = set(np.flatnonzero(np.isin(groups, list(cut))).tolist())
        count = len(set(groups) - {""})
        if cut:
            text = f"{len(cut)} of {count} {name}s stand in several folds ({len(concerned)} units): cut folds by {name} too"
            yield Finding("warning", "siblings", text, _names(units, concerned))
        else:
            yield Finding("ok", "siblings", f"each of {count} {name}s stands in one fold")


def rows(table: UnitTable) -> Iterator[Finding]:
    """What a row cannot tell. All units, labelled or not."""
    for name, curves in table.raw.items():
        if not curves.shape[1]:
            yield Finding("note", "rows", f"no unit has {name}")
            continue
        finite = np.isfinite(curves).all(axis=1)
        flat = finite & ~informative(curves)
        for what, at in (("is missing", ~finite), ("is constant", flat)):
            if at.any():
                text = f"{name} {what} in {int(at.sum())} of {len(table)} units"
                yield Finding("warning", "rows", text, _names(table, set(np.flatnonzero(at).tolist())))
    wave = table.raw["wave"][informative(table.raw["wave"])]
    if len(wave):
        # Juxtacellular spikes point up: the greatest deviation is where the spike is.
        peak = np.abs(wave - np.median(wave, axis=1, keepdims=True)).argmax(axis=1)
        low, high = np.percentile(peak, [25, 75])
        if high - low > APART * wave.shape[1]:
            off = int((np.abs(peak - np.median(peak)) > APART * wave.shape[1]).sum())
            text = f"the middle half of the spikes lies from sample {low:.0f} to {high:.0f} of {wave.shape[1]}"
            yield Finding("warning", "rows", f"{text}, {off} of {len(wave)} waveforms are misaligned")


def cross_validated(make: Maker, codes: Codes, fold: Codes, probe: Fresh) -> float:
    """Balanced accuracy, mean over the folds."""
    reached = []
    for number in np.unique(fold):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        values = make(codes, train)
        model = probe().fit(values[train], codes[train])
        reached.append(balanced_accuracy_score(codes[test], model.predict(values[test])))
    return float(np.mean(reached))


def _svm() -> Any:
    return make_pipeline(StandardScaler(), SVC(C=3.0, class_weight="balanced"))


def _constant(values: Matrix) -> Maker:
    return lambda codes, train: values


def _alike_across(values: Matrix, known: Bool[np.ndarray, "row"], fold: Codes) -> set[int]:
    """Rows that are alike in every column and stand in different folds."""
    at = np.flatnonzero(known)
    if not len(at):
        return set()
    pairs = at[KDTree(values[at]).query_pairs(ALIKE, p=np.inf, output_type="ndarray")]
    return set(pairs[fold[pairs[:, 0]] != fold[pairs[:, 1]]].ravel().tolist())


def _names(units: UnitTable, rows: set[int]) -> tuple[str, ...]:
    return tuple(str(units.unit[row]) for row in sorted(rows))


def _follows(columns: Matrix) -> Bool[np.ndarray, "column"]:
    """Columns whose rank follows the row number, up or down. Ties are not broken by the row: a constant follows nothing."""
    if len(columns) < 3 or not columns.shape[1]:
        return np.zeros(columns.shape[1], bool)
    ranks = rankdata(np.nan_to_num(columns), axis=0)
    ranks = ranks - ranks.mean(axis=0)
    position = np.arange(len(columns)) - (len(columns) - 1) / 2
    size = np.sqrt((ranks**2).sum(axis=0) * (position**2).sum())
    return np.abs(position @ ranks) > FOLLOWS * np.maximum(size, 1e-9)
