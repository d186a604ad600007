"""Units from the units tables of NWB files.

The files are read with h5py, as far as needed, so that any version of the format works.

Templates are ``waveform_mean``: [unit, sample], [unit, sample, channel] as the format defines it, or rows of channels
with an index as the Allen Institute writes them. Without it, the spike events of a shank
(``processing/ecephys/SpikeWaveforms3`` and the like, DANDI 000041) are averaged over the unit's own events.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from data_prep.hdf5 import get_dataset, open_h5, read_array, read_ragged, row_slice
from data_prep.progress import ProgressReport
from data_prep.units.features import SortedUnit, make_unit_table
from data_prep.units.registry import Dataset, quality_problem
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_csv import LABEL_NAMES, clean_label, label_column
from jaxephys.schemas.unit_table import UnitTable

COMMON_NAMES = {
    "mus musculus": "mouse",
    "rattus norvegicus": "rat",
    "macaca mulatta": "macaque",
    "homo sapiens": "human",
}
REGION_COLUMNS = ("region", "location", "brain_area", "area", "ecephys_structure_acronym")
MAX_EVENTS = 500  # spikes that a mean waveform is computed from
SAME_SPIKE = 1e-3  # s: width of the window around a unit's spike in which an event is that spike


def read_nwb(
    paths: Sequence[str | Path],
    *,
    label: str | None = None,
    rate: float | None = None,
    dataset: Dataset | None = None,
) -> UnitTable:
    """Read the units of NWB files.

    Parameters
    ----------
    paths : sequence of str or Path
        NWB files, or folders of them. Identifiers of units are "session/id".
    label : str, optional
        Column of the units table that holds the class. By default it is the one with a usual name, if there is one.
    rate : float, optional
        Sampling rate of the templates in Hz where a file does not give it.
    dataset : Dataset, optional
        Published data set whose rules select units: those with enough spikes and with quality in range, as far as the
        units table has these columns.

    Returns
    -------
    UnitTable
        One row per selected unit; ``provenance["notes"]`` counts the others by reason.

    Raises
    ------
    DataError
        If a file cannot be read or has no units table, the label column is missing or ambiguous, or no unit is left.
    """
    files = [file for path in map(Path, paths) for file in (sorted(path.rglob("*.nwb")) if path.is_dir() else [path])]
    if not files:
        raise DataError(f"there is no NWB file in {', '.join(map(str, paths))}: give files, or folders that hold some")
    excluded: Counter[str] = Counter()

    def read_all() -> Iterator[SortedUnit]:
        with ProgressReport("files", len(files)) as progress:
            for path in files:
                yield from _read_file(path, label, rate, dataset, excluded)
                progress.advance()

    units = make_unit_table(read_all(), {"source": "nwb", "files": [path.name for path in files]})
    notes = [f"{count} units: {reason}" for reason, count in excluded.items()]
    return replace(units, provenance={**units.provenance, "notes": notes})


def _read_file(
    path: Path, label: str | None, rate: float | None, dataset: Dataset | None, excluded: Counter[str]
) -> Iterator[SortedUnit]:
    with open_h5(path) as file:
        table = file.get("units")
        if not isinstance(table, h5py.Group) or "id" not in table:
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
        templates, limits = _Templates(file, table, rate), () if dataset is None else dataset.quality
        has_spikes = {"spike_times", "spike_times_index"} <= set(table)
        times = read_ragged(table, "spike_times") if has_spikes else None
        for row, name in enumerate(read_array(table, "id")):
            spikes = None if times is None else times[row]
            quality = {column: float(get_dataset(table, column)[row]) for column in limits if column in table}
            reason = quality_problem(dataset, None if spikes is None else len(spikes), quality)
            if reason:
                excluded[reason] += 1
                continue
            template, template_rate = templates.read(row, spikes)
            region = (columns[region_name][row] if region_name else "") or templates.region(row)
            about = {**shared, "label": columns[label_name][row] if label_name else "", "region": region}
            yield SortedUnit(f"{shared['session']}/{name}", spikes, template, template_rate, about)


def _text(file: h5py.File, name: str) -> str:
    return clean_label(read_array(file, name).item()) if name in file else ""


def _text_columns(table: h5py.Group) -> dict[str, list[str]]:
    """Read the columns that hold one text per unit."""
    shape = get_dataset(table, "id").shape
    columns = {name: column for name, column in table.items() if isinstance(column, h5py.Dataset)}
    return {
        name: [clean_label(x) for x in column[()]]
        for name, column in columns.items()
        if column.shape == shape and h5py.check_string_dtype(column.dtype)
    }


class _Templates:
    """Mean waveforms [channel, sample] of the units of one file."""

    def __init__(self, file: h5py.File, table: h5py.Group, rate: float | None) -> None:
        self.file, self.table, self.default_rate = file, table, rate
        self.mean = table.get("waveform_mean")
        self.ends = read_array(table, "waveform_mean_index") if "waveform_mean_index" in table else None

    def read(self, row: int, spikes: np.ndarray | None) -> tuple[np.ndarray | None, float | None]:
        """Return the template of a unit and its sampling rate in Hz; None where there is none."""
        if isinstance(self.mean, h5py.Dataset):
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
        if spikes is None or not len(spikes) or not isinstance(group, h5py.Dataset):
            return None
        digits = re.search(r"\d+$", str(self.file[group[row]].name))
        series = self.file.get(f"processing/ecephys/SpikeWaveforms{digits.group()}") if digits else None
        if not isinstance(series, h5py.Group) or "timestamps" not in series:
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
        if not isinstance(electrodes, h5py.Group) or "location" not in electrodes:
            return ""
        if "peak_channel_id" in self.table:
            rows = np.flatnonzero(read_array(electrodes, "id") == get_dataset(self.table, "peak_channel_id")[row])
        elif {"electrodes", "electrodes_index"} <= set(self.table):
            rows = read_ragged(self.table, "electrodes")[row]
        else:
            return ""
        return clean_label(get_dataset(electrodes, "location")[int(rows[0])]) if rows.size else ""
