"""Arrays: NumPy files of one's own -> trains.

npz   spike_times, one unit after the other, with spike_times_index (where each unit ends, as in NWB);
      or spike_times and spike_clusters (the unit of each spike, whole numbers);
      perhaps unit (ids), depth (um), quality, one a unit; duration (in the unit of the times)
npy   [spike, 2]: unit and time of each spike

Times that are not whole numbers are seconds; for whole numbers the length of a tick must be said.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_prep.spikes.spike_times import REMEDY, SpikesError, Trains, trains_of

SECOND = 1000.0  # ms


def read_arrays(
    path: str | Path, *, tick_ms: float | None = None, interval: tuple[float, float] | None = None
) -> Trains:
    """Read an npz or npy file; ``tick_ms`` goes before what the numbers suggest."""
    path = Path(path)
    stored = load(path)
    if isinstance(stored, np.ndarray):
        if stored.ndim != 2 or stored.shape[1] != 2 or stored.dtype.kind not in "iuf":
            raise SpikesError(f"{path} has the shape {stored.shape}: give [spike, 2], unit and time of each spike")
        stored = {"spike_clusters": stored[:, 0], "spike_times": stored[:, 1]}
    if "schema" in stored:
        raise SpikesError(f"{path} is a recording that was built already: use it as it is")
    if "spike_times" not in stored:
        raise SpikesError(f"{path} holds {', '.join(stored) or 'nothing'}: it needs spike_times")
    times = np.ravel(stored["spike_times"])
    unit, trains = by_index(times, stored, path) if "spike_times_index" in stored else by_cluster(times, stored, path)
    if tick_ms is None:
        if np.all(times == np.floor(times)):
            raise SpikesError(f"the spike times of {path} are whole numbers: say how long a tick is, {REMEDY}")
        tick_ms = SECOND
    about = {name: column(stored, name, unit, path) for name in ("depth", "quality") if name in stored}
    names = [str(x) for x in column(stored, "unit", unit, path)] if "unit" in stored else unit
    end = float(stored["duration"]) if "duration" in stored else None
    return trains_of(path, names, trains, tick_ms, end=end, interval=interval, about=about)


def load(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            return {name: content[name] for name in content.files}
    except FileNotFoundError:
        raise SpikesError(f"there is no file {path}: give an npz or npy file of spike times") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SpikesError(f"{path} is no file of plain arrays ({error}): write it with np.savez or np.save") from None


def by_index(times: np.ndarray, stored: Mapping[str, np.ndarray], path: Path) -> tuple[list[str], list[np.ndarray]]:
    ends = np.ravel(stored["spike_times_index"]).astype(np.int64)
    if np.any(np.diff(ends, prepend=0) < 0) or (len(ends) and ends[-1] != len(times)):
        raise SpikesError(
            f"spike_times_index of {path} does not climb to the {len(times)} spikes: give the end of each unit"
        )
    return [str(i) for i in range(len(ends))], np.split(times, ends[:-1]) if len(ends) else []


def by_cluster(times: np.ndarray, stored: Mapping[str, np.ndarray], path: Path) -> tuple[list[str], list[np.ndarray]]:
    if "spike_clusters" not in stored:
        raise SpikesError(f"{path} does not say whose its spikes are: add spike_times_index or spike_clusters")
    clusters = np.ravel(stored["spike_clusters"])
    if len(clusters) != len(times):
        raise SpikesError(f"{path} has {len(times)} spike times and {len(clusters)} spike_clusters: give one a spike")
    ids = np.unique(clusters)
    return [f"{x:g}" for x in ids], grouped(times, clusters, ids)


def grouped(times: np.ndarray, clusters: np.ndarray, ids: np.ndarray) -> list[np.ndarray]:
    """The times of each of these units, in the order of the file."""
    order = np.argsort(clusters, kind="stable")
    edges = np.searchsorted(clusters[order], ids, side="left"), np.searchsorted(clusters[order], ids, side="right")
    return [times[order[start:stop]] for start, stop in zip(*edges, strict=True)]


def column(stored: Mapping[str, np.ndarray], name: str, unit: Sequence[str], path: Path) -> np.ndarray:
    values = np.ravel(stored[name])
    if len(values) != len(unit):
        raise SpikesError(f"{name} of {path} has {len(values)} entries for {len(unit)} units: give one a unit")
    return values
