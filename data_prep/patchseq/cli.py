"""``python -m data_prep patchseq VERB``: recordings -> extracted cells -> a table; each verb says what it did and what is next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table as Grid

from data_prep.cli import run
from data_prep.patchseq import check as checking
from data_prep.patchseq.collect import (
    Item,
    Row,
    build_table,
    extract_all,
    find_files,
    read_extracted,
    save_table,
    without_empty,
)
from data_prep.patchseq.drop_reasons import REASONS, count_reasons
from data_prep.patchseq.families import Layout
from data_prep.patchseq.feature_csv import aligned, read_ready
from data_prep.patchseq.fetch import fetch as fetch_files
from data_prep.patchseq.labels import LabelError, read_labels
from data_prep.patchseq.manifest import FetchError, remote_assets
from data_prep.patchseq.table import Table, TableError, read_table
from data_prep.scale import ScaleError
from jaxephys.patchseq.sparse_components import GOUWENS, FamilyComponents, default_plan

Out = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
TablePath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
Recordings = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECORDINGS")]
Folders = Annotated[tuple[Path, ...], tyro.conf.arg(name="from")]


def simulate(
    out: Out, /, mouse: int = 60, human: int = 30, seed: int = 0, workers: int = 2, faults: bool = False
) -> None:
    """Write NWB files of simulated interneurons, as the archive holds real ones, with their tables of labels.

    Args:
        out: Folder for the files.
        mouse: Number of mouse cells.
        human: Number of human cells.
        seed: The same seed gives the same cells.
        workers: Processes.
        faults: Give some cells the faults that real recordings have (a sweep cut off, no ramp, 12.5 kHz, ...).
    """
    from data_prep.simulate import FAULTS, write_cells

    chosen = dict.fromkeys(FAULTS, 0.05) if faults else {}
    print(write_cells(out, mouse=mouse, human=human, seed=seed, workers=workers, faults=chosen))
    print(f"next: python -m data_prep patchseq extract {out} EXTRACTED")


def fetch(
    out: Out,
    /,
    dandiset: str,
    limit: int | None = None,
    match: str = "*",
    jobs: int = 4,
    metadata: str | None = None,
) -> None:
    """Download recordings of the DANDI archive; the only verb, with `extract --dandiset`, that uses the network.

    Args:
        out: Folder for the files and their manifest.
        dandiset: 000020 (mouse, 114 GB in all), 000636 (human), or another number.
        limit: At most so many files, in the order of their paths.
        match: Only files whose path matches, for example "sub-5*".
        jobs: Downloads at a time.
        metadata: Path or address of the table of labels, to lie beside them.
    """
    summary = fetch_files(dandiset, out, limit=limit, match=match, jobs=jobs, metadata=metadata)
    print(summary)
    if summary.failed:
        raise FetchError(f"{len(summary.failed)} files failed; the same command tries them again")
    print(f"next: python -m data_prep patchseq extract {out} EXTRACTED")


def extract(
    recordings: Recordings,
    out: Out,
    /,
    preset: Literal["ipfx", "paper"] = "ipfx",
    workers: int = 2,
    scheduler: str | None = None,
    timeout: float = 600.0,
    retry_failed: bool = False,
    step: float = 1.0,
    reader: Literal["h5py", "ipfx"] = "h5py",
    dandiset: str | None = None,
    limit: int | None = None,
    match: str = "*",
) -> None:
    """Families and scalar features of every recording, with a reason for all that is left out. Goes on where it was killed.

    Args:
        recordings: Folder of NWB files, or one file; "-" with --dandiset, to read from the archive what is needed and no more.
        out: Folder for the extracted cells.
        preset: "ipfx" (13 families of IPFX and inst_freq_norm) or "paper" (the twelve of the published study).
        workers: Processes on this machine.
        scheduler: Address of a Dask scheduler, tcp://host:8786, instead.
        timeout: Seconds after which a file is given up.
        retry_failed: Try the files again that failed before.
        step: Length of a long square, in seconds.
        reader: "h5py" (ours), or "ipfx" (its stock reader, slower, which needs a sweep table).
        dandiset: Read these recordings over the network.
        limit: With --dandiset: at most so many files.
        match: With --dandiset: only files whose path matches.
    """
    if dandiset is not None:
        items = [Item(asset.path, asset=asset) for asset in remote_assets(dandiset, limit=limit, match=match)]
    else:
        items = find_files(recordings)
    how = {"workers": workers, "scheduler": scheduler, "timeout": timeout, "retry_failed": retry_failed}
    rows = extract_all(items, out, preset=preset, layout=Layout(step=step), reader=reader, **how)
    _print_reasons(rows)
    outcomes = read_extracted(out)[1]
    seconds = [outcome.seconds for outcome in outcomes if outcome.done]
    if seconds:
        memory = max(outcome.memory for outcome in outcomes) / 2**20
        print(
            f"{len(outcomes)} recordings, {np.median(seconds):.2f} s each, at most {memory:.0f} MiB a worker; reasons: {out}/qc.csv"
        )
    print(f"next: python -m data_prep patchseq table TABLE --from {out} --labels LABELS.csv")


def table(
    out: Out,
    /,
    source: Folders = (),
    csv: Path | None = None,
    labels: tuple[Path, ...] = (),
    features: Literal["vectors", "old", "new", "aligned"] = "vectors",
    strict_lamp5: bool = False,
    unrevised: bool = False,
    sncg: Literal["Vip", "as published"] = "Vip",
    clock_times: bool = False,
) -> None:
    """Build the table that `jaxephys` reads: from extracted folders and labels, or from a ready-made CSV.

    Args:
        out: Folder for the table.
        source: Folders that `extract` has written.
        csv: A table of scalar features (mouse_v1.csv, human.csv, mouse_human_aligned.csv).
        labels: Metadata of the mouse or human data, or a CSV with the columns cell,label. None: a table for prediction.
        features: "vectors", or scalars under the "old", "new" or "aligned" names; with --csv, "aligned" or what it holds.
        strict_lamp5: Human: of LAMP5/PAX6/Other keep only LAMP5.
        unrevised: Human: the first subclass label instead of the revised one.
        sncg: Where the four classes have Sncg; "as published" repeats a slip of the published code (Lamp5).
        clock_times: With --csv: keep the times that count from the start of the recording.
    """
    if (csv is None) == (not source):
        raise TableError("give either --from FOLDER (extracted cells) or --csv FILE (a ready-made table)")
    rows: list[Row] = []
    if csv is not None:
        made = read_ready(csv, clock_times=clock_times)
        made, rows = without_empty(aligned(made) if features == "aligned" else made, [])
    else:
        options = {"strict_lamp5": strict_lamp5, "revised": not unrevised, "sncg": sncg}
        made, rows = build_table(source, [read_labels(path, **options) for path in labels], features=features)
    path = save_table(made, rows, out)
    _print_reasons(rows)
    print(
        f"{path}: {len(made)} cells, {len(made.families)} families, {len(made.features)} features, sha256 {made.sha256[:12]}"
    )
    print(f"next: python -m data_prep patchseq check {out}")


def check(path: TablePath, /) -> None:
    """Say what a table holds, what looks wrong in it, and what a model will see.

    Args:
        path: Folder of the table.
    """
    checking.print_report(checking.report(read_table(path)))


def spca(path: TablePath, out: Out, /, train: Path | None = None) -> None:
    """Sparse principal components of each family, fitted on training cells and applied to all: a table of its own.

    Args:
        path: Folder of the table.
        out: Folder for the table of components.
        train: Text file with the ids of the training cells, one a line; without it all cells fit, and no score on them is honest.
    """
    source = read_table(path)
    rows = np.arange(len(source)) if train is None else _places(source.cell, train)
    plan = GOUWENS if set(GOUWENS) <= set(source.families) else default_plan(source.families)
    try:
        fitted = FamilyComponents.fit(source.values, source.families, rows, plan)
    except ValueError as error:  # fewer training cells than components, or a family too narrow
        raise TableError(str(error)) from None
    scores = fitted.transform(source.values).astype(np.float32)
    families = {family: [name for name in fitted.names if name.rsplit("_", 1)[0] == family] for family in fitted.fits}
    provenance = {
        "components_of": source.sha256,
        "fitted_on": [source.cell[row] for row in rows.tolist()],
        **source.provenance,
    }
    made = Table(source.cell, families, scores, np.ones_like(scores, bool), source.about, provenance)
    save_table(made, [], out)
    fitted.save(out / "components.npz")
    print(f"{fitted}\n{out}: {len(made)} cells x {len(made.features)} components")


def tfds(path: TablePath, out: Out, /) -> None:
    """Write a table as a TensorFlow Datasets data set (array_record; no TensorFlow is needed to read it).

    Args:
        path: Folder of the table.
        out: Folder for the data set.
    """
    from data_prep.patchseq.tfds_dataset import write_records

    print(f"{write_records(read_table(path), out)}: read it with tfds.builder_from_directory(...).as_data_source()")


def reasons() -> None:
    """List the reason codes of qc.csv and what they mean."""
    for code, meaning in REASONS.items():
        print(f"{code:<30} {meaning}")


VERBS = {verb.__name__: verb for verb in (simulate, fetch, extract, table, check, spca, tfds, reasons)}


def main(arguments: Sequence[str]) -> int:
    return run("patchseq", None, VERBS, arguments, (TableError, LabelError, FetchError, ScaleError))


def _places(cells: Sequence[str], train: Path) -> np.ndarray:
    try:
        wanted = train.read_text(encoding="utf-8").split()
    except OSError as error:
        raise TableError(f"{train} cannot be read ({error.strerror}): give a text file of cell ids") from None
    place: Mapping[str, int] = {cell: i for i, cell in enumerate(cells)}
    unknown = [cell for cell in wanted if cell not in place]
    if unknown or not wanted:
        raise TableError(f"{train} names {unknown[0] if unknown else 'no cell'}, which is not in the table")
    return np.array(sorted(place[cell] for cell in wanted))


def _print_reasons(rows: Sequence[Row]) -> None:
    counted = count_reasons(rows)
    if not counted:
        return
    grid = Grid(title="left out, repaired or missing", title_justify="left")
    for name, side in (
        ("part", "left"),
        ("what happened", "left"),
        ("reason", "left"),
        ("times", "right"),
        ("cells", "right"),
    ):
        grid.add_column(name, justify=side)  # type: ignore[arg-type]
    for what, action, reason, times, cells in counted:
        grid.add_row(what, action, reason, str(times), str(cells))
    Console().print(grid)
