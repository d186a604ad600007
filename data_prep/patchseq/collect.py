"""Extract many recordings into a folder, and build one feature table from such folders and labels.

:func:`extract_all` writes a folder::

    cells/          one file for each recording, written when it is done, so that a run that was killed resumes
    extract.json    preset, layout, reader, version of IPFX, and the recordings of the last run in their order
    qc.csv          every cell, sweep and family that was dropped, repaired or left without values, and the reason

:func:`build_table` reads it.
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

from data_prep.dandi_archive import Asset
from data_prep.parallel import process_items
from data_prep.patchseq.cell_record import NEW_NAMES, OLD_NAMES
from data_prep.patchseq.drop_reasons import DROPPED, Note, QcRow, is_dropped, note, write_qc
from data_prep.patchseq.extract import extract_file
from data_prep.patchseq.families import Layout
from data_prep.patchseq.feature_csv import align_table, make_scalar_table
from data_prep.patchseq.labels import Labels, label_column
from data_prep.patchseq.published_families import UNRECORDED_ORDER, WIDTH, WIDTHS
from data_prep.patchseq.table import QC, TEXT_COLUMNS, make_table
from data_prep.result_store import ItemResult, file_fingerprint, read_result
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.storage import TableError

CELLS, SETTINGS = "cells", "extract.json"
FEATURES = ("vectors", "old", "new", "aligned")


@dataclass(frozen=True)
class RecordingFile:
    """A recording to extract: a local file, or a file in the archive.

    Parameters
    ----------
    key : str
        Unique name; the path relative to the folder of recordings, or in the archive.
    path : str, default ""
        Path of a local file.
    asset : Asset, optional
        The file in the archive.
    """

    key: str
    path: str = ""
    asset: Asset | None = None


def find_files(folder: str | Path) -> list[RecordingFile]:
    """List the NWB files of a folder and its subfolders.

    Parameters
    ----------
    folder : str or Path
        Folder of recordings, or one file.

    Returns
    -------
    list of RecordingFile
        The files in the order of their paths.

    Raises
    ------
    TableError
        If there is none.
    """
    folder = Path(folder)
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.nwb"))
    if not files:
        raise TableError(f"there is no .nwb file in {folder}: give a folder of recordings, or one file")
    root = folder.parent if folder.is_file() else folder
    return [RecordingFile(path.relative_to(root).as_posix(), os.fspath(path)) for path in files]


def extract_all(
    files: Sequence[RecordingFile],
    out: str | Path,
    *,
    preset: str = "ipfx",
    layout: Layout | None = None,
    reader: str = "h5py",
    **options: Any,
) -> list[QcRow]:
    """Extract many recordings into a folder. A repeated call resumes; it repeats nothing that is done.

    Parameters
    ----------
    files : sequence of RecordingFile
        The recordings, see :func:`find_files`.
    out : str or Path
        Folder for the results.
    preset : {"ipfx", "paper"}, default "ipfx"
        Which families, see :func:`data_prep.patchseq.extract.extract_cell`.
    layout : Layout, optional
        Step length and stimulus levels of the "ipfx" families.
    reader : {"h5py", "pynwb", "ipfx"}, default "h5py"
        How local files are read.
    **options
        ``workers``, ``scheduler``, ``timeout`` (seconds) and ``retry_failed``, see
        :func:`data_prep.parallel.process_items`.

    Returns
    -------
    list of (str, Note)
        The rows of ``qc.csv``.
    """
    out, layout = Path(out), layout or Layout()
    settings = {
        "preset": preset,
        "layout": asdict(layout),
        "reader": reader,
        "ipfx": importlib.metadata.version("ipfx"),
    }
    if preset == "paper":
        settings["families"] = list(WIDTHS)  # cells of an extraction in another order are extracted again

    def fingerprint(file: RecordingFile) -> str:
        version = file_fingerprint(file.path) if file.asset is None else f"{file.asset.asset_id} {file.asset.size}"
        return f"{version} {json.dumps(settings)}"

    results = process_items(
        files,
        partial(extract_recording, preset=preset, layout=layout, reader=reader),
        out / CELLS,
        key=lambda file: file.key,
        fingerprint=fingerprint,
        title="recordings",
        **options,
    )
    stored = [{"key": result.key, "file": result.path.name} for result in results]
    (out / SETTINGS).write_text(json.dumps({**settings, "recordings": stored}, indent=1), encoding="utf-8")
    rows = [(cell, row) for cell, _, notes, _ in _extracted_cells(results) for row in notes]
    write_qc(out / QC, rows)
    return rows


def extract_recording(
    file: RecordingFile, *, preset: str, layout: Layout, reader: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Extract one local or remote recording.

    Parameters
    ----------
    file : RecordingFile
        The recording.
    preset : {"ipfx", "paper"}
        Which families.
    layout : Layout
        Step length and stimulus levels of the "ipfx" families.
    reader : {"h5py", "pynwb", "ipfx"}
        How a local file is read, see :func:`data_prep.patchseq.extract.extract_file`.

    Returns
    -------
    arrays : dict of str to ndarray
        Families and scalar features.
    facts : dict
        Cell, donor, species, source and notes.

    Raises
    ------
    ConnectionError
        If a remote file could not be read. The recording then counts as failed and can be tried again.
    """
    if file.asset is None:
        return extract_file(file.path, preset=preset, layout=layout, reader=reader)
    from data_prep.remote_file import open_remote

    with open_remote(file.asset.url) as remote:
        arrays, facts = extract_file(remote, name=file.asset.path, preset=preset, layout=layout)
    if any(row[3] == "unreadable file" for row in facts["notes"]):
        raise ConnectionError(facts["notes"][0][4])
    return arrays, facts


def read_extracted(folder: str | Path) -> tuple[dict[str, Any], list[ItemResult]]:
    """Read the settings and results of a folder of :func:`extract_all`.

    Parameters
    ----------
    folder : str or Path
        The folder.

    Returns
    -------
    settings : dict
        Preset, layout, reader and version of IPFX.
    results : list of ItemResult
        One for each recording; their arrays are loaded on demand.

    Raises
    ------
    TableError
        If the extraction was not finished, or results are missing.
    """
    folder = Path(folder)
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise TableError(f"{folder} holds no finished extraction: run `extract` to its end first") from None
    results = [read_result(folder / CELLS / stored["file"]) for stored in settings.pop("recordings")]
    if None in results:
        raise TableError(f"{folder / CELLS} lacks cells that {SETTINGS} names: run `extract` again")
    return settings, [result for result in results if result is not None]


def build_table(
    folders: Sequence[str | Path], labels: Sequence[Labels] = (), *, features: str = "vectors"
) -> tuple[FeatureTable, list[QcRow]]:
    """Build one table from extracted cells and their labels.

    Parameters
    ----------
    folders : sequence of str or Path
        Folders of :func:`extract_all`, extracted with the same settings.
    labels : sequence of Labels, optional
        Labels of the cells. With labels, cells without one are dropped; without, the table serves for prediction.
    features : {"vectors", "old", "new", "aligned"}, default "vectors"
        The feature families, or scalar features under one of the three namings.

    Returns
    -------
    table : FeatureTable
        The cells with a value in any of these features.
    rows : list of (str, Note)
        Rows of ``qc.csv``: each cell that is not in the table has one that drops it.

    Raises
    ------
    TableError
        If settings differ between the folders, or no cell is left.
    """
    if features not in FEATURES:
        raise TableError(f"features {features!r} are unknown: choose one of {', '.join(FEATURES)}")
    read = [read_extracted(folder) for folder in folders]
    settings = read[0][0]
    if any(other != settings for other, _ in read):
        raise TableError(f"{folders[0]} and another folder were extracted with other settings: extract them alike")
    known = {cell: texts for some in labels for cell, texts in some.items()}
    unlabelled = {cell: reason for some in labels for cell, reason in some.dropped.items()}
    rows: list[QcRow] = []
    cells, arrays, texts = [], [], []
    for cell, facts, notes, features_of_cell in _extracted_cells(result for _, results in read for result in results):
        rows += [(cell, row) for row in notes]
        if features_of_cell is None:
            continue
        if labels and cell not in known:
            rows.append((cell, note("cell", "", DROPPED, unlabelled.get(cell, "no label"))))
            continue
        cells.append(cell)
        arrays.append(features_of_cell)
        label = known.get(cell, {})  # what it lacks is taken from the file
        texts.append({name: label.get(name) or str(facts.get(name, "")) for name in TEXT_COLUMNS})
    recorded = {cell for cell, _ in rows} | set(cells)
    rows += [(cell, note("cell", "", DROPPED, "no recording")) for cell in known if cell not in recorded]
    if not cells:
        raise TableError(f"no cell is left for a table: {rows[0][1].reason if rows else 'there was none'}, and others")
    provenance = {**settings, "features": features, "sources": [Path(folder).name for folder in folders]}
    make = _vector_table if features == "vectors" else _scalar_table
    table = make(cells, arrays, _text_columns(texts, bool(labels)), provenance)
    return table, rows + empty_rows(table)


def empty_rows(table: FeatureTable) -> list[QcRow]:
    """Return rows of ``qc.csv`` for the cells that were left out because they have none of the features of a table.

    Parameters
    ----------
    table : FeatureTable
        A table of :func:`data_prep.patchseq.table.make_table`.

    Returns
    -------
    list of (str, Note)
        One row for each of these cells.
    """
    return [(cell, note("cell", "", DROPPED, "no value")) for cell in table.provenance["without_values"]]


def _extracted_cells(
    results: Iterable[ItemResult],
) -> Iterator[tuple[str, dict[str, Any], list[Note], dict[str, np.ndarray] | None]]:
    """Load stored results: cell, facts, notes, and arrays (None if the cell was dropped).

    The key stands for the cell if its recording failed. Of several recordings of one cell the first that gives features is kept.
    """
    seen: dict[str, str] = {}
    for result in results:
        if not result.succeeded:
            kinds = (kind for kind in ("worker died", "timeout") if result.reason.startswith(kind))
            notes = [note("cell", "", DROPPED, next(kinds, "extraction failed"), result.reason)]
            yield result.key, {}, notes, None
            continue
        arrays, facts = result.load()
        cell, notes = str(facts["cell"]), [Note(*row) for row in facts["notes"]]
        dropped = is_dropped(notes)
        if not dropped and cell in seen:
            notes, dropped = [note("cell", "", DROPPED, "duplicate cell", f"{result.key}; {seen[cell]} is kept")], True
        if not dropped:
            seen[cell] = result.key
        yield cell, facts, notes, None if dropped else arrays


def _text_columns(texts: Sequence[Mapping[str, str]], labelled: bool) -> dict[str, list[str]]:
    """Return the columns that are not empty. If the labels are subclasses, the label is one that all species share."""
    columns = {name: [row[name] for row in texts] for name in TEXT_COLUMNS}
    if labelled and all(columns["subclass4"]):
        columns["label"] = columns[label_column(columns["species"])]
    return {name: column for name, column in columns.items() if any(column)}


def _vector_table(cells: list[str], arrays: list[dict], about: dict, provenance: dict) -> FeatureTable:
    widths = dict.fromkeys(provenance.get("families", UNRECORDED_ORDER), WIDTH)
    if provenance["preset"] == "ipfx":
        layout = provenance["layout"]
        widths = Layout(layout["step"], tuple(layout["hyperpolarising"]), tuple(layout["levels"])).widths()
    else:
        provenance = {**provenance, "padded_width": WIDTH, "own_widths": WIDTHS}
    families = {family: [f"{family}_{i}" for i in range(width)] for family, width in widths.items()}
    values, observed = (np.stack([cell[name] for cell in arrays]) for name in ("values", "observed"))
    values = np.where(np.isfinite(values), values, np.nan)  # IPFX may return infinite ratios
    return make_table(cells, families, values, observed, about, provenance)


def _scalar_table(cells: list[str], arrays: list[dict], about: dict, provenance: dict) -> FeatureTable:
    naming = "new" if provenance["features"] == "new" else "old"
    values = np.stack([cell[naming] for cell in arrays])
    columns = dict(zip(NEW_NAMES if naming == "new" else OLD_NAMES, values.T, strict=True))
    table = make_scalar_table(cells, columns, naming, about, provenance)
    return align_table(table) if provenance["features"] == "aligned" else table
