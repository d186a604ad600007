"""FeatureTable: cells x ordered feature families, as arrays and as a file. Checked once, here, at the border."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

SCHEMA = "jaxephys family table 2"
FILE = "table.npz"  # of a table that is a folder
OWN = ("label", "donor", "species")  # the texts that are fields; others are in `about`
Text = Shaped[np.ndarray, "cell"]


@dataclass(frozen=True)
class FeatureTable:
    """Features of cells, one family after the other.

    A NaN is a missing value: what stands in for it is decided when a model is trained, from its training cells. ``observed``
    says in addition which values were measured; one that was not may be a stand-in of the extraction.

    On disk it is an ``.npz`` (alone, or as ``table.npz`` in a folder of data_prep) with ``schema``, ``values`` (float32 [cell,
    column]), ``observed`` (bool, alike), ``families`` and ``widths`` (one a family, in order), ``features`` (one a column),
    ``cell``, ``about`` (the names of what is known in words: label, donor, species, subclass4, condition, ...), an
    ``about_<name>`` (one text a cell, "" where unknown) for each, ``provenance`` (JSON) and the ``sha256`` of it all.
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
    observed: np.ndarray | None = None  # bool [cell, column]; None: all that is no NaN
    about: Mapping[str, np.ndarray] = field(default_factory=dict)  # other texts, one a cell
    provenance: Mapping[str, Any] = field(default_factory=dict)

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
    ) -> FeatureTable:
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
        return f"FeatureTable({len(self)} cells, {len(self.families)} families, {self.values.shape[1]} features, {classes})"

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

    def rows(self, chosen: Int[np.ndarray, "some"]) -> FeatureTable:
        """The table of some cells."""
        per_cell = {name: getattr(self, name) for name in ("values", "cell", "observed", *OWN)}
        kept = {name: None if column is None else column[chosen] for name, column in per_cell.items()}
        return replace(self, **kept, about={name: column[chosen] for name, column in self.about.items()})

    def labelled(self, by: str) -> FeatureTable:
        """The cells that have a text ``by`` (subclass4, subclass5, condition, ...), with it as their label."""
        if by not in self.about:
            raise ValueError(f"the table knows no {by!r} of its cells: it knows {', '.join(self.about) or 'nothing'}")
        chosen = replace(self, label=None).rows(np.flatnonzero(self.about[by] != ""))
        return replace(chosen, label=chosen.about[by])

    def save(self, path: str | Path) -> None:
        own = {name: getattr(self, name) for name in OWN if getattr(self, name) is not None}
        about = {**own, **self.about}
        arrays = {
            "values": self.values,
            "observed": np.isfinite(self.values) if self.observed is None else self.observed,
            "families": np.array(self.families),
            "widths": np.array(self.widths, np.int32),
            "features": np.array(self.features),
            "cell": self.cell,
            "about": np.array(list(about), dtype=str),
            **{f"about_{name}": column for name, column in about.items()},
        }
        facts = {"schema": SCHEMA, "provenance": json.dumps(dict(self.provenance)), "sha256": content_hash(arrays)}
        with open(path, "wb") as file:  # savez would append .npz to a name without it
            np.savez_compressed(file, **(arrays | facts))  # pyright: ignore[reportArgumentType]

    @classmethod
    def read(cls, path: str | Path) -> FeatureTable:
        """From an ``.npz``, or from the folder that data_prep has written."""
        path = Path(path) / FILE if Path(path).is_dir() else Path(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise ValueError(f"there is no table {path}: give the .npz that data_prep has built") from None
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):  # TypeError: one bare array
            raise ValueError(f"{path} is not a readable .npz: build the table again with data_prep") from None
        texts = {f"about_{name}" for name in arrays.get("about", ())}
        missing = {"schema", "sha256", "provenance", "about", *KINDS, *texts} - set(arrays)
        if missing or str(arrays["schema"]) != SCHEMA:
            found = f"lacks {', '.join(sorted(missing))}" if missing else f"has the schema {str(arrays['schema'])!r}"
            raise ValueError(f"{path} is not a family table: it {found}; the schema wanted is {SCHEMA!r}")
        for name, (kind, dimensions) in KINDS.items():
            if arrays[name].dtype.kind not in kind or arrays[name].ndim != dimensions:
                found = f"{arrays[name].dtype} of shape {arrays[name].shape}"
                raise ValueError(f"{path} is not a family table: its {name} are {found}; build it again with data_prep")
        facts = {name: str(arrays.pop(name)) for name in ("schema", "sha256", "provenance")}
        if content_hash(arrays) != facts["sha256"]:
            raise ValueError(
                f"{path} is not what was written (its content hash differs): build it again with data_prep"
            )
        families, widths, features = (tuple(arrays[name].tolist()) for name in ("families", "widths", "features"))
        about = {str(name): arrays[f"about_{name}"] for name in arrays["about"]}
        return cls(
            values=arrays["values"].astype(np.float32),
            cell=arrays["cell"],
            families=families,
            widths=widths,
            features=features,
            **{name: about.pop(name) for name in OWN if name in about and (about[name] != "").any()},
            observed=arrays["observed"],
            about=about,
            provenance=json.loads(facts["provenance"]),
        )

    def _labels(self) -> Text:
        if self.label is None:
            raise ValueError("the table has no labels: training needs one a cell")
        return self.label


KINDS = {
    "values": ("fiub", 2),
    "observed": ("b", 2),
    "widths": ("iu", 1),
    "families": ("U", 1),
    "features": ("U", 1),
    "cell": ("U", 1),
}


def content_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes and bytes of what is stored, whatever the compression and the platform's width of text."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        plain = "\0".join(array.ravel()).encode() if array.dtype.kind == "U" else np.ascontiguousarray(array).tobytes()
        digest.update(f"{name}{array.shape}".encode() + plain)
    return digest.hexdigest()


def _check_shapes(table: FeatureTable) -> None:
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
    if table.observed is not None and np.shape(table.observed) != (cells, columns):
        raise ValueError(f"observed has shape {np.shape(table.observed)}, but the values have {table.values.shape}")
    for name, column in {"cell": table.cell, **{name: getattr(table, name) for name in OWN}, **table.about}.items():
        if column is not None and np.shape(column) != (cells,):
            raise ValueError(f"{name} has shape {np.shape(column)}, but there are {cells} cells: give one a cell")


def _check_finite(table: FeatureTable) -> None:
    """A NaN is a missing value. An infinity is a fault, and so is a value that is marked as observed and missing."""
    for bad, what in (
        (np.isinf(table.values), "it is neither a number nor missing"),
        (_claimed(table), "it is marked as observed"),
    ):
        if bad.any():
            cell, column = np.argwhere(bad)[0]
            raise ValueError(
                f"feature {table.features[column]!r} of cell {table.cell[cell]} is {table.values[cell, column]}, and {what}: "
                f"give NaN where a value is missing"
            )
    empty = np.isnan(table.values).all(axis=1)
    if empty.any():
        raise ValueError(f"cell {table.cell[empty.argmax()]} has no value at all: leave it out")


def _claimed(table: FeatureTable) -> np.ndarray:
    return np.zeros_like(table.values, bool) if table.observed is None else np.isnan(table.values) & table.observed


def _check_cells(table: FeatureTable) -> None:
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
