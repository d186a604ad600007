"""UnitTable: sorted units, their raw curves and what is known of them. Checked once, here, at the border.

Read from the ``units.npz`` that data_prep writes, or straight from the published layout of CSV files, one row a unit in one
order throughout: waveforms.csv, isi_dist.csv, acg.csv (any of them), labels.csv, metadata.csv, folds.csv (optional).
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from jaxephys.hippie.cvae import LENGTHS
from jaxephys.hippie.preprocess import informative

SCHEMA = "jaxephys units 1"
FILE = "units.npz"
STORED = {"wave": "waveform", "isi": "isi", "acg": "acg"}  # our name -> that of the file
CSV_FILES = {"wave": "waveforms.csv", "isi": "isi_dist.csv", "acg": "acg.csv"}
TECHNOLOGIES = {"neuropixels": 0, "silicon_probe": 1, "juxtacellular": 2, "tetrode": 3}  # rows of the published table
GROUPS = {"subject": ("subject", "subject_id"), "session": ("session", "session_id"), "technology": ("technology",)}
IDS = ("neuron_id", "unit_id")
INDEX = re.compile(r"(unnamed: \d+.*|index|)", re.IGNORECASE)  # how pandas heads a row index
NO_LABEL = ("", "nan", "none", "null", "na", "n/a", "unlabeled", "unlabelled", "unknown", "undefined")
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
            return _read_csv(path)
        return _read_npz(path / FILE if path.is_dir() else path)

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


def clean_label(text: str) -> str:
    """Without blanks around it and the b'' that Python puts around printed bytes; "" where it says that there is none."""
    plain = " ".join(text.split())
    printed = re.fullmatch(r"""b(['"])(.*)\1""", plain)
    plain = printed.group(2).strip() if printed else plain
    return "" if plain.lower() in NO_LABEL else plain


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


def _read_csv(folder: Path) -> UnitTable:
    paths = {name: folder / file for name, file in CSV_FILES.items()}
    read = {name: _numbers(path) for name, path in paths.items() if path.exists()}
    if not read:
        raise ValueError(f"{folder} has none of {FILE}, {', '.join(CSV_FILES.values())}: at least one is needed")
    counts = {CSV_FILES[name]: len(rows) for name, rows in read.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{file} {count}" for file, count in counts.items())
        raise ValueError(f"the files of {folder} have different numbers of rows ({said}): one row a unit in each")
    count = next(iter(counts.values()))
    raw = {name: read.get(name, np.zeros((count, 0), np.float32)) for name in LENGTHS}
    labels = [clean_label(text) for text in next(reversed(_texts(folder / "labels.csv", count).values()), [""] * count)]
    known = {name.lower(): column for name, column in _texts(folder / "metadata.csv", count).items()}
    if "label" in known and labels != [clean_label(text) for text in known["label"]]:
        raise ValueError(f"metadata.csv and labels.csv of {folder} tell different labels: one is in another order")
    about = {"label": labels}
    for name, theirs in GROUPS.items():
        told = next((known[one] for one in theirs if one in known), [])
        about[name] = [clean_label(text) for text in told]
    about["fold"] = _folds(folder / "folds.csv", labels)
    columns = {name: np.array(column, dtype=str) for name, column in about.items() if any(column)}
    used = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.csv"))}
    return UnitTable(raw, _ids(known, about, count), columns, provenance={"folder": folder.name, "files": used})


def _numbers(path: Path) -> np.ndarray:
    """Rows of numbers. Columns headed as a row index go: rows are often sorted by class, and the index tells it."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if len(lines) < 2:
        raise ValueError(f"{path} holds no rows: give a header and one row a unit")
    kept = [i for i, name in enumerate(lines[0]) if not INDEX.fullmatch(name.strip())]
    try:
        header = np.array([lines[0][i] for i in kept], float)
    except ValueError:
        header = None
    if header is not None and len(header) > 1 and not np.allclose(np.diff(header), 1.0):
        raise ValueError(f"the first line of {path} is a unit, not a header: write the file with a header 0, 1, 2, ...")
    try:
        values = np.array([[line[i] or "nan" for i in kept] for line in lines[1:]], np.float32)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is no table of numbers ({error}): one row a unit, one number a column") from None
    values[~np.isfinite(values).all(axis=1)] = np.nan
    return values


def _texts(path: Path, count: int | None) -> dict[str, list[str]]:
    """Columns of text under their names, without row indices; nothing where there is no file."""
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        names, *lines = csv.reader(file)
    if (count is not None and len(lines) != count) or any(len(line) != len(names) for line in lines):
        raise ValueError(f"{path} has {len(lines)} rows of {len(names)} columns for {count} units: one full row a unit")
    columns = dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))
    return {name: column for name, column in columns.items() if len(names) == 1 or not INDEX.fullmatch(name.strip())}


def _folds(path: Path, labels: Sequence[str]) -> list[str]:
    told = _texts(path, None)
    folds = [""] * len(labels)
    for unit, label, fold in zip(*(told.get(name, []) for name in ("unit", "label", "fold")), strict=True):
        row = int(unit) if unit.isdigit() else -1
        if not 0 <= row < len(labels) or labels[row] != clean_label(label) or not fold.isdigit():
            raise ValueError(f"{path} has unit {unit!r} of class {label!r} in fold {fold!r}: it is of other units")
        folds[row] = fold
    return folds


def _ids(known: Mapping[str, list[str]], about: Mapping[str, list[str]], count: int) -> np.ndarray:
    """The source's own if they are unique, with the session before them if that makes them so, else row numbers."""
    own = next((known[name] for name in IDS if name in known), [])
    in_session = [f"{session}/{name}" for session, name in zip(about.get("session", ()), own, strict=False)]
    for names in (own, in_session):
        if len(set(names)) == count and all(names):
            return np.array(names)
    return np.array([f"row {row}" for row in range(count)])


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
