"""``python -m data_prep units VERB``: sorted units, or published tables of them -> one table of raw features; what is in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from data_prep.cli import run
from data_prep.units import check as checking
from data_prep.units.arrays import read_arrays
from data_prep.units.folder import read_folder
from data_prep.units.registry import DATASETS, Dataset, described, find
from data_prep.units.simulate import simulate_units
from data_prep.units.table import TECHNOLOGIES, Units, UnitsError, read_units, write_units

Out = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
TablePath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]


def list_datasets() -> None:
    """The eleven data sets of the published model: what they hold, where to get them, and how to build a table of each."""
    for dataset in DATASETS:
        classes = ", ".join(f"{label} {count}" for label, count in dataset.classes.items())
        number = TECHNOLOGIES[dataset.technology]
        print(f"{dataset.name}\n  {dataset.title}")
        print(
            f"  {dataset.species}, {dataset.region}; {dataset.technology} ({number}); {dataset.units} units: {classes}"
        )
        print(f"  from {dataset.source} ({dataset.cite})")
        if dataset.siblings:
            print(f"  may share recordings with {', '.join(dataset.siblings)}: held out together")
        get = f"python -m data_prep units fetch FILES {dataset.name}, then " if dataset.dandiset else ""
        print(f"  {get}python -m data_prep units build TABLE {how(dataset)} --name {dataset.name}\n")
    print("no data at hand? python -m data_prep units simulate TABLE")


def how(dataset: Dataset) -> str:
    return {"csv": "--csv FOLDER", "nwb": "--nwb FILES", "h5": "--h5 FILE", "npz": "--npz FILE"}[dataset.reader]


def simulate(out: Out, /, units: int = 300, subjects: int = 6, seed: int = 0) -> None:
    """Write a table of simulated units of five classes, with what each unit would look like under three technologies.

    Args:
        out: Folder for the table.
        units: How many.
        subjects: Of how many subjects; each is recorded with one technology.
        seed: The same seed gives the same units.
    """
    save(simulate_units(units, subjects, seed), out)


def fetch(out: Out, name: Name, /, limit: int | None = None, match: str = "*", jobs: int = 4) -> None:
    """Download the NWB files of a data set that lies on DANDI (watson, calvigioni, ramachandran); the only verb that uses the network.

    Args:
        out: Folder for the files and their manifest.
        name: Name of the data set; `list` says where the others are.
        limit: At most so many files, in the order of their paths (the whole of watson is about 155 GB).
        match: Only files whose path matches, for example "sub-BWRat17*".
        jobs: Downloads at a time.
    """
    dataset = find(name)
    if not dataset.dandiset:
        raise UnitsError(f"{dataset.name} is not on DANDI: get it from {dataset.source}")
    from data_prep.patchseq.fetch import fetch as fetch_files
    from data_prep.patchseq.manifest import FetchError

    try:
        summary = fetch_files(dataset.dandiset, out, limit=limit, match=match, jobs=jobs)
    except FetchError as error:
        raise UnitsError(str(error)) from None
    print(summary)
    if summary.failed:
        raise UnitsError(f"{len(summary.failed)} files failed; the same command tries them again")
    print(f"next: python -m data_prep units build TABLE --nwb {out} --name {dataset.name}")


def build(
    out: Out,
    /,
    csv: Path | None = None,
    npz: Path | None = None,
    nwb: tuple[Path, ...] = (),
    h5: Path | None = None,
    analyzer: Path | None = None,
    name: str | None = None,
    technology: str | None = None,
    label: str | None = None,
    rate: float | None = None,
) -> None:
    """Build the table that `jaxephys` reads, from one source; nothing is scaled, resampled or filled.

    Args:
        out: Folder for the table.
        csv: Folder with waveforms.csv, isi_dist.csv, acg.csv (any of them), labels.csv, metadata.csv, folds.csv.
        npz: NumPy archive: waveform, isi, acg; or spike_times (s) and spike_times_index, template and rate (Hz).
        nwb: NWB files with a units table, or folders of them.
        h5: HDF5 file of the C4 database.
        analyzer: Folder of a SpikeInterface SortingAnalyzer with templates.
        name: Which published data set this is (see `list`): its class names, species, region, technology, quality limits.
        technology: neuropixels, silicon_probe, juxtacellular or tetrode, where neither file nor name says so.
        label: Column or field of the label, if it cannot be told; for CSV also "first" or "last".
        rate: Sampling rate in Hz of templates whose file does not say it (NWB, npz).
    """
    dataset = find(name) if name is not None else None
    given = {"--csv": csv, "--npz": npz, "--nwb": nwb or None, "--h5": h5, "--analyzer": analyzer}
    options = [option for option, value in given.items() if value is not None]
    if len(options) != 1:
        raise UnitsError(f"{' and '.join(options) or 'no source'} given: give one of {', '.join(given)}")
    if csv is not None:
        units = read_folder(csv, label=label)
    elif npz is not None:
        units = read_arrays(npz, rate=rate)
    else:
        units = read_recordings(nwb, h5, analyzer, label, rate, dataset)
    save(described(units, dataset, technology), out)


def read_recordings(
    nwb: tuple[Path, ...],
    h5: Path | None,
    analyzer: Path | None,
    label: str | None,
    rate: float | None,
    dataset: Dataset | None,
) -> Units:
    """Sources that need libraries of the prep extra, which are imported only now."""
    if h5 is not None:
        from data_prep.units.c4 import read_c4

        return read_c4(h5, label=label)
    if analyzer is not None:
        from data_prep.units.analyzer import read_analyzer

        return read_analyzer(analyzer, label=label)
    from data_prep.units.nwb import read_nwb

    files = [file for path in nwb for file in (sorted(path.rglob("*.nwb")) if path.is_dir() else [path])]
    if not files:
        raise UnitsError(f"there is no NWB file in {', '.join(map(str, nwb))}: give files, or folders that hold some")
    return read_nwb(files, label=label, rate=rate, rules=dataset)


def check(path: TablePath, /, json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None) -> None:
    """Say what a table holds and what would mislead a model: row indices, copies, damaged or misaligned rows, small classes.

    Args:
        path: Folder of the table.
        json_file: Write the whole report here as well, with the ids of all units concerned.
    """
    found = checking.report(read_units(path))
    print("\n".join(found.lines()))
    if json_file is not None:
        json_file.write_text(json.dumps(found.json(), indent=2) + "\n", encoding="utf-8")


def save(units: Units, out: Path) -> None:
    for note in units.provenance.get("notes", ()):
        print(note)
    path = write_units(units, out)
    present = ", ".join(
        f"{name} {count}" for name, count in zip(units.modalities, units.present.sum(axis=0), strict=True)
    )
    labels = set(units.column("label")) - {""}
    print(f"{path}: {len(units)} units, {len(labels)} classes; {present}; sha256 {units.sha256[:12]}")
    if "" in units.column("technology"):
        print("the technology of some units is unknown: say it with --technology, or the model treats it as unknown")
    print(f"next: python -m data_prep units check {out}")


VERBS = {"list": list_datasets, "simulate": simulate, "fetch": fetch, "build": build, "check": check}


def main(arguments: Sequence[str]) -> int:
    return run("units", __doc__, VERBS, arguments, (UnitsError,))
