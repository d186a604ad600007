"""NWB: the units tables of sorted recordings -> units. Read with h5py, as far as needed, so that any version of the format will do.

Templates are ``waveform_mean``: [unit, sample], [unit, sample, channel] as the format has it, or rows of channels with an index
as the Allen Institute writes it. Where there are none, the spike events of a shank (``processing/ecephys/SpikeWaveforms3`` and
the like, DANDI 000041) are averaged over the unit's own events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_prep.scale.progress import Report
from data_prep.units.features import SortedUnit, units_of
from data_prep.units.h5 import array, dataset, open_h5, span
from data_prep.units.labels import NAMES, clean_label, label_column
from data_prep.units.registry import Dataset
from data_prep.units.table import Units, UnitsError

LATIN = {"mus musculus": "mouse", "rattus norvegicus": "rat", "macaca mulatta": "macaque", "homo sapiens": "human"}
REGIONS = ("region", "location", "brain_area", "area", "ecephys_structure_acronym")
EVENTS = 500  # spikes that a mean waveform is taken over at most
SAME = 1e-3  # s: an event within this of a unit's spike, and nearer than any other, is that spike


def read_nwb(
    paths: Sequence[str | Path],
    *,
    label: str | None = None,
    rate: float | None = None,
    rules: Dataset | None = None,
) -> Units:
    """The units of these files. ``label`` names a column of the units table, ``rate`` (Hz) the templates' where the file does not.

    ``rules`` of the registry say which units are kept: those with enough spikes and with quality in range, as far as the table
    has these columns.
    """
    if not paths:
        raise UnitsError("there are no NWB files: give at least one")
    notes: dict[str, int] = {}

    def every() -> Iterator[SortedUnit]:
        with Report("files", len(paths), 0, 0) as report:
            for path in map(Path, paths):
                yield from file_units(path, label, rate, rules, notes)
                report(failed=False)

    provenance: dict[str, Any] = {"source": "nwb", "files": [Path(path).name for path in paths]}
    units = units_of(every(), provenance)
    provenance["notes"] = [f"{count} units: {text}" for text, count in notes.items()]
    return units


def file_units(
    path: Path, label: str | None, rate: float | None, rules: Dataset | None, notes: dict[str, int]
) -> Iterator[SortedUnit]:
    with open_h5(path) as file:
        table = file.get("units")
        if not isinstance(table, h5py.Group) or "id" not in table:
            raise UnitsError(f"{path} has no units table: sort its spikes first")
        shared = about_file(file, path)
        plain = text_columns(table)
        wanted = choose_label(plain, label, path)
        shapes = Templates(file, table, rate)
        times, ends = values(table, "spike_times"), values(table, "spike_times_index")
        for row, name in enumerate(array(table, "id")):
            spikes = None if times is None or ends is None else times[span(ends, row)]
            why = refused(table, row, spikes, rules)
            if why:
                notes[why] = notes.get(why, 0) + 1
                continue
            about = {**shared, "label": plain[wanted][row] if wanted else ""}
            region = next((plain[column][row] for column in REGIONS if column in plain), "") or shapes.region(row)
            template, its_rate = shapes.of(row, spikes)
            yield SortedUnit(f"{shared['session']}/{name}", spikes, template, its_rate, {**about, "region": region})


def about_file(file: h5py.File, path: Path) -> dict[str, str]:
    species = text(file, "general/subject/species")
    return {
        "subject": text(file, "general/subject/subject_id"),
        "session": text(file, "general/session_id") or text(file, "identifier") or path.stem,
        "species": LATIN.get(species.lower(), species),
    }


def text(file: h5py.File, name: str) -> str:
    return clean_label(array(file, name).item()) if name in file else ""


def values(table: h5py.Group, name: str) -> np.ndarray | None:
    return array(table, name) if name in table else None


def text_columns(table: h5py.Group) -> dict[str, list[str]]:
    """The columns of text, one a unit."""
    shape = dataset(table, "id").shape
    columns = {name: column for name, column in table.items() if isinstance(column, h5py.Dataset)}
    return {
        name: [clean_label(x) for x in column[()]]
        for name, column in columns.items()
        if column.shape == shape and h5py.check_string_dtype(column.dtype)
    }


def choose_label(columns: Mapping[str, list[str]], wanted: str | None, path: Path) -> str | None:
    """The label's column; None if no column has a name that means one."""
    if wanted is None and not any(name.lower() in NAMES for name in columns):
        return None
    return label_column(list(columns), wanted, f"the units table of {path.name}")


def refused(table: h5py.Group, row: int, spikes: np.ndarray | None, rules: Dataset | None) -> str:
    """Why the data set does not keep this unit, "" if it does."""
    if rules is None:
        return ""
    if spikes is not None and len(spikes) < rules.spikes:
        return f"fewer than {rules.spikes} spikes"
    for column, (low, high) in rules.keep.items():
        if column in table:
            value = float(dataset(table, column)[row])
            if not (low is None or value >= low) or not (high is None or value <= high):
                return f"{column} out of range"
    return ""


class Templates:
    """Mean waveforms [channel, sample] of the units of one file."""

    def __init__(self, file: h5py.File, table: h5py.Group, rate: float | None) -> None:
        self.file, self.table, self.given = file, table, rate
        self.mean = table.get("waveform_mean")
        self.ends = values(table, "waveform_mean_index")

    def of(self, row: int, spikes: np.ndarray | None) -> tuple[np.ndarray | None, float | None]:
        """The template of a unit and its rate in Hz; None where there is none."""
        if isinstance(self.mean, h5py.Dataset):
            rate = self.mean.attrs.get("sampling_rate", self.given)
            found = self.row_of_mean(self.mean, row)
        else:
            rate, found = self.given, self.mean_of_events(row, spikes)
        if found is None or not np.isfinite(found).all() or not np.ptp(found) > 0:
            return None, None
        return found, None if rate is None else float(rate)

    def row_of_mean(self, mean: h5py.Dataset, row: int) -> np.ndarray:
        if self.ends is not None:
            return np.asarray(mean[span(self.ends, row)], float)
        found = np.asarray(mean[row], float)
        return found if found.ndim == 1 else found.T  # the format has [unit, sample, channel]

    def mean_of_events(self, row: int, spikes: np.ndarray | None) -> np.ndarray | None:
        """The mean over the events of the unit's shank that are its spikes, at most EVENTS of them, evenly taken."""
        group = self.table.get("electrode_group")
        if spikes is None or not len(spikes) or not isinstance(group, h5py.Dataset):
            return None
        digits = re.search(r"\d+$", str(self.file[group[row]].name))
        series = self.file.get(f"processing/ecephys/SpikeWaveforms{digits.group()}") if digits else None
        if not isinstance(series, h5py.Group) or "timestamps" not in series:
            return None
        stamps, data = array(series, "timestamps"), dataset(series, "data")
        place = np.searchsorted(stamps, spikes - SAME / 2)
        place = np.unique(place[np.abs(stamps[np.minimum(place, len(stamps) - 1)] - spikes) < SAME / 2])
        place = place[place < len(stamps)]
        if not place.size:
            return None
        chosen = place[np.linspace(0, len(place) - 1, min(EVENTS, len(place))).astype(int)]
        mean = np.mean([np.asarray(data[i], float) for i in chosen.tolist()], axis=0)
        channels = len(array(series, "electrodes")) if "electrodes" in series else 0
        return mean.T if mean.ndim == 2 and mean.shape[1] == channels != mean.shape[0] else mean

    def region(self, row: int) -> str:
        """Where the unit's largest channel, or else its first electrode, lies."""
        electrodes = self.file.get("general/extracellular_ephys/electrodes")
        if not isinstance(electrodes, h5py.Group) or "location" not in electrodes:
            return ""
        if "peak_channel_id" in self.table:
            at = np.flatnonzero(array(electrodes, "id") == dataset(self.table, "peak_channel_id")[row])
        elif {"electrodes", "electrodes_index"} <= set(self.table):
            at = array(self.table, "electrodes")[span(array(self.table, "electrodes_index"), row)]
        else:
            return ""
        return clean_label(dataset(electrodes, "location")[int(at[0])]) if at.size else ""
