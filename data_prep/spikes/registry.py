"""The public recordings of the published experiment: where their files are and how each recording is built from them.

Start with :data:`ENTRIES`, :func:`find_entry` and :func:`build_entry`; :mod:`data_prep.spikes.fetch` downloads the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_prep.lookup import find_by_name
from data_prep.spikes.build import RECIPES, BuildSettings, build_recording
from jaxephys.schemas.recording import Recording
from jaxephys.schemas.storage import DataError

# The repository of the published code holds one slice and one in vivo session as asdf files.
SHIPPED = "https://raw.githubusercontent.com/ShimonoMLab/GenerativeNeurosci_ML-TrDic"
SLICE = f"{SHIPPED}/ce288f5997a0780eca83e187b71df1497eaf78f4/Sharing_whole_SizeSame128/210511001"
SESSION = f"{SHIPPED}/2cf4e1ac4a4d1f74b621523e2966530f50cd5a92/Sharing_whole_SizeSame128/angelakilab/Subjects"


@dataclass(frozen=True)
class MendeleyDataset:
    """A data set of Mendeley Data, whose interface lists the files and their checksums.

    Parameters
    ----------
    dataset : str
        Identifier.
    version : int
        Version.
    """

    dataset: str
    version: int


@dataclass(frozen=True)
class IblSession:
    """A session of the International Brain Laboratory, which its own client downloads.

    Parameters
    ----------
    subject : str
        Name of the mouse.
    date : str
        Day, YYYY-MM-DD.
    probe : str, default "probe00"
        Probe of the session.
    lab : str, default ""
        Name of the laboratory in the database, where it is known.
    """

    subject: str
    date: str
    probe: str = "probe00"
    lab: str = ""


@dataclass(frozen=True)
class Entry:
    """A recording, or a collection of recordings.

    Parameters
    ----------
    name : str
        Name of the recording.
    title : str
        Short description.
    source : mapping of str to str, MendeleyDataset or IblSession
        Where its files are; for single files on the web, the name that each gets here to its address.
    cite : str
        Publication and license.
    region : str, default "unknown"
        Region of the brain that the units are from; the text states where it is unknown.
    identifier : str, default "unknown"
        Identifier of the recording in its source.
    reader : str, optional
        Format of the files (see :func:`data_prep.spikes.build.build_recording`); ``""`` for a collection, whose
        recordings are built from their own files.
    files : tuple of tuple of str, optional
        For each part, in chronological order, patterns of the names that its file may have.
    seams : tuple of int, optional
        Bins where the parts must meet, since the splits rely on them.
    settings : BuildSettings, optional
        How the recording is built.
    long_test : tuple of (int, int), optional
        First test bin and the bin after the last of test bins of 2.5 minutes, the length of the study, where the settings have
        shorter ones and the files hold more.
    """

    name: str
    title: str
    source: Mapping[str, str] | MendeleyDataset | IblSession
    cite: str
    region: str = "unknown"
    identifier: str = "unknown"
    reader: str = ""
    files: tuple[tuple[str, ...], ...] = ()
    seams: tuple[int, ...] = ()
    settings: BuildSettings = field(default_factory=BuildSettings)
    long_test: tuple[int, int] | None = None

    def paths(self, folder: Path) -> list[Path]:
        """Find the files of this recording in a folder.

        Parameters
        ----------
        folder : Path
            Folder that holds them, at any depth.

        Returns
        -------
        list of Path
            One file per part, in chronological order; for IBL sessions the folder of the probe.

        Raises
        ------
        DataError
            If the folder does not exist, or does not hold exactly one file for a part.
        """
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}: fetch {self.name} first, or give the folder that holds it")
        if self.reader == "alf":
            return [folder / self.name if (folder / self.name).is_dir() else folder]
        files = sorted(path.resolve() for path in folder.rglob("*") if path.is_file())
        paths = []
        for patterns in self.files:
            found = [path for path in files if any(path.match(pattern) for pattern in patterns)]
            if len(found) != 1:
                listed = ", ".join(path.name for path in found) or "none"
                raise DataError(
                    f"{folder} should hold one file {' or '.join(patterns)} and holds {listed}: fetch {self.name} again"
                )
            paths.append(found[0])
        return paths


MODEL = "Shimono 2026, Algorithms 19(4):305"
SESSIONS = (
    *(("NYU-40", f"2021-04-{day}") for day in (13, 14, 15, 16)),
    *(("SWC_038", date) for date in ("2020-07-30", "2020-07-31", "2020-08-01")),
    *(("SWC_043", date) for date in ("2020-09-20", "2020-09-21")),
)
LABS = {"NYU-40": "angelakilab", "SWC_038": "mrsicflogellab", "SWC_043": "hoferlab"}
# Regions of the units that are taken, from the table of clusters in the published repository. It holds no other session's.
REGIONS = {("NYU-40", "2021-04-14"): "lateral entorhinal cortex (115 units), postrhinal area (13)"}
UNKNOWN_REGION = "unknown: the table of clusters of the session has it"

ENTRIES = (
    Entry(
        "in_vitro_210511001",
        "cortical slice of a mouse, 128 units, two halves; nominally 1 ms a bin",
        {f"in_vitro_210511001_{half}.mat": f"{SLICE}/asdf_{half}.mat" for half in ("bh", "lh")},
        MODEL,
        "cortex; which area is unknown",
        "slice 210511001",
        "asdf",
        (
            ("in_vitro_210511001_bh*.mat", "210511001/asdf_bh.mat"),
            ("in_vitro_210511001_lh*.mat", "210511001/asdf_lh.mat"),
        ),
        (400_080,),
        # The test split is in the second half, from its bin 10,000: no window contains the seam.
        BuildSettings(
            "in vitro", tick_ms=1.0, train=(0, 300_000), validation=(300_000, 400_000), test=(410_080, 460_080)
        ),
        (410_080, 560_080),
    ),
    Entry(
        "in_vivo_NYU-40_2021-04-14",
        "entorhinal cortex of a mouse, clusters 0 to 127 of an IBL session, 30 kHz ticks",
        {"in_vivo_NYU-40_2021-04-14.mat": f"{SESSION}/NYU-40/2021-04-14/001/asdf.mat"},
        f"{MODEL}; International Brain Laboratory (CC BY 4.0)",
        "entorhinal cortex, lateral (121 units) and medial (7)",
        "angelakilab/Subjects/NYU-40/2021-04-14/001, clusters 0 to 127",
        "asdf",
        (("in_vivo_NYU-40_2021-04-14*.mat", "NYU-40/2021-04-14/001/asdf.mat"),),
        (),
        BuildSettings(
            "in vivo", tick_hz=30_000.0, train=(0, 300_000), validation=(300_000, 450_000), test=(460_000, 510_000)
        ),
        (460_000, 610_000),
    ),
    Entry(
        "mendeley_kf65cvmtbz",
        "the data that the paper deposited, doi 10.17632/kf65cvmtbz.1; build each asdf file with --asdf and --recipe in_vitro",
        MendeleyDataset("kf65cvmtbz", 1),
        MODEL,
        "unknown: read the description of the deposit",
        "doi 10.17632/kf65cvmtbz.1",
    ),
    *(
        Entry(
            f"ibl_{subject}_{date}",
            "an IBL session; five minutes of spontaneous activity in its passive protocol, units 100 to 227 of the probe",
            IblSession(subject, date, lab=LABS[subject]),
            "International Brain Laboratory (CC BY 4.0)",
            REGIONS.get((subject, date), UNKNOWN_REGION),
            f"{LABS[subject]}/Subjects/{subject}/{date}, probe00",
            "alf",
            settings=RECIPES["ibl"],
        )
        for subject, date in SESSIONS
    ),
)


def find_entry(name: str) -> Entry:
    """Find a recording of the registry by its name.

    Parameters
    ----------
    name : str
        Its name.

    Returns
    -------
    Entry
        The description.

    Raises
    ------
    DataError
        If there is none; the message suggests a similar name.

    Examples
    --------
    >>> find_entry("in_vitro_210511001").reader
    'asdf'
    """
    return find_by_name(name, {entry.name: entry for entry in ENTRIES}, "recording of the registry")


def build_entry(
    entry: Entry, folder: Path, settings: BuildSettings | None = None, *, long_test: bool = False
) -> Recording:
    """Build a recording of the registry from the files in a folder.

    Parameters
    ----------
    entry : Entry
        The recording.
    folder : Path
        Folder that holds its files.
    settings : BuildSettings, optional
        How to build it instead of the settings of the registry.
    long_test : bool, default False
        Use the test bins `Entry.long_test`, without other ``settings``. Training and validation bins stay the same.

    Returns
    -------
    Recording
        The recording. Its provenance holds the region and the identifier too.

    Raises
    ------
    DataError
        If the entry is a collection, files are missing, their parts meet at other bins than expected, or longer test bins are
        requested that the registry does not have.
    """
    if not entry.reader:
        raise DataError(f"{entry.name} is a collection of recordings: build one of its files with --asdf")
    if long_test:
        if settings is not None:
            raise DataError(
                "--long-test changes the settings of the registry, which --recipe replaces: leave out one of the two"
            )
        if entry.long_test is None:
            raise DataError(
                f"the registry has no longer test bins of {entry.name}: leave out --long-test, or give --recipe"
            )
        settings = replace(entry.settings, test=entry.long_test)
    recording = build_recording(entry.name, entry.reader, entry.paths(folder), settings or entry.settings)
    if recording.seams != entry.seams:
        raise DataError(
            f"the parts of {entry.name} meet at bin {recording.seams}, and its splits rely on {entry.seams}: fetch them again"
        )
    provenance = {**recording.provenance, "region": entry.region, "identifier": entry.identifier}
    return replace(recording, provenance=provenance)
