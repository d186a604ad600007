"""Registry: the eleven data sets of the published model, and what belongs together.

Counts and sources are those of the published benchmark's descriptions; ``folders`` are the names under which its snapshots hold
the same recordings. The published code holds two tables of technologies that differ in four data sets (Hausser, Hull and
CellExplorer as silicon_probe, Lisberger as juxtacellular in the other); here stands the one of its embedding example, which
agrees with what the recordings were made with. Lisberger: tungsten electrodes and 16-channel s-Probes, so neither is exact.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from data_prep.units.labels import canonical
from data_prep.units.table import Units, UnitsError, check_technology

C4 = "https://www.c4-database.com"
# Its originals lie in https://github.com/EricKenjiLee/PhysMAP_Manuscript; the release holds them in the layout that we read.
PHYSMAP = "https://github.com/JesusGF1/hippie_benchmarking_release, folder datasets/"
Range = tuple[float | None, float | None]  # lowest and highest value that is kept


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set before it is read."""

    name: str
    title: str
    species: str
    region: str
    technology: str
    units: int
    classes: Mapping[str, int]  # under the names of our tables; units that are left have no label
    source: str
    reader: str  # which option of `build` reads the original: "csv", "nwb", "h5", "npz"
    cite: str
    folders: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)  # the source's name -> ours, "" to drop the label
    siblings: tuple[str, ...] = ()  # others that share recordings with it
    keep: Mapping[str, Range] = field(default_factory=dict)  # quality columns of a units table, and what is kept
    spikes: int = 0  # fewest spikes of a unit that is kept
    dandiset: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.folders)


RATED = {"isi_violations": (None, 0.5), "presence_ratio": (0.5, None)}
KINDS = {
    **dict.fromkeys(("RS", "regular spiking", "pyramidal", "excitatory", "exc", "E"), "Excitatory"),
    **dict.fromkeys(("FS", "fast spiking", "interneuron", "inhibitory", "inh", "I"), "Inhibitory"),
}

# fmt: off
DATASETS = (
    Dataset(
        "hausser", "C4, Hausser lab: awake mouse, Neuropixels 1.0, optotagged", "mouse", "cerebellar cortex",
        "neuropixels", 1998, {"GoC": 16, "GrC": 9, "MFB": 13, "MLI": 15, "PkC_cs": 25, "PkC_ss": 35}, C4, "h5",
        "Beau et al. 2024", ("hausser_cell_type", "hausser_waveonly"),
    ),
    Dataset(
        "hull", "C4, Hull lab: awake mouse, Neuropixels 1.0, all labelled", "mouse", "cerebellar cortex",
        "neuropixels", 103, {"GoC": 2, "MFB": 18, "MLI": 13, "PkC_cs": 34, "PkC_ss": 36}, C4, "h5",
        "Beau et al. 2024", ("hull_cell_type", "hull_counts"),
    ),
    Dataset(
        "lisberger", "C4, Lisberger lab: macaque floccular complex, s-Probe and tungsten", "macaque", "cerebellar cortex",
        "silicon_probe", 1152, {"GoC": 188, "MFB": 86, "MLI": 36, "PkC_cs": 147, "PkC_ss": 211}, C4, "h5",
        "Beau et al. 2024", ("lisberger_labeled_cell_type", "lissberger_labeled_cell_type"),
    ),
    Dataset(
        "cellexplorer", "CellExplorer: mouse visual cortex and CA1, Neuropixels 1.0, optotagged", "mouse",
        "visual cortex and hippocampus", "neuropixels", 430, {"PV": 186, "SOM": 115, "Pyramidal": 44, "VIP": 14},
        PHYSMAP + "cellexplorer_cell_type",
        "csv", "Petersen et al. 2021, Siegle et al. 2021, Senzai et al. 2019",
        ("cellexplorer_cell_type", "cellexplorer_area", "cellexplorer-celltype", "cellexplorer-area"),
        # How a unit was found, or a mixed driver line, is no class of its own; the benchmark leaves these out as well.
        labels=dict.fromkeys(("Axo", "Axo-axonic", "Axoaxonic", "Juxt", "Juxtacellular", "VGAT"), ""),
        # Siegle et al. 2021 is the Allen Institute's survey: units of it may stand in both.
        siblings=("allen",),
    ),
    Dataset(
        "ibl", "IBL brain-wide map, units of quality `good`", "mouse", "brain-wide", "neuropixels", 62993,
        {
            "Isocortex": 12982, "TH": 11124, "MB": 8310, "HPF": 7050, "HB": 6950,
            "CNU": 6888, "CB": 5683, "OLF": 2220, "CTXsp": 1043, "HY": 743,
        },
        "https://openalyx.internationalbrainlab.org (ONE API)", "npz", "International Brain Laboratory",
        ("ibl_brainwide_good", "ibl_brainwide", "ibl_brainwide_qc", "ibl_brainwide_curated"), {"isocortex": "Isocortex"},
        keep=RATED, spikes=100,
    ),
    Dataset(
        "allen", "Allen Institute Visual Coding, Neuropixels", "mouse", "visual cortex, hippocampus, thalamus, midbrain",
        "neuropixels", 61781,
        {
            "CA1": 13451, "VISp": 7351, "VISal": 5756, "VISam": 4922, "VISrl": 4511, "DG": 4300, "LP": 4028, "VISl": 3390,
            "VISpm": 3161, "CA3": 2664, "LGd": 2293, "SUB": 1648, "ProS": 1093, "SGN": 630, "MGv": 608, "PO": 549,
            "VPM": 516, "Eth": 478, "MB": 432,
        },
        "AllenSDK (sessions as NWB files)", "nwb", "Siegle et al. 2021",
        ("allen_scope_neuropixel_area_subset", "allen_scope_neuropixel_area", "allen_scope_neuropixel", "allenscope-neuropixel"),
        siblings=("cellexplorer",),
        keep={"isi_violations": (None, 0.5), "amplitude_cutoff": (None, 0.1), "presence_ratio": (0.9, None)},
    ),
    Dataset(
        "watson", "DANDI 000041: sleeping rat, 64-site silicon probes", "rat", "frontal cortex", "silicon_probe", 221,
        {"Excitatory": 194, "Inhibitory": 27}, "https://dandiarchive.org/dandiset/000041", "nwb", "Watson et al. 2016",
        ("dandi_000041_cell_type",), KINDS, keep=RATED, spikes=100, dandiset="000041",
    ),
    Dataset(
        "calvigioni", "DANDI 000473: mouse prefrontal cortex; no waveforms in the benchmark", "mouse", "prefrontal cortex",
        "neuropixels", 9213, {"Excitatory": 7859, "Inhibitory": 1354}, "https://dandiarchive.org/dandiset/000473", "nwb",
        "Calvigioni et al. 2023", ("dandi_000473_cell_type",), KINDS, keep=RATED, spikes=100, dandiset="000473",
    ),
    Dataset(
        "ramachandran", "DANDI 000955: rat, 32-channel probe; no waveforms in the benchmark", "rat", "somatosensory cortex",
        "silicon_probe", 134, {"Excitatory": 29, "Inhibitory": 105}, "https://dandiarchive.org/dandiset/000955", "nwb",
        "Ramachandran et al. 2022", ("dandi_000955_cell_type",), KINDS, dandiset="000955",
    ),
    Dataset(
        "a1", "Mouse auditory cortex, silicon probes, optotagged; no autocorrelograms", "mouse", "auditory cortex",
        "silicon_probe", 285, {"EXC": 48, "PV": 121, "SOM": 116}, PHYSMAP + "a1data_remove_undef", "csv", "Lakunina et al. 2020",
        ("a1data_remove_undef", "extracellular-mouse-a1"),
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
    ),
)
# fmt: on


def find(name: str) -> Dataset:
    """The data set of this name, or that holds the snapshot folder of this name."""
    wanted = plain(name)
    known = {plain(other): dataset for dataset in DATASETS for other in dataset.names}
    if wanted in known:
        return known[wanted]
    near = [known[other].name for other in difflib.get_close_matches(wanted, known, n=5, cutoff=0.5)]
    near = list(dict.fromkeys(near)) or [dataset.name for dataset in DATASETS]
    raise UnitsError(f"there is no data set {name!r}: did you mean {' or '.join(near)}?")


def plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def held_out(names: Iterable[str]) -> frozenset[str]:
    """Every data set that has to leave a training pool when these are held out: they and all that share recordings with them."""
    out: set[str] = set()
    waiting = [find(name) for name in names]
    while waiting:
        dataset = waiting.pop()
        if dataset.name not in out:
            out.add(dataset.name)
            waiting += [find(sibling) for sibling in dataset.siblings]
    return frozenset(out)


def described(units: Units, dataset: Dataset | None = None, technology: str | None = None) -> Units:
    """Units under the registry's description: one name a class, species, region and technology filled where the file is silent.

    A label that gets another name keeps the source's in the column ``label_raw``.
    """
    raw, about = units.column("label"), dict(units.about)
    about["label"] = canonical(raw, dataset.labels if dataset else None)
    if any(a != b and a for a, b in zip(raw, about["label"], strict=True)):
        about["label_raw"] = raw
    filled = {"species": dataset.species, "region": dataset.region, "technology": dataset.technology} if dataset else {}
    if technology is not None:
        filled["technology"] = check_technology(technology)
    for name, value in filled.items():
        about[name] = [text or value for text in units.column(name)]
    if dataset:
        about["dataset"] = [dataset.name] * len(units)
    facts = {"dataset": dataset.name, "cite": dataset.cite, "origin": dataset.source} if dataset else {}
    return replace(units, about=about, provenance={**units.provenance, **facts})


def differences(units: Units, dataset: Dataset) -> list[str]:
    """In what a table differs from what the registry expects of its data set."""
    labels = units.column("label")
    counts = {label: labels.count(label) for label in sorted(set(labels) - {""})}
    found = [f"{len(units)} units, {dataset.units} expected"] if len(units) != dataset.units else []
    for label in sorted(set(counts) | set(dataset.classes)):
        if counts.get(label, 0) != dataset.classes.get(label, 0):
            found.append(f"class {label}: {counts.get(label, 0)} units, {dataset.classes.get(label, 0)} expected")
    return found
