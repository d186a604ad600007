"""Units from a NumPy archive, which holds either finished features or spike times and templates.

The arrays are::

    features      any of waveform [unit, sample], isi [unit, bin], acg [unit, lag]
    spike times   spike_times (s, one unit after the other) and spike_times_index (where each unit ends, as in NWB);
                  template [unit, sample] or [unit, channel, sample], with rate (Hz)
    either        unit (identifiers), label, subject, session, technology, species, region or other text columns
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.units.features import SortedUnit, make_unit_table
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_csv import clean_label
from jaxephys.schemas.unit_table import MODALITIES, UnitTable

SPIKE_ARRAYS = ("spike_times", "spike_times_index", "template", "rate")


def read_arrays(path: str | Path, *, rate: float | None = None) -> UnitTable:
    """Read a NumPy archive of units.

    Parameters
    ----------
    path : str or Path
        The ``.npz`` file; its arrays are listed at the top of this module.
    rate : float, optional
        Sampling rate of the templates in Hz, if the archive has no ``rate``.

    Returns
    -------
    UnitTable
        One row per unit.

    Raises
    ------
    DataError
        If the file is missing, or its arrays do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "units.npz"
    >>> np.savez(path, spike_times=[0.1, 0.104, 0.5, 0.2, 0.25], spike_times_index=[3, 5], label=["PV", "unknown"])
    >>> read_arrays(path)
    UnitTable(2 units: wave 0, isi 2, acg 2; 1 labelled)
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError(f"there is no file {path}: give a NumPy archive") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is not an archive of plain arrays ({error}): write it with np.savez, text as arrays of str"
        ) from None
    if "schema" in stored:
        raise DataError(f"{path} is a finished table: use it as it is")
    curves = {name: stored.pop(key) for name, key in MODALITIES.items() if key in stored}
    spikes = {name: stored.pop(name) for name in SPIKE_ARRAYS if name in stored}
    if not curves and not {"spike_times", "template"} & set(spikes):
        raise DataError(
            f"{path} holds {', '.join(stored) or 'nothing'}: it needs {', '.join(MODALITIES.values())}, or {SPIKE_ARRAYS[0]}"
        )
    if curves and spikes:
        raise DataError(
            f"{path} holds both {MODALITIES[next(iter(curves))]} and {next(iter(spikes))}: give features or spike times"
        )
    count = len(next(iter(curves.values()))) if curves else _count_units(spikes, path)
    about = {}
    for name, values in stored.items():
        if values.shape not in ((), (count,)):
            raise DataError(f"{name} of {path} has the shape {values.shape} for {count} units: give one text per unit")
        about[name] = [clean_label(x) for x in np.broadcast_to(values, count)]
    unit = about.pop("unit", [f"row {row}" for row in range(count)])
    provenance = {"source": "npz", "file": path.name, "notes": []}
    if curves:
        return UnitTable.from_arrays(**curves, unit=unit, provenance=provenance, **about)
    stored_rate = float(spikes["rate"]) if "rate" in spikes else rate
    return make_unit_table(_sorted_units(spikes, unit, about, stored_rate), provenance)


def _count_units(spikes: dict[str, np.ndarray], path: Path) -> int:
    """Return the number of units of spike times and templates, which must agree."""
    if ("spike_times" in spikes) != ("spike_times_index" in spikes):
        raise DataError(
            f"{path} has one of spike_times and spike_times_index: the second holds where each unit ends in the first"
        )
    if "spike_times" not in spikes:
        return len(spikes["template"])
    ends = spikes["spike_times_index"]
    if np.any(np.diff(ends, prepend=0) < 0) or (len(ends) and ends[-1] != len(spikes["spike_times"])):
        raise DataError(
            f"spike_times_index of {path} does not increase to the {len(spikes['spike_times'])} spikes: give the end of each unit"
        )
    if "template" in spikes and len(spikes["template"]) != len(ends):
        raise DataError(f"{path} has {len(spikes['template'])} templates for {len(ends)} units: give one per unit")
    return len(ends)


def _sorted_units(
    spikes: dict[str, np.ndarray], unit: list[str], about: dict[str, list[str]], rate: float | None
) -> Iterator[SortedUnit]:
    times = np.split(spikes["spike_times"], spikes["spike_times_index"][:-1]) if "spike_times" in spikes else None
    templates = spikes.get("template")
    for i, name in enumerate(unit):
        yield SortedUnit(
            name,
            None if times is None else times[i],
            None if templates is None else templates[i],
            rate,
            {column: values[i] for column, values in about.items()},
        )
