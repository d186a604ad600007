"""``python -m data_prep spikes COMMAND``: build recordings of packed spikes with splits, check and simulate them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_prep.cli import chosen_source
from data_prep.spikes.build import BuildSettings, apply_recipe, build_recording
from data_prep.spikes.check import check_recording, compute_statistics, list_splits
from data_prep.spikes.registry import ENTRIES, IblSession, build_entry, find_entry
from data_prep.spikes.simulate import write_simulated_recordings
from data_prep.spikes.simulated_populations import KINDS
from jaxephys.schemas.recording import Recording
from jaxephys.schemas.storage import DataError

RecordingName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
RecordingFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
DESCRIPTION = "Build recordings of packed spikes with splits, check and simulate them."


def _list() -> None:
    """Show the public recordings, how to get and to build them, and the simulated populations."""
    for entry in ENTRIES:
        print(f"{entry.name}\n  {entry.title} ({entry.cite})")
        print(f"  region: {entry.region}; identifier: {entry.identifier}")
        needs = "the extra ibl, and the network" if isinstance(entry.source, IblSession) else "the network"
        print(f"  python -m data_prep spikes fetch {entry.name} --out FOLDER     needs {needs}")
        if entry.reader:
            print(f"  python -m data_prep spikes build {entry.name} --data FOLDER --out DIR")
        if entry.long_test is not None and entry.settings.test is not None:
            short, long = (
                (stop - start) * entry.settings.bin_ms / 1000 for start, stop in (entry.settings.test, entry.long_test)
            )
            print(f"  test bins: {short:g} s, or with --long-test {long:g} s as in the published study")
        if isinstance(entry.source, Mapping):
            print(f"  the files: {', '.join(entry.source)}")
    print(f"\nno data yet? python -m data_prep spikes simulate --out DIR makes {len(KINDS)} populations:")
    for kind in KINDS:
        print(f"  {kind.name:<14} {kind.domain}, {kind.rate:g} Hz")


def _simulate(
    out: Path, populations: tuple[str, ...] = (), minutes: float = 1.0, units: int = 32, seed: int = 0
) -> None:
    """Write simulated recordings and, in truth.csv, the highest scores that a model can reach on them.

    Args:
        out: Folder for the recordings.
        populations: Names of the populations to simulate. By default all twelve.
        minutes: Duration of each; half of it is for training.
        units: Number of units of each.
        seed: The same seed gives the same spikes.
    """
    rows = write_simulated_recordings(out, populations, minutes=minutes, units=units, seed=seed)
    print(f"{'truth on test bins':<18}   AUC  constant  within unit     AP  bits/spike")
    for row in rows:
        print(
            f"{row['name']:<18} {row['auc']:.3f}     {row['constant_auc']:.3f}        {row['within_auc']:.3f}  "
            f"{row['average_precision']:.3f}      {row['bits_per_spike']:+.3f}"
        )
    print(f"next: python -m data_prep spikes check {out / str(rows[0]['name'])}.npz")


def _fetch(name: RecordingName, /, out: Path) -> None:
    """Download the files of a recording that `list` shows; only this command uses the network.

    Args:
        name: Name of the recording.
        out: Folder for the files.
    """
    from data_prep.spikes.fetch import fetch

    entry = find_entry(name)
    files = fetch(entry, out)
    more = " ..." if len(files) > 5 else ""
    print(f"{len(files)} files in {out}: {', '.join(path.name for path in files[:5])}{more}")
    if entry.reader:
        print(f"next: python -m data_prep spikes build {name} --data {out} --out DIR")
    for path in files if not entry.reader else ():
        if path.suffix == ".mat" and "asdf" in path.name:
            recording = "_".join(("in_vitro", *path.relative_to(out).parts[:-1], path.stem))
            print(f"next: python -m data_prep spikes build {recording} --asdf {path} --recipe in_vitro --out DIR")


def _build(
    name: RecordingName,
    /,
    out: Path,
    settings: Annotated[BuildSettings, tyro.conf.arg(name="")],
    data: Path | None = None,
    asdf: tuple[Path, ...] = (),
    alf: Path | None = None,
    npz: tuple[Path, ...] = (),
    nwb: Path | None = None,
    phy: Path | None = None,
    kilosort: Path | None = None,
    recipe: Literal["in_vitro", "ibl", "ibl_ten_minutes"] | None = None,
    long_test: bool = False,
) -> None:
    """Build OUT/NAME.npz, from files of the registry with their settings (--data) or from your own.

    Args:
        name: Name of the recording; with --data one that `list` shows.
        out: Folder for it.
        data: Folder that holds the files of a recording of the registry, whose settings are then used.
        asdf: MATLAB v5 files of one recording, in chronological order; they are joined, and no split contains a seam.
        alf: IBL folder of one probe.
        npz: NumPy files (npz or npy) of one recording, in chronological order.
        nwb: NWB file with a units table.
        phy: Folder curated in Phy (spike_times.npy, spike_clusters.npy, params.py, cluster_group.tsv); its good clusters.
        kilosort: Folder of Kilosort; the clusters that it labels good (cluster_KSLabel.tsv).
        recipe: Time and units of the published study: "in_vitro" (minutes 30 to 40, 128 units), "ibl" (the first five minutes of spontaneous activity, units 100 to 227) or "ibl_ten_minutes". Other options replace its settings.
        long_test: With --data: 2.5 minutes of test bins, as in the published study, rather than the 50 s of the registry.
    """
    given = {"asdf": asdf, "alf": alf, "npz": npz, "nwb": nwb, "phy": phy, "kilosort": kilosort}
    paths = {name: path if isinstance(path, tuple) else (path,) for name, path in given.items() if path}
    source = chosen_source({"data": data, **given})
    chosen = settings if recipe is None else apply_recipe(recipe, settings)
    if data is None:
        if long_test:
            raise DataError("--long-test is for recordings of the registry (--data): give --minutes or --test instead")
        recording = build_recording(name, source, paths[source], chosen)
    else:
        entry = find_entry(name)
        if settings != BuildSettings():
            raise DataError(
                f"the registry has the settings of {name}: leave out options but --recipe with --data, or give its files with "
                "--asdf or --alf"
            )
        recording = build_entry(entry, data, None if recipe is None else chosen, long_test=long_test)
    for note in recording.provenance["notes"]:
        print(note)
    path = recording.write(out)
    print(
        f"{path}: {recording.units} units, {len(recording)} bins of {recording.bin_ms:g} ms; {list_splits(recording)}"
    )
    print(f"sha256 of the splits {recording.sha256}")
    print(f"next: python -m data_prep spikes check {path}")


def _check(path: RecordingFile, /, figure: Path | None = None) -> None:
    """Summarize and draw a recording and list its problems: rates, intervals, stationarity, repeated bins.

    Args:
        path: File of the recording.
        figure: File for the figure. By default it has the name of the recording and the ending .png.
    """
    from data_prep.spikes.figure import draw_recording

    recording = Recording.read(path)
    statistics = compute_statistics(recording)
    print("\n".join(check_recording(recording, statistics).lines()))
    figure = path.with_suffix(".png") if figure is None else figure
    draw_recording(recording, statistics, figure)
    print(f"\nfigure: {figure}")


COMMANDS = {"list": _list, "simulate": _simulate, "fetch": _fetch, "build": _build, "check": _check}
