"""Several tables of units used as one: unique names of units, which decide what was trained on, and integer labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

from jaxephys.schemas.unit_table import UnitTable

TextArray = Shaped[np.ndarray, "cell"]
Tables = UnitTable | Sequence[UnitTable]


def combined_unit_names(tables: Tables) -> TextArray:
    """Return the names of the units of all tables, one table after the other.

    Parameters
    ----------
    tables : UnitTable or sequence of UnitTable
        Units.

    Returns
    -------
    array of str (n_units,)
        Names of the form ``dataset/unit``.

    Raises
    ------
    ValueError
        If two tables have a unit of the same name: such a unit could be in a training set and in a test set.
    """
    tables = [tables] if isinstance(tables, UnitTable) else tables
    names = np.concatenate([np.array([], str), *(table.name for table in tables)])
    unique, counts = np.unique(names, return_counts=True)
    if counts.max(initial=0) > 1:
        raise ValueError(f"unit {unique[counts.argmax()]} is in two tables: give each a dataset= of its own")
    return names


def encode_labels(labels: Sequence[str] | TextArray | None, count: int) -> Int[np.ndarray, "cell"]:
    """Return labels as integer codes.

    Parameters
    ----------
    labels : sequence of str, optional
        One label for each unit; "" where it is unknown. None: all are unknown.
    count : int
        Number of units.

    Returns
    -------
    int array (count,)
        Index of each label among the sorted classes; -1 without one.

    Raises
    ------
    ValueError
        If the number of labels is not ``count``.

    Examples
    --------
    >>> encode_labels(["PV", "", "EXC"], 3).tolist()
    [1, -1, 0]
    """
    if labels is None:
        return np.full(count, -1, np.int32)
    labels = np.asarray(labels, str)
    if labels.shape != (count,):
        raise ValueError(
            f"labels have the shape {labels.shape} for {count} units: give one for each unit, '' where unknown"
        )
    return np.where(labels == "", -1, np.searchsorted(np.unique(labels[labels != ""]), labels)).astype(np.int32)
