"""The published layout of unit data: a folder of CSV files with one row per unit, in the same order in every file::

    waveforms.csv, isi_dist.csv, acg.csv   numbers, one curve per row; at least one of the files
    labels.csv                             the class of each unit (optional)
    metadata.csv                           subject, session, region, technology, identifiers (optional)
    super_regions.csv, area.csv            brain regions (optional; left out, with a note, if the rows do not fit)
    folds.csv                              columns unit (row number), label, fold: folds of a benchmark (optional)

Start with :func:`read_folder`. Row indices that pandas has written are dropped, since rows are often sorted by class and
the index would then reveal the class.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.schemas.storage import DataError

CURVE_FILES = {"wave": "waveforms.csv", "isi": "isi_dist.csv", "acg": "acg.csv"}
REGION_FILES = {"super_region": "super_regions.csv", "region": "area.csv"}
# Text column of a table: names of that column in metadata.csv.
COLUMN_NAMES = {
    "subject": ("subject", "subject_id", "animal", "mouse", "donor"),
    "session": ("session", "session_id", "dataset_id", "recording", "eid"),
    "region": ("region", "area", "structure", "brain_area", "location", "acronym"),
    "technology": ("technology",),
}
UNIT_NAMES = ("neuron_id", "unit_id", "cluster_id", "id")
LABEL_NAMES = ("label", "labels", "cell_type", "celltype", "class", "expert_label", "ground_truth_label")
NO_LABEL = ("", "nan", "none", "null", "na", "n/a", "unlabeled", "unlabelled", "unknown", "undefined")
INDEX_NAME = re.compile(r"(unnamed: \d+.*|index|)", re.IGNORECASE)  # the header that pandas gives a row index
EMPTY_FIELD = re.compile(r"^(?=,)|(?<=,)(?=,|$)")
PRINTED_BYTES = re.compile(r"""b(['"])(.*)\1""")
Columns = Mapping[str, Sequence[str]]


def read_folder(folder: str | Path, *, label: str | None = None) -> dict[str, Any]:
    """Read a folder of CSV files.

    Parameters
    ----------
    folder : str or Path
        The folder.
    label : str, optional
        Column of ``labels.csv`` that holds the class: its name, ``"first"`` or ``"last"``. By default it is the only
        column, or the only one with a usual name.

    Returns
    -------
    dict
        The arguments of :class:`~jaxephys.schemas.unit_table.UnitTable`: ``raw``, ``unit``, ``about`` and
        ``provenance``. Labels are those of the file, not cleaned; ``provenance["notes"]`` lists what was dropped.

    Raises
    ------
    DataError
        If a file is missing or malformed, or if files disagree.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> folder = Path(mkdtemp())
    >>> _ = (folder / "isi_dist.csv").write_text("Unnamed: 0,0,1\\n0,4,0\\n1,2,2\\n")
    >>> parts = read_folder(folder)
    >>> parts["raw"]["isi"].tolist(), parts["unit"].tolist()
    ([[4.0, 0.0], [2.0, 2.0]], ['row 0', 'row 1'])
    >>> parts["provenance"]["notes"][0]
    "isi_dist.csv: column 'Unnamed: 0' is a row index and was dropped"
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: give one that holds {', '.join(CURVE_FILES.values())}")
    paths = {name: folder / file for name, file in CURVE_FILES.items() if (folder / file).exists()}
    if not paths:
        raise DataError(f"{folder} has none of units.npz, {', '.join(CURVE_FILES.values())}: at least one is needed")
    read = {name: _read_numbers(path) for name, path in paths.items()}
    counts = {paths[name].name: len(curves) for name, (curves, _) in read.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{file} {count}" for file, count in counts.items())
        raise DataError(
            f"the files of {folder} have different numbers of rows ({listed}): give one row per unit in each"
        )
    count = next(iter(counts.values()))
    notes = [note for _, file_notes in read.values() for note in file_notes]
    raw = {name: read[name][0] if name in read else np.zeros((count, 0), np.float32) for name in CURVE_FILES}
    for name, path in paths.items():
        if not raw[name].any():
            raw[name] = np.zeros((count, 0), np.float32)
            notes.append(f"{path.name} holds only zeros: no unit has this modality")
    about, unit = _read_about(folder, count, label, notes)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.csv"))}
    provenance = {"source": "csv", "folder": folder.resolve().name, "files": files, "notes": notes}
    columns = {name: np.array(column, str) for name, column in about.items()}
    return {"raw": raw, "unit": np.array(unit, str), "about": columns, "provenance": provenance}


def clean_label(text: object) -> str:
    """Return a text of a file without blanks around it, and ``""`` if it means that there is none.

    Parameters
    ----------
    text : object
        Text, or bytes, which are decoded; also bytes that were printed, such as ``"b'PkC_ss'"``.

    Returns
    -------
    str
        The text with single blanks, ``""`` for "unknown", "unlabeled", "nan", "n/a" and the like.

    Examples
    --------
    >>> [clean_label(text) for text in ("b'PkC_ss'", " FS  4.0 ", b"PV", "Unlabelled", "nan")]
    ['PkC_ss', 'FS 4.0', 'PV', '', '']
    """
    plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    plain = " ".join(plain.split())
    printed = PRINTED_BYTES.fullmatch(plain)
    plain = printed.group(2).strip() if printed else plain
    return "" if plain.lower() in NO_LABEL else plain


def label_column(columns: Sequence[str], requested: str | None, source: str) -> str:
    """Return the name of the column that holds the class.

    Parameters
    ----------
    columns : sequence of str
        Names of all columns.
    requested : str or None
        A name, ``"first"``, ``"last"``, or ``None`` for the only column or the only one whose name is in
        ``LABEL_NAMES``.
    source : str
        Description of the table for error messages, such as ``"labels.csv"``.

    Returns
    -------
    str
        One of ``columns``.

    Raises
    ------
    DataError
        If there is no such column, or if several could be meant.

    Examples
    --------
    >>> label_column(["layer", "cell_type"], None, "labels.csv")
    'cell_type'
    """
    columns = list(columns)
    if requested in ("first", "last") and requested not in columns and columns:
        return columns[0] if requested == "first" else columns[-1]
    if requested is not None:
        if requested not in columns:
            raise DataError(f"{source} has no column {requested!r}: choose from {', '.join(columns)}, first or last")
        return requested
    known = [column for column in columns if column.lower() in LABEL_NAMES]
    if len(known) == 1 or len(columns) == 1:
        return (known or columns)[0]
    raise DataError(f"{source} has the columns {', '.join(columns)}: choose the label with --label")


# Curves.


def _read_numbers(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read float32 [row, column] and notes. The first line is a header if it counts up by one or holds words."""
    lines = _read_lines(path)
    fields = next(csv.reader(lines[:1]))
    index = [i for i, name in enumerate(fields) if INDEX_NAME.fullmatch(name.strip())]
    has_header = _is_header([name for i, name in enumerate(fields) if i not in index], path)
    if not has_header:
        index = []  # an empty field in a row of data
    if len(lines) == has_header:
        raise DataError(f"{path} holds no rows: give a header and one row per unit")
    filled = [EMPTY_FIELD.sub("nan", line) for line in lines[has_header:]]  # empty fields are missing values
    try:
        values = np.loadtxt(filled, delimiter=",", ndmin=2, comments=None)
    except ValueError as error:
        raise DataError(
            f"{path} is not a table of numbers ({error}): give one row per unit, one number per column"
        ) from None
    notes = [] if has_header else [f"{path.name} has no header: its first line is a unit"]
    if index:
        dropped = ", ".join(repr(fields[i]) for i in index)
        notes.append(f"{path.name}: column {dropped} is a row index and was dropped")
        values = np.delete(values, index, axis=1)
    incomplete = ~np.isfinite(values).all(axis=1)
    if incomplete.any():
        notes.append(f"{path.name}: {int(incomplete.sum())} rows hold values that are not finite and count as missing")
        values[incomplete] = np.nan
    return values.astype(np.float32), notes


def _read_lines(path: Path) -> list[str]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error}): give a CSV file") from None
    if not lines:
        raise DataError(f"{path} is empty: write its rows, or leave the file out")
    return lines


def _is_header(fields: list[str], path: Path) -> bool:
    """Whether a line holds names, or a count such as 0,1,2 or -100.00,-99.00. Other numbers are data."""
    numbers = [_number(field) for field in fields]
    known = [x for x in numbers if x is not None]
    counts_up = len(known) > 1 and bool(np.allclose(np.diff(known), 1.0))
    if len(known) == len(fields):
        return counts_up
    if len(known) > len(fields) / 2 and not counts_up:  # pandas renames repeated values of a data row: 0.0.1
        odd = next(field for field, x in zip(fields, numbers, strict=True) if x is None)
        raise DataError(
            f"the first line of {path} is a unit that was taken for a header ({odd!r} among numbers): write the file again "
            "from the data, with a header 0, 1, 2, ..."
        )
    return True


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# Text.


def _read_about(
    folder: Path, count: int, label: str | None, notes: list[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Read the text columns and the identifiers; append to ``notes`` what is missing or left out."""
    about: dict[str, list[str]] = {}
    if (folder / "labels.csv").exists():
        columns = _read_texts(folder / "labels.csv", count)
        about["label"] = columns[label_column(list(columns), label, "labels.csv")]
    else:
        notes.append("there is no labels.csv: no unit has a label")
    metadata = _read_texts(folder / "metadata.csv", count) if (folder / "metadata.csv").exists() else {}
    metadata = {name.lower(): column for name, column in metadata.items()}
    for name, names in COLUMN_NAMES.items():
        column = next((metadata[other] for other in names if other in metadata), None)
        if column is not None:
            about[name] = [clean_label(text) for text in column]
    same = next((metadata[name] for name in metadata if name in LABEL_NAMES), None)
    if same is not None and "label" in about:
        _check_same_labels(about["label"], same, folder / "metadata.csv")
    for name, file in REGION_FILES.items():
        if (folder / file).exists():
            try:
                about[name] = [clean_label(text) for text in list(_read_texts(folder / file, count).values())[-1]]
            except DataError as error:
                notes.append(f"left out: {error}")
    if (folder / "folds.csv").exists():
        about["fold"] = _read_folds(folder / "folds.csv", about.get("label"), count)
    return about, _unit_names(metadata, about, count)


def _read_texts(path: Path, count: int) -> dict[str, list[str]]:
    """Read the columns of a CSV file of text without a row index. A file of exactly ``count`` lines has no header."""
    try:
        lines = list(csv.reader(_read_lines(path)))
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file ({error}): write it again") from None
    named = any(
        name.strip().lower() in (*LABEL_NAMES, *UNIT_NAMES, *sum(COLUMN_NAMES.values(), ())) for name in lines[0]
    )
    if len(lines) != count + 1 and (len(lines) != count or named):
        raise DataError(
            f"{path} has {len(lines) - 1} rows (and a header) for {count} units: give one row per unit, in the order of the curves"
        )
    if not count:
        raise DataError(f"{path} holds no rows: give a header and one row per unit, or leave the file out")
    widths = {len(line) for line in lines}
    if len(widths) > 1:
        raise DataError(f"the rows of {path} have {min(widths)} to {max(widths)} fields: give each the same number")
    names = lines[0] if len(lines) == count + 1 else [f"column {i}" for i in range(len(lines[0]))]
    columns = zip(*lines[len(lines) - count :], strict=True)
    return {
        name.strip(): list(column)
        for name, column in zip(names, columns, strict=True)
        if len(names) == 1 or not INDEX_NAME.fullmatch(name.strip())
    }


def _check_same_labels(labels: Sequence[str], others: Sequence[str], path: Path) -> None:
    for row, (one, other) in enumerate(zip(labels, others, strict=True)):
        if clean_label(one) != clean_label(other):
            raise DataError(
                f"{path} has the label {other!r} in row {row} and labels.csv has {one!r}: one of them is in another order"
            )


def _read_folds(path: Path, labels: Sequence[str] | None, count: int) -> list[str]:
    """Read the test fold of each unit, "" for units outside the benchmark."""
    columns = _read_texts(path, len(_read_lines(path)) - 1)
    if not {"unit", "fold"} <= set(columns):
        raise DataError(f"{path} has the columns {', '.join(columns)}: it needs unit and fold")
    folds = [""] * count
    for i, (unit, fold) in enumerate(zip(columns["unit"], columns["fold"], strict=True)):
        row = int(unit) if unit.strip().isdigit() else -1
        if not 0 <= row < count or not fold.strip().isdigit():
            raise DataError(
                f"{path} has unit {unit!r} in fold {fold!r}: units are row numbers from 0 to {count - 1}, folds whole numbers"
            )
        if labels is not None and "label" in columns and clean_label(labels[row]) != clean_label(columns["label"][i]):
            raise DataError(
                f"{path} has the label {columns['label'][i]!r} for unit {row} and labels.csv has {labels[row]!r}: the folds belong "
                "to other units"
            )
        folds[row] = fold
    return folds


def _unit_names(metadata: Columns, about: Columns, count: int) -> list[str]:
    """Return the identifiers of the source, or "session/identifier", whichever is unique first; else row numbers."""
    names = next((list(metadata[name]) for name in UNIT_NAMES if name in metadata), [])
    in_session = [f"{session}/{name}" for session, name in zip(about.get("session", ()), names, strict=False)]
    for candidates in (names, in_session):
        if len(set(candidates)) == count and all(candidates):
            return candidates
    return [f"row {row}" for row in range(count)]
