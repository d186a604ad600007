"""``python -m data_prep patchseq COMMAND``: recordings -> extracted cells -> a feature table, and its check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from data_prep.cli import OutputFolder, TableFolder, chosen_source, fetch_recordings
from data_prep.dandi_archive import query_archive
from data_prep.patchseq.check import check_table
from data_prep.patchseq.collect import (
    RecordingFile,
    build_table,
    empty_rows,
    extract_all,
    find_files,
    read_extracted,
)
from data_prep.patchseq.drop_reasons import REASONS, QcRow, count_reasons
from data_prep.patchseq.families import Layout
from data_prep.patchseq.feature_columns import FeatureMap, read_feature_map
from data_prep.patchseq.feature_csv import align_table, read_feature_csv
from data_prep.patchseq.labels import read_labels
from data_prep.patchseq.preview import preview_csv, suggest_map
from data_prep.patchseq.table import drop_incomplete_cells, save_table
from data_prep.report import Block, shorten
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.storage import TableError

Recordings = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECORDINGS")]
CsvFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CSV")]
MapFile = Annotated[Path | None, tyro.conf.arg(name="map")]
Naming = Literal["old", "new", "aligned"]
Others = Literal["drop", "number", "prefix", "column"]
ExtractedFolders = Annotated[tuple[Path, ...], tyro.conf.arg(name="from")]
DESCRIPTION = "Convert Patch-seq recordings into one feature table."


def _simulate(
    out: OutputFolder,
    /,
    mouse: int = 60,
    human: int = 30,
    seed: int = 0,
    workers: int = 2,
    faults: bool = False,
    sweep_table: bool = False,
) -> None:
    """Write NWB files of simulated interneurons in the layout of the archive, with their tables of labels.

    Args:
        out: Folder for the files.
        mouse: Number of mouse cells.
        human: Number of human cells.
        seed: Seed of the random numbers; the same seed gives the same cells.
        workers: Number of processes.
        faults: Give some cells the defects of real recordings (a truncated sweep, no ramp, 12.5 kHz, ...).
        sweep_table: Also write the deprecated sweep table, which IPFX itself and `extract --reader ipfx` need.
    """
    from data_prep.simulate import DEFECTS, write_cells

    fractions = dict.fromkeys(DEFECTS, 0.05) if faults else {}
    print(
        write_cells(
            out, mouse=mouse, human=human, seed=seed, workers=workers, defects=fractions, sweep_table=sweep_table
        )
    )
    print(f"next: python -m data_prep patchseq extract {out} EXTRACTED")


def _fetch(
    out: OutputFolder,
    /,
    dandiset: str,
    version: str | None = None,
    limit: int | None = None,
    match: str = "*",
    jobs: int = 4,
    metadata: str | None = None,
) -> None:
    """Download recordings from the DANDI archive. Only this command and `extract --dandiset` use the network.

    Args:
        out: Folder for the files and their manifest.
        dandiset: mouse (000020, 114 GB in all), human (000636), or another number.
        version: Published version, "latest" or "draft". By default that of the published study for mouse and human, the latest for others.
        limit: Largest number of files, in the order of their paths.
        match: Pattern of the paths to download, for example "sub-5*".
        jobs: Number of simultaneous downloads.
        metadata: Path or address of the table of labels, which is stored with the files.
    """
    fetch_recordings(dandiset, out, version=version, limit=limit, match=match, jobs=jobs, metadata=metadata)
    print(f"next: python -m data_prep patchseq extract {out} EXTRACTED")


def _extract(
    recordings: Recordings,
    out: OutputFolder,
    /,
    preset: Literal["ipfx", "paper"] = "ipfx",
    workers: int = 2,
    scheduler: str | None = None,
    timeout: float = 600.0,
    retry_failed: bool = False,
    step: float = 1.0,
    reader: Literal["h5py", "pynwb", "ipfx"] = "h5py",
    dandiset: str | None = None,
    version: str | None = None,
    limit: int | None = None,
    match: str = "*",
) -> None:
    """Compute families and scalar features of every recording, with a reason for everything left out. Resumes after a stop.

    Args:
        recordings: Folder of NWB files, or one file; "-" with --dandiset, to read only the needed parts from the archive.
        out: Folder for the extracted cells.
        preset: "ipfx" (13 families of IPFX and inst_freq_norm) or "paper" (the twelve of the published study, in its order).
        workers: Number of processes on this machine.
        scheduler: Address of a Dask scheduler, tcp://host:8786, to use instead of local processes.
        timeout: Seconds after which a file is skipped.
        retry_failed: Try the files again that failed before.
        step: Length of a long square in seconds.
        reader: "h5py" (reads only the needed sweeps), "pynwb" (slower) or "ipfx" (IPFX's reader, slower, needs a sweep table).
        dandiset: Dandiset whose recordings are read over the network: mouse, human, or a number.
        version: With --dandiset: its version, as for `fetch`.
        limit: With --dandiset: largest number of files.
        match: With --dandiset: pattern of the paths.
    """
    if dandiset is not None:
        assets = query_archive(dandiset, version=version, limit=limit, match=match).assets
        files = [RecordingFile(asset.path, asset=asset) for asset in assets]
    else:
        files = find_files(recordings)
    options: dict[str, Any] = {"workers": workers, "scheduler": scheduler, "timeout": timeout}
    options |= {"retry_failed": retry_failed, "layout": Layout(step=step), "reader": reader}
    rows = extract_all(files, out, preset=preset, **options)
    _print_reasons(rows)
    results = read_extracted(out)[1]
    seconds = [result.seconds for result in results if result.succeeded]
    if seconds:
        memory = max(result.memory for result in results) / 2**20
        print(
            f"{len(results)} recordings, median {np.median(seconds):.2f} s, at most {memory:.0f} MiB in a worker; "
            f"reasons: {out}/qc.csv"
        )
    print(f"next: python -m data_prep patchseq table TABLE --from {out} --labels LABELS.csv")


def _table(
    out: OutputFolder,
    /,
    source: ExtractedFolders = (),
    csv: Path | None = None,
    id_column: str | None = None,
    label: str | None = None,
    map_file: MapFile = None,
    naming: Naming | None = None,
    others: Others | None = None,
    labels: tuple[Path, ...] = (),
    features: Literal["vectors", "old", "new", "aligned"] = "vectors",
    strict_lamp5: bool = False,
    unrevised: bool = False,
    sncg: Literal["Vip", "as published"] = "Vip",
    clock_times: bool = False,
    min_observed: float = 0.0,
) -> None:
    """Build the table that `jaxephys` reads, from extracted folders and labels or from a CSV of scalar features.

    Args:
        out: Folder for the table.
        source: Folders that `extract` has written.
        csv: A table of scalar features (mouse_v1.csv, human.csv, mouse_human_aligned.csv, or that of another laboratory: see `preview`).
        id_column: With --csv: column of the identifiers; by default cell_id or another usual name.
        label: With --csv: column of the class; by default label, subclass5 or subclass4.
        map_file: With --csv: TOML file with the meaning of columns; `preview CSV --write-map FILE` writes one to start from.
        naming: With --csv: naming of the features, where their names do not determine it.
        others: With --csv: columns of numbers without a known name are left out ("drop"), or features whose families are found from numbered names, from the prefix of the name, or are single columns. By default they are left out if any name is known.
        labels: Metadata of the mouse or human data, or a CSV with the columns cell,label. Without: a table for prediction.
        features: "vectors", or scalars under the "old", "new" or "aligned" names. With --csv: "aligned", or the names of the file.
        strict_lamp5: Human: keep only LAMP5 of the subclass LAMP5/PAX6/Other.
        unrevised: Human: use the first subclass label instead of the revised one.
        sncg: Class of Sncg cells among the four classes; "as published" repeats an error of the published code (Lamp5).
        clock_times: With --csv: keep the times that count from the start of the recording.
        min_observed: Leave out cells in which a smaller share of the features was measured, from 0 (none is left out) to 1.
    """
    chosen_source({"from": source, "csv": csv})
    if csv is not None:
        if labels:
            raise TableError("--labels is for extracted folders: give the column of the class with --label")
        described = _feature_map(map_file, id_column, label)
        options: dict[str, Any] = {"feature_map": described, "naming": naming, "others": others}
        table = read_feature_csv(csv, clock_times=clock_times, **options)
        _print_left_out(table)
        table = align_table(table) if features == "aligned" else table
        rows = empty_rows(table)
    else:
        given = {"id-column": id_column, "label": label, "map": map_file, "naming": naming, "others": others}
        for option, value in given.items():
            if value is not None:
                raise TableError(f"--{option} is for --csv: leave it out, or give --csv")
        options = {"strict_lamp5": strict_lamp5, "revised": not unrevised, "sncg": sncg}
        table, rows = build_table(source, [read_labels(path, **options) for path in labels], features=features)
    if min_observed:
        table, incomplete = drop_incomplete_cells(table, min_observed)
        rows = [*rows, *incomplete]
    path = save_table(table, rows, out)
    _print_reasons(rows)
    print(
        f"{path}: {len(table)} cells, {len(table.families)} families, {len(table.features)} features, "
        f"sha256 {table.sha256[:12]}"
    )
    print(f"next: python -m data_prep patchseq check {out}")


def _preview(
    csv: CsvFile,
    /,
    id_column: str | None = None,
    label: str | None = None,
    map_file: MapFile = None,
    naming: Naming | None = None,
    others: Others | None = None,
    write_map: Path | None = None,
) -> None:
    """Show what `table --csv` makes of each column of a file: features, families and units, and what it leaves out. Writes no table.

    Args:
        csv: A table of scalar features, one row for each cell.
        id_column: Column of the identifiers.
        label: Column of the class.
        map_file: TOML file with the meaning of columns.
        naming: Naming of the features.
        others: What becomes of columns of numbers without a known name, as for `table`.
        write_map: Write a map of the columns here, to complete it and to give it with --map.
    """
    options: dict[str, Any] = {
        "feature_map": _feature_map(map_file, id_column, label),
        "naming": naming,
        "others": others,
    }
    print("\n".join(preview_csv(csv, **options).lines()))
    if write_map is not None:
        if write_map.exists():
            raise TableError(f"{write_map} exists: give another file, or delete it")
        write_map.write_text(suggest_map(csv, **options), encoding="utf-8")
        print(
            f"\nnext: complete {write_map}, then python -m data_prep patchseq table TABLE --csv {csv} --map {write_map}"
        )


def _feature_map(path: Path | None, id_column: str | None, label: str | None) -> FeatureMap:
    """Return the map of a file, with the columns that options name."""
    given = FeatureMap() if path is None else read_feature_map(path)
    text = {**given.text, "label": label} if label is not None else given.text
    return replace(given, id_column=id_column or given.id_column, text=text)


def _print_left_out(table: FeatureTable) -> None:
    left_out = table.provenance["left_out"]
    unknown = [column for column, reason in left_out.items() if reason == "no known feature"]
    if unknown:
        print(
            f"{len(unknown)} columns without a known name left out: {shorten(unknown)} (see --others, --map and `preview`)"
        )


def _check(path: TableFolder, /) -> None:
    """Show what a table holds and what a model receives, and list suspicious values.

    Args:
        path: Folder of the table.
    """
    print("\n".join(check_table(FeatureTable.read(path)).lines()))


def _spca(path: TableFolder, out: OutputFolder, /, train: Path | None = None) -> None:
    """Moved to `python -m jaxephys components TABLE OUT`.

    Args:
        path: Folder of the table.
        out: Folder for the table of components.
        train: Text file with the ids of the training cells, one on each line.
    """
    option = "" if train is None else f" --train {train}"
    raise TableError(f"spca is now a command of jaxephys: python -m jaxephys components {path} {out}{option}")


def _tfds(path: TableFolder, out: OutputFolder, /) -> None:
    """Write a table as a TensorFlow Datasets data set (array_record; TensorFlow is not needed to read it).

    Args:
        path: Folder of the table.
        out: Folder for the data set.
    """
    from data_prep.patchseq.tfds_dataset import write_dataset

    folder = write_dataset(FeatureTable.read(path), out)
    print(
        f"{folder}: read it with data_prep.patchseq.tfds_dataset.read_dataset, or with "
        "tfds.builder_from_directory(...).as_data_source(); tf.data cannot read array_record"
    )


def _reasons() -> None:
    """List the reason codes of qc.csv and their meaning."""
    for code, meaning in REASONS.items():
        print(f"{code:<30} {meaning}")


def _print_reasons(rows: Sequence[QcRow]) -> None:
    counted = [[str(entry) for entry in line] for line in count_reasons(rows)]
    if counted:
        header = ("part", "action", "reason", "times", "cells")
        print("\n".join(Block("dropped, repaired or missing", header, counted).lines()))


COMMANDS = {
    "simulate": _simulate,
    "fetch": _fetch,
    "extract": _extract,
    "preview": _preview,
    "table": _table,
    "check": _check,
    "spca": _spca,
    "tfds": _tfds,
    "reasons": _reasons,
}
