"""Extract: sweeps -> the families and the record of one cell, from arrays or from a file."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_prep.patchseq.cell_record import NEW, OLD, new_record, old_record
from data_prep.patchseq.drop_reasons import DROPPED, Note, is_dropped, note
from data_prep.patchseq.families import Cell, Layout, analyse, attempt, vectors
from data_prep.patchseq.nwb import UnreadableFile, cell_of, read_recording
from data_prep.patchseq.published_families import paper_vectors
from data_prep.patchseq.stimulus import prepare
from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE, Recording, Sweep

PRESETS = ("ipfx", "paper")


@dataclass(frozen=True)
class CellResult:
    """What came of one cell: families with their masks, the two records, and a note for all that is not as it should be."""

    families: dict[str, tuple[np.ndarray, np.ndarray]]  # family -> values, observed
    old: dict[str, float]
    new: dict[str, float]
    notes: list[Note]

    @property
    def dropped(self) -> bool:
        return is_dropped(self.notes)


def extract_cell(
    sweeps: Sequence[Sweep] | Recording, *, preset: str = "ipfx", layout: Layout | None = None
) -> CellResult:
    """Families and scalar features of one cell.

    ``sweeps`` are arrays of one's own (``Sweep(number, stimulus, voltage in mV, current in pA, rate in Hz)``), in any order; the
    stimulus is "long square", "short square", "ramp", or a name or code of the Allen ontology. ``preset`` is "ipfx" (13
    families of IPFX and inst_freq_norm) or "paper" (the twelve of the published study).
    """
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}: choose one of {', '.join(PRESETS)}")
    layout = layout or Layout()
    recording = sweeps if isinstance(sweeps, Recording) else Recording("cell", tuple(sweeps))
    notes = [note("sweep", number, DROPPED, reason) for number, reason in recording.refused.items()]
    with _quiet():
        cell = _prepared(recording, layout, notes)
        if not (cell.long or cell.short or cell.ramp):
            notes.append(note("cell", "", DROPPED, "no usable sweep", _why(notes)))
            return CellResult({}, {}, {}, notes)
        analyse(cell)
        old = attempt(cell, "record", lambda: old_record(cell)) or dict.fromkeys(OLD, np.nan)
        new = attempt(cell, "record", lambda: new_record(cell)) or dict.fromkeys(NEW, np.nan)
        families = vectors(cell, layout) if preset == "ipfx" else paper_vectors(cell)
    return CellResult(families, old, new, notes)


def _prepared(recording: Recording, layout: Layout, notes: list[Note]) -> Cell:
    groups: dict[str, list[Any]] = {LONG_SQUARE: [], SHORT_SQUARE: [], RAMP: []}
    numbers = Counter(sweep.number for sweep in recording.sweeps)
    for sweep in sorted(recording.sweeps, key=lambda sweep: sweep.number):
        if sweep.protocol is None or numbers[sweep.number] > 1:
            reason = "other stimulus" if sweep.protocol is None else "duplicate sweep number"
            notes.append(note("sweep", sweep.number, DROPPED, reason, sweep.stimulus))
            continue
        ready, remarks = prepare(sweep, layout.step)
        notes.extend(remarks)
        if ready is not None:
            groups[sweep.protocol].append(ready)
    return Cell(groups[LONG_SQUARE], groups[SHORT_SQUARE], groups[RAMP], layout.step, notes)


def _why(notes: list[Note]) -> str:
    """The commonest reasons of the sweeps, so that the cell's own row says what to mend."""
    return ", ".join(f"{count} x {reason}" for reason, count in Counter(row.reason for row in notes).most_common(3))


def extract_file(
    file: str | Path | IO[bytes] | RawIOBase,
    *,
    name: str | None = None,
    preset: str = "ipfx",
    layout: Layout | None = None,
    reader: str = "h5py",
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """One file as arrays and facts that can be stored; a file that gives no cell has a note and no arrays."""
    cell, donor = cell_of(name or str(file))
    try:
        recording = read_recording(file, name=name, reader=reader)
    except UnreadableFile as why:
        notes = [note("cell", "", DROPPED, why.reason, why.detail)]
        return {}, {"cell": cell, "donor": donor, "species": "", "source": {}, "notes": notes}
    result = extract_cell(recording, preset=preset, layout=layout)
    facts = {
        "cell": recording.cell,
        "donor": recording.donor,
        "species": recording.species,
        "source": dict(recording.source),
        "notes": [list(row) for row in result.notes],
    }
    if result.dropped:
        return {}, facts
    arrays = {
        "values": np.concatenate([values for values, _ in result.families.values()]).astype(np.float32),
        "observed": np.concatenate([observed for _, observed in result.families.values()]),
        "old": np.array(list(result.old.values()), np.float32),
        "new": np.array(list(result.new.values()), np.float32),
    }
    return arrays, facts


@contextmanager
def _quiet() -> Iterator[None]:
    """IPFX warns through the root logger and through NumPy of each oddity; the notes say the same by name."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
