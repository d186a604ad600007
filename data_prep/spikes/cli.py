"""``python -m data_prep spikes VERB``: spike times -> packed bins with splits; what is in them; populations with a truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from data_prep.cli import run
from data_prep.spikes import check as checking
from data_prep.spikes.build import Recipe, build_recording
from data_prep.spikes.recording import Recording, read_recording, write_recording
from data_prep.spikes.registry import ENTRIES, Session, Web, build_entry, find
from data_prep.spikes.simulate import simulate
from data_prep.spikes.simulated_populations import KINDS
from data_prep.spikes.spike_times import SpikesError
from data_prep.spikes.splits import NAMES
from data_prep.units.table import UnitsError

Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
File = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]


def list_recordings() -> None:
    """The public recordings, how to get and to build them, and the simulated populations."""
    for entry in ENTRIES:
        print(f"{entry.name}\n  {entry.title} ({entry.cite})")
        how = "the extra ibl, and the network" if isinstance(entry.source, Session) else "the network"
        print(f"  python -m data_prep spikes fetch {entry.name} --out FOLDER     needs {how}")
        if entry.reader:
            print(f"  python -m data_prep spikes build {entry.name} --data FOLDER --out DIR")
        if isinstance(entry.source, Web):
            print(f"  the files: {', '.join(entry.source.files)}")
    print(f"\nno data at hand? python -m data_prep spikes simulate --out DIR makes {len(KINDS)} populations:")
    for kind in KINDS:
        print(f"  {kind.name:<14} {kind.domain}, {kind.rate:g} Hz")


def simulate_populations(
    out: Path, populations: tuple[str, ...] = (), minutes: float = 1.0, units: int = 32, seed: int = 0
) -> None:
    """Write simulated recordings and, in truth.csv, the scores of their true probabilities: what a model can reach at most.

    Args:
        out: Folder for the recordings.
        populations: Only these; all twelve without it.
        minutes: Length of each; half is for training.
        units: Units of each.
        seed: The same seed gives the same spikes.
    """
    rows = simulate(out, populations, minutes=minutes, units=units, seed=seed)
    print(f"{'truth on test bins':<18}   AUC  constant  within unit     AP  bits/spike")
    for row in rows:
        print(
            f"{row['name']:<18} {row['auc']:.3f}     {row['constant_auc']:.3f}        {row['within_auc']:.3f}  "
            f"{row['average_precision']:.3f}      {row['bits_per_spike']:+.3f}"
        )
    print(f"next: python -m data_prep spikes check {out / str(rows[0]['name'])}.npz")


def fetch_recording(name: Name, /, out: Path) -> None:
    """Download the files of a recording that `list` names; the only verb that uses the network.

    Args:
        name: Name of the recording.
        out: Folder for the files.
    """
    from data_prep.spikes.fetch import fetch

    entry = find(name)
    files = fetch(entry, out)
    print(
        f"{len(files)} files in {out}: {', '.join(path.name for path in files[:5])}{' ...' if len(files) > 5 else ''}"
    )
    if entry.reader:
        print(f"next: python -m data_prep spikes build {name} --data {out} --out DIR")


def build(
    name: Name,
    /,
    out: Path,
    recipe: Annotated[Recipe, tyro.conf.arg(name="")],
    data: Path | None = None,
    asdf: tuple[Path, ...] = (),
    alf: Path | None = None,
    npz: tuple[Path, ...] = (),
    nwb: Path | None = None,
) -> None:
    """Build OUT/NAME.npz, from files of the registry by their recipe (--data) or from your own.

    Args:
        name: Name of the recording; with --data one that `list` names.
        out: Folder for it.
        data: Folder that holds the files of a recording of the registry, whose recipe is then used.
        asdf: MATLAB v5 files of one recording, in the order of time; they are joined, and no split goes over a seam.
        alf: IBL folder of one probe.
        npz: NumPy files (npz or npy) of one recording, in the order of time.
        nwb: NWB file with a units table.
    """
    given = {"data": data, "asdf": asdf, "alf": alf, "npz": npz, "nwb": nwb}
    options = [option for option, value in given.items() if value]
    if len(options) != 1:
        said = " and ".join(f"--{option}" for option in options) or "no source"
        raise SpikesError(f"{said} given: give one of {', '.join(f'--{option}' for option in given)}")
    if data is not None:
        entry = find(name)
        if recipe != Recipe():
            raise SpikesError(
                f"{name} has a recipe of its own with --data: leave out other fields, or give its files by --asdf"
            )
        save(build_entry(entry, data), out)
        return
    paths = {"asdf": asdf, "npz": npz, "alf": (alf,), "nwb": (nwb,)}[options[0]]
    save(build_recording(name, options[0], [path for path in paths if path is not None], recipe), out)


def check(path: File, /, figure: Path | None = None) -> None:
    """Say what a recording holds and what would mislead: rates, intervals, refractory time, stationarity, copies; and draw it.

    Args:
        path: File of the recording.
        figure: Where the picture goes; beside the recording without it.
    """
    from data_prep.spikes.figure import draw

    recording = read_recording(path)
    found = checking.statistics(recording)
    print("\n".join(checking.report(recording, found).lines()))
    figure = path.with_suffix(".png") if figure is None else figure
    draw(recording, found, figure)
    print(f"\npicture: {figure}")


def save(recording: Recording, out: Path) -> None:
    for note in recording.provenance["notes"]:
        print(note)
    path = write_recording(recording, out)
    splits = ", ".join(f"{name} [{start}, {stop})" for name, (start, stop) in zip(NAMES, recording.splits, strict=True))
    print(f"{path}: {len(recording.unit)} units, {len(recording.packed)} bins of {recording.bin_ms:g} ms; {splits}")
    print(f"sha256 of the splits {recording.sha256}")
    print(f"next: python -m data_prep spikes check {path}")


VERBS = {
    "list": list_recordings,
    "simulate": simulate_populations,
    "fetch": fetch_recording,
    "build": build,
    "check": check,
}


def main(arguments: Sequence[str]) -> int:
    return run("spikes", __doc__, VERBS, arguments, (SpikesError, UnitsError))
