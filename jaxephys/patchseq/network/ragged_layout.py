"""Staircase: how feature families of unequal width stand side by side without padding each to the widest.

Sort the columns of all families by their place within the family. Columns 0 to 150 exist in all twelve families, columns
150 to 420 in one: two rectangles instead of one of 12 x 420. A linear map shared by the families (the input projection of
a recurrent network) is then one matrix product a rectangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

STEP_COST = 64  # an extra matrix product costs about as much as so many columns of one family


@dataclass(frozen=True)
class Step:
    """A rectangle: columns ``low`` to ``high`` of the families that are wider than ``low``."""

    families: tuple[int, ...]
    low: int
    high: int

    @property
    def size(self) -> int:
        return len(self.families) * (self.high - self.low)


@dataclass(frozen=True)
class Staircase:
    """The layout of a table of families. ``padded`` is the width that layer normalisation counts, the widest or more."""

    widths: tuple[int, ...]
    padded: int

    @classmethod
    def of(cls, widths: Sequence[int], padded: int | None = None) -> Staircase:
        widths = tuple(int(width) for width in widths)
        if not widths or min(widths) < 1:
            raise ValueError(f"family widths are {widths}: give at least one family, each with at least one feature")
        if padded is not None and padded < max(widths):
            raise ValueError(f"families are padded to {padded}, but the widest has {max(widths)} features")
        return cls(widths, max(widths) if padded is None else padded)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The cheapest cut into rectangles, by dynamic programming over the distinct widths."""
        edges = [0, *sorted(set(self.widths))]
        cheapest: list[tuple[float, tuple[Step, ...]]] = [(0.0, ())]
        for end in range(1, len(edges)):
            options = []
            for begin in range(end):
                families = tuple(i for i, width in enumerate(self.widths) if width > edges[begin])
                step = Step(families, edges[begin], edges[end])
                cost, before = cheapest[begin]
                options.append((cost + step.size + STEP_COST, (*before, step)))
            cheapest.append(min(options, key=lambda option: option[0]))
        return cheapest[-1][1]

    @property
    def size(self) -> int:
        """Numbers a cell takes in this layout."""
        return sum(step.size for step in self.steps)

    @cached_property
    def source(self) -> np.ndarray:
        """For each packed place the column of the table it comes from, or -1 for padding."""
        offsets = np.cumsum([0, *self.widths])
        places = []
        for step in self.steps:
            for family in step.families:
                inside = np.arange(step.low, step.high)
                places.append(np.where(inside < self.widths[family], offsets[family] + inside, -1))
        return np.concatenate(places)

    @cached_property
    def places(self) -> tuple[np.ndarray, ...]:
        """For each family the packed places of its columns, in order."""
        order = np.argsort(np.where(self.source < 0, self.source.size, self.source), kind="stable")
        return tuple(np.split(order[: sum(self.widths)], np.cumsum(self.widths)[:-1]))

    def pack(self, table: Float[np.ndarray, "*cell column"], fill: float = 0.0) -> Float[np.ndarray, "*cell packed"]:
        """From families one after the other to the staircase; ``fill`` stands where a family has no column."""
        return np.where(self.source >= 0, table[..., np.maximum(self.source, 0)], fill).astype(np.float32)
