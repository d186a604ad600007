"""Extract the feature families and scalar features of one cell, from arrays or from an NWB file."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import IOBase
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_prep.patchseq.cell_record import NEW_NAMES, OLD_NAMES, new_record, old_record
from data_prep.patchseq.drop_reasons import DROPPED, Note, is_dropped, note
from data_prep.patchseq.families import CellSweeps, FeatureVector, Layout, analyze, attempt, feature_vectors
from data_prep.patchseq.nwb import UnreadableFile, ids_from_path, read_recording
from data_prep.patchseq.published_families import published_vectors
from data_prep.patchseq.stimulus import prepare_sweep
from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE, Recording, Sweep

PRESETS = ("ipfx", "paper")


@dataclass(frozen=True)
class CellResult:
    """Features of one cell.

    Parameters
    ----------
    families : dict of str to (ndarray of float, ndarray of bool), each of shape (width,)
        Values and observed mask of each family; empty if the cell was dropped.
    old : dict of str to float
        Scalar features under the names of the old IPFX cell record, see :mod:`data_prep.patchseq.cell_record`.
    new : dict of str to float
        Scalar features under the newer names.
    notes : list of Note
        Everything that was dropped, repaired or missing.
    """

    families: dict[str, FeatureVector]
    old: dict[str, float]
    new: dict[str, float]
    notes: list[Note]

    @property
    def dropped(self) -> bool:
        """Whether the cell gives no features; the last note has the reason."""
        return is_dropped(self.notes)


def extract_cell(
    sweeps: Sequence[Sweep] | Recording, *, preset: str = "ipfx", layout: Layout | None = None
) -> CellResult:
    """Compute the feature families and scalar features of one cell.

    Parameters
    ----------
    sweeps : sequence of Sweep, or Recording
        All sweeps of the cell in any order (voltage in mV, current in pA, rate in Hz). Long squares, short squares and ramps
        are used; other stimuli are noted and skipped.
    preset : {"ipfx", "paper"}, default "ipfx"
        "ipfx": the 13 families of IPFX and ``inst_freq_norm``. "paper": the twelve families of the published cross-species
        study, padded with zeros to one width.
    layout : Layout, optional
        Length of the step and stimulus levels of the "ipfx" families. Default: steps of 1 s.

    Returns
    -------
    CellResult
        Families with their masks, scalar features, and notes. A family that cannot be computed is NaN and has a note.

    Raises
    ------
    ValueError
        If there is no such preset.

    Examples
    --------
    A cell of which only one hyperpolarising step was recorded:

    >>> import numpy as np
    >>> time = np.arange(80_000) / 50_000  # s
    >>> current = np.where((time >= 0.3) & (time < 1.3), -50.0, 0.0)  # pA
    >>> voltage = -70 + 0.1 * current * (1 - np.exp(-(time - 0.3) / 0.02))  # mV
    >>> result = extract_cell([Sweep(0, "long square", voltage, current, rate=50_000)])
    >>> values, observed = result.families["step_subthresh"]
    >>> values.shape, int(observed.sum())  # five levels of 140 bins of 10 ms, one of them observed
    ((700,), 140)
    >>> result.notes[0].reason, result.notes[0].detail
    ('missing level', '-90, -70, -30, -10 pA')
    """
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}: choose one of {', '.join(PRESETS)}")
    layout = layout or Layout()
    recording = sweeps if isinstance(sweeps, Recording) else Recording("cell", tuple(sweeps))
    notes = [note("sweep", number, DROPPED, reason) for number, reason in recording.excluded.items()]
    with _silenced_ipfx():
        cell = _prepare_sweeps(recording, layout, notes)
        if not (cell.long or cell.short or cell.ramp):
            counts = Counter(row.reason for row in notes).most_common(3)
            reasons = ", ".join(f"{count} x {reason}" for reason, count in counts)
            notes.append(note("cell", "", DROPPED, "no usable sweep", reasons))
            return CellResult({}, {}, {}, notes)
        analyze(cell)
        old = attempt(cell, "record", old_record, cell) or dict.fromkeys(OLD_NAMES, np.nan)
        new = attempt(cell, "record", new_record, cell) or dict.fromkeys(NEW_NAMES, np.nan)
        families = feature_vectors(cell, layout) if preset == "ipfx" else published_vectors(cell)
    return CellResult(families, old, new, notes)


def extract_file(
    file: str | Path | IO[bytes] | IOBase,
    *,
    name: str | None = None,
    preset: str = "ipfx",
    layout: Layout | None = None,
    reader: str = "h5py",
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Extract the cell of one NWB file, in a form that can be stored.

    Parameters
    ----------
    file : str, Path or binary file object
        The file, or an open remote file.
    name : str, optional
        Path of a remote file in the archive; cell and donor are taken from it.
    preset : {"ipfx", "paper"}, default "ipfx"
        Which families, see :func:`extract_cell`.
    layout : Layout, optional
        Step length and stimulus levels of the "ipfx" families.
    reader : {"h5py", "pynwb", "ipfx"}, default "h5py"
        How the file is read, see :func:`data_prep.patchseq.nwb.read_recording`.

    Returns
    -------
    arrays : dict of str to ndarray
        ``values`` (float32) and ``observed`` (bool) of all families side by side, shape (n_columns,), and the scalar features
        ``old`` and ``new`` (float32). Empty if the cell was dropped.
    facts : dict
        ``cell``, ``donor``, ``species``, ``source`` and ``notes``.
    """
    cell, donor = ids_from_path(name or str(file))
    try:
        recording = read_recording(file, name=name, reader=reader)
    except UnreadableFile as error:
        notes = [note("cell", "", DROPPED, error.reason, error.detail)]
        return {}, {"cell": cell, "donor": donor, "species": "", "source": {}, "notes": notes}
    result = extract_cell(recording, preset=preset, layout=layout)
    facts = {name: getattr(recording, name) for name in ("cell", "donor", "species")}
    facts |= {"source": dict(recording.source), "notes": [list(row) for row in result.notes]}
    if result.dropped:
        return {}, facts
    arrays = {
        "values": np.concatenate([values for values, _ in result.families.values()]).astype(np.float32),
        "observed": np.concatenate([observed for _, observed in result.families.values()]),
        "old": np.array(list(result.old.values()), np.float32),
        "new": np.array(list(result.new.values()), np.float32),
    }
    return arrays, facts


def _prepare_sweeps(recording: Recording, layout: Layout, notes: list[Note]) -> CellSweeps:
    """Group the usable sweeps by protocol; add a note for each sweep that is dropped or repaired."""
    groups: dict[str, list[Any]] = {LONG_SQUARE: [], SHORT_SQUARE: [], RAMP: []}
    numbers = Counter(sweep.number for sweep in recording.sweeps)
    for sweep in sorted(recording.sweeps, key=lambda sweep: sweep.number):
        if sweep.protocol is None or numbers[sweep.number] > 1:
            reason = "other stimulus" if sweep.protocol is None else "duplicate sweep number"
            notes.append(note("sweep", sweep.number, DROPPED, reason, sweep.stimulus))
            continue
        prepared, sweep_notes = prepare_sweep(sweep, layout.step)
        notes.extend(sweep_notes)
        if prepared is not None:
            groups[sweep.protocol].append(prepared)
    return CellSweeps(groups[LONG_SQUARE], groups[SHORT_SQUARE], groups[RAMP], layout.step, notes)


@contextmanager
def _silenced_ipfx() -> Iterator[None]:
    """Suppress IPFX's warnings, which it logs through the root logger and NumPy; the notes hold the same information."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
