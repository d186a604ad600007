"""Splits of rows into training, validation and test rows: stratified by class, and by group if groups are given.

`draw_splits` makes all splits of a table for a comparison of models. `hold_out` makes one split and `k_folds` one per fold;
`hold_out_validation` needs no classes. `check_split` raises an error if a row or a group is in two parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from jaxephys.schemas.feature_table import FeatureTable

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


class SplitKey(NamedTuple):
    """Identifies one split of a table.

    Parameters
    ----------
    kind : str
        What is held out together: ``"cell"`` for single cells, ``"donor"`` for all cells of a donor.
    seed : int
        Seed of the split.
    fold : int
        Number of the fold within the seed; 0 for a single hold-out split.
    """

    kind: str
    seed: int
    fold: int


def draw_splits(
    table: FeatureTable, kinds: Sequence[str], seeds: int, n_folds: int | None = None
) -> dict[SplitKey, Split]:
    """Draw the stratified splits of a table.

    Parameters
    ----------
    table : FeatureTable of n_cells
        Labelled cells.
    kinds : sequence of {"cell", "donor"}
        What is held out: single cells, or all cells of a donor.
    seeds : int
        Number of draws of each kind; the seeds are 0, 1, ...
    n_folds : int, optional
        Number of folds of each draw. Without it each draw is a single split into 60 % training, 20 % validation and 20 %
        test cells.

    Returns
    -------
    dict of SplitKey to Split
        The splits.

    Raises
    ------
    ValueError
        If donors are to be held out of a table without donors, or a class is too small.
    """
    if "donor" in kinds and table.donor is None:
        raise ValueError("the table has no donors: use --folds cell, or give a table with donors")
    codes = table.codes()
    splits = {}
    for kind, seed in product(kinds, range(seeds)):
        groups = table.donor if kind == "donor" else None
        if n_folds is None:
            folds = [hold_out(codes, seed, groups=groups)]
        else:
            folds = k_folds(codes, n_folds, seed, groups=groups)
        splits |= {SplitKey(kind, seed, fold): split for fold, split in enumerate(folds)}
    return splits


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
    for (left, rows), (right, others) in combinations(split._asdict().items(), 2):
        if len(shared := np.intersect1d(rows, others)):
            raise ValueError(f"{name}: row {shared[0]} is in {left} and in {right} ({len(shared)} in total)")
        if groups is not None and len(shared := np.intersect1d(groups[rows], groups[others])):
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
    rows, test_rows = _divide(np.arange(len(codes)), codes, test, seed, groups)
    share = validation / (1 - test)
    return _split_rest(rows, test_rows, codes, share, seed, groups, name=f"hold-out of seed {seed}")


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
    return [
        _split_rest(rows, test, codes, validation, seed + 1000 * fold, groups, name=f"fold {fold} of seed {seed}")
        for fold, (rows, test) in enumerate(folds)
    ]


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


def _split_rest(
    rows: Rows, test: Rows, codes: Codes, share: float, seed: int, groups: np.ndarray | None, *, name: str
) -> Split:
    """Divide the rows that are not tested into training rows and a share of validation rows."""
    return check_split(Split(*_divide(rows, codes, share, seed, groups), test), name=name, groups=groups)


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
