"""Spike times from the objects and folders of spike sorters and of analysis packages.

:func:`read_spikes` takes a SpikeInterface sorting or analyzer, a pynapple ``TsGroup``, a folder of Phy or Kilosort, or a mapping of
units to times, and returns :class:`SpikeTrains` in seconds. None of these packages is imported: objects are recognized by their methods.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.schemas.numpy_files import load_array
from jaxephys.schemas.storage import DataError

GOOD = "good"  # text with which Phy and Kilosort mark a well isolated unit
# Tables of clusters: of the curation in Phy, and of Kilosort's own classification.
PHY_TABLES = ("cluster_group.tsv", "cluster_groups.csv", "cluster_info.tsv")
KILOSORT_TABLES = ("cluster_KSLabel.tsv", "cluster_info.tsv")
CLUSTER_NAMES = ("cluster_id", "id")


@dataclass(frozen=True)
class SpikeTrains:
    """Spike times of the units of one recording.

    Parameters
    ----------
    unit : sequence of str of length n_units
        Identifiers.
    times : sequence of n_units ndarrays of float64 of shape (n_spikes,)
        Spike times of each unit in seconds, in any order.
    start : float, default 0.0
        Start of the recording in seconds, on the clock of the times.
    stop : float, optional
        End of the recording in seconds, on the same clock; ``None`` if only the last spike indicates it.
    name : str, default "spikes"
        Name of the recording.
    source : str, default "times"
        Where the times come from, for the provenance.
    """

    unit: Sequence[str]
    times: Sequence[np.ndarray]
    start: float = 0.0
    stop: float | None = None
    name: str = "spikes"
    source: str = "times"


def is_sorting(source: Any) -> bool:
    """Return whether an object has the methods of a SpikeInterface sorting.

    Parameters
    ----------
    source : object
        Any object.

    Returns
    -------
    bool
        True for ``BaseSorting`` and its subclasses.
    """
    return hasattr(source, "get_unit_spike_train") and hasattr(source, "unit_ids")


def is_analyzer(source: Any) -> bool:
    """Return whether an object has the methods of a SpikeInterface ``SortingAnalyzer``.

    Parameters
    ----------
    source : object
        Any object.

    Returns
    -------
    bool
        True for a ``SortingAnalyzer``.
    """
    return hasattr(source, "get_extension") and hasattr(source, "sorting")


def is_ts_group(source: Any) -> bool:
    """Return whether an object has the properties of a pynapple ``TsGroup``.

    Parameters
    ----------
    source : object
        Any object.

    Returns
    -------
    bool
        True for a ``TsGroup``.
    """
    return hasattr(source, "time_support") and hasattr(source, "rates") and hasattr(source, "keys")


def read_spikes(source: Any, **options: Any) -> SpikeTrains:
    """Read spike times from any of the supported sources.

    Parameters
    ----------
    source : sorting, analyzer, TsGroup, mapping, str or Path
        A SpikeInterface sorting or analyzer, a pynapple ``TsGroup``, a mapping of units to times in seconds, or a folder of Phy or
        Kilosort, which has a ``params.py``.
    **options
        Further arguments of the function that reads the source, such as ``segment_index`` or ``good_only``.

    Returns
    -------
    SpikeTrains
        The spike times.

    Raises
    ------
    DataError
        If the source is of another kind, or cannot be read.

    Examples
    --------
    >>> read_spikes({"a": [0.1, 0.25], "b": [0.3]}).unit
    ['a', 'b']
    """
    if is_sorting(source) or is_analyzer(source):
        return read_sorting(source, **options)
    if is_ts_group(source):
        return read_ts_group(source, **options)
    if isinstance(source, Mapping):
        return read_mapping(source, **options)
    if isinstance(source, str | Path):
        return read_sorter_folder(source, **options)
    raise DataError(
        f"spike times cannot be read from a {type(source).__name__}: give a mapping of units to times in seconds, a SpikeInterface "
        "sorting, a pynapple TsGroup, or a folder of Phy or Kilosort"
    )


def read_mapping(times: Mapping[Any, Any]) -> SpikeTrains:
    """Check spike times that are given by unit.

    Parameters
    ----------
    times : mapping of unit to array-like of shape (n_spikes,)
        Spike times of each unit in seconds. Keys become identifiers, as text.

    Returns
    -------
    SpikeTrains
        The spike times.

    Raises
    ------
    DataError
        If there is no unit, or times are integers, which are samples or milliseconds, or not finite.

    Examples
    --------
    >>> read_mapping({7: [30, 60]})
    Traceback (most recent call last):
        ...
    jaxephys.schemas.storage.DataError: the spike times of unit 7 are integers: give seconds, such as samples / 30000.0
    """
    return SpikeTrains([str(unit) for unit in times], [_as_seconds(times[unit], unit) for unit in times])


def read_sorting(sorting: Any, *, segment_index: int | None = None) -> SpikeTrains:
    """Read the spike times of a SpikeInterface sorting.

    Parameters
    ----------
    sorting : BaseSorting or SortingAnalyzer
        The sorting, or an analyzer, whose recording gives the duration. A sorting gives it if a recording was registered with it.
    segment_index : int, optional
        The segment to read; it is needed if there are several.

    Returns
    -------
    SpikeTrains
        The spike times, counted from the first sample of the segment.

    Raises
    ------
    DataError
        If there are several segments and none was chosen, or there is no such segment.
    """
    analyzer = sorting if is_analyzer(sorting) else None
    sorting = sorting if analyzer is None else analyzer.sorting
    count = int(sorting.get_num_segments())
    if segment_index is None and count > 1:
        raise DataError(f"the sorting has {count} segments: choose one with segment_index=0 to {count - 1}")
    segment = 0 if segment_index is None else segment_index
    if not 0 <= segment < count:
        raise DataError(f"the sorting has no segment {segment}: give segment_index=0 to {count - 1}")
    rate = float(sorting.get_sampling_frequency())
    units = list(sorting.unit_ids)
    times = [np.asarray(sorting.get_unit_spike_train(unit, segment_index=segment), float) / rate for unit in units]
    samples = None
    if analyzer is not None:
        samples = analyzer.get_num_samples(segment)
    elif sorting.has_recording():
        samples = sorting.get_num_samples(segment)
    stop = None if samples is None else float(samples) / rate
    return SpikeTrains([str(unit) for unit in units], times, stop=stop, source="spikeinterface")


def read_ts_group(group: Any) -> SpikeTrains:
    """Read the spike times of a pynapple ``TsGroup``.

    Parameters
    ----------
    group : TsGroup
        Spike times by unit. Its time support is the recording.

    Returns
    -------
    SpikeTrains
        The spike times.

    Raises
    ------
    DataError
        If the time support has several intervals, between which nothing was recorded.
    """
    starts, stops = (np.ravel(np.asarray(edges, float)) for edges in (group.time_support.start, group.time_support.end))
    if len(starts) != 1:
        raise DataError(
            f"the time support of the TsGroup has {len(starts)} intervals: restrict it to one with group.restrict(interval)"
        )
    units = list(group.keys())
    times = [np.asarray(group[unit].t, float) for unit in units]
    return SpikeTrains([str(unit) for unit in units], times, float(starts[0]), float(stops[0]), source="pynapple")


def read_sorter_folder(folder: str | Path, *, good_only: bool = True, kilosort: bool = False) -> SpikeTrains:
    """Read the spike times of a folder of Phy or Kilosort.

    Parameters
    ----------
    folder : str or Path
        Folder with ``spike_times.npy`` (samples), ``spike_clusters.npy`` and ``params.py``, of which the sampling rate and, if the
        file of the raw data is there, the duration are read. ``params.py`` is not executed.
    good_only : bool, default True
        Read only clusters that are marked "good"; otherwise all that have spikes.
    kilosort : bool, default False
        Which table marks them: that of the curation in Phy (``cluster_group.tsv``), or that of Kilosort's own classification
        (``cluster_KSLabel.tsv``).

    Returns
    -------
    SpikeTrains
        The spike times; units are named by their cluster.

    Raises
    ------
    DataError
        If a file is missing or damaged, no table marks the clusters, or no cluster is good.
    """
    folder = Path(folder)
    if not (folder / "params.py").is_file():
        raise DataError(f"{folder} has no params.py: give a folder that Kilosort or Phy has written")
    params = read_params(folder / "params.py")
    rate = float(params.get("sample_rate", 0.0))
    if not rate > 0:
        raise DataError(
            f"{folder / 'params.py'} has no sample_rate: add the line sample_rate = 30000.0, or the true rate"
        )
    clusters_file = next(
        (folder / f"spike_{name}.npy" for name in ("clusters", "templates") if (folder / f"spike_{name}.npy").exists()),
        None,
    )
    if clusters_file is None:
        raise DataError(f"{folder} has no spike_clusters.npy: give a folder that Kilosort or Phy has written")
    samples, clusters = np.ravel(load_array(folder / "spike_times.npy")), np.ravel(load_array(clusters_file))
    if len(samples) != len(clusters):
        raise DataError(f"{folder} has {len(samples)} spike times and {len(clusters)} spike clusters: sort it again")
    units = np.unique(clusters)
    if good_only:
        good = good_clusters(folder, KILOSORT_TABLES if kilosort else PHY_TABLES, "KSLabel" if kilosort else "group")
        units = units[np.isin(units, good)]
        if not len(units):
            raise DataError(
                f"no cluster of {folder} with spikes is marked {GOOD!r}: curate it, or take all (good_only=False)"
            )
    times = [spikes.astype(float) / rate for spikes in group_by_unit(samples, clusters, units)]
    stop = _raw_duration(folder, params, rate)
    return SpikeTrains(
        [str(unit) for unit in units],
        times,
        stop=stop,
        name=folder.resolve().name,
        source="kilosort" if kilosort else "phy",
    )


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


def read_params(path: Path) -> dict[str, Any]:
    """Read the assignments of a ``params.py`` without executing it.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to object
        Values by name; assignments of anything but a literal, such as a path that is computed, are left out.

    Raises
    ------
    DataError
        If the file is not Python.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise DataError(
            f"{path} is not a file of Python assignments ({error}): write sample_rate = 30000.0 into it"
        ) from None
    assigned = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    values: dict[str, Any] = {}
    for node in assigned:
        if not any(isinstance(part, ast.Name | ast.Call | ast.BinOp | ast.JoinedStr) for part in ast.walk(node.value)):
            values[ast.unparse(node.targets[0])] = ast.literal_eval(node.value)
    return values


def good_clusters(folder: Path, tables: Sequence[str], column: str) -> list[int]:
    """Return the clusters that a table of Phy or Kilosort marks as good.

    Parameters
    ----------
    folder : Path
        The folder.
    tables : sequence of str
        Names of the tables; the first that exists and has the column is read.
    column : str
        Name of the column that holds "good", "mua" or "noise".

    Returns
    -------
    list of int
        The clusters.

    Raises
    ------
    DataError
        If there is no such table, or an entry of it cannot be read.
    """
    for path in (folder / name for name in tables if (folder / name).exists()):
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file, delimiter="\t"))
            name = next((name for name in CLUSTER_NAMES if rows and name in rows[0]), None)
            if name is not None and column in rows[0]:
                return [int(row[name]) for row in rows if row[column] == GOOD]
        except (ValueError, TypeError, csv.Error) as error:
            raise DataError(
                f"{path} is not a table of clusters ({error}): curate the folder again, or take all units"
            ) from None
    raise DataError(f"{folder} has no {' or '.join(tables)} with the column {column}: take all units (good_only=False)")


def _raw_duration(folder: Path, params: Mapping[str, Any], rate: float) -> float | None:
    """Return the duration of the raw data in seconds, None if its file is not there or not described."""
    paths = params.get("dat_path", ())
    files = [folder / str(path) for path in ([paths] if isinstance(paths, str) else paths)]
    channels, dtype = params.get("n_channels_dat"), params.get("dtype")
    if not files or not channels or not dtype or not all(file.is_file() for file in files):
        return None
    size = sum(file.stat().st_size - int(params.get("offset", 0)) for file in files)
    return size // (int(channels) * np.dtype(dtype).itemsize) / rate


def _as_seconds(times: Any, unit: Any) -> np.ndarray:
    given = np.ravel(np.asarray(times))
    if given.size and given.dtype.kind in "iub":
        raise DataError(f"the spike times of unit {unit} are integers: give seconds, such as samples / 30000.0")
    if given.size and given.dtype.kind != "f":
        raise DataError(f"the spike times of unit {unit} are of type {given.dtype}: give numbers, in seconds")
    return given.astype(np.float64)
