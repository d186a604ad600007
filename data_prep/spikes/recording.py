"""Recording: packed bins and splits of one recording. What it writes, ``jaxephys.spikes`` reads.

NAME.npz holds::

    schema        "jaxephys spikes 1"
    name, domain  text; the domain is "in vitro", "in vivo" or anything else
    packed        uint8 [bin, ceil(units / 8)], numpy.packbits(bitorder="little") along the units
    units         how many; unit_id: text [unit]; bin_ms: float
    splits        int64 [3, 2]: [start, stop) in bins of train, validation and test; apart, in any order of time
    split_sha256  text: splits.split_hash
    provenance    text: JSON, where the values come from, with the seams of joined files and all notes
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.npz import write_npz
from data_prep.spikes.spike_times import SpikesError
from data_prep.spikes.splits import NAMES, checked, split_hash

SCHEMA = "jaxephys spikes 1"
BLOCK = 1 << 16  # bins that are unpacked at a time


@dataclass(frozen=True)
class Recording:
    """Spikes of some units in bins of ``bin_ms``, one bit each."""

    name: str
    domain: str
    packed: np.ndarray
    unit: Sequence[str]
    bin_ms: float
    splits: np.ndarray
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bins, width = self.packed.shape
        if self.packed.dtype != np.uint8 or width != -(-len(self.unit) // 8):
            raise SpikesError(
                f"{self.name} has {width} bytes a bin for {len(self.unit)} units: pack eight units a byte"
            )
        checked(self.splits, bins, self.seams)

    @property
    def seams(self) -> tuple[int, ...]:
        return tuple(self.provenance.get("seams", ()))

    @property
    def sha256(self) -> str:
        return split_hash(self.splits, self.packed)

    def range(self, split: str) -> tuple[int, int]:
        start, stop = self.splits[NAMES.index(split)].tolist()
        return start, stop

    def bits(self, start: int, stop: int) -> np.ndarray:
        """uint8 [bin, unit] of 0 and 1."""
        return np.unpackbits(self.packed[start:stop], axis=1, count=len(self.unit), bitorder="little")

    def events(self, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The bin and the unit of every spike in [start, stop), by bin."""
        found = list(self._events(start, len(self.packed) if stop is None else stop))
        return np.concatenate([bins for bins, _ in found]), np.concatenate([units for _, units in found])

    def _events(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for at in range(start, stop, BLOCK):
            bins, units = np.nonzero(self.bits(at, min(at + BLOCK, stop)))
            yield bins + at, units


def write_recording(recording: Recording, folder: str | Path) -> Path:
    """Write NAME.npz into the folder; a file that stood there is replaced in one step, never half."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{recording.name}.npz"
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "name": recording.name,
        "domain": recording.domain,
        "packed": recording.packed,
        "units": len(recording.unit),
        "unit_id": np.array([str(x) for x in recording.unit], dtype=str),
        "bin_ms": recording.bin_ms,
        "splits": np.asarray(recording.splits, np.int64),
        "split_sha256": recording.sha256,
        "provenance": json.dumps(dict(recording.provenance)),
    }
    write_npz(path, content)
    return path


def read_recording(path: str | Path) -> Recording:
    """Read a file, and check that its splits are what was written."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise SpikesError(f"there is no file {path}: make one with `python -m data_prep spikes build`") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError):
        raise SpikesError(f"{path} is not a readable recording: build it again") from None
    if str(stored.get("schema")) != SCHEMA:
        raise SpikesError(f"{path} has the schema {stored.get('schema')}, not {SCHEMA!r}: build it again")
    recording = Recording(
        name=str(stored["name"]),
        domain=str(stored["domain"]),
        packed=stored["packed"],
        unit=stored["unit_id"].tolist(),
        bin_ms=float(stored["bin_ms"]),
        splits=stored["splits"],
        provenance=json.loads(str(stored["provenance"])),
    )
    if recording.sha256 != str(stored["split_sha256"]):
        raise SpikesError(f"{path} is not what was written (the hash of its splits differs): build it again")
    return recording
