"""RunGrid: factors x levels -> a table of runs, one line a training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class RunGrid:
    """The runs of a grid, in a fixed order. ``seed`` is a factor like any other, and every axis has it.

    >>> axis = RunGrid.cross(variant=("plain", "attention"), seed=range(3))
    >>> len(axis), axis[4]
    (6, {'variant': 'attention', 'seed': 1})
    """

    factors: tuple[str, ...]
    levels: tuple[tuple[Any, ...], ...]  # one tuple of levels a run, in the order of the factors

    def __post_init__(self) -> None:
        if not self.levels:
            raise ValueError("the run axis is empty: every factor needs at least one level")
        if "seed" not in self.factors:
            raise ValueError(f"the run axis has the factors {', '.join(self.factors)} but no seed: add seed=range(n)")
        if len(set(self.levels)) != len(self.levels):
            twice = next(run for run in self.levels if self.levels.count(run) > 1)
            raise ValueError(f"the run axis holds the run {twice} twice: every run needs its own levels")

    @classmethod
    def cross(cls, **factors: Iterable[Any]) -> RunGrid:
        """Every combination of the levels; the last factor varies fastest."""
        return cls(tuple(factors), tuple(product(*(tuple(levels) for levels in factors.values()))))

    @property
    def seeds(self) -> Int[np.ndarray, "run"]:
        return np.asarray(self.column("seed"), np.int32)

    def column(self, factor: str) -> list[Any]:
        place = self.factors.index(factor)
        return [run[place] for run in self.levels]

    def where(self, **levels: Any) -> Int[np.ndarray, "run"]:
        """The places of the runs that have these levels."""
        unknown = set(levels) - set(self.factors)
        if unknown:
            raise ValueError(f"the run axis has no factor {unknown.pop()!r}: it has {', '.join(self.factors)}")
        chosen = [all(run[factor] == level for factor, level in levels.items()) for run in self]
        return np.flatnonzero(chosen)

    def name(self, place: int) -> str:
        """How a run is called in messages: ``variant=attention seed=1``."""
        return " ".join(f"{factor}={level}" for factor, level in self[place].items())

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, place: int) -> Mapping[str, Any]:
        return dict(zip(self.factors, self.levels[place], strict=True))

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[place] for place in range(len(self)))
