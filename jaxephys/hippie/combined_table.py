"""Several tables of units taken as one: their names, which tell who may be in a test, and their labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

from jaxephys.schemas.unit_table import UnitTable

Texts = Shaped[np.ndarray, "cell"]
Tables = UnitTable | Sequence[UnitTable]


def listed(tables: Tables) -> Sequence[UnitTable]:
    return [tables] if isinstance(tables, UnitTable) else tables


def names_of(tables: Sequence[UnitTable]) -> Texts:
    """Of all units, one table after the other. A name in two tables would let a unit into a test that it trained for."""
    names = np.concatenate([np.array([], str), *(table.name for table in tables)])
    once, times = np.unique(names, return_counts=True)
    if times.max(initial=0) > 1:
        raise ValueError(f"unit {once[times.argmax()]} stands in two tables: give each a dataset= of its own")
    return names


def codes_of(labels: Sequence[str] | Texts | None, count: int) -> Int[np.ndarray, "cell"]:
    """The place of each label in the sorted classes, -1 without one."""
    if labels is None:
        return np.full(count, -1, np.int32)
    labels = np.asarray(labels, str)
    if labels.shape != (count,):
        raise ValueError(f"labels have the shape {labels.shape} for {count} units: give one a unit, '' where unknown")
    return np.where(labels == "", -1, np.searchsorted(np.unique(labels[labels != ""]), labels)).astype(np.int32)
