"""The units of an NWB file: spike times, templates and texts from its units table.

The file is read with h5py, as far as needed, so that any version of the format works.

Templates are ``waveform_mean``: [unit, sample], [unit, sample, channel] as the format defines it, or rows of channels
with an index as the Allen Institute writes them. Without it, the spike events of a shank
(``processing/ecephys/SpikeWaveforms3`` and the like, DANDI 000041) are averaged over the unit's own events.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.schemas.hdf5 import get_dataset, open_h5, read_array, read_ragged, row_slice
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_csv import LABEL_NAMES, clean_label, label_column
from jaxephys.schemas.unit_features import SortedUnit

COMMON_NAMES = {
    "mus musculus": "mouse",
    "rattus norvegicus": "rat",
    "macaca mulatta": "macaque",
    "homo sapiens": "human",
}
REGION_COLUMNS = ("region", "location", "brain_area", "area", "ecephys_structure_acronym")
MAX_EVENTS = 500  # spikes that a mean waveform is computed from
SAME_SPIKE = 1e-3  # s: width of the window around a unit's spike in which an event is that spike


def find_nwb_files(paths: Sequence[str | Path]) -> list[Path]:
    """Return the NWB files among some paths.

    Parameters
    ----------
    paths : sequence of str or Path
        NWB files, or folders that hold some at any depth.

    Returns
    -------
    list of Path
        The files; those of a folder in the order of their names.

    Raises
    ------
    DataError
        If there is none.
    """
    files = [file for path in map(Path, paths) for file in (sorted(path.rglob("*.nwb")) if path.is_dir() else [path])]
    if not files:
        raise DataError(f"there is no NWB file in {', '.join(map(str, paths))}: give files, or folders that hold some")
    return files


def read_nwb_units(
    path: Path,
    *,
    label: str | None = None,
    rate: float | None = None,
    quality: Sequence[str] = (),
    keep: Callable[[int | None, Mapping[str, float]], bool] | None = None,
) -> Iterator[SortedUnit]:
    """Read the units of an NWB file one after the other.

    Parameters
    ----------
    path : Path
        The file. Identifiers of units are "session/id".
    label : str, optional
        Column of the units table that holds the class. By default it is the one with a usual name, if there is one.
    rate : float, optional
        Sampling rate of the templates in Hz where the file does not give it.
    quality : sequence of str, optional
        Numeric columns of the units table that ``keep`` receives, as far as the table has them.
    keep : callable, optional
        Receives the number of spikes (None if the file has no spike times) and the values of ``quality`` of a unit, and
        returns whether to read it. By default every unit is read.

    Yields
    ------
    SortedUnit
        Spike times in seconds, template, and the texts ``subject``, ``session``, ``species``, ``label`` and ``region``.

    Raises
    ------
    DataError
        If the file cannot be read or has no units table, or the label column is missing or ambiguous.
    """
    with open_h5(path) as file:
        table = file.get("units")
        if not _is_group(table) or "id" not in table:
            raise DataError(f"{path} has no units table: sort its spikes first")
        species = _text(file, "general/subject/species")
        shared = {
            "subject": _text(file, "general/subject/subject_id"),
            "session": _text(file, "general/session_id") or _text(file, "identifier") or path.stem,
            "species": COMMON_NAMES.get(species.lower(), species),
        }
        columns = _text_columns(table)
        has_label = label is not None or any(name.lower() in LABEL_NAMES for name in columns)
        label_name = label_column(list(columns), label, f"the units table of {path.name}") if has_label else None
        region_name = next((column for column in REGION_COLUMNS if column in columns), None)
        templates = _Templates(file, table, rate)
        has_spikes = {"spike_times", "spike_times_index"} <= set(table)
        times = read_ragged(table, "spike_times") if has_spikes else None
        for row, name in enumerate(read_array(table, "id")):
            spikes = None if times is None else times[row]
            values = {column: float(get_dataset(table, column)[row]) for column in quality if column in table}
            if keep is not None and not keep(None if spikes is None else len(spikes), values):
                continue
            template, template_rate = templates.read(row, spikes)
            region = (columns[region_name][row] if region_name else "") or templates.region(row)
            about = {**shared, "label": columns[label_name][row] if label_name else "", "region": region}
            yield SortedUnit(f"{shared['session']}/{name}", spikes, template, template_rate, about)


def _is_group(found: Any) -> bool:
    return hasattr(found, "keys")  # an HDF5 group; a data set has none


def _text(file: Any, name: str) -> str:
    return clean_label(read_array(file, name).item()) if name in file else ""


def _text_columns(table: Any) -> dict[str, list[str]]:
    """Read the columns that hold one text per unit."""
    import h5py

    shape = get_dataset(table, "id").shape
    columns = {name: column for name, column in table.items() if isinstance(column, h5py.Dataset)}
    return {
        name: [clean_label(x) for x in column[()]]
        for name, column in columns.items()
        if column.shape == shape and h5py.check_string_dtype(column.dtype)
    }


class _Templates:
    """Mean waveforms [channel, sample] of the units of one file."""

    def __init__(self, file: Any, table: Any, rate: float | None) -> None:
        self.file, self.table, self.default_rate = file, table, rate
        self.mean = table.get("waveform_mean")
        self.ends = read_array(table, "waveform_mean_index") if "waveform_mean_index" in table else None

    def read(self, row: int, spikes: np.ndarray | None) -> tuple[np.ndarray | None, float | None]:
        """Return the template of a unit and its sampling rate in Hz; None where there is none."""
        if self.mean is not None and not _is_group(self.mean):
            rate = self.mean.attrs.get("sampling_rate", self.default_rate)
            if self.ends is not None:
                template = np.asarray(self.mean[row_slice(self.ends, row)], float)
            else:
                template = np.asarray(self.mean[row], float)
                template = template if template.ndim == 1 else template.T  # the format has [unit, sample, channel]
        else:
            rate, template = self.default_rate, self._mean_of_events(row, spikes)
        if template is None or not np.isfinite(template).all() or not np.ptp(template) > 0:
            return None, None
        return template, None if rate is None else float(rate)

    def _mean_of_events(self, row: int, spikes: np.ndarray | None) -> np.ndarray | None:
        """Average the events of the shank that are spikes of the unit, at most MAX_EVENTS of them, evenly chosen."""
        group = self.table.get("electrode_group")
        if spikes is None or not len(spikes) or group is None or _is_group(group):
            return None
        digits = re.search(r"\d+$", str(self.file[group[row]].name))
        series = self.file.get(f"processing/ecephys/SpikeWaveforms{digits.group()}") if digits else None
        if series is None or not _is_group(series) or "timestamps" not in series:
            return None
        stamps, data = read_array(series, "timestamps"), get_dataset(series, "data")
        index = np.searchsorted(stamps, spikes - SAME_SPIKE / 2)
        index = np.unique(index[np.abs(stamps[np.minimum(index, len(stamps) - 1)] - spikes) < SAME_SPIKE / 2])
        index = index[index < len(stamps)]
        if not index.size:
            return None
        chosen = index[np.linspace(0, len(index) - 1, min(MAX_EVENTS, len(index))).astype(int)]
        mean = np.mean([np.asarray(data[i], float) for i in chosen.tolist()], axis=0)
        channels = len(read_array(series, "electrodes")) if "electrodes" in series else 0
        return mean.T if mean.ndim == 2 and mean.shape[1] == channels != mean.shape[0] else mean

    def region(self, row: int) -> str:
        """Return the location of the unit's largest channel, or else of its first electrode."""
        electrodes = self.file.get("general/extracellular_ephys/electrodes")
        if not _is_group(electrodes) or "location" not in electrodes:
            return ""
        if "peak_channel_id" in self.table:
            rows = np.flatnonzero(read_array(electrodes, "id") == get_dataset(self.table, "peak_channel_id")[row])
        elif {"electrodes", "electrodes_index"} <= set(self.table):
            rows = read_ragged(self.table, "electrodes")[row]
        else:
            return ""
        return clean_label(get_dataset(electrodes, "location")[int(rows[0])]) if rows.size else ""
