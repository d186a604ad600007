"""Folder: the published layout of CSV files, one row a unit in one order throughout -> units.

waveforms.csv  isi_dist.csv  acg.csv     numbers; any of them may be missing
labels.csv                               the label, and an index at most
metadata.csv                             subject, session, ids (optional)
super_regions.csv  area.csv              regions (optional; left out, with a note, where their rows do not fit)
folds.csv                                unit (row number), label, fold of a benchmark (optional)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_prep.units.labels import NAMES, clean_label, label_column
from data_prep.units.rows import read_lines, read_numbers, read_texts
from data_prep.units.table import Units, UnitsError, no_rows

FILES = {"waveform": "waveforms.csv", "isi": "isi_dist.csv", "acg": "acg.csv"}
REGIONS = {"super_region": "super_regions.csv", "region": "area.csv"}
# Our column of text -> what files call it.
ALIASES = {
    "subject": ("subject", "subject_id", "animal", "mouse", "donor"),
    "session": ("session", "session_id", "dataset_id", "recording", "eid"),
    "region": ("region", "area", "structure", "brain_area", "location", "acronym"),
}
Columns = Mapping[str, Sequence[str]]


def read_folder(folder: str | Path, *, label: str | None = None) -> Units:
    """Read a folder; ``label`` names the label's column in labels.csv ("first", "last" or its name). Nothing is scaled."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UnitsError(f"there is no folder {folder}: give one with {', '.join(FILES.values())} in it")
    present = {name: folder / file for name, file in FILES.items() if (folder / file).exists()}
    if not present:
        raise UnitsError(f"{folder} has none of {', '.join(FILES.values())}: at least one is needed")
    read = {name: read_numbers(path) for name, path in present.items()}
    counts = {present[name].name: len(values) for name, (values, _) in read.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{file} {count}" for file, count in counts.items())
        raise UnitsError(f"the files of {folder} have different numbers of rows ({said}): one row a unit in each")
    rows = next(iter(counts.values()))
    notes = [note for _, told in read.values() for note in told]
    for name, (values, told) in list(read.items()):
        if not values.any():
            read[name] = (no_rows(rows), told)
            notes.append(f"{present[name].name} holds nothing but zeros: no unit has this modality")
    about, names = about_units(folder, rows, label, notes)
    used = sorted(path for path in folder.glob("*.csv"))
    provenance = {
        "source": "csv",
        "folder": folder.resolve().name,
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in used},
        "notes": notes,
    }
    shapes, intervals, lags = (read[name][0] if name in read else no_rows(rows) for name in FILES)
    return Units(names, shapes, intervals, lags, about, provenance=provenance)


def about_units(folder: Path, rows: int, label: str | None, notes: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The columns of text, and the ids."""
    about: dict[str, list[str]] = {}
    if (folder / "labels.csv").exists():
        columns = read_texts(folder / "labels.csv", rows)
        about["label"] = list(columns[label_column(list(columns), label, "labels.csv")])
    else:
        notes.append("there is no labels.csv: no unit has a label")
    columns = read_texts(folder / "metadata.csv", rows) if (folder / "metadata.csv").exists() else {}
    about.update(aliased(columns))
    told = next((columns[name] for name in columns if name.lower() in NAMES), None)
    if told is not None and "label" in about:
        must_agree(about["label"], told, folder / "metadata.csv")
    for name, file in REGIONS.items():
        if (folder / file).exists():
            try:
                read = read_texts(folder / file, rows)
                about[name] = [clean_label(x) for x in list(read.values())[-1]]
            except UnitsError as error:
                notes.append(f"left out: {error}")
    if (folder / "folds.csv").exists():
        about["fold"] = read_folds(folder / "folds.csv", about.get("label"), rows)
    return about, unit_names(columns, about, rows)


def aliased(columns: Columns) -> dict[str, list[str]]:
    """What a table says of subject, session and region, whatever it calls them."""
    plain = {name.lower(): values for name, values in columns.items()}
    found = {ours: next((plain[name] for name in names if name in plain), None) for ours, names in ALIASES.items()}
    return {ours: [clean_label(x) for x in values] for ours, values in found.items() if values is not None}


def unit_names(columns: Columns, about: Columns, rows: int) -> list[str]:
    """The source's own ids if they are unique, with the session before them if that makes them so; else row numbers."""
    plain = {name.lower(): list(values) for name, values in columns.items()}
    own = next((plain[name] for name in ("neuron_id", "unit_id", "cluster_id", "id") if name in plain), [])
    in_session = [f"{session}/{name}" for session, name in zip(about.get("session", ()), own, strict=False)]
    for names in (own, in_session):
        if len(names) == rows and len(set(names)) == rows and all(names):
            return names
    return [f"row {row}" for row in range(rows)]


def must_agree(labels: Sequence[str], told: Sequence[str], path: Path) -> None:
    for row, (ours, theirs) in enumerate(zip(labels, told, strict=True)):
        if clean_label(ours) != clean_label(theirs):
            raise UnitsError(
                f"{path} calls row {row} {theirs!r} and labels.csv calls it {ours!r}: one of them is in another order"
            )


def read_folds(path: Path, labels: Sequence[str] | None, rows: int) -> list[str]:
    """The test fold of each unit, "" for units outside the benchmark."""
    columns = read_texts(path, len(read_lines(path)) - 1)
    if not {"unit", "fold"} <= set(columns):
        raise UnitsError(f"{path} has the columns {', '.join(columns)}: it needs unit and fold")
    folds = [""] * rows
    for i, (text, fold) in enumerate(zip(columns["unit"], columns["fold"], strict=True)):
        row = int(text) if text.strip().isdigit() else -1
        if not 0 <= row < rows:
            raise UnitsError(f"{path} names unit {text!r}: units are row numbers from 0 to {rows - 1}")
        if labels is not None and "label" in columns and clean_label(labels[row]) != clean_label(columns["label"][i]):
            raise UnitsError(
                f"{path} calls unit {row} {columns['label'][i]!r} and labels.csv calls it {labels[row]!r}: they are of other units"
            )
        folds[row] = fold
    return folds
