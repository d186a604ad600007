"""Spike times from files, in six formats. Each function returns :class:`data_prep.spikes.spike_times.SpikeTimes`.

- :func:`read_asdf`: MATLAB cell arrays with one cell of ticks per unit. The last two cells are the length of a tick in ms
  (often empty, or zeros) and [units, length in ticks]. The format has no reliable unit of time: of the published files
  some count milliseconds and others samples at 30 kHz.
- :func:`read_alf`: a folder of the International Brain Laboratory (IBL)::

      spikes.times.npy (s), spikes.clusters.npy            required
      clusters.depths.npy (um), clusters.metrics.pqt|csv   optional: depth, and quality from the column "label"
      *passivePeriods*.csv|npy                             optional: the spontaneous interval, in the folder or up to
                                                           two levels above it

- :func:`read_arrays`: NumPy files. Times that are not whole numbers are seconds; for whole numbers the length of a tick
  must be given::

      npz  spike_times, one unit after the other, with spike_times_index (where each unit ends, as in NWB);
           or spike_times and spike_clusters (the unit of each spike, whole numbers);
           optionally unit (identifiers), depth (um) and quality, one per unit; duration (in the unit of the times)
      npy  [spike, 2]: unit and time of each spike

- :func:`read_nwb`: the units table of an NWB file.
- :func:`read_phy` and :func:`read_kilosort`: good clusters of a folder of Phy or Kilosort, see
  :mod:`jaxephys.schemas.spike_sources`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from data_prep.csv_files import read_numbers
from data_prep.spikes.spike_times import MS_PER_SECOND, TICK_OPTIONS, SpikeTimes, make_spike_times
from jaxephys.schemas.numpy_files import load_array, load_arrays, split_by_index
from jaxephys.schemas.spike_sources import group_by_unit, read_sorter_folder
from jaxephys.schemas.storage import DataError

MAX_LEVELS_UP = 2  # passive periods of a session are in alf/, its spikes in alf/probe00/pykilosort/
SPONTANEOUS = "spontaneousActivity"
# Columns of the table of passive periods where an array has no names.
PERIODS = ("passiveProtocol", SPONTANEOUS, "RFM", "taskReplay")


def read_asdf(
    path: str | Path, *, tick_ms: float | None = None, interval: tuple[float, float] | None = None
) -> SpikeTimes:
    """Read an asdf file of MATLAB v5.

    Parameters
    ----------
    path : str or Path
        The file.
    tick_ms : float, optional
        Length of a tick in ms; it takes precedence over the one in the file.
    interval : (float, float), optional
        Start and stop in s of the part to keep; all by default.

    Returns
    -------
    SpikeTimes
        The spike times; units are named by their position, "0", "1", ...

    Raises
    ------
    DataError
        If the file is missing or has another layout, or neither the file nor ``tick_ms`` gives the length of a tick.
    """
    path = Path(path)
    cells = _cell_array(path)
    if len(cells) < 3:
        raise DataError(f"{path} has {len(cells)} cells: asdf has one per unit, then the tick, then [units, length]")
    ticks, stored_tick, size = cells[:-2], np.ravel(cells[-2]), np.ravel(cells[-1])
    if size.size != 2 or int(size[0]) != len(ticks):
        raise DataError(
            f"the last cell of {path} is {size.tolist()} for {len(ticks)} units: in asdf it is [units, length]"
        )
    if tick_ms is None:
        if stored_tick.size != 1 or not float(stored_tick[0]) > 0:
            raise DataError(f"{path} does not contain the length of a tick: give {TICK_OPTIONS}")
        tick_ms = float(stored_tick[0])
    end = float(size[1])
    if end in (np.max(unit_ticks) for unit_ticks in ticks if np.size(unit_ticks)):
        end += 1  # MATLAB counts from 1: a spike at the length is the last tick, not one beyond it
    return make_spike_times(path, [str(i) for i in range(len(ticks))], ticks, tick_ms, end=end, interval=interval)


def _cell_array(path: Path) -> list[Any]:
    """Return the only cell array of the file."""
    if not path.is_file():
        raise DataError(f"there is no file {path}: give one with an asdf cell array")
    try:
        content = loadmat(path)
    except NotImplementedError:
        raise DataError(f"{path} is a file of MATLAB v7.3: save it again in MATLAB with save(..., '-v7')") from None
    except (MatReadError, ValueError, TypeError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a readable MATLAB file ({error}): fetch it again") from None
    cells = {
        name: value for name, value in content.items() if isinstance(value, np.ndarray) and value.dtype.kind == "O"
    }
    if len(cells) != 1:
        raise DataError(f"{path} has {len(cells)} cell arrays ({', '.join(cells) or 'none'}): asdf has one")
    return list(np.ravel(next(iter(cells.values()))))


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
    times, clusters = (np.ravel(load_array(_find_one(folder, f"spikes.{name}*.npy"))) for name in ("times", "clusters"))
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


def _read_cluster_tables(folder: Path, notes: list[str]) -> dict[str, np.ndarray]:
    """Read depth and quality of each cluster, as far as the folder has them."""
    about: dict[str, np.ndarray] = {}
    quality: Any = ()
    if list(folder.rglob(pattern := "clusters.depths*.npy")):
        about["depth"] = np.ravel(load_array(_find_one(folder, pattern)))
    if list(folder.rglob(pattern := "clusters.metrics*.csv")):
        quality = read_numbers(_find_one(folder, pattern)).get("label", ())
    elif list(folder.rglob(pattern := "clusters.metrics*.pqt")):
        path = _find_one(folder, pattern)
        try:
            import pandas

            quality = pandas.read_parquet(path).get("label", [])
        except ImportError:
            notes.append(f"{path.name} is left out: reading it needs pandas and pyarrow")
    return about | ({"quality": np.asarray(quality, float)} if len(quality) else {})


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
            values = read_numbers(path)[SPONTANEOUS].tolist()
        else:
            table = load_array(path)
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
    stored = load_arrays(path)
    if isinstance(stored, np.ndarray):
        if stored.ndim != 2 or stored.shape[1] != 2 or stored.dtype.kind not in "iuf":
            raise DataError(f"{path} has the shape {stored.shape}: give [spike, 2], unit and time of each spike")
        stored = {"spike_clusters": stored[:, 0], "spike_times": stored[:, 1]}
    if "spike_times" not in stored:
        raise DataError(f"{path} holds {', '.join(stored) or 'nothing'}: it needs spike_times")
    times = np.ravel(stored["spike_times"])
    if "spike_times_index" in stored:
        ticks = split_by_index(times, np.ravel(stored["spike_times_index"]).astype(np.int64), path)
        unit = [str(i) for i in range(len(ticks))]
    elif "spike_clusters" in stored:
        clusters = np.ravel(stored["spike_clusters"])
        if len(clusters) != len(times):
            raise DataError(
                f"{path} has {len(times)} spike times and {len(clusters)} spike_clusters: give one per spike"
            )
        units = np.unique(clusters)
        unit, ticks = [f"{x:g}" for x in units], group_by_unit(times, clusters, units)
    else:
        raise DataError(f"{path} does not assign its spikes to units: add spike_times_index or spike_clusters")
    if tick_ms is None:
        if np.all(times == np.floor(times)):
            raise DataError(f"the spike times of {path} are whole numbers: give the length of a tick, {TICK_OPTIONS}")
        tick_ms = MS_PER_SECOND
    about = {name: _column(stored, name, unit, path) for name in ("depth", "quality") if name in stored}
    names = [str(x) for x in _column(stored, "unit", unit, path)] if "unit" in stored else unit
    end = float(stored["duration"]) if "duration" in stored else None
    return make_spike_times(path, names, ticks, tick_ms, end=end, interval=interval, about=about)


def _column(stored: Mapping[str, np.ndarray], name: str, unit: Sequence[str], path: Path) -> np.ndarray:
    values = np.ravel(stored[name])
    if len(values) != len(unit):
        raise DataError(f"{name} of {path} has {len(values)} entries for {len(unit)} units: give one per unit")
    return values


def read_nwb(
    path: str | Path, *, tick_ms: float | None = None, interval: tuple[float, float] | None = None
) -> SpikeTimes:
    """Read the spike times of all units of a file.

    Parameters
    ----------
    path : str or Path
        The NWB file.
    tick_ms : float, optional
        Length of a tick in ms; the format has seconds.
    interval : (float, float), optional
        Start and stop in s of the part to keep; all by default.

    Returns
    -------
    SpikeTimes
        The spike times, with the depth of units if the table has it. The recording ends with the last observation
        interval, if the table has them.

    Raises
    ------
    DataError
        If the file cannot be read or has no units with spike times.
    """
    import h5py  # of the extra ``prep``, which the other formats do not need

    from jaxephys.schemas.hdf5 import open_h5, read_array, read_ragged

    path = Path(path)
    with open_h5(path) as file:
        table = file.get("units")
        if not isinstance(table, h5py.Group) or not {"id", "spike_times", "spike_times_index"} <= set(table):
            raise DataError(f"{path} has no units with spike times: sort its spikes first")
        ticks = read_ragged(table, "spike_times")
        unit = [str(x) for x in read_array(table, "id")]
        observed = read_array(table, "obs_intervals") if "obs_intervals" in table else np.zeros((0, 2))
        about = {"depth": read_array(table, "depth")} if "depth" in table else {}
    end = float(observed.max()) if observed.size else None
    return make_spike_times(path, unit, ticks, tick_ms or MS_PER_SECOND, end=end, interval=interval, about=about)


def read_phy(
    folder: str | Path,
    *,
    tick_ms: float | None = None,
    interval: tuple[float, float] | None = None,
    kilosort: bool = False,
) -> SpikeTimes:
    """Read the good clusters of a folder that was curated in Phy.

    Parameters
    ----------
    folder : str or Path
        Folder with ``spike_times.npy``, ``spike_clusters.npy``, ``params.py`` and ``cluster_group.tsv``.
    tick_ms : float, optional
        Length of a sample in ms; an error, since ``params.py`` has the sampling rate.
    interval : (float, float), optional
        Start and stop in s of the part to keep; all by default.
    kilosort : bool, default False
        Take the clusters that Kilosort labels good (``cluster_KSLabel.tsv``) rather than those of the curation.

    Returns
    -------
    SpikeTimes
        The spike times; units are named by their cluster. The recording ends with the raw data, if their file is there.

    Raises
    ------
    DataError
        If a file is missing or damaged, or no cluster is good.
    """
    if tick_ms is not None:
        raise DataError(
            f"the sampling rate of {folder} is that of its params.py: correct it there, without {TICK_OPTIONS}"
        )
    trains = read_sorter_folder(folder, kilosort=kilosort)
    return make_spike_times(
        Path(folder),
        trains.unit,
        trains.times,
        MS_PER_SECOND,
        end=trains.stop,
        interval=interval,
        notes=["good clusters only"],
    )


def read_kilosort(
    folder: str | Path, *, tick_ms: float | None = None, interval: tuple[float, float] | None = None
) -> SpikeTimes:
    """Read the clusters of a folder of Kilosort that it labels good.

    Parameters
    ----------
    folder : str or Path
        Folder with ``spike_times.npy``, ``spike_clusters.npy``, ``params.py`` and ``cluster_KSLabel.tsv``.
    tick_ms : float, optional
        Length of a sample in ms; an error, since ``params.py`` has the sampling rate.
    interval : (float, float), optional
        Start and stop in s of the part to keep; all by default.

    Returns
    -------
    SpikeTimes
        The spike times, see :func:`read_phy`.

    Raises
    ------
    DataError
        If a file is missing or damaged, or no cluster is good.
    """
    return read_phy(folder, tick_ms=tick_ms, interval=interval, kilosort=True)


READERS = {
    "asdf": read_asdf,
    "alf": read_alf,
    "npz": read_arrays,
    "nwb": read_nwb,
    "phy": read_phy,
    "kilosort": read_kilosort,
}
