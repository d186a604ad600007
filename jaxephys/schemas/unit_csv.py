"""The published layout: a folder of CSV files, one row a unit in one order throughout.

waveforms.csv, isi_dist.csv, acg.csv (any of them); labels.csv, metadata.csv, folds.csv (optional).
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.hippie.network.cvae import LENGTHS

CSV_FILES = {"wave": "waveforms.csv", "isi": "isi_dist.csv", "acg": "acg.csv"}
GROUPS = {"subject": ("subject", "subject_id"), "session": ("session", "session_id"), "technology": ("technology",)}
IDS = ("neuron_id", "unit_id")
INDEX = re.compile(r"(unnamed: \d+.*|index|)", re.IGNORECASE)  # how pandas heads a row index
NO_LABEL = ("", "nan", "none", "null", "na", "n/a", "unlabeled", "unlabelled", "unknown", "undefined")


def read_folder(folder: Path) -> dict[str, Any]:
    """The parts of a table."""
    paths = {name: folder / file for name, file in CSV_FILES.items()}
    read = {name: _numbers(path) for name, path in paths.items() if path.exists()}
    if not read:
        raise ValueError(f"{folder} has none of units.npz, {', '.join(CSV_FILES.values())}: at least one is needed")
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
    provenance = {"folder": folder.name, "files": used}
    return {"raw": raw, "unit": _ids(known, about, count), "about": columns, "provenance": provenance}


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


def clean_label(text: str) -> str:
    """Without blanks around it and the b'' that Python puts around printed bytes; "" where it says that there is none."""
    plain = " ".join(text.split())
    printed = re.fullmatch(r"""b(['"])(.*)\1""", plain)
    plain = printed.group(2).strip() if printed else plain
    return "" if plain.lower() in NO_LABEL else plain
