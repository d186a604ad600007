"""RunGrid: the table of the runs of an experiment, one row for each training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class RunGrid:
    """The runs of an experiment in a fixed order. Each has a level of every factor; the factor ``seed`` is required.

    Parameters
    ----------
    factors : tuple of str
        Names of the factors, such as ``("variant", "fold", "seed")``.
    levels : tuple of tuples
        One tuple per run: its levels in the order of ``factors``. No two runs may be equal.

    Raises
    ------
    ValueError
        If there is no run, no factor ``seed``, or a run occurs twice.

    Examples
    --------
    >>> from jaxephys.engine.grid import RunGrid
    >>> grid = RunGrid.cross(variant=("plain", "attention"), seed=range(3))
    >>> len(grid)
    6
    >>> grid[4]
    {'variant': 'attention', 'seed': 1}
    >>> grid.name(4)
    'variant=attention seed=1'
    >>> grid.where(variant="attention")
    array([3, 4, 5])
    """

    factors: tuple[str, ...]
    levels: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        if not self.levels:
            raise ValueError("the run grid is empty: every factor needs at least one level")
        if "seed" not in self.factors:
            raise ValueError(f"the run grid has the factors {', '.join(self.factors)} but no seed: add seed=range(n)")
        if len(set(self.levels)) != len(self.levels):
            repeated = next(run for run in self.levels if self.levels.count(run) > 1)
            raise ValueError(f"the run grid holds the run {repeated} twice: every run needs different levels")

    @classmethod
    def cross(cls, **factors: Iterable[Any]) -> RunGrid:
        """Return the grid of all combinations of levels.

        Parameters
        ----------
        **factors : iterable
            The levels of each factor. The last factor varies fastest.

        Returns
        -------
        RunGrid
            A grid with as many runs as the product of the numbers of levels.
        """
        return cls(tuple(factors), tuple(product(*(tuple(levels) for levels in factors.values()))))

    @property
    def seeds(self) -> Int[np.ndarray, "run"]:
        """Seed of each run."""
        return np.asarray(self.column("seed"), np.int32)

    def column(self, factor: str) -> list[Any]:
        """Return the level of one factor for each run.

        Parameters
        ----------
        factor : str
            Name of the factor.

        Returns
        -------
        list
            One level per run.
        """
        index = self.factors.index(factor)
        return [run[index] for run in self.levels]

    def where(self, **levels: Any) -> Int[np.ndarray, "run"]:
        """Return the indices of the runs that have given levels.

        Parameters
        ----------
        **levels : object
            The level of each factor to select by.

        Returns
        -------
        array of int
            Indices of the selected runs, in ascending order; empty if there is none.

        Raises
        ------
        ValueError
            If the grid has no such factor.
        """
        unknown = set(levels) - set(self.factors)
        if unknown:
            raise ValueError(f"the run grid has no factor {unknown.pop()!r}: it has {', '.join(self.factors)}")
        return np.flatnonzero([all(run[factor] == level for factor, level in levels.items()) for run in self])

    def name(self, index: int) -> str:
        """Return the name of a run that messages and checkpoints use, such as ``variant=attention seed=1``.

        Parameters
        ----------
        index : int
            Index of the run.

        Returns
        -------
        str
            Factors and levels, separated by blanks.
        """
        return " ".join(f"{factor}={level}" for factor, level in self[index].items())

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return dict(zip(self.factors, self.levels[index], strict=True))

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[index] for index in range(len(self)))
