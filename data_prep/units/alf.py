"""Units from ALF folders of the International Brain Laboratory (IBL), as ONE or ``units fetch FILES ibl`` arranges them.

The folder of a sorting holds, directly or in a folder of a revision such as ``#2024-05-06#``::

    spikes.times.npy (s), spikes.clusters.npy                  required
    clusters.waveforms.npy                                     mean waveforms [cluster, sample, channel] at 30 kHz
    clusters.metrics.pqt|csv                                   label (1: a good unit), presence_ratio
    clusters.channels.npy, channels.brainLocationIds_ccf_2017.npy    region of each cluster, by its largest channel

Regions are ten large ones (Isocortex, TH, ...), the Cosmos parcellation, which the package ``iblatlas`` computes from the
identifiers of the Allen atlas. Without that package units have no region.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.csv_files import read_numbers
from data_prep.progress import ProgressReport
from data_prep.units.registry import Dataset, quality_problem
from jaxephys.schemas.numpy_files import load_array
from jaxephys.schemas.spike_sources import group_by_unit
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_features import SortedUnit, make_unit_table
from jaxephys.schemas.unit_table import UnitTable

RATE = 30_000.0  # Hz, of the waveforms
GOOD = 1.0  # quality label of a unit that passes the three criteria of the IBL, one of which is its refractory period
OUTSIDE = ("void", "root")  # regions of Cosmos that are outside of the ten


def read_alf(paths: Sequence[str | Path], *, dataset: Dataset | None = None) -> UnitTable:
    """Read the good units of IBL folders.

    Parameters
    ----------
    paths : sequence of str or Path
        Folders that hold sortings at any depth. Identifiers of units are "subject/date/number/probe/cluster".
    dataset : Dataset, optional
        Published data set whose rules select units: those with enough spikes and with quality in range.

    Returns
    -------
    UnitTable
        One row per selected unit; ``provenance["notes"]`` counts the others by reason.

    Raises
    ------
    DataError
        If there is no sorting, its files do not fit together, or no unit is left.
    """
    sortings = _find_sortings([Path(path) for path in paths])
    if not sortings:
        raise DataError(f"there is no spikes.times.npy in {', '.join(map(str, paths))}: give the folder of a fetch")
    excluded: Counter[str] = Counter()
    notes: set[str] = set()

    def read_all() -> Iterator[SortedUnit]:
        with ProgressReport("probes", len(sortings)) as progress:
            for folder in sortings:
                yield from _read_sorting(folder, dataset, excluded, notes)
                progress.advance()

    units = make_unit_table(read_all(), {"source": "alf", "probes": len(sortings)})
    counted = [f"{count} units: {reason}" for reason, count in excluded.items()]
    return replace(units, provenance={**units.provenance, "notes": [*counted, *sorted(notes)]})


def _find_sortings(paths: list[Path]) -> list[Path]:
    """Return the folder of each sorting; of a probe with two sortings that of pykilosort only."""
    folders = {
        path.parent.parent if path.parent.name.startswith("#") else path.parent
        for root in paths
        for path in root.rglob("spikes.times*.npy")
    }
    return sorted(folder for folder in folders if (folder / "pykilosort") not in folders)


def _read_sorting(
    folder: Path, dataset: Dataset | None, excluded: Counter[str], notes: set[str]
) -> Iterator[SortedUnit]:
    times, clusters = (np.ravel(load_array(_newest(folder, f"spikes.{name}*.npy"))) for name in ("times", "clusters"))
    waveforms = load_array(_newest(folder, "clusters.waveforms*.npy"))
    if len(times) != len(clusters) or (clusters.size and clusters.max() >= len(waveforms)):
        raise DataError(
            f"{folder} has {len(times)} spike times, {len(clusters)} spike clusters and {len(waveforms)} waveforms of clusters, "
            "which do not fit together: fetch it again"
        )
    metrics = _read_metrics(folder, len(waveforms))
    regions = _read_regions(folder, len(waveforms), notes)
    spikes = group_by_unit(times, clusters, np.arange(len(waveforms)))
    name = _session_and_probe(folder)
    about = {"session": "/".join(name[:-1]), "subject": name[0], "species": "mouse"}
    for cluster, template in enumerate(waveforms):
        row = {column: float(values[cluster]) for column, values in metrics.items()}
        reason = "not of quality good" if row.get("label", GOOD) != GOOD else ""
        reason = reason or quality_problem(dataset, len(spikes[cluster]), row)
        if reason:
            excluded[reason] += 1
            continue
        shape = template.T if np.isfinite(template).all() and np.ptp(template) > 0 else None
        unit = "/".join((*name, str(cluster)))
        yield SortedUnit(unit, spikes[cluster], shape, RATE, {**about, "region": regions[cluster]})


def _newest(folder: Path, pattern: str) -> Path:
    """Return a file of the last revision that the folder holds."""
    found = sorted(folder.glob(f"#*#/{pattern}")) or sorted(folder.glob(pattern))
    if not found:
        raise DataError(f"{folder} holds no {pattern}: fetch it again")
    return found[-1]


def _read_metrics(folder: Path, clusters: int) -> Mapping[str, np.ndarray]:
    """Read quality label and presence ratio of each cluster, NaN where the table has no row of it."""
    path = _newest(folder, "clusters.metrics*")
    if path.suffix == ".csv":
        table = read_numbers(path)
    else:
        try:
            import pandas
        except ImportError:
            raise DataError(f"{path.name} needs pandas and pyarrow: pip install pandas pyarrow") from None
        frame = pandas.read_parquet(path)
        table = {name: frame[name].to_numpy() for name in ("cluster_id", "label", "presence_ratio") if name in frame}
    if "label" not in table:
        raise DataError(f"{path} has no column label of numbers: fetch it again")
    index = table["cluster_id"] if "cluster_id" in table else np.arange(len(table["label"]))
    if not np.isfinite(index).all() or (index < 0).any():
        raise DataError(f"{path} has a cluster_id that is no number from 0: fetch it again")
    index = index.astype(int)
    values = {name: np.full(clusters, np.nan) for name in ("label", "presence_ratio") if name in table}
    inside = index < clusters
    for name, column in values.items():
        column[index[inside]] = np.asarray(table[name], float)[inside]
    return values


def _read_regions(folder: Path, clusters: int, notes: set[str]) -> list[str]:
    """Return the region of each cluster, "" where it is not known."""
    try:
        channels = np.ravel(load_array(_newest(folder, "clusters.channels*.npy"))).astype(int)
        locations = np.ravel(load_array(_newest(folder, "channels.brainLocationIds_ccf_2017*.npy")))
    except DataError:
        notes.add("some probes have no regions: they were not located in the brain")
        return [""] * clusters
    try:
        from iblatlas.regions import BrainRegions  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        notes.add("regions are left out: install them with pip install iblatlas")
        return [""] * clusters
    names = [str(name) for name in BrainRegions().id2acronym(locations[channels].astype(int), mapping="Cosmos")]
    return ["" if name in OUTSIDE else name for name in names]


def _session_and_probe(folder: Path) -> tuple[str, ...]:
    """Return subject, date, number and probe from LAB/Subjects/SUBJECT/DATE/NUMBER/alf/PROBE/pykilosort."""
    parts = folder.resolve().parts
    if "alf" in parts[3:-1]:
        i = len(parts) - 1 - parts[::-1].index("alf")
        return (*parts[i - 3 : i], parts[i + 1])
    return (folder.name,)
