"""The eleven public data sets of the published model, their class names, and which of them share recordings.

Start with :data:`DATASETS`, :func:`find_dataset` and :func:`annotate_units`. Counts and sources are those of the
descriptions in the published benchmark; ``folders`` are the names that its snapshots give the same recordings.

The published code has two tables of recording technologies, which differ in four data sets (the second one has Hausser,
Hull and CellExplorer as silicon_probe and Lisberger as juxtacellular). This registry follows the table of the embedding
example, which agrees with the recordings. Lisberger was recorded with tungsten electrodes and 16-channel s-Probes, so
that neither name is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from data_prep.lookup import find_by_name
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_csv import clean_label
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

C4 = "https://www.c4-database.com"
# Its originals are in https://github.com/EricKenjiLee/PhysMAP_Manuscript; the release holds them in the layout that we
# read.
PHYSMAP = "https://github.com/JesusGF1/hippie_benchmarking_release, folder datasets/"
RELEASE = "https://github.com/JesusGF1/hippie_benchmarking_release/raw/6165daca6da283e5309f1c7840cf39bcb919dcf5"
SESSION_FILES = (
    "*_ses-?????????.nwb"  # of the Allen Institute's dandisets, which hold a file of field potentials per probe, too
)
Range = tuple[float | None, float | None]  # lowest and highest value that is kept


@dataclass(frozen=True)
class Dataset:
    """Description of a public data set.

    Parameters
    ----------
    name : str
        Name in this registry.
    title : str
        Short description.
    species, region : str
        Where the units were recorded.
    technology : str
        A key of ``jaxephys.schemas.unit_table.TECHNOLOGIES``.
    units : int
        Number of units.
    classes : mapping of str to int
        Units of each class, under the names of our tables; the remaining units have no label.
    source : str
        Address of the original, or how to get it.
    reader : {"csv", "nwb", "h5", "alf"}
        Option of ``data_prep units build`` that reads the original.
    cite : str
        Publications.
    folders : tuple of str, optional
        Names of the same recordings in the benchmark's snapshots.
    labels : mapping of str to str, optional
        Label in the source to label in our tables; ``""`` drops the label.
    siblings : tuple of str, optional
        Data sets that share recordings with this one.
    quality : mapping of str to (float or None, float or None), optional
        Column of the units table to the lowest and highest value of units that are kept.
    min_spikes : int, default 0
        Spikes that a unit must have to be kept.
    dandisets : mapping of str to str, optional
        Numbers on DANDI, and for each the pattern of the files to fetch.
    urls : mapping of str to str, optional
        Single files on the web: the name that each gets here, and its address.
    download : str, optional
        Name of the file where it has to be downloaded by hand.
    by_region : bool, default False
        Whether the class of a unit is its region.
    """

    name: str
    title: str
    species: str
    region: str
    technology: str
    units: int
    classes: Mapping[str, int]
    source: str
    reader: str
    cite: str
    folders: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    siblings: tuple[str, ...] = ()
    quality: Mapping[str, Range] = field(default_factory=dict)
    min_spikes: int = 0
    dandisets: Mapping[str, str] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)
    download: str = ""
    by_region: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The name and those of the benchmark's snapshots."""
        return (self.name, *self.folders)


# Names of a class in the sources (lower case): our name of it.
SYNONYMS = {
    "pvalb": "PV",
    "parvalbumin": "PV",
    "sst": "SOM",
    "somnan": "SOM",
    "somatostatin": "SOM",
    "pyra": "Pyramidal",
}
QUALITY_LIMITS = {"isi_violations": (None, 0.5), "presence_ratio": (0.5, None)}
PUTATIVE_TYPES = {
    **dict.fromkeys(("RS", "regular spiking", "pyramidal", "excitatory", "exc", "E"), "Excitatory"),
    **dict.fromkeys(("FS", "fast spiking", "interneuron", "inhibitory", "inh", "I"), "Inhibitory"),
}


def _files(folder: str, *names: str, **others: str) -> dict[str, str]:
    """Return the addresses of files of the benchmark's release, by the name that each gets here."""
    paths = {f"{name}.csv": f"datasets/{folder}/{name}.csv" for name in names}
    return {name: f"{RELEASE}/{path}" for name, path in (paths | {f"{k}.csv": v for k, v in others.items()}).items()}


# fmt: off
DATASETS = (
    Dataset(
        "hausser", "C4, Hausser lab: awake mouse, Neuropixels 1.0, optotagged", "mouse", "cerebellar cortex",
        "neuropixels", 1998, {"GoC": 16, "GrC": 9, "MFB": 13, "MLI": 15, "PkC_cs": 25, "PkC_ss": 35}, C4, "h5",
        "Beau et al. 2024", ("hausser_cell_type", "hausser_waveonly"), download="C4_database_hausser.h5",
    ),
    Dataset(
        "hull", "C4, Hull lab: awake mouse, Neuropixels 1.0, all labelled", "mouse", "cerebellar cortex",
        "neuropixels", 103, {"GoC": 2, "MFB": 18, "MLI": 13, "PkC_cs": 34, "PkC_ss": 36}, C4, "h5",
        "Beau et al. 2024", ("hull_cell_type", "hull_counts"), download="C4_database_hull_labelled.h5",
    ),
    Dataset(
        "lisberger", "C4, Lisberger lab: macaque floccular complex, s-Probe and tungsten", "macaque", "cerebellar cortex",
        "silicon_probe", 1152, {"GoC": 188, "MFB": 86, "MLI": 36, "PkC_cs": 147, "PkC_ss": 211}, C4, "h5",
        "Beau et al. 2024", ("lisberger_labeled_cell_type", "lissberger_labeled_cell_type"),
        download="C4_database_lisberger.h5",
    ),
    Dataset(
        "cellexplorer", "CellExplorer: mouse visual cortex and CA1, Neuropixels 1.0, optotagged", "mouse",
        "visual cortex and hippocampus", "neuropixels", 430, {"PV": 186, "SOM": 115, "Pyramidal": 44, "VIP": 14},
        PHYSMAP + "cellexplorer_cell_type",
        "csv", "Petersen et al. 2021, Siegle et al. 2021, Senzai et al. 2019",
        ("cellexplorer_cell_type", "cellexplorer_area", "cellexplorer-celltype", "cellexplorer-area"),
        # How a unit was found, and a mixed driver line, are not cell classes; the benchmark leaves these units out as
        # well.
        labels=dict.fromkeys(("Axo", "Axo-axonic", "Axoaxonic", "Juxt", "Juxtacellular", "VGAT"), ""),
        # Siegle et al. 2021 is the Allen Institute's survey: some of its units may be in both data sets.
        siblings=("allen",), urls=_files("cellexplorer_cell_type", "waveforms", "isi_dist", "acg", "labels"),
    ),
    Dataset(
        "ibl", "IBL brain-wide map, units of quality `good`", "mouse", "brain-wide", "neuropixels", 62993,
        {
            "Isocortex": 12982, "TH": 11124, "MB": 8310, "HPF": 7050, "HB": 6950,
            "CNU": 6888, "CB": 5683, "OLF": 2220, "CTXsp": 1043, "HY": 743,
        },
        "https://openalyx.internationalbrainlab.org (ONE API)", "alf", "International Brain Laboratory",
        ("ibl_brainwide_good", "ibl_brainwide", "ibl_brainwide_qc", "ibl_brainwide_curated"), {"isocortex": "Isocortex"},
        quality=QUALITY_LIMITS, min_spikes=100, by_region=True,
    ),
    Dataset(
        "allen", "Allen Institute Visual Coding, Neuropixels", "mouse", "visual cortex, hippocampus, thalamus, midbrain",
        "neuropixels", 61781,
        {
            "CA1": 13451, "VISp": 7351, "VISal": 5756, "VISam": 4922, "VISrl": 4511, "DG": 4300, "LP": 4028, "VISl": 3390,
            "VISpm": 3161, "CA3": 2664, "LGd": 2293, "SUB": 1648, "ProS": 1093, "SGN": 630, "MGv": 608, "PO": 549,
            "VPM": 516, "Eth": 478, "MB": 432,
        },
        "https://dandiarchive.org/dandiset/000021 and 000022 (Visual Coding, also in AllenSDK)", "nwb", "Siegle et al. 2021",
        ("allen_scope_neuropixel_area_subset", "allen_scope_neuropixel_area", "allen_scope_neuropixel", "allenscope-neuropixel"),
        siblings=("cellexplorer",),
        quality={"isi_violations": (None, 0.5), "amplitude_cutoff": (None, 0.1), "presence_ratio": (0.9, None)},
        dandisets={"000021": SESSION_FILES, "000022": SESSION_FILES}, by_region=True,
    ),
    Dataset(
        "watson", "DANDI 000041: sleeping rat, 64-site silicon probes", "rat", "frontal cortex", "silicon_probe", 221,
        {"Excitatory": 194, "Inhibitory": 27}, "https://dandiarchive.org/dandiset/000041", "nwb", "Watson et al. 2016",
        ("dandi_000041_cell_type",), PUTATIVE_TYPES, quality=QUALITY_LIMITS, min_spikes=100, dandisets={"000041": "*"},
    ),
    Dataset(
        "calvigioni", "DANDI 000473: mouse prefrontal cortex; no waveforms in the benchmark", "mouse", "prefrontal cortex",
        "neuropixels", 9213, {"Excitatory": 7859, "Inhibitory": 1354}, "https://dandiarchive.org/dandiset/000473", "nwb",
        "Calvigioni et al. 2023", ("dandi_000473_cell_type",), PUTATIVE_TYPES, quality=QUALITY_LIMITS, min_spikes=100, dandisets={"000473": "*"},
    ),
    Dataset(
        "ramachandran", "DANDI 000955: rat, 32-channel probe; no waveforms in the benchmark", "rat", "somatosensory cortex",
        "silicon_probe", 134, {"Excitatory": 29, "Inhibitory": 105}, "https://dandiarchive.org/dandiset/000955", "nwb",
        "Ramachandran et al. 2022", ("dandi_000955_cell_type",), PUTATIVE_TYPES, dandisets={"000955": "*"},
    ),
    Dataset(
        "a1", "Mouse auditory cortex, silicon probes, optotagged; no autocorrelograms", "mouse", "auditory cortex",
        "silicon_probe", 285, {"EXC": 48, "PV": 121, "SOM": 116}, PHYSMAP + "a1data_remove_undef", "csv", "Lakunina et al. 2020",
        ("a1data_remove_undef", "extracellular-mouse-a1"),
        urls=_files("a1data_remove_undef", "waveforms", "isi_dist", "labels"),
    ),
    Dataset(
        "s1", "Mouse barrel cortex, juxtacellular; class = type x layer; no autocorrelograms", "mouse",
        "somatosensory cortex", "juxtacellular", 224, {"E_L4": 58, "E_L5": 43, "FS_L4": 35, "FS_L5": 19, "SOM": 69},
        PHYSMAP + "juxtacellular_mouse_s1_area", "csv", "Yu et al. 2019",
        ("juxtacellular_mouse_s1_area", "juxtacellular-mouse-s1-celltype", "juxtacellular-mouse-s1-area"),
        {
            f"{kind}{blank}{layer}.0": f"{kind}_L{layer}"
            for kind in ("E", "FS") for blank in ("", " ") for layer in (4, 5)
        },
        # The folder of the data set has no labels of these units; that of the benchmark's cache has.
        urls=_files(
            "juxtacellular_mouse_s1_area", "waveforms", "isi_dist",
            labels="results/benchmark/cache_datasets/juxtacellular_mouse_s1_area/labels.csv",
        ),
    ),
)
# fmt: on


def find_dataset(name: str) -> Dataset:
    """Find a data set by its name.

    Parameters
    ----------
    name : str
        Its name, or that of one of its folders in the benchmark; case, blanks and hyphens do not matter.

    Returns
    -------
    Dataset
        The description.

    Raises
    ------
    DataError
        If there is none; the message suggests similar names.

    Examples
    --------
    >>> find_dataset("Hull_Cell-Type").name
    'hull'
    """
    known = {_normalize(other): dataset for dataset in DATASETS for other in dataset.names}
    return find_by_name(_normalize(name), known, "data set")


def _normalize(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def held_out(names: Iterable[str]) -> frozenset[str]:
    """Return the data sets that must not be trained on when some are held out for testing.

    Parameters
    ----------
    names : iterable of str
        Data sets that are tested on.

    Returns
    -------
    frozenset of str
        Their registry names and those of all data sets that share recordings with them.

    Examples
    --------
    >>> sorted(held_out(["cellexplorer_area"]))
    ['allen', 'cellexplorer']
    """
    excluded: set[str] = set()
    waiting = [find_dataset(name) for name in names]
    while waiting:
        dataset = waiting.pop()
        if dataset.name not in excluded:
            excluded.add(dataset.name)
            waiting += [find_dataset(sibling) for sibling in dataset.siblings]
    return frozenset(excluded)


def quality_problem(dataset: Dataset | None, spikes: int | None, quality: Mapping[str, float]) -> str:
    """Return why a data set excludes a unit.

    Parameters
    ----------
    dataset : Dataset or None
        The data set; None excludes nothing.
    spikes : int or None
        Number of spikes of the unit, if it is known.
    quality : mapping of str to float
        Columns of quality of the unit. A limit of a column that is absent excludes nothing.

    Returns
    -------
    str
        The reason, or ``""``.

    Examples
    --------
    >>> quality_problem(find_dataset("watson"), 120, {"presence_ratio": 0.2})
    'presence_ratio out of range'
    """
    if dataset is None:
        return ""
    if spikes is not None and spikes < dataset.min_spikes:
        return f"fewer than {dataset.min_spikes} spikes"
    for column, (low, high) in dataset.quality.items():
        value = quality.get(column)
        if value is not None and (not (low is None or value >= low) or not (high is None or value <= high)):
            return f"{column} out of range"
    return ""


def canonical_labels(labels: Iterable[object], mapping: Mapping[str, str] | None = None) -> list[str]:
    """Clean labels and give each class one name.

    Parameters
    ----------
    labels : iterable of object
        Labels of a source.
    mapping : mapping of str to str, optional
        Label in the source (in any case) to our label, for one data set. It takes precedence over ``SYNONYMS``; ``""``
        drops a label.

    Returns
    -------
    list of str
        Our labels, ``""`` where there is none.

    Examples
    --------
    >>> canonical_labels(["b'SST'", "Parvalbumin", "unknown", "GoC"])
    ['SOM', 'PV', '', 'GoC']
    """
    specific = {key.lower(): value for key, value in (mapping or {}).items()}
    names = (clean_label(label) for label in labels)
    return [specific.get(name.lower(), SYNONYMS.get(name.lower(), name)) for name in names]


def annotate_units(units: UnitTable, dataset: Dataset | None = None, technology: str | None = None) -> UnitTable:
    """Give units canonical labels, and fill in what is missing in their file.

    Parameters
    ----------
    units : UnitTable
        Units as they were read. Their own columns are kept.
    dataset : Dataset, optional
        The published data set that they are: its class names, species, region and technology. If its classes are regions,
        a unit without a label gets its region as the label.
    technology : str, optional
        Recording technology of units whose file does not contain it: a key of ``TECHNOLOGIES``. It takes precedence
        over that of the data set.

    Returns
    -------
    UnitTable
        The units. If a label was renamed, the column ``label_raw`` holds the labels of the source.

    Raises
    ------
    DataError
        If the technology is unknown.
    """
    raw, about = units.label, dict(units.about)
    about["label"] = np.array(canonical_labels(raw, dataset.labels if dataset else None), str)
    if ((raw != about["label"]) & (raw != "")).any():
        about["label_raw"] = raw
    if dataset is not None and dataset.by_region:
        regions = np.array(canonical_labels(units.column("region"), dataset.labels), str)
        known = np.isin(regions, list(dataset.classes)) & (about["label"] == "")
        about["label"] = np.where(known, regions, about["label"])
    filled = {"species": dataset.species, "region": dataset.region, "technology": dataset.technology} if dataset else {}
    if technology is not None:
        if technology not in TECHNOLOGIES:
            raise DataError(f"there is no technology {technology!r}: choose from {', '.join(TECHNOLOGIES)}")
        filled["technology"] = technology
    for name, value in filled.items():
        about[name] = np.where(units.column(name) == "", value, units.column(name))
    if dataset:
        about["dataset"] = np.full(len(units), dataset.name)
    facts = {"dataset": dataset.name, "cite": dataset.cite, "origin": dataset.source} if dataset else {}
    return replace(units, about=about, provenance={**units.provenance, **facts})


def differences(units: UnitTable, dataset: Dataset) -> list[str]:
    """List how a table differs from the published data set.

    Parameters
    ----------
    units : UnitTable
        The table.
    dataset : Dataset
        The data set that it should be.

    Returns
    -------
    list of str
        One text per number of units that differs, of the table or of a class.
    """
    counts = Counter(units.label[units.label != ""].tolist())
    found = [f"{len(units)} units, {dataset.units} expected"] if len(units) != dataset.units else []
    for label in sorted(set(counts) | set(dataset.classes)):
        if counts[label] != dataset.classes.get(label, 0):
            found.append(f"class {label}: {counts[label]} units, {dataset.classes.get(label, 0)} expected")
    return found
