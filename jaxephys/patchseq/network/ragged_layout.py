"""RaggedLayout: store feature families of unequal width side by side without padding each of them to the widest.

Sort the columns of all families by their index within the family. Columns 0 to 150 exist in all twelve published families
and columns 150 to 420 in one: two rectangles instead of one of 12 x 420. A linear map that is shared by the families (the
input projection of a recurrent network) is then one matrix product per rectangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

RECTANGLE_COST = 64  # an additional matrix product costs about as much as this number of columns of one family


@dataclass(frozen=True)
class Rectangle:
    """A block of columns that several families have in common.

    Parameters
    ----------
    families : tuple of int
        Indices of the families that are wider than ``start``.
    start, stop : int
        First column, and the column after the last, counted within each family.
    """

    families: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of values that one cell has in this rectangle."""
        return len(self.families) * (self.stop - self.start)


@dataclass(frozen=True)
class RaggedLayout:
    """The order in which the features of a cell are stored for a network; see ``from_widths``.

    Parameters
    ----------
    widths : tuple of int
        Number of features of each family, in the order of the families.
    padded_width : int
        The width that the layer normalization of the published encoder assumes for every family: that of the widest
        family or more. Features that a family lacks count as zeros in its mean and standard deviation.

    Examples
    --------
    >>> layout = RaggedLayout.from_widths([2, 3])
    >>> layout.size, layout.source_column.tolist()
    (6, [0, 1, -1, 2, 3, 4])
    """

    widths: tuple[int, ...]
    padded_width: int

    @classmethod
    def from_widths(cls, widths: Sequence[int], padded_width: int | None = None) -> RaggedLayout:
        """Create the layout of a table from the widths of its families.

        Parameters
        ----------
        widths : sequence of int
            Number of features of each family, at least one.
        padded_width : int, optional
            Width that layer normalization assumes; the widest family by default.

        Returns
        -------
        RaggedLayout
            The layout.

        Raises
        ------
        ValueError
            If a family has no feature, there is no family, or ``padded_width`` is below the widest family.
        """
        widths = tuple(int(width) for width in widths)
        if not widths or min(widths) < 1:
            raise ValueError(f"family widths are {widths}: give at least one family, each with at least one feature")
        if padded_width is not None and padded_width < max(widths):
            raise ValueError(f"families are padded to {padded_width}, but the widest has {max(widths)} features")
        return cls(widths, max(widths) if padded_width is None else padded_width)

    @cached_property
    def rectangles(self) -> tuple[Rectangle, ...]:
        """The cheapest partition into rectangles, found by dynamic programming over the distinct widths."""
        edges = [0, *sorted(set(self.widths))]
        cheapest: list[tuple[float, tuple[Rectangle, ...]]] = [(0.0, ())]
        for stop in range(1, len(edges)):
            options = []
            for start in range(stop):
                families = tuple(i for i, width in enumerate(self.widths) if width > edges[start])
                rectangle = Rectangle(families, edges[start], edges[stop])
                cost, before = cheapest[start]
                options.append((cost + rectangle.size + RECTANGLE_COST, (*before, rectangle)))
            cheapest.append(min(options, key=lambda option: option[0]))
        return cheapest[-1][1]

    @property
    def size(self) -> int:
        """Number of values that one cell has in this layout, padding included."""
        return sum(rectangle.size for rectangle in self.rectangles)

    @cached_property
    def source_column(self) -> np.ndarray:
        """The table column of each packed value (shape ``(packed,)``), -1 where the value is padding."""
        offsets = np.cumsum([0, *self.widths])
        columns = []
        for rectangle in self.rectangles:
            for family in rectangle.families:
                inside = np.arange(rectangle.start, rectangle.stop)
                columns.append(np.where(inside < self.widths[family], offsets[family] + inside, -1))
        return np.concatenate(columns)

    @cached_property
    def packed_columns(self) -> tuple[np.ndarray, ...]:
        """For each family the packed indices of its features, in the order of the table."""
        order = np.argsort(np.where(self.source_column < 0, self.source_column.size, self.source_column), kind="stable")
        return tuple(np.split(order[: sum(self.widths)], np.cumsum(self.widths)[:-1]))

    def pack(self, values: Float[np.ndarray, "*cell column"], fill: float = 0.0) -> Float[np.ndarray, "*cell packed"]:
        """Reorder values from one family after the other into this layout.

        Parameters
        ----------
        values : array of shape (..., column)
            One value per feature, families one after the other.
        fill : float, default 0.0
            Value of the padding.

        Returns
        -------
        array of float32, shape (..., packed)
            The same values in the order of the layout.
        """
        return np.where(self.source_column >= 0, values[..., np.maximum(self.source_column, 0)], fill).astype(
            np.float32
        )
