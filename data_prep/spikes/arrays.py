"""Spike times from NumPy files::

    npz  spike_times, one unit after the other, with spike_times_index (where each unit ends, as in NWB);
         or spike_times and spike_clusters (the unit of each spike, whole numbers);
         optionally unit (identifiers), depth (um) and quality, one per unit; duration (in the unit of the times)
    npy  [spike, 2]: unit and time of each spike

Times that are not whole numbers are seconds; for whole numbers the length of a tick must be given.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_prep.spikes.spike_times import MS_PER_SECOND, TICK_OPTIONS, SpikeTimes, make_spike_times
from jaxephys.schemas.storage import DataError


def read_arrays(
    path: str | Path, *, tick_ms: float | None = None, interval: tuple[float, float] | None = None
) -> SpikeTimes:
    """Read spike times from an ``.npz`` or ``.npy`` file.

    Parameters
    ----------
    path : str or Path
        The file; its layout is described at the top of this module.
    tick_ms : float, optional
        Length of a tick in ms. By default times that are not whole numbers are seconds.
    interval : (float, float), optional
        Start and stop in s of the part to keep; all by default.

    Returns
    -------
    SpikeTimes
        The spike times.

    Raises
    ------
    DataError
        If the file is missing, its arrays do not fit together, or times are whole numbers and ``tick_ms`` is not given.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "spikes.npz"
    >>> np.savez(path, spike_times=[0.25, 0.5, 0.125], spike_clusters=[7, 7, 2])
    >>> spikes = read_arrays(path)
    >>> spikes.unit, [times.tolist() for times in spikes.times]
    (['2', '7'], [[125.0], [250.0, 500.0]])
    """
    path = Path(path)
    stored = _load(path)
    if isinstance(stored, np.ndarray):
        if stored.ndim != 2 or stored.shape[1] != 2 or stored.dtype.kind not in "iuf":
            raise DataError(f"{path} has the shape {stored.shape}: give [spike, 2], unit and time of each spike")
        stored = {"spike_clusters": stored[:, 0], "spike_times": stored[:, 1]}
    if "schema" in stored:
        raise DataError(f"{path} is a finished recording: use it as it is")
    if "spike_times" not in stored:
        raise DataError(f"{path} holds {', '.join(stored) or 'nothing'}: it needs spike_times")
    times = np.ravel(stored["spike_times"])
    if "spike_times_index" in stored:
        unit, ticks = _split_by_index(times, stored, path)
    else:
        unit, ticks = _split_by_cluster(times, stored, path)
    if tick_ms is None:
        if np.all(times == np.floor(times)):
            raise DataError(f"the spike times of {path} are whole numbers: give the length of a tick, {TICK_OPTIONS}")
        tick_ms = MS_PER_SECOND
    about = {name: _column(stored, name, unit, path) for name in ("depth", "quality") if name in stored}
    names = [str(x) for x in _column(stored, "unit", unit, path)] if "unit" in stored else unit
    end = float(stored["duration"]) if "duration" in stored else None
    return make_spike_times(path, names, ticks, tick_ms, end=end, interval=interval, about=about)


def group_by_unit(times: np.ndarray, clusters: np.ndarray, units: np.ndarray) -> list[np.ndarray]:
    """Group spike times by unit.

    Parameters
    ----------
    times : ndarray of shape (n_spikes,)
        Time of each spike.
    clusters : ndarray of int of shape (n_spikes,)
        Unit of each spike.
    units : ndarray of int of shape (n_units,)
        Units to return.

    Returns
    -------
    list of ndarray
        Times of each unit, in their order in ``times``.

    Examples
    --------
    >>> import numpy as np
    >>> [spikes.tolist() for spikes in group_by_unit(np.array([1, 2, 3]), np.array([5, 4, 5]), np.array([4, 5]))]
    [[2], [1, 3]]
    """
    order = np.argsort(clusters, kind="stable")
    starts, stops = (np.searchsorted(clusters[order], units, side=side) for side in ("left", "right"))
    return [times[order[start:stop]] for start, stop in zip(starts, stops, strict=True)]


def _load(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            return {name: content[name] for name in content.files}
    except FileNotFoundError:
        raise DataError(f"there is no file {path}: give an npz or npy file of spike times") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a file of plain arrays ({error}): write it with np.savez or np.save") from None


def _split_by_index(
    times: np.ndarray, stored: Mapping[str, np.ndarray], path: Path
) -> tuple[list[str], list[np.ndarray]]:
    ends = np.ravel(stored["spike_times_index"]).astype(np.int64)
    if np.any(np.diff(ends, prepend=0) < 0) or (len(ends) and ends[-1] != len(times)):
        raise DataError(
            f"spike_times_index of {path} does not increase to the {len(times)} spikes: give the end of each unit"
        )
    return [str(i) for i in range(len(ends))], np.split(times, ends[:-1]) if len(ends) else []


def _split_by_cluster(
    times: np.ndarray, stored: Mapping[str, np.ndarray], path: Path
) -> tuple[list[str], list[np.ndarray]]:
    if "spike_clusters" not in stored:
        raise DataError(f"{path} does not assign its spikes to units: add spike_times_index or spike_clusters")
    clusters = np.ravel(stored["spike_clusters"])
    if len(clusters) != len(times):
        raise DataError(f"{path} has {len(times)} spike times and {len(clusters)} spike_clusters: give one per spike")
    units = np.unique(clusters)
    return [f"{x:g}" for x in units], group_by_unit(times, clusters, units)


def _column(stored: Mapping[str, np.ndarray], name: str, unit: Sequence[str], path: Path) -> np.ndarray:
    values = np.ravel(stored[name])
    if len(values) != len(unit):
        raise DataError(f"{name} of {path} has {len(values)} entries for {len(unit)} units: give one per unit")
    return values
