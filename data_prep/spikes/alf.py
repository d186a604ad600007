"""Alf: a folder of the International Brain Laboratory -> trains.

spikes.times.npy (s)  spikes.clusters.npy            needed
clusters.depths.npy (um)  clusters.metrics.pqt|csv   depth, and quality from the column ``label``, if they are there
*passivePeriods*.csv|npy                             the spontaneous interval, in the folder or up to two above it
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from data_prep.spikes.arrays import SECOND, grouped
from data_prep.spikes.spike_times import SpikesError, Trains, trains_of

ABOVE = 2  # folders: a session's passive periods lie in alf/, its spikes in alf/probe00/pykilosort/
# Columns of the table of passive periods where an array has no names.
PERIODS = ("passiveProtocol", "spontaneousActivity", "RFM", "taskReplay")


def read_alf(
    folder: str | Path, *, tick_ms: float | None = None, interval: tuple[float, float] | None = None
) -> Trains:
    """Read one probe. Without ``interval`` (s) the spontaneous one of the passive periods is taken, or all if there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise SpikesError(f"there is no folder {folder}: give the one that holds spikes.times.npy")
    times, clusters = (np.ravel(load(one(folder, f"spikes.{name}*.npy"))) for name in ("times", "clusters"))
    if len(times) != len(clusters):
        raise SpikesError(f"{folder} has {len(times)} spike times and {len(clusters)} spike clusters: fetch it again")
    notes: list[str] = []
    about = tables(folder, notes)
    rows = {name: len(values) for name, values in about.items()}
    if len(set(rows.values())) > 1 or (rows and clusters.size and clusters.max() >= min(rows.values())):
        said = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise SpikesError(
            f"the tables of clusters in {folder} have other rows ({said}) than the spikes name: fetch them again"
        )
    ids = np.arange(next(iter(rows.values()))) if rows else np.unique(clusters)
    if interval is None:
        interval = spontaneous(folder)
        notes.append(
            "the spontaneous interval of the passive periods" if interval else "no passive periods: all is taken"
        )
    unit = [str(x) for x in ids]
    ticks = grouped(times, clusters, ids)
    return trains_of(folder, unit, ticks, tick_ms or SECOND, interval=interval, about=about, notes=notes)


def one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        said = ", ".join(str(path.relative_to(folder)) for path in found) or "none"
        raise SpikesError(f"{folder} should hold one {pattern} and holds {said}: give the folder of one probe")
    return found[0]


def load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SpikesError(f"{path} is no readable array ({error}): fetch it again") from None


def tables(folder: Path, notes: list[str]) -> dict[str, np.ndarray]:
    """Depth and quality of each cluster, as far as the folder has them."""
    about = {}
    if list(folder.rglob("clusters.depths*.npy")):
        about["depth"] = np.ravel(load(one(folder, "clusters.depths*.npy")))
    if list(folder.rglob("clusters.metrics*.csv")):
        path = one(folder, "clusters.metrics*.csv")
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if rows and "label" in rows[0]:
            about["quality"] = np.array([float(row["label"] or "nan") for row in rows])
    elif list(folder.rglob("clusters.metrics*.pqt")):
        path = one(folder, "clusters.metrics*.pqt")
        try:
            import pandas

            table = pandas.read_parquet(path)
        except ImportError:
            notes.append(f"{path.name} is left out: reading it needs pandas and pyarrow")
        else:
            if "label" in table:
                about["quality"] = table["label"].to_numpy(float)
    return about


def spontaneous(folder: Path) -> tuple[float, float] | None:
    """Start and stop (s) of the spontaneous activity; None where there are no passive periods."""
    for place in (folder, *folder.resolve().parents[:ABOVE]):
        search = place.rglob if place == folder else place.glob
        found = sorted(path for kind in ("csv", "npy") for path in search(f"*passivePeriods*.{kind}"))
        if found:
            return of_periods(found[0])
    return None


def of_periods(path: Path) -> tuple[float, float]:
    """Rows are start and stop, columns are the periods; or the spontaneous one alone."""
    name = "spontaneousActivity"
    try:
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                values = [float(row[name]) for row in csv.DictReader(file)]
        else:
            table = load(path)
            if table.dtype.names:
                table = table[name]
            elif table.ndim == 2 and table.shape[1] == len(PERIODS):
                table = table[:, PERIODS.index(name)]
            values = np.ravel(table).astype(float).tolist()
    except (KeyError, ValueError) as error:
        raise SpikesError(f"{path} has no column {name} of numbers ({error}): give --interval START STOP") from None
    if len(values) != 2 or not np.isfinite(values).all():
        raise SpikesError(f"{path} says {values} of {name}: it should be start and stop; give --interval START STOP")
    return values[0], values[1]
