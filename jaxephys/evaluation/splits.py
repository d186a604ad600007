"""Splits of rows into training, validation and test rows: stratified by class, and by group if groups are given.

`hold_out` makes one split and `k_folds` one per fold; `hold_out_validation` needs no classes. `check_split` raises an error if a row or a group is in two parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

Codes = Int[np.ndarray, "row"]
Rows = Int[np.ndarray, "_"]  # any number of row indices


class Split(NamedTuple):
    """Row indices of the three parts of one run.

    Parameters
    ----------
    train, validation, test : array of int
        Rows that train the model, rows that select its epoch, and rows that it is tested on.
    """

    train: Rows
    validation: Rows
    test: Rows


def check_split(split: Split, *, name: str, groups: Shaped[np.ndarray, "row"] | None = None) -> Split:
    """Check that no row, and no group, is in two parts of a split.

    Parameters
    ----------
    split : Split
        The split.
    name : str
        Name of the split for the error message.
    groups : array, shape (n_rows,), optional
        Group of each row of the table, such as its donor. By default only rows are checked.

    Returns
    -------
    Split
        The same split.

    Raises
    ------
    ValueError
        If a row or group is in two parts.
    """
    parts = split._asdict()
    for left, right in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = np.intersect1d(parts[left], parts[right])
        if len(shared):
            raise ValueError(f"{name}: row {shared[0]} is in {left} and in {right} ({len(shared)} in total)")
        if groups is not None and len(shared := np.intersect1d(groups[parts[left]], groups[parts[right]])):
            raise ValueError(f"{name}: group {shared[0]!r} is in {left} and in {right} ({len(shared)} in total)")
    return split


def hold_out(
    codes: Codes,
    seed: int,
    *,
    validation: float = 0.2,
    test: float = 0.2,
    groups: Shaped[np.ndarray, "row"] | None = None,
) -> Split:
    """Return one stratified split.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        Class of each row.
    seed : int
        Seed of the split.
    validation, test : float, default 0.2
        Shares of validation and test rows; the rest are training rows.
    groups : array, shape (n_rows,), optional
        Group of each row. Rows of a group stay in one part, so that the shares hold approximately.

    Returns
    -------
    Split
        Row indices.

    Raises
    ------
    ValueError
        If there are fewer than two classes or a class has fewer than three rows.

    Examples
    --------
    >>> import numpy as np
    >>> [len(rows) for rows in hold_out(np.arange(100) % 2, seed=0)]
    [60, 20, 20]
    """
    _check_class_sizes(codes, 3, "a train, a validation and a test part")
    rest, test_rows = _divide(np.arange(len(codes)), codes, test, seed, groups)
    train, validation_rows = _divide(rest, codes, validation / (1 - test), seed, groups)
    return check_split(Split(train, validation_rows, test_rows), name=f"hold-out of seed {seed}", groups=groups)


def k_folds(
    codes: Codes,
    n_folds: int,
    seed: int,
    *,
    validation: float = 0.25,
    groups: Shaped[np.ndarray, "row"] | None = None,
) -> list[Split]:
    """Return the stratified splits of a cross-validation, in which each row is a test row once.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        Class of each row.
    n_folds : int
        Number of folds.
    seed : int
        Seed of the folds.
    validation : float, default 0.25
        Share of the rows outside the test fold that are validation rows.
    groups : array, shape (n_rows,), optional
        Group of each row. Rows of a group stay in one part.

    Returns
    -------
    list of Split
        Row indices of each fold.

    Raises
    ------
    ValueError
        If there are fewer than two classes or a class has fewer rows than there are folds.

    Examples
    --------
    >>> import numpy as np
    >>> [len(split.test) for split in k_folds(np.arange(100) % 2, n_folds=5, seed=0)]
    [20, 20, 20, 20, 20]
    """
    _check_class_sizes(codes, n_folds, f"{n_folds} folds")
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = splitter(n_folds, shuffle=True, random_state=seed).split(np.zeros(len(codes)), codes, groups)
    splits = []
    for fold, (rest, test_rows) in enumerate(folds):
        train, validation_rows = _divide(rest, codes, validation, seed + 1000 * fold, groups)
        split = Split(train, validation_rows, test_rows)
        splits.append(check_split(split, name=f"fold {fold} of seed {seed}", groups=groups))
    return splits


def hold_out_validation(
    rows: np.ndarray, share: float, seed: int | Sequence[int], test: np.ndarray | None = None
) -> Split:
    """Draw validation rows at random.

    Parameters
    ----------
    rows : int array
        Rows that are not tested.
    share : float
        Share of validation rows; at least two are drawn.
    seed : int or sequence of int
        Seed of the draw.
    test : int array, optional
        Test rows; by default none.

    Returns
    -------
    Split
        Training, validation and test rows.
    """
    order = np.random.default_rng(seed).permutation(rows)
    count = max(2, round(share * len(order)))
    return Split(np.sort(order[count:]), np.sort(order[:count]), np.array([], int) if test is None else test)


def _divide(rows: Rows, codes: Codes, share: float, seed: int, groups: np.ndarray | None) -> tuple[Rows, Rows]:
    """Divide rows into the rest and about a share, stratified and with whole groups."""
    if groups is None:
        rest, chosen = train_test_split(rows, test_size=share, random_state=seed, stratify=codes[rows])
        return np.sort(rest), np.sort(chosen)
    folds = StratifiedGroupKFold(max(2, round(1 / share)), shuffle=True, random_state=seed)
    rest, chosen = next(folds.split(rows, codes[rows], groups[rows]))
    return rows[rest], rows[chosen]


def _check_class_sizes(codes: Codes, needed: int, purpose: str) -> None:
    classes, counts = np.unique(codes, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"all {len(codes)} labels are {classes[0] if len(classes) else 'missing'}: at least two classes are needed"
        )
    if counts.min() < needed:
        raise ValueError(
            f"class {classes[counts.argmin()]} has {counts.min()} member{'s' if counts.min() > 1 else ''}, too few for {purpose}: "
            f"give it at least {needed}, merge it with another class or leave it out"
        )
