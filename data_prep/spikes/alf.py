"""Spike times from a folder of the International Brain Laboratory (IBL), in the ALF layout.

The folder holds::

    spikes.times.npy (s), spikes.clusters.npy            required
    clusters.depths.npy (um), clusters.metrics.pqt|csv   optional: depth, and quality from the column "label"
    *passivePeriods*.csv|npy                             optional: the spontaneous interval, in the folder or up to
                                                         two levels above it
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from data_prep.spikes.arrays import group_by_unit
from data_prep.spikes.spike_times import MS_PER_SECOND, SpikeTimes, make_spike_times
from jaxephys.schemas.storage import DataError

MAX_LEVELS_UP = 2  # passive periods of a session are in alf/, its spikes in alf/probe00/pykilosort/
SPONTANEOUS = "spontaneousActivity"
# Columns of the table of passive periods where an array has no names.
PERIODS = ("passiveProtocol", SPONTANEOUS, "RFM", "taskReplay")


def read_alf(
    folder: str | Path, *, tick_ms: float | None = None, interval: tuple[float, float] | None = None
) -> SpikeTimes:
    """Read the spike times of one probe.

    Parameters
    ----------
    folder : str or Path
        Folder of the probe.
    tick_ms : float, optional
        Length of a tick in ms; the format has seconds.
    interval : (float, float), optional
        Start and stop in s of the part to keep. By default it is the spontaneous interval of the passive periods, or
        all where there are no passive periods.

    Returns
    -------
    SpikeTimes
        Spike times of all clusters, with depth (um) and quality as far as the folder has them.

    Raises
    ------
    DataError
        If files are missing, occur twice or do not fit together.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: give the one that holds spikes.times.npy")
    times, clusters = (np.ravel(_load(_find_one(folder, f"spikes.{name}*.npy"))) for name in ("times", "clusters"))
    if len(times) != len(clusters):
        raise DataError(f"{folder} has {len(times)} spike times and {len(clusters)} spike clusters: fetch it again")
    notes: list[str] = []
    about = _read_cluster_tables(folder, notes)
    rows = {name: len(values) for name, values in about.items()}
    if len(set(rows.values())) > 1 or (rows and clusters.size and clusters.max() >= min(rows.values())):
        listed = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise DataError(
            f"the tables of clusters in {folder} have other rows ({listed}) than the clusters of the spikes: fetch them again"
        )
    units = np.arange(next(iter(rows.values()))) if rows else np.unique(clusters)
    if interval is None:
        interval = _spontaneous_interval(folder)
        notes.append(
            "the spontaneous interval of the passive periods" if interval else "no passive periods: all is taken"
        )
    ticks = group_by_unit(times, clusters, units)
    names = [str(unit) for unit in units]
    return make_spike_times(folder, names, ticks, tick_ms or MS_PER_SECOND, interval=interval, about=about, notes=notes)


def _find_one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        listed = ", ".join(str(path.relative_to(folder)) for path in found) or "none"
        raise DataError(f"{folder} should hold one {pattern} and holds {listed}: give the folder of one probe")
    return found[0]


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a readable array ({error}): fetch it again") from None


def _read_cluster_tables(folder: Path, notes: list[str]) -> dict[str, np.ndarray]:
    """Read depth and quality of each cluster, as far as the folder has them."""
    about = {}
    if list(folder.rglob("clusters.depths*.npy")):
        about["depth"] = np.ravel(_load(_find_one(folder, "clusters.depths*.npy")))
    if list(folder.rglob("clusters.metrics*.csv")):
        path = _find_one(folder, "clusters.metrics*.csv")
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if rows and "label" in rows[0]:
            about["quality"] = np.array([float(row["label"] or "nan") for row in rows])
    elif list(folder.rglob("clusters.metrics*.pqt")):
        path = _find_one(folder, "clusters.metrics*.pqt")
        try:
            import pandas

            table = pandas.read_parquet(path)
        except ImportError:
            notes.append(f"{path.name} is left out: reading it needs pandas and pyarrow")
        else:
            if "label" in table:
                about["quality"] = table["label"].to_numpy(float)
    return about


def _spontaneous_interval(folder: Path) -> tuple[float, float] | None:
    """Return start and stop (s) of the spontaneous activity; None where there are no passive periods."""
    for directory in (folder, *folder.resolve().parents[:MAX_LEVELS_UP]):
        search = directory.rglob if directory == folder else directory.glob
        found = sorted(path for suffix in ("csv", "npy") for path in search(f"*passivePeriods*.{suffix}"))
        if found:
            return _read_spontaneous(found[0])
    return None


def _read_spontaneous(path: Path) -> tuple[float, float]:
    """Read a table whose rows are start and stop and whose columns are the periods, or the spontaneous one alone."""
    try:
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                values = [float(row[SPONTANEOUS]) for row in csv.DictReader(file)]
        else:
            table = _load(path)
            if table.dtype.names:
                table = table[SPONTANEOUS]
            elif table.ndim == 2 and table.shape[1] == len(PERIODS):
                table = table[:, PERIODS.index(SPONTANEOUS)]
            values = np.ravel(table).astype(float).tolist()
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{path} has no column {SPONTANEOUS} of numbers ({error}): give --interval START STOP"
        ) from None
    if len(values) != 2 or not np.isfinite(values).all():
        raise DataError(f"{path} has {values} as {SPONTANEOUS}, not start and stop: give --interval START STOP")
    return values[0], values[1]
