"""Splits of labelled rows into training, validation and test parts, stratified and grouped, with checks for leakage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

Labels = Int[np.ndarray, "row"]
Rows = Int[np.ndarray, "_"]  # of any length


class Split(NamedTuple):
    """The rows of one run, by what they are for."""

    train: Rows
    validation: Rows
    test: Rows


def check_split(split: Split, *, name: str, groups: Shaped[np.ndarray, "row"] | None = None) -> Split:
    """Refuse a leak: a row, or a group where groups must stay together, in two parts of one run."""
    parts = split._asdict()
    for left, right in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = np.intersect1d(parts[left], parts[right])
        if len(shared):
            raise ValueError(f"{name}: row {shared[0]} is in {left} and in {right}: {len(shared)} rows leak")
        if groups is not None and len(shared := np.intersect1d(groups[parts[left]], groups[parts[right]])):
            raise ValueError(f"{name}: group {shared[0]!r} is in {left} and in {right}: {len(shared)} groups leak")
    return split


def hold_out(
    labels: Labels, seed: int, *, validation: float = 0.2, test: float = 0.2, groups: np.ndarray | None = None
) -> Split:
    """A stratified split, 60/20/20 unless told; whole groups at a time where ``groups`` are given."""
    _check_members(labels, 3, "a train, a validation and a test part")
    rows = np.arange(len(labels))
    rest, tested = _cut(rows, labels, test, seed, groups)
    train, valid = _cut(rest, labels, validation / (1 - test), seed, groups)
    return check_split(Split(train, valid, tested), name=f"hold-out of seed {seed}", groups=groups)


def k_folds(
    labels: Labels, folds: int, seed: int, *, validation: float = 0.25, groups: np.ndarray | None = None
) -> list[Split]:
    """Stratified folds; a part of each training side is set apart for validation."""
    _check_members(labels, folds, f"{folds} folds")
    maker = StratifiedKFold if groups is None else StratifiedGroupKFold
    splits = []
    for fold, (rest, test) in enumerate(
        maker(folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels, groups)
    ):
        train, valid = _cut(rest, labels, validation, seed + 1000 * fold, groups)
        splits.append(check_split(Split(train, valid, test), name=f"fold {fold} of seed {seed}", groups=groups))
    return splits


def _cut(rows: Rows, labels: Labels, part: float, seed: int, groups: np.ndarray | None) -> tuple[Rows, Rows]:
    if groups is None:
        keep, cut = train_test_split(rows, test_size=part, random_state=seed, stratify=labels[rows])
        return np.sort(keep), np.sort(cut)
    folds = StratifiedGroupKFold(max(2, round(1 / part)), shuffle=True, random_state=seed)
    keep, cut = next(folds.split(rows, labels[rows], groups[rows]))
    return rows[keep], rows[cut]


def _check_members(labels: Labels, needed: int, what: str) -> None:
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise ValueError(
            f"all {len(labels)} labels are {names[0] if len(names) else 'missing'}: at least two classes are needed"
        )
    if counts.min() < needed:
        raise ValueError(
            f"class {names[counts.argmin()]} has {counts.min()} member{'s' if counts.min() > 1 else ''}, too few for {what}: "
            f"give it at least {needed}, merge it with another class or leave it out"
        )
