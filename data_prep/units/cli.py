"""``python -m data_prep units COMMAND``: build the table of sorted units that jaxephys reads, and check it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import tyro

from data_prep.cli import OutputFolder, TableFolder, chosen_source
from data_prep.units.arrays import read_arrays
from data_prep.units.check import check_units
from data_prep.units.fetch import fetch_dataset, instruction
from data_prep.units.registry import DATASETS, annotate_units, find_dataset
from data_prep.units.simulate import simulate_units
from jaxephys.schemas.unit_csv import read_folder
from jaxephys.schemas.unit_table import MODALITIES, TECHNOLOGIES, UnitTable

DatasetName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
DESCRIPTION = "Build the table of sorted units that jaxephys reads, and check it."


def _list() -> None:
    """Show the eleven data sets of the published model, where to get them, and how to build a table of each."""
    for dataset in DATASETS:
        classes = ", ".join(f"{label} {count}" for label, count in dataset.classes.items())
        code = TECHNOLOGIES[dataset.technology]
        print(f"{dataset.name}\n  {dataset.title}")
        print(f"  {dataset.species}, {dataset.region}; {dataset.technology} ({code}); {dataset.units} units: {classes}")
        print(f"  from {dataset.source} ({dataset.cite})")
        if dataset.siblings:
            print(f"  may share recordings with {', '.join(dataset.siblings)}: held out together")
        print("\n".join(f"  {step}" for step in instruction(dataset)) + "\n")
    print("no data yet? python -m data_prep units simulate TABLE")


def _simulate(out: OutputFolder, /, units: int = 300, subjects: int = 6, seed: int = 0) -> None:
    """Write a table of simulated units of five classes, with the waveform of each unit under three technologies.

    Args:
        out: Folder for the table.
        units: Number of units.
        subjects: Number of subjects; each is recorded with one technology.
        seed: The same seed gives the same units.
    """
    _write(simulate_units(units, subjects, seed), out)


def _fetch(
    out: OutputFolder,
    name: DatasetName,
    /,
    limit: int | None = None,
    match: str | None = None,
    jobs: int = 4,
    version: str | None = None,
) -> None:
    """Download the files of a data set, or show the steps where no program may download them (the C4 database).

    Only this command uses the network.

    Args:
        out: Folder for the files and their manifest.
        name: Name of the data set; `list` shows them.
        limit: At most so many files, in the order of their paths (the whole of watson is about 155 GB), or IBL sessions.
        match: DANDI: only files whose path matches, for example "sub-BWRat17*".
        jobs: Number of simultaneous downloads (IBL: ONE decides).
        version: DANDI: published version, "latest" (the default) or "draft".
    """
    dataset = find_dataset(name)
    steps = instruction(dataset, str(out))
    if dataset.download:
        print("\n".join(steps))
    fetch_dataset(dataset, out, limit=limit, match=match, jobs=jobs, version=version)
    print(f"next: {steps[-1]}")


def _build(
    out: OutputFolder,
    /,
    csv: Path | None = None,
    npz: Path | None = None,
    nwb: tuple[Path, ...] = (),
    h5: Path | None = None,
    alf: tuple[Path, ...] = (),
    analyzer: Path | None = None,
    name: str | None = None,
    technology: str | None = None,
    label: str | None = None,
    rate: float | None = None,
) -> None:
    """Build the table that `jaxephys` reads, from one source. Nothing is scaled, resampled or filled.

    Args:
        out: Folder for the table.
        csv: Folder with waveforms.csv, isi_dist.csv, acg.csv (any of them), labels.csv, metadata.csv, folds.csv.
        npz: NumPy archive: waveform, isi, acg; or spike_times (s) and spike_times_index, template and rate (Hz).
        nwb: NWB files with a units table, or folders of them.
        h5: HDF5 file of the C4 database.
        alf: Folders of the International Brain Laboratory, such as a fetch of ibl; good units only.
        analyzer: Folder of a SpikeInterface SortingAnalyzer with templates.
        name: Published data set (see `list`) whose class names, species, region, technology and quality limits are used.
        technology: neuropixels, silicon_probe, juxtacellular or tetrode, where neither the file nor the name determines it.
        label: Column or field of the label, where several are possible; for CSV also "first" or "last".
        rate: Sampling rate in Hz of templates whose file does not give it (NWB, npz).
    """
    dataset = find_dataset(name) if name is not None else None
    chosen_source({"csv": csv, "npz": npz, "nwb": nwb, "h5": h5, "alf": alf, "analyzer": analyzer})
    # Readers that need libraries of the prep extra are imported where they are used.
    if csv is not None:
        units = UnitTable(**read_folder(csv, label=label))
    elif npz is not None:
        units = read_arrays(npz, rate=rate)
    elif h5 is not None:
        from data_prep.units.c4 import read_c4

        units = read_c4(h5, label=label)
    elif alf:
        from data_prep.units.alf import read_alf

        units = read_alf(alf, dataset=dataset)
    elif analyzer is not None:
        from jaxephys.schemas.unit_sources import read_analyzer

        units = read_analyzer(analyzer, label=label)
    else:
        from data_prep.units.nwb import read_nwb

        units = read_nwb(nwb, label=label, rate=rate, dataset=dataset)
    _write(annotate_units(units, dataset, technology), out)


def _check(path: TableFolder, /, json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None) -> None:
    """Show what a table holds and what would mislead a model: row indices, copies, damaged rows, small classes.

    Args:
        path: Folder of the table.
        json_file: Also write the whole report here, with the identifiers of all units concerned.
    """
    report = check_units(UnitTable.read(path))
    print("\n".join(report.lines()))
    if json_file is not None:
        json_file.write_text(json.dumps(report.json(), indent=2) + "\n", encoding="utf-8")


def _write(units: UnitTable, out: Path) -> None:
    """Write a table and print a summary of it."""
    for note in units.provenance.get("notes", ()):
        print(note)
    path = units.write(out)
    counts = zip(MODALITIES.values(), units.finite.sum(axis=0), strict=True)
    present = ", ".join(f"{name} {count}" for name, count in counts)
    print(f"{path}: {len(units)} units, {len(units.classes)} classes; {present}; sha256 {units.sha256[:12]}")
    if (units.column("technology") == "").any():
        print("the technology of some units is unknown: give --technology, or the model treats it as unknown")
    print(f"next: python -m data_prep units check {out}")


COMMANDS = {"list": _list, "simulate": _simulate, "fetch": _fetch, "build": _build, "check": _check}
