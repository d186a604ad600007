"""Units: sorted units x (mean waveform, interspike intervals, autocorrelogram). What it writes, ``jaxephys.hippie`` reads.

A table is a folder::

    units.npz         schema, unit (ids), waveform [unit, sample], isi [unit, bin], acg [unit, lag], present [unit, modality],
                      about (the names of the columns of text), about_<name> (one text a unit), truths (names),
                      truth_<name> [unit, ...] (of simulated units), provenance (JSON), sha256 (of the content)
    provenance.json   where the values come from, once more for the eye

The values are RAW: as wide as the source has them, counts where it counts, nothing scaled, resampled or filled. A modality that
a unit lacks is a row of NaN, one that no unit has is an array of no columns; ``present`` says which, in the order of
``MODALITIES``. How values become input of a model is decided in one place for training and embedding alike, and not here.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.npz import write_npz

SCHEMA = "jaxephys units 1"
FILE = "units.npz"
MODALITIES = ("waveform", "isi", "acg")
# The rows of the published table of technologies; the last one was never trained there.
TECHNOLOGIES = {"neuropixels": 0, "silicon_probe": 1, "juxtacellular": 2, "tetrode": 3}
# The columns of text that are known by name; others may stand beside them. "" is unknown.
ABOUT = ("label", "subject", "session", "technology", "species", "region", "fold")


class UnitsError(ValueError):
    """Units that cannot be read, made or written, in one sentence."""


@dataclass(frozen=True)
class Units:
    """Sorted units and their raw features, float32, NaN where a unit has none."""

    unit: Sequence[str]
    waveform: np.ndarray  # [unit, sample]
    isi: np.ndarray  # [unit, bin]
    acg: np.ndarray  # [unit, lag]
    about: Mapping[str, Sequence[str]] = field(default_factory=dict)  # column -> one text a unit
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)  # of simulated units, [unit, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [str(name) for name in self.unit]
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise UnitsError(f"unit {name} stands twice: every unit needs an id of its own")
            seen.add(name)
        for name, rows in (*self.modalities.items(), *self.truth.items()):
            if rows.shape[:1] != (len(names),) or (name in MODALITIES and rows.ndim != 2):
                raise UnitsError(f"{name} has the shape {rows.shape} for {len(names)} units: give one row a unit")
        for name, column in self.about.items():
            if len(column) != len(names):
                raise UnitsError(f"column {name!r} has {len(column)} entries for {len(names)} units")
        for name, rows in self.modalities.items():
            holed = np.flatnonzero(np.isfinite(rows).any(axis=1) & ~np.isfinite(rows).all(axis=1))
            if holed.size:
                raise UnitsError(
                    f"{name} of unit {names[holed[0]]} is finite in part: mend the row, or make all of it NaN"
                )
        for text in self.about.get("technology", ()):
            check_technology(text)

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def modalities(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in MODALITIES}

    @property
    def present(self) -> np.ndarray:
        """bool [unit, modality]: is there anything?"""
        return np.stack([np.isfinite(rows).any(axis=1) for rows in self.modalities.values()], axis=1)

    @property
    def technology_id(self) -> np.ndarray:
        """int [unit], -1 where it is unknown: 0 is a technology, not "none"."""
        return np.array([TECHNOLOGIES.get(name, -1) for name in self.column("technology")], np.int64)

    def column(self, name: str) -> list[str]:
        """A column of text, "" throughout if the table has none of that name."""
        return list(self.about.get(name, [""] * len(self)))

    def arrays(self) -> dict[str, np.ndarray]:
        """The content as it is stored."""
        return {
            "unit": np.array([str(name) for name in self.unit], dtype=str),
            **{name: np.asarray(rows, np.float32) for name, rows in self.modalities.items()},
            "present": self.present,
            "about": np.array(list(self.about), dtype=str),
            **{f"about_{name}": np.array([str(x) for x in column], dtype=str) for name, column in self.about.items()},
            "truths": np.array(list(self.truth), dtype=str),
            **{f"truth_{name}": np.asarray(values) for name, values in self.truth.items()},
        }

    @property
    def sha256(self) -> str:
        return content_hash(self.arrays())


def check_technology(text: str) -> str:
    if text and text not in TECHNOLOGIES:
        raise UnitsError(f"there is no technology {text!r}: choose from {', '.join(TECHNOLOGIES)}")
    return text


def no_rows(count: int) -> np.ndarray:
    """A modality that no unit has."""
    return np.zeros((count, 0), np.float32)


def content_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes and bytes of the content, whatever the compression and the platform's width of text."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        plain = "\0".join(array.ravel()).encode() if array.dtype.kind == "U" else np.ascontiguousarray(array).tobytes()
        digest.update(f"{name}{array.shape}".encode() + plain)
    return digest.hexdigest()


def write_units(units: Units, folder: str | Path) -> Path:
    """Write the folder; a table that stood there is replaced in one step, never half."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = units.arrays()
    facts = {"schema": SCHEMA, "sha256": content_hash(arrays), "provenance": json.dumps(dict(units.provenance))}
    write_npz(folder / FILE, arrays | facts)
    shown = {"schema": SCHEMA, "sha256": facts["sha256"], "units": len(units), **units.provenance}
    (folder / "provenance.json").write_text(json.dumps(shown, indent=2) + "\n", encoding="utf-8")
    return folder / FILE


def read_units(path: str | Path) -> Units:
    """Read a folder, or its ``units.npz``, and check that the content is what was written."""
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UnitsError(f"there are no units in {path}: build them with `python -m data_prep units build`") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        raise UnitsError(f"{path} is not a readable table of units: build it again") from None
    if str(stored.get("schema")) != SCHEMA:
        raise UnitsError(f"{path} has the schema {stored.get('schema')}, not {SCHEMA!r}: build it again")
    facts = {name: str(stored.pop(name)) for name in ("schema", "sha256", "provenance")}
    if content_hash(stored) != facts["sha256"]:
        raise UnitsError(f"{path} is not what was written (its content hash differs): build it again")
    return Units(
        unit=stored["unit"].tolist(),
        **{name: stored[name] for name in MODALITIES},
        about={str(name): stored[f"about_{name}"].tolist() for name in stored["about"]},
        truth={str(name): stored[f"truth_{name}"] for name in stored["truths"]},
        provenance=json.loads(facts["provenance"]),
    )
