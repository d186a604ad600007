"""Collect: many files -> a folder of extracted cells, and from such folders and labels -> one table.

An extracted folder::

    cells/          one file a recording, written when it is done: a killed run goes on where it was
    extract.json    preset, layout, reader, versions, and the recordings of the last run in their order
    qc.csv          every cell, sweep and family that was dropped, repaired or left empty, and why
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.patchseq.cell_record import NEW, OLD
from data_prep.patchseq.drop_reasons import DROPPED, Note, is_dropped, note, write_qc
from data_prep.patchseq.extract import extract_file
from data_prep.patchseq.families import Layout
from data_prep.patchseq.feature_csv import aligned, scalar_table
from data_prep.patchseq.labels import Labels, label_column
from data_prep.patchseq.manifest import Asset
from data_prep.patchseq.published_families import WIDTH, WIDTHS
from data_prep.patchseq.stream import open_remote
from data_prep.patchseq.table import ABOUT, Table, TableError, with_values, write_table
from data_prep.scale import Outcome, file_stamp, run_over
from data_prep.scale.outcome import stored

CELLS, SETTINGS, QC = "cells", "extract.json", "qc.csv"
FEATURES = ("vectors", "old", "new", "aligned")
Row = tuple[str, Note]


@dataclass(frozen=True)
class Item:
    """A recording to be extracted: a local file, or one in the archive."""

    key: str
    path: str = ""
    asset: Asset | None = None


def find_files(folder: str | Path) -> list[Item]:
    """Every NWB file of a folder and those below it, in the order of their paths."""
    folder = Path(folder)
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.nwb"))
    if not files:
        raise TableError(f"there is no .nwb file in {folder}: give a folder of recordings, or one file")
    root = folder.parent if folder.is_file() else folder
    return [Item(path.relative_to(root).as_posix(), os.fspath(path)) for path in files]


def extract_item(
    item: Item, *, preset: str, layout: Layout, reader: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if item.asset is None:
        return extract_file(item.path, preset=preset, layout=layout, reader=reader)
    with open_remote(item.asset.url) as file:
        arrays, facts = extract_file(file, name=item.asset.path, preset=preset, layout=layout)
    if any(row[3] == "unreadable file" for row in facts["notes"]):  # over the network that may pass: it is a failure
        raise ConnectionError(facts["notes"][0][4])
    return arrays, facts


def extract_all(
    items: Sequence[Item],
    out: str | Path,
    *,
    preset: str = "ipfx",
    layout: Layout | None = None,
    reader: str = "h5py",
    **how: Any,
) -> list[Row]:
    """Extract every recording into the folder ``out``; ``how`` is as for ``run_over``. Returns the rows of ``qc.csv``."""
    out, layout = Path(out), layout or Layout()
    settings = {
        "preset": preset,
        "layout": asdict(layout),
        "reader": reader,
        "ipfx": importlib.metadata.version("ipfx"),
    }

    def stamp(item: Item) -> str:
        source = file_stamp(item.path) if item.asset is None else f"{item.asset.asset_id} {item.asset.size}"
        return f"{source} {json.dumps(settings)}"

    work = partial(extract_item, preset=preset, layout=layout, reader=reader)
    outcomes = run_over(
        items, work, out / CELLS, key=lambda item: item.key, fingerprint=stamp, title="recordings", **how
    )
    kept = [{"key": outcome.key, "file": outcome.path.name} for outcome in outcomes]
    (out / SETTINGS).write_text(json.dumps({**settings, "recordings": kept}, indent=1), encoding="utf-8")
    rows = [row for found in _cells(outcomes) for row in found.rows]
    write_qc(out / QC, rows)
    return rows


@dataclass(frozen=True)
class Found:
    """One recording after extraction: its facts and notes, and its arrays unless it was dropped."""

    cell: str
    facts: Mapping[str, Any]
    notes: list[Note]
    arrays: dict[str, np.ndarray] | None

    @property
    def rows(self) -> list[Row]:
        return [(self.cell, row) for row in self.notes]


def _cells(outcomes: Iterable[Outcome]) -> Iterator[Found]:
    """Of several recordings of one cell the first that gave anything is kept."""
    seen: dict[str, str] = {}
    for outcome in outcomes:
        if not outcome.done:
            kind = next(
                (kind for kind in ("worker died", "timeout") if outcome.reason.startswith(kind)), "extraction failed"
            )
            yield Found(outcome.key, {}, [note("cell", "", DROPPED, kind, outcome.reason)], None)
            continue
        arrays, facts = outcome.load()
        cell, notes = str(facts["cell"]), [Note(*row) for row in facts["notes"]]
        dropped = is_dropped(notes)
        if not dropped and cell in seen:
            notes, dropped = [note("cell", "", DROPPED, "duplicate cell", f"{outcome.key}; {seen[cell]} is kept")], True
        if not dropped:
            seen[cell] = outcome.key
        yield Found(cell, facts, notes, None if dropped else arrays)


def read_extracted(folder: str | Path) -> tuple[dict[str, Any], list[Outcome]]:
    """Settings and outcomes of a folder of ``extract_all``."""
    folder = Path(folder)
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise TableError(f"{folder} holds no finished extraction: run `extract` to its end first") from None
    outcomes = [stored(folder / CELLS / found["file"]) for found in settings.pop("recordings")]
    if None in outcomes:
        raise TableError(f"{folder / CELLS} lacks cells that {SETTINGS} names: run `extract` again")
    return settings, [outcome for outcome in outcomes if outcome is not None]


def build_table(
    folders: Sequence[str | Path], labels: Sequence[Labels] = (), *, features: str = "vectors"
) -> tuple[Table, list[Row]]:
    """One table of the cells of extracted folders, and the rows of its ``qc.csv``.

    ``features`` is "vectors" (the families), or the scalar features under the "old", "new" or "aligned" names. With labels,
    a cell without one is left out, by name; without, the table has none and serves for prediction.
    """
    if features not in FEATURES:
        raise TableError(f"features {features!r} are unknown: choose one of {', '.join(FEATURES)}")
    read = [read_extracted(folder) for folder in folders]
    settings = read[0][0]
    if any(other != settings for other, _ in read):
        raise TableError(f"{folders[0]} and another folder were extracted with other settings: extract them alike")
    known = {cell: row for found in labels for cell, row in found.items()}
    refused = {cell: reason for found in labels for cell, reason in found.dropped.items()}
    rows: list[Row] = []
    cells, arrays, about = [], [], []
    for found in _cells(outcome for _, outcomes in read for outcome in outcomes):
        rows += found.rows
        if found.arrays is None:
            continue
        if labels and found.cell not in known:
            rows.append((found.cell, note("cell", "", DROPPED, refused.get(found.cell, "no label"))))
            continue
        cells.append(found.cell)
        arrays.append(found.arrays)
        about.append(_about(found, known.get(found.cell, {})))
    recorded = {row[0] for row in rows} | set(cells)
    rows += [(cell, note("cell", "", DROPPED, "no recording")) for cell in known if cell not in recorded]
    if not cells:
        raise TableError(f"no cell is left for a table: {rows[0][1].reason if rows else 'there was none'}, and others")
    provenance = {**settings, "features": features, "sources": [Path(folder).name for folder in folders]}
    texts = _columns(about, bool(labels))
    table = (
        _vectors(cells, arrays, texts, provenance)
        if features == "vectors"
        else _scalars(cells, arrays, texts, provenance)
    )
    return without_empty(table, rows)


def _about(found: Found, label: Mapping[str, str]) -> dict[str, str]:
    """What the labels say of a cell, and where they are silent, its file."""
    said = {"donor": str(found.facts["donor"]), "species": str(found.facts["species"])}
    return {name: label.get(name) or said.get(name, "") for name in ABOUT}


def _columns(about: Sequence[Mapping[str, str]], labelled: bool) -> dict[str, list[str]]:
    """Columns of text that say anything. Where the labels are subclasses, the label is one that all species share."""
    columns = {name: [row[name] for row in about] for name in ABOUT}
    if labelled and all(columns["subclass4"]):
        columns["label"] = columns[label_column(columns["species"])]
    return {name: column for name, column in columns.items() if any(column)}


def _vectors(cells: list[str], arrays: list[dict], about: dict, provenance: dict) -> Table:
    widths = dict.fromkeys(WIDTHS, WIDTH)
    if provenance["preset"] == "ipfx":
        layout = provenance["layout"]
        widths = Layout(layout["step"], tuple(layout["hyperpolarising"]), tuple(layout["levels"])).widths()
    else:
        provenance = {**provenance, "padded_width": WIDTH, "own_widths": WIDTHS}
    families = {family: [f"{family}_{i}" for i in range(width)] for family, width in widths.items()}
    values, observed = (np.stack([found[name] for found in arrays]) for name in ("values", "observed"))
    return Table(cells, families, values, observed, about, provenance)


def _scalars(cells: list[str], arrays: list[dict], about: dict, provenance: dict) -> Table:
    naming = "new" if provenance["features"] == "new" else "old"
    values = np.stack([found[naming] for found in arrays])
    columns = dict(zip(NEW if naming == "new" else OLD, values.T, strict=True))
    table = scalar_table(cells, columns, naming, about, provenance)
    return aligned(table) if provenance["features"] == "aligned" else table


def without_empty(table: Table, rows: list[Row]) -> tuple[Table, list[Row]]:
    """The table without the cells that have none of the chosen features, and a row for each of them."""
    kept, empty = with_values(table)
    return kept, rows + [(cell, note("cell", "", DROPPED, "no value")) for cell in empty]


def save_table(table: Table, rows: Iterable[Row], folder: str | Path) -> Path:
    path = write_table(table, folder)
    write_qc(Path(folder) / QC, rows)
    return path
