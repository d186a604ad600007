"""FamilyTable: cells x ordered feature families, as arrays and as a file. Checked once, here, at the border."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

SCHEMA = "jaxephys family table 1"
Text = Shaped[np.ndarray, "cell"]


@dataclass(frozen=True)
class FamilyTable:
    """Features of cells, one family after the other.

    On disk it is an ``.npz`` with ``schema``, ``values`` (float32 [cell, column]), ``families`` and ``widths`` (one a
    family, in order), ``features`` (one a column), ``cell``, and where known ``label``, ``donor`` and ``species`` (one a
    cell).
    """

    # The arrays come from outside and are checked below, in words: plain annotations.
    values: np.ndarray  # float32 [cell, column]
    families: tuple[str, ...]
    widths: tuple[int, ...]
    features: tuple[str, ...]
    cell: np.ndarray
    label: np.ndarray | None = None
    donor: np.ndarray | None = None
    species: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_finite(self)
        _check_cells(self)

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        families: Mapping[str, int] | Sequence[str],
        label: Sequence[Any] | np.ndarray | None = None,
        **known,
    ) -> FamilyTable:
        """A table from an array: [cell, column] with the width of each family, or [cell, family, feature] with their names."""
        values = np.asarray(values, np.float32)
        if values.ndim == 3 and not isinstance(families, Mapping):
            families = {str(name): values.shape[2] for name in families}
            values = values.reshape(len(values), -1)
        if not isinstance(families, Mapping):
            raise ValueError(
                f"values have shape {values.shape}: give the width of each family as a dict, name -> width"
            )
        features = tuple(f"{name}_{i}" for name, width in families.items() for i in range(width))
        cell = known.pop("cell", np.arange(len(values)).astype(str))
        names = None if label is None else np.asarray(label).astype(str)
        widths = tuple(families.values())
        return cls(values, tuple(families), widths, features, np.asarray(cell).astype(str), names, **known)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        classes = "no labels" if self.label is None else f"{len(self.classes)} classes"
        return (
            f"FamilyTable({len(self)} cells, {len(self.families)} families, {self.values.shape[1]} features, {classes})"
        )

    @property
    def classes(self) -> Shaped[np.ndarray, "class"]:
        return np.unique(self._labels())

    def codes(self, classes: Shaped[np.ndarray, "class"] | None = None) -> Int[np.ndarray, "cell"]:
        """The label of each cell as its place in the sorted classes."""
        classes = self.classes if classes is None else classes
        unknown = np.setdiff1d(self._labels(), classes)
        if len(unknown):
            raise ValueError(f"label {str(unknown[0])!r} is not one of the classes {', '.join(map(str, classes))}")
        return np.searchsorted(classes, self._labels()).astype(np.int32)

    def rows(self, chosen: Int[np.ndarray, "some"]) -> FamilyTable:
        """The table of some cells."""
        per_cell = {name: getattr(self, name) for name in ("values", "cell", "label", "donor", "species")}
        return replace(self, **{name: None if column is None else column[chosen] for name, column in per_cell.items()})

    def save(self, path: str | Path) -> None:
        optional = {
            name: getattr(self, name) for name in ("label", "donor", "species") if getattr(self, name) is not None
        }
        np.savez_compressed(
            path,
            schema=SCHEMA,
            values=self.values,
            families=np.array(self.families),
            widths=np.array(self.widths, np.int32),
            features=np.array(self.features),
            cell=self.cell,
            **optional,
        )

    @classmethod
    def read(cls, path: str | Path) -> FamilyTable:
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise ValueError(f"there is no table {path}: give the .npz that data_prep has built") from None
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):  # TypeError: one bare array
            raise ValueError(f"{path} is not a readable .npz: build the table again with data_prep") from None
        missing = {"schema", "values", "families", "widths", "features", "cell"} - set(arrays)
        if missing or str(arrays["schema"]) != SCHEMA:
            found = f"lacks {', '.join(sorted(missing))}" if missing else f"has the schema {str(arrays['schema'])!r}"
            raise ValueError(f"{path} is not a family table: it {found}; the schema wanted is {SCHEMA!r}")
        kinds = {
            "values": ("fiub", 2),
            "widths": ("iu", 1),
            "families": ("U", 1),
            "features": ("U", 1),
            "cell": ("U", 1),
        }
        for name, (kind, dimensions) in kinds.items():
            if arrays[name].dtype.kind not in kind or arrays[name].ndim != dimensions:
                found = f"{arrays[name].dtype} of shape {arrays[name].shape}"
                raise ValueError(f"{path} is not a family table: its {name} are {found}; build it again with data_prep")
        families, widths, features = (tuple(arrays[name].tolist()) for name in ("families", "widths", "features"))
        known = {name: arrays.get(name) for name in ("label", "donor", "species")}
        return cls(
            values=arrays["values"].astype(np.float32),
            cell=arrays["cell"],
            families=families,
            widths=widths,
            features=features,
            **known,
        )

    def _labels(self) -> Text:
        if self.label is None:
            raise ValueError("the table has no labels: training needs one a cell")
        return self.label


def _check_shapes(table: FamilyTable) -> None:
    cells, columns = table.values.shape if table.values.ndim == 2 else (-1, -1)
    if cells < 1 or columns < 1:
        raise ValueError(f"values have shape {table.values.shape}: a table is [cell, column] with at least one of each")
    if len(table.families) != len(table.widths) or sum(table.widths) != columns or min(table.widths) < 1:
        raise ValueError(
            f"{len(table.families)} families of widths {table.widths} do not make up the {columns} columns of values"
        )
    if len(table.features) != columns:
        raise ValueError(f"there are {len(table.features)} feature names for {columns} columns")
    if len(set(table.families)) != len(table.families):
        raise ValueError(f"a family stands twice among {', '.join(table.families)}: names must differ")
    for name in ("cell", "label", "donor", "species"):
        column = getattr(table, name)
        if column is not None and np.shape(column) != (cells,):
            raise ValueError(f"{name} has shape {np.shape(column)}, but there are {cells} cells: give one a cell")


def _check_finite(table: FamilyTable) -> None:
    bad = np.argwhere(~np.isfinite(table.values))
    if len(bad):
        cell, column = bad[0]
        raise ValueError(
            f"feature {table.features[column]!r} of cell {table.cell[cell]} is {table.values[cell, column]}, and {len(bad) - 1} "
            f"other values are not finite: fill them from the training cells, or leave these cells or features out"
        )


def _check_cells(table: FamilyTable) -> None:
    names, counts = np.unique(table.cell, return_counts=True)
    if counts.max() > 1:
        raise ValueError(
            f"cell {names[counts.argmax()]} stands {counts.max()} times in the table: every cell needs an id of its own"
        )
    if table.label is not None and np.isin(table.label, ("", "nan", "None")).any():
        missing = np.flatnonzero(np.isin(table.label, ("", "nan", "None")))
        raise ValueError(
            f"cell {table.cell[missing[0]]} has no label, and {len(missing) - 1} others: label them or leave them out"
        )
