"""UnitTable: sorted units, their raw curves and what is known of them. Checked once, here, at the border.

Read from the ``units.npz`` that data_prep writes, or straight from a folder of CSV files.
"""

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
from jaxtyping import Bool, Int, Shaped

from jaxephys.hippie.network.cvae import LENGTHS
from jaxephys.hippie.preprocessing import informative
from jaxephys.schemas.unit_csv import read_folder

SCHEMA = "jaxephys units 1"
FILE = "units.npz"
STORED = {"wave": "waveform", "isi": "isi", "acg": "acg"}  # our name -> that of the file
TECHNOLOGIES = {"neuropixels": 0, "silicon_probe": 1, "juxtacellular": 2, "tetrode": 3}  # rows of the published table
Text = Shaped[np.ndarray, "cell"]


@dataclass(frozen=True)
class UnitTable:
    """Curves as they were stored, NaN throughout where a unit has none; nothing is scaled here. Unknown texts are "".

    ``about`` holds texts, one a unit: label, subject, session, technology, fold, ...; ``truth`` numbers of simulated units.
    """

    # The arrays come from outside and are checked below, in words: plain annotations.
    raw: Mapping[str, np.ndarray]  # wave, isi, acg -> float32 [cell, column]
    unit: np.ndarray
    about: Mapping[str, np.ndarray] = field(default_factory=dict)
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_units(self)
        for name, rows in self.raw.items():
            _check_curves(name, rows, self.unit)

    @classmethod
    def read(cls, path: str | Path) -> UnitTable:
        """From ``units.npz``, from the folder that holds one, or from a folder of CSV files."""
        path = Path(path)
        if not path.exists():
            raise ValueError(f"there are no units in {path}: give a units.npz, its folder, or a folder of CSV files")
        if path.is_dir() and not (path / FILE).exists():
            return cls(**read_folder(path))
        return _read_npz(path / FILE if path.is_dir() else path)

    @classmethod
    def of(
        cls,
        *,
        wave: np.ndarray | None = None,
        isi: np.ndarray | None = None,
        acg: np.ndarray | None = None,
        **about: str | Sequence[str] | np.ndarray,
    ) -> UnitTable:
        """From arrays [unit, column], those there are, and texts: label=, technology=, ...; one text is that of every unit."""
        given = {name: rows for name, rows in zip(LENGTHS, (wave, isi, acg), strict=True) if rows is not None}
        if not given:
            raise ValueError(f"no curves were given: give at least one of {', '.join(LENGTHS)}")
        count = len(next(iter(given.values())))
        nothing = np.zeros((count, 0), np.float32)
        raw = {name: np.asarray(given.get(name, nothing), np.float32) for name in LENGTHS}
        told = {
            name: np.full(count, text) if isinstance(text, str) else np.array(text, str) for name, text in about.items()
        }
        return cls(raw, np.array([f"row {row}" for row in range(count)]), told)

    def __len__(self) -> int:
        return len(self.unit)

    def __repr__(self) -> str:
        curves = ", ".join(f"{name} {n}" for name, n in zip(self.raw, self.present.sum(axis=0), strict=True))
        return f"UnitTable({len(self)} units: {curves}; {int((self.label != '').sum())} labelled)"

    @property
    def present(self) -> Bool[np.ndarray, "cell modality"]:
        """Which curves say anything, in the order of ``raw``."""
        return np.stack([informative(rows) for rows in self.raw.values()], axis=1)

    @property
    def name(self) -> Text:
        """The id of each unit with its data set before it, as far as that is known: "hull/12"."""
        folder = self.provenance.get("dataset") or self.provenance.get("folder") or ""
        sets = self.about.get("dataset", np.full(len(self), folder))
        return np.array([f"{place}/{unit}" if place else unit for place, unit in zip(sets, self.unit, strict=True)])

    @property
    def label(self) -> Text:
        return self.about.get("label", np.full(len(self), ""))

    @property
    def classes(self) -> Shaped[np.ndarray, "class"]:
        return np.unique(self.label[self.label != ""])

    def codes(self, classes: Shaped[np.ndarray, "class"] | None = None) -> Int[np.ndarray, "cell"]:
        """The label of each unit as its place in the sorted classes, -1 without one."""
        classes = self.classes if classes is None else classes
        unknown = np.setdiff1d(self.classes, classes)
        if len(unknown):
            raise ValueError(f"label {str(unknown[0])!r} is not one of the classes {', '.join(map(str, classes))}")
        return np.where(self.label == "", -1, np.searchsorted(classes, self.label)).astype(np.int32)

    @property
    def technology(self) -> Int[np.ndarray, "cell"]:
        """-1 where it is unknown: 0 is a technology, not "none"."""
        told = self.about.get("technology", np.full(len(self), ""))
        return np.array([TECHNOLOGIES.get(str(name), -1) for name in told], np.int32)

    def recorded_with(self, technology: str | None) -> UnitTable:
        """The same units, all of one technology; None: as the table has it."""
        if technology is None:
            return self
        return replace(self, about={**self.about, "technology": np.full(len(self), technology)})

    @property
    def fold(self) -> Int[np.ndarray, "cell"]:
        """The test fold of a benchmark, -1 for units outside it."""
        told = self.about.get("fold", np.full(len(self), ""))
        return np.array([int(text) if text != "" else -1 for text in told], np.int32)

    def groups(self, by: str) -> Text:
        """The subject or session of each unit, to keep together in folds."""
        told = self.about.get(by)
        if told is None or (told == "").any():
            where = "of no unit" if told is None else f"not of unit {self.unit[(told == '').argmax()]}"
            raise ValueError(f"the {by} is known {where}: folds cannot be grouped by it")
        return told

    def rows(self, chosen: Int[np.ndarray, "some"]) -> UnitTable:
        """The table of some units."""
        parts = {name: {k: v[chosen] for k, v in getattr(self, name).items()} for name in ("raw", "about", "truth")}
        return replace(self, unit=self.unit[chosen], **parts)

    def labelled(self, least: int = 1) -> UnitTable:
        """The units of classes that have at least so many."""
        names, counts = np.unique(self.label, return_counts=True)
        kept = names[(counts >= least) & (names != "")]
        return self.rows(np.flatnonzero(np.isin(self.label, kept)))

    @property
    def sha256(self) -> str:
        """Of curves, ids and texts."""
        about = {f"about_{name}": column for name, column in self.about.items()}
        return content_hash({"unit": self.unit, **{STORED[name]: rows for name, rows in self.raw.items()}, **about})


def content_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes and bytes, whatever the compression and the platform's width of text: as data_prep has it."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        plain = "\0".join(array.ravel()).encode() if array.dtype.kind == "U" else np.ascontiguousarray(array).tobytes()
        digest.update(f"{name}{array.shape}".encode() + plain)
    return digest.hexdigest()


def _read_npz(path: Path) -> UnitTable:
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):  # TypeError: one bare array
        raise ValueError(f"{path} is not a readable .npz: build the units again with data_prep") from None
    if str(stored.get("schema")) != SCHEMA:
        raise ValueError(f"{path} has the schema {stored.get('schema')}, not {SCHEMA!r}: build it again with data_prep")
    facts = {name: str(stored.pop(name, "")) for name in ("schema", "sha256", "provenance")}
    if content_hash(stored) != facts["sha256"]:
        raise ValueError(f"{path} is not what was written (its content hash differs): build it again with data_prep")
    raw = {ours: stored[theirs] for ours, theirs in STORED.items()}
    about = {str(name): stored[f"about_{name}"] for name in stored["about"]}
    truth = {str(name): stored[f"truth_{name}"] for name in stored["truths"]}
    return UnitTable(raw, stored["unit"], about, truth, json.loads(facts["provenance"]))


def _check_units(table: UnitTable) -> None:
    count = len(table.unit)
    if list(table.raw) != list(LENGTHS) or count < 1:
        raise ValueError(
            f"{count} units with {', '.join(table.raw)}: give at least one, with {', '.join(LENGTHS)} in order"
        )
    names, times = np.unique(table.unit, return_counts=True)
    if times.max() > 1:
        raise ValueError(f"unit {names[times.argmax()]} stands {times.max()} times in the table: each needs its own id")
    for name, column in {**table.raw, **table.about, **table.truth}.items():
        if len(column) != count or (name in table.raw and column.ndim != 2):
            raise ValueError(f"{name} has the shape {np.shape(column)} for {count} units: give one row a unit")
    strange = set(table.about.get("technology", ())) - {"", *TECHNOLOGIES}
    if strange:
        raise ValueError(f"there is no technology {str(min(strange))!r}: choose from {', '.join(TECHNOLOGIES)}")


def _check_curves(name: str, rows: np.ndarray, units: np.ndarray) -> None:
    missing = np.isnan(rows).all(axis=1)
    bad = {
        "is finite in part": ~missing & ~np.isfinite(rows).all(axis=1),
        "holds a number below 0": (rows < 0).any(axis=1) if name != "wave" else np.zeros(len(rows), bool),
    }
    for what, where in bad.items():
        if where.any():
            raise ValueError(f"{name} of unit {units[where.argmax()]} {what}: mend the row, or make all of it NaN")
