"""Arrays: a NumPy archive of one's own -> units. It holds ready features, or spike trains and templates.

features      any of waveform [unit, sample], isi [unit, bin], acg [unit, lag]
spike trains  spike_times (s, one unit after the other) and spike_times_index (where each unit ends, as in NWB);
              template [unit, sample] or [unit, channel, sample], with rate (Hz)
either        unit (ids), label, subject, session, technology, species, region, or other columns of text
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.units.features import SortedUnit, units_of
from data_prep.units.labels import clean_label
from data_prep.units.table import MODALITIES, Units, UnitsError, no_rows

SPIKES = ("spike_times", "spike_times_index", "template", "rate")


def read_arrays(path: str | Path, *, rate: float | None = None) -> Units:
    """Read the archive; ``rate`` in Hz is of its templates, if it does not say so itself."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UnitsError(f"there is no file {path}: give a NumPy archive") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UnitsError(
            f"{path} is no archive of plain arrays ({error}): write it with np.savez, text as arrays of str"
        ) from None
    if "schema" in stored:
        raise UnitsError(f"{path} is a table that was built already: use it as it is")
    ready = {name: stored.pop(name) for name in MODALITIES if name in stored}
    spikes = {name: stored.pop(name) for name in SPIKES if name in stored}
    if not ready and not {"spike_times", "template"} & set(spikes):
        raise UnitsError(
            f"{path} holds {', '.join(stored) or 'nothing'}: it needs {', '.join(MODALITIES)}, or {SPIKES[0]}"
        )
    if ready and spikes:
        raise UnitsError(
            f"{path} holds both {next(iter(ready))} and {next(iter(spikes))}: give features or spike trains"
        )
    count = len(next(iter(ready.values()))) if ready else trains(spikes, path)
    about = texts(stored, count, path)
    names = about.pop("unit", [f"row {row}" for row in range(count)])
    provenance = {"source": "npz", "file": path.name, "notes": []}
    if ready:
        shapes, intervals, lags = (np.asarray(ready.get(name, no_rows(count)), np.float32) for name in MODALITIES)
        return Units(names, shapes, intervals, lags, about, provenance=provenance)
    given = float(spikes["rate"]) if "rate" in spikes else rate
    return units_of(sorted_units(spikes, names, about, given), provenance)


def trains(spikes: dict[str, np.ndarray], path: Path) -> int:
    """How many units the spike trains are of."""
    if ("spike_times" in spikes) != ("spike_times_index" in spikes):
        raise UnitsError(
            f"{path} has one of spike_times and spike_times_index: the second says where each unit ends in the first"
        )
    if "spike_times" not in spikes:
        return len(spikes["template"])
    ends = spikes["spike_times_index"]
    if np.any(np.diff(ends, prepend=0) < 0) or (len(ends) and ends[-1] != len(spikes["spike_times"])):
        raise UnitsError(
            f"spike_times_index of {path} does not climb to the {len(spikes['spike_times'])} spikes: give the end of each unit"
        )
    if "template" in spikes and len(spikes["template"]) != len(ends):
        raise UnitsError(f"{path} has {len(spikes['template'])} templates for {len(ends)} units: give one a unit")
    return len(ends)


def texts(stored: dict[str, np.ndarray], count: int, path: Path) -> dict[str, list[str]]:
    for name, values in stored.items():
        if values.shape not in ((), (count,)):
            raise UnitsError(f"{name} of {path} has the shape {values.shape} for {count} units: give one text a unit")
    return {name: [clean_label(x) for x in np.broadcast_to(values, count)] for name, values in stored.items()}


def sorted_units(
    spikes: dict[str, np.ndarray], names: list[str], about: dict[str, list[str]], rate: float | None
) -> Iterator[SortedUnit]:
    times = np.split(spikes["spike_times"], spikes["spike_times_index"][:-1]) if "spike_times" in spikes else None
    templates = spikes.get("template")
    for i, name in enumerate(names):
        yield SortedUnit(
            name,
            None if times is None else times[i],
            None if templates is None else templates[i],
            rate,
            {column: values[i] for column, values in about.items()},
        )
