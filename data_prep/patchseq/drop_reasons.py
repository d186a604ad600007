"""Reason codes: why a cell, sweep or family was dropped, repaired or left without values.

The preparation writes one row of ``qc.csv`` for each such case, so that every recording is either in the table or has a row.
:data:`REASONS` lists the codes with their meaning; ``python -m data_prep patchseq reasons`` prints it.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

# Codes and their meaning. Other codes cannot be written.
REASONS = {
    # of a file or a cell
    "unreadable file": "the file is truncated or is not an HDF5 file",
    "no current clamp": "the file holds no current-clamp sweep",
    "no stimulus metadata": "no sweep of the file names its stimulus",
    "no usable sweep": "every sweep of the three protocols was dropped",
    "duplicate cell": "another file holds a cell with the same identifier; the first in the order of paths is kept",
    "extraction failed": "an unexpected error; the detail names it",
    "worker died": "the process that read this file ended (out of memory, or a crash in a library)",
    "timeout": "the file took longer than the time limit",
    "no label": "the table of labels does not contain this cell, or has no label for it",
    "label outside the classes": "the transcriptomic type of the cell belongs to none of the subclasses",
    "pax6 or other (strict lamp5)": "a human cell of LAMP5/PAX6/Other whose type is not LAMP5",
    "repeated id": "rows of the table of labels disagree about this cell",
    "no ephys_session_id": "a row of the mouse metadata without the identifier of a recording",
    "no nwb_id": "a row of the human metadata without the identifier of a recording",
    "no recording": "the table of labels contains this cell, but there is no file of it",
    "no value": "the cell has none of the chosen features",
    "too many missing values": "a smaller share of the chosen features was measured in the cell than was required",
    # of a sweep
    "voltage clamp": "not a current-clamp sweep",
    "other stimulus": "a stimulus that no family uses",
    "no stimulus name": "the sweep does not name its stimulus",
    "no sweep number": "response and stimulus cannot be paired",
    "duplicate sweep number": "several responses or several stimuli have this number, so that pairs are ambiguous",
    "no stimulus trace": "the response has no stimulus series",
    "no sampling rate": "the series has no positive sampling rate",
    "unknown unit": "the unit is neither volts nor amperes, with or without a prefix",
    "empty sweep": "no samples",
    "nan in trace": "samples in the middle of the sweep are missing",
    "no stimulus step": "the injected current never changes, or only in the test pulse",
    "step of another length": "the length of the step differs from that of the layout, or its onset or end was misdetected",
    "ends early": "the recording stops before the end of the step, or less than 0.2 s after it",
    # repairs of a sweep
    "cut to common length": "response and stimulus differed in length",
    "end cut": "trailing zeros or NaN of an aborted sweep",
    "resampled": "the sampling rate is below 50 kHz or not a multiple of it",
    "noisy current": "the recorded current was replaced by the noise-free step or ramp that fits it",
    # of a family
    "no long square": "the cell has no usable long square",
    "no short square": "the cell has no usable short square",
    "no ramp": "the cell has no usable ramp",
    "no hyperpolarising step": "no long square below 0 pA without a spike",
    "no depolarising step": "no long square above 0 pA without a spike",
    "no spike": "no sweep of the protocol has a spike",
    "missing level": "a stimulus level was not recorded; its values are substitutes from the neighbouring levels",
    "family failed": "IPFX raised an error; the detail names it",
}
DROPPED, REPAIRED, MISSING = "dropped", "repaired", "missing"
MAX_DETAIL = 300  # characters


class Note(NamedTuple):
    """A problem in one part of a cell and how it was handled. A row of ``qc.csv`` is the identifier of the cell and a note.

    Parameters
    ----------
    what : str
        "cell", "sweep" or "family".
    name : str
        Number of the sweep or name of the family; "" for the cell.
    action : str
        "dropped", "repaired" or "missing".
    reason : str
        A code of :data:`REASONS`.
    detail : str, default ""
        Numbers or an error message that belong to the reason.
    """

    what: str
    name: str
    action: str
    reason: str
    detail: str = ""


QcRow = tuple[str, Note]  # cell identifier, note


def note(what: str, name: object, action: str, reason: str, detail: object = "") -> Note:
    """Make a note after checking its reason code.

    Parameters
    ----------
    what : str
        "cell", "sweep" or "family".
    name : object
        Number of the sweep or name of the family; "" for the cell.
    action : str
        "dropped", "repaired" or "missing".
    reason : str
        A code of :data:`REASONS`.
    detail : object, default ""
        Further information; it is written on one line of at most 300 characters.

    Returns
    -------
    Note
        The note.

    Raises
    ------
    KeyError
        If the reason code is unknown.
    """
    if reason not in REASONS:
        raise KeyError(f"reason {reason!r} is not in REASONS")
    return Note(what, str(name), action, reason, " ".join(str(detail).split())[:MAX_DETAIL])


def is_dropped(notes: Iterable[Note]) -> bool:
    """Return whether the notes of a cell include that the cell itself was dropped.

    Parameters
    ----------
    notes : iterable of Note
        The notes of one cell.

    Returns
    -------
    bool
        True if one of them drops the cell.
    """
    return any(row.what == "cell" and row.action == DROPPED for row in notes)


def write_qc(path: str | Path, rows: Iterable[QcRow]) -> None:
    """Write ``qc.csv`` with the columns cell, what, name, action, reason and detail.

    Parameters
    ----------
    path : str or Path
        File to create or replace.
    rows : iterable of (str, Note)
        Cell identifier and note of each row.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("cell", *Note._fields))
        writer.writerows((cell, *row) for cell, row in rows)


def read_qc(path: str | Path) -> list[QcRow]:
    """Read a ``qc.csv``, for example to count how many cells of a class were lost for which reason.

    Parameters
    ----------
    path : str or Path
        A file that :func:`write_qc` has written.

    Returns
    -------
    list of (str, Note)
        Cell identifier and note of each row.
    """
    with open(path, newline="", encoding="utf-8") as file:
        return [(row.pop("cell"), Note(**row)) for row in csv.DictReader(file)]


def count_reasons(rows: Iterable[QcRow]) -> list[tuple[str, str, str, int, int]]:
    """Count notes and cells by reason.

    Parameters
    ----------
    rows : iterable of (str, Note)
        Rows of ``qc.csv``.

    Returns
    -------
    list of (what, action, reason, number of notes, number of cells)
        Reasons that concern cells first, then families, then sweeps; within these the most frequent first.
    """
    notes, cells = Counter(), {}
    for cell, row in rows:
        kind = (row.what, row.action, row.reason)
        notes[kind] += 1
        cells.setdefault(kind, set()).add(cell)
    order = {"cell": 0, "family": 1, "sweep": 2}
    kinds = sorted(notes, key=lambda kind: (order[kind[0]], kind[1], -notes[kind]))
    return [(*kind, notes[kind], len(cells[kind])) for kind in kinds]
