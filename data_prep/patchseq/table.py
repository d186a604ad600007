"""Table: cells x ordered feature families, with what is known of each cell. What it writes, ``jaxephys.patchseq`` reads.

A table is a folder::

    table.npz         schema, values, observed, families, widths, features, cell, about (the names of the columns of text),
                      about_<name> (one text a cell), provenance (JSON), sha256 (of the content)
    qc.csv            every cell and sweep that was dropped or repaired, with its reason
    provenance.json   where the values come from, once more for the eye

``values`` are float32 [cell, column]; NaN where nothing could be computed. ``observed`` is False where a value was not measured:
there it is NaN, or a stand-in (the mean of the neighbouring stimulus levels). What to do with the rest is decided when a
model is trained, on its training cells, and never here.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.npz import write_npz

SCHEMA = "jaxephys family table 2"
FILE = "table.npz"
# The columns of text that are known by name; others may stand beside them.
ABOUT = ("label", "subclass4", "subclass5", "subclass_raw", "t_type", "donor", "species", "condition", "structure")


class TableError(ValueError):
    """A table that cannot be made or read, in one sentence."""


@dataclass(frozen=True)
class Table:
    """Cells x columns, the columns grouped into families in their order."""

    cell: Sequence[str]
    families: Mapping[str, Sequence[str]]  # family -> the names of its features
    values: np.ndarray  # float32 [cell, column], NaN where there is nothing
    observed: np.ndarray  # bool [cell, column]
    about: Mapping[str, Sequence[str]] = field(default_factory=dict)  # column -> one text a cell, "" where unknown
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [str(name) for name in self.cell]
        repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if repeated:
            raise TableError(
                f"cell {repeated[0]} stands {names.count(repeated[0])} times: every cell needs an id of its own"
            )
        shape = (len(names), sum(map(len, self.families.values())))
        if self.values.shape != shape or self.observed.shape != shape:
            raise TableError(
                f"values {self.values.shape} and observed {self.observed.shape} do not fit {shape[0]} cells "
                f"x {shape[1]} features"
            )
        for name, column in self.about.items():
            if len(column) != len(names):
                raise TableError(f"column {name!r} has {len(column)} entries for {len(names)} cells")
        missing = ~np.isfinite(self.values) & self.observed
        if missing.any():
            row, column = np.argwhere(missing)[0]
            raise TableError(
                f"{self.features[column]} of cell {names[row]} is marked as observed and is {self.values[row, column]}"
            )

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def features(self) -> list[str]:
        return [feature for features in self.families.values() for feature in features]

    @property
    def widths(self) -> list[int]:
        return [len(features) for features in self.families.values()]

    def arrays(self) -> dict[str, np.ndarray]:
        """The content as it is stored."""
        about = {f"about_{name}": np.array([str(x) for x in column]) for name, column in self.about.items()}
        return {
            "values": np.asarray(self.values, np.float32),
            "observed": np.asarray(self.observed, bool),
            "families": np.array(list(self.families)),
            "widths": np.array(self.widths, np.int32),
            "features": np.array(self.features),
            "cell": np.array([str(name) for name in self.cell]),
            "about": np.array(list(self.about), dtype=str),
            **about,
        }

    @property
    def sha256(self) -> str:
        return content_hash(self.arrays())


def content_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes and bytes of the content, whatever the compression and the platform's width of text."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        plain = "\0".join(array.ravel()).encode() if array.dtype.kind == "U" else np.ascontiguousarray(array).tobytes()
        digest.update(f"{name}{array.shape}".encode() + plain)
    return digest.hexdigest()


def with_values(table: Table) -> tuple[Table, list[str]]:
    """The cells that have any value, and the ids of the others: no model can say anything of them."""
    empty = np.asarray(np.isnan(table.values).all(axis=1))
    keep = np.flatnonzero(~empty).tolist()
    about = {name: [column[i] for i in keep] for name, column in table.about.items()}
    cells = [table.cell[i] for i in keep]
    kept = Table(cells, table.families, table.values[keep], table.observed[keep], about, table.provenance)
    return kept, [table.cell[i] for i in np.flatnonzero(empty).tolist()]


def write_table(table: Table, folder: str | Path) -> Path:
    """Write the folder; a table that stood there is replaced in one step, never half."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = table.arrays()
    facts = {"schema": SCHEMA, "sha256": content_hash(arrays), "provenance": json.dumps(dict(table.provenance))}
    write_npz(folder / FILE, arrays | facts)
    shown = {"schema": SCHEMA, "sha256": facts["sha256"], "cells": len(table), **table.provenance}
    (folder / "provenance.json").write_text(json.dumps(shown, indent=2) + "\n", encoding="utf-8")
    return folder / FILE


def read_table(path: str | Path) -> Table:
    """Read a folder, or its ``table.npz``, and check that the content is what was written."""
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise TableError(f"there is no table {path}: build one with `python -m data_prep patchseq table`") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        raise TableError(f"{path} is not a readable table: build it again") from None
    if str(stored.get("schema")) != SCHEMA:
        raise TableError(f"{path} has the schema {stored.get('schema')}, not {SCHEMA!r}: build it again")
    facts = {name: str(stored.pop(name)) for name in ("schema", "sha256", "provenance")}
    if content_hash(stored) != facts["sha256"]:
        raise TableError(f"{path} is not what was written (its content hash differs): build it again")
    edges = np.cumsum(stored["widths"])[:-1]
    groups = np.split(stored["features"], edges)
    return Table(
        cell=stored["cell"].tolist(),
        families={str(name): group.tolist() for name, group in zip(stored["families"], groups, strict=True)},
        values=stored["values"],
        observed=stored["observed"],
        about={str(name): stored[f"about_{name}"].tolist() for name in stored["about"]},
        provenance=json.loads(facts["provenance"]),
    )
