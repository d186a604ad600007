"""Reasons: why a cell, a sweep or a family was dropped, repaired or left empty. Nothing disappears without a row here."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

# Codes and what they mean. A code that is not here cannot be written.
REASONS = {
    # of a file or a cell
    "unreadable file": "the file is truncated, or no HDF5",
    "no current clamp": "the file holds no current-clamp sweep",
    "no stimulus metadata": "no sweep says which stimulus it had",
    "no usable sweep": "every sweep of the three protocols was refused",
    "duplicate cell": "another file holds a cell of the same id; the first in the order of paths is kept",
    "extraction failed": "an error that no rule foresaw; the detail names it",
    "worker died": "the process that held this file ended (memory, a fault in a library)",
    "timeout": "the file took longer than the time limit",
    "no label": "the table of labels does not know this cell, or gives it none",
    "label outside the classes": "the cell's type belongs to none of the subclasses",
    "pax6 or other (strict lamp5)": "a human cell of LAMP5/PAX6/Other whose type is not LAMP5",
    "repeated id": "rows of the table of labels disagree about this cell",
    "no ephys_session_id": "a row of the mouse metadata that names no recording",
    "no nwb_id": "a row of the human metadata that names no recording",
    "no recording": "the table of labels knows this cell, and there is no file of it",
    "no value": "the cell has none of the chosen features",
    # of a sweep
    "voltage clamp": "not a current-clamp sweep",
    "other stimulus": "a stimulus that no family uses",
    "no stimulus name": "the sweep does not say which stimulus it had",
    "no sweep number": "response and stimulus cannot be paired",
    "duplicate sweep number": "several responses, or several stimuli, have one number; which belong together is unknown",
    "no stimulus trace": "the response has no stimulus series",
    "no sampling rate": "the series gives no positive rate",
    "unknown unit": "the unit is neither volts nor amperes, plain or in a fraction",
    "empty sweep": "no samples",
    "nan in trace": "samples in the middle of the sweep are missing",
    "no stimulus step": "the injected current never changes, or only in the test pulse",
    "step of another length": "the step is not as long as the layout's; a wrongly found window looks the same",
    "ends early": "the recording stops before the step is over, or less than 0.2 s after it",
    # repairs of a sweep
    "cut to common length": "response and stimulus differed in length",
    "end cut": "trailing zeros or NaN of an aborted sweep",
    "resampled": "the rate is below 50 kHz or no multiple of it",
    "noisy current": "the recorded current was replaced by the step it shows",
    # of a family
    "no long square": "the cell has no usable long square",
    "no short square": "the cell has no usable short square",
    "no ramp": "the cell has no usable ramp",
    "no hyperpolarising step": "no long square below 0 pA without a spike",
    "no depolarising step": "no long square above 0 pA without a spike",
    "no spike": "no sweep of the protocol has a spike",
    "missing level": "a stimulus level was not recorded; its values are stand-ins from the neighbouring levels",
    "family failed": "IPFX raised an error; the detail names it",
}
DROPPED, REPAIRED, MISSING = "dropped", "repaired", "missing"


class Note(NamedTuple):
    """One row of ``qc.csv``: what happened to which part of which cell, and why."""

    what: str  # "cell", "sweep" or "family"
    name: str  # the number of the sweep or the name of the family; empty for the cell
    action: str  # DROPPED, REPAIRED or MISSING
    reason: str
    detail: str = ""


def note(what: str, name: object, action: str, reason: str, detail: object = "") -> Note:
    """A note whose code is known, in one line."""
    if reason not in REASONS:
        raise KeyError(f"reason {reason!r} is not in REASONS")
    return Note(what, str(name), action, reason, " ".join(str(detail).split())[:300])


def is_dropped(notes: Iterable[Note]) -> bool:
    """Do the notes say that the cell itself was left out?"""
    return any(row.what == "cell" and row.action == DROPPED for row in notes)


def write_qc(path: str | Path, rows: Iterable[tuple[str, Note]]) -> None:
    """``cell, what, name, action, reason, detail``, one row a note."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("cell", *Note._fields))
        writer.writerows((cell, *row) for cell, row in rows)


def read_qc(path: str | Path) -> list[tuple[str, Note]]:
    with open(path, newline="", encoding="utf-8") as file:
        return [(row.pop("cell"), Note(**row)) for row in csv.DictReader(file)]


def count_reasons(rows: Iterable[tuple[str, Note]]) -> list[tuple[str, str, str, int, int]]:
    """``what, action, reason, number of notes, number of cells``, the gravest first."""
    notes, cells = Counter(), {}
    for cell, row in rows:
        kind = (row.what, row.action, row.reason)
        notes[kind] += 1
        cells.setdefault(kind, set()).add(cell)
    order = {"cell": 0, "family": 1, "sweep": 2}
    return [
        (*kind, notes[kind], len(cells[kind])) for kind in sorted(notes, key=lambda k: (order[k[0]], k[1], -notes[k]))
    ]
