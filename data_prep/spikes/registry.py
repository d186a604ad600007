"""Registry: the public recordings of the published experiment, how to get them, and how each is built."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.spikes.build import Recipe, build_recording
from data_prep.spikes.recording import Recording
from data_prep.spikes.spike_times import SpikesError

# The repository of the published code holds one slice and one in vivo session as asdf files.
SHIPPED = "https://raw.githubusercontent.com/ShimonoMLab/GenerativeNeurosci_ML-TrDic"
SLICE = f"{SHIPPED}/ce288f5997a0780eca83e187b71df1497eaf78f4/Sharing_whole_SizeSame128/210511001"
SESSION = f"{SHIPPED}/2cf4e1ac4a4d1f74b621523e2966530f50cd5a92/Sharing_whole_SizeSame128/angelakilab/Subjects"


@dataclass(frozen=True)
class Web:
    """Single files: our name -> address."""

    files: dict[str, str]


@dataclass(frozen=True)
class Mendeley:
    """A data set of Mendeley Data, whose interface lists the files and their checksums."""

    dataset: str
    version: int


@dataclass(frozen=True)
class Session:
    """A session of the International Brain Laboratory, through ONE."""

    subject: str
    date: str
    probe: str = "probe00"


@dataclass(frozen=True)
class Entry:
    """A recording, or a collection of them (without a reader: those are built by the names of their files)."""

    name: str
    title: str
    source: Web | Mendeley | Session
    cite: str
    reader: str = ""  # which option of `build` reads it
    files: tuple[tuple[str, ...], ...] = ()  # for each part, how its file may be called
    seams: tuple[int, ...] = ()  # where the parts meet, in bins: the splits count on it
    recipe: Recipe = field(default_factory=Recipe)

    def paths(self, folder: Path) -> list[Path]:
        """The files of this recording in a folder, in the order of time."""
        if not folder.is_dir():
            raise SpikesError(f"there is no folder {folder}: fetch {self.name} first, or give the folder that holds it")
        if self.reader == "alf":
            return [folder / self.name if (folder / self.name).is_dir() else folder]
        return [self.path(folder, names) for names in self.files]

    def path(self, folder: Path, names: tuple[str, ...]) -> Path:
        every = sorted(path.resolve() for path in folder.rglob("*") if path.is_file())
        found = [path for path in every if any(path.match(name) for name in names)]
        if len(found) != 1:
            said = ", ".join(path.name for path in found) or "none"
            raise SpikesError(
                f"{folder} should hold one file {' or '.join(names)} and holds {said}: fetch {self.name} again"
            )
        return found[0]


MODEL = "Shimono 2026, Algorithms 19(4):305"
IN_VIVO = Recipe(domain="in vivo", skip=100, take=128)  # "skip 100, take 128" is the paper's choice
SESSIONS = (
    *(("NYU-40", f"2021-04-{day}") for day in (13, 14, 15, 16)),
    *(("SWC_038", date) for date in ("2020-07-30", "2020-07-31", "2020-08-01")),
    *(("SWC_043", date) for date in ("2020-09-20", "2020-09-21")),
)

ENTRIES = (
    Entry(
        "in_vitro_210511001",
        "cortical slice of a mouse, 128 units, two halves; nominally 1 ms a bin",
        Web({f"in_vitro_210511001_{half}.mat": f"{SLICE}/asdf_{half}.mat" for half in ("bh", "lh")}),
        MODEL,
        "asdf",
        (
            ("in_vitro_210511001_bh*.mat", "210511001/asdf_bh.mat"),
            ("in_vitro_210511001_lh*.mat", "210511001/asdf_lh.mat"),
        ),
        (400_080,),
        # The test is in the second half, from its bin 10,000: no window goes over the seam.
        Recipe("in vitro", tick_ms=1.0, train=(0, 300_000), validation=(300_000, 400_000), test=(410_080, 460_080)),
    ),
    Entry(
        "in_vivo_NYU-40_2021-04-14",
        "entorhinal cortex of a mouse, clusters 0 to 127 of an IBL session, 30 kHz ticks",
        Web({"in_vivo_NYU-40_2021-04-14.mat": f"{SESSION}/NYU-40/2021-04-14/001/asdf.mat"}),
        f"{MODEL}; International Brain Laboratory (CC BY 4.0)",
        "asdf",
        (("in_vivo_NYU-40_2021-04-14*.mat", "NYU-40/2021-04-14/001/asdf.mat"),),
        (),
        Recipe("in vivo", tick_hz=30_000.0, train=(0, 300_000), validation=(300_000, 450_000), test=(460_000, 510_000)),
    ),
    Entry(
        "mendeley_kf65cvmtbz",
        "the data that the paper deposited, doi 10.17632/kf65cvmtbz.1; build its asdf files with --asdf",
        Mendeley("kf65cvmtbz", 1),
        MODEL,
    ),
    *(
        Entry(
            f"ibl_{subject}_{date}",
            "an IBL session; spontaneous activity of its passive protocol, units 100 to 227 of the probe",
            Session(subject, date),
            "International Brain Laboratory (CC BY 4.0)",
            "alf",
            recipe=IN_VIVO,
        )
        for subject, date in SESSIONS
    ),
)


def find(name: str) -> Entry:
    known = {entry.name: entry for entry in ENTRIES}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}" if near else "`list` names them all"
        raise SpikesError(f"there is no recording {name!r} in the registry: {hint}")
    return known[name]


def build_entry(entry: Entry, folder: Path) -> Recording:
    """Build a recording of the registry by its own recipe from the files in a folder."""
    if not entry.reader:
        raise SpikesError(f"{entry.name} is a collection of recordings: build one of its files with --asdf")
    recording = build_recording(entry.name, entry.reader, entry.paths(folder), entry.recipe)
    if recording.seams != entry.seams:
        raise SpikesError(
            f"the parts of {entry.name} meet at bin {recording.seams}, and its splits count on {entry.seams}: fetch them again"
        )
    return recording
