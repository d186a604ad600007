"""Units from a NumPy archive, which holds either finished features or spike times and templates.

The arrays are::

    features      any of waveform [unit, sample], isi [unit, bin], acg [unit, lag]
    spike times   spike_times (s, one unit after the other) and spike_times_index (where each unit ends, as in NWB);
                  template [unit, sample] or [unit, channel, sample], with rate (Hz)
    either        unit (identifiers; without them units are named after their curves), label, subject, session, technology,
                  species, region or other text columns
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxephys.schemas.numpy_files import load_arrays, split_by_index
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_csv import clean_label
from jaxephys.schemas.unit_features import SortedUnit, make_unit_table
from jaxephys.schemas.unit_table import MODALITIES, UnitTable, name_by_content

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
    stored = load_arrays(path)
    if isinstance(stored, np.ndarray):
        raise DataError(f"{path} holds a single array: write named arrays with np.savez")
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
    times, templates = _spike_times(spikes, path), spikes.get("template")
    arrays = [values for values in (*curves.values(), times, templates) if values is not None]
    count = len(arrays[0])
    if times is not None and templates is not None and len(templates) != count:
        raise DataError(f"{path} has {len(templates)} templates for {count} units: give one per unit")
    about = {}
    for name, values in stored.items():
        if values.shape not in ((), (count,)):
            raise DataError(f"{name} of {path} has the shape {values.shape} for {count} units: give one text per unit")
        about[name] = [clean_label(x) for x in np.broadcast_to(values, count)]
    unit = about.pop("unit", None)
    provenance = {"source": "npz", "file": path.name, "notes": []}
    if curves:
        return UnitTable.from_arrays(**curves, unit=unit, provenance=provenance, **about)
    rate = float(spikes["rate"]) if "rate" in spikes else rate
    nothing = [None] * count
    names = [f"row {row}" for row in range(count)] if unit is None else unit  # in messages
    rows = zip(names, nothing if times is None else times, nothing if templates is None else templates, strict=True)
    units = (
        SortedUnit(name, spikes_of_unit, template, rate, {column: values[i] for column, values in about.items()})
        for i, (name, spikes_of_unit, template) in enumerate(rows)
    )
    table = make_unit_table(units, provenance)
    return replace(table, unit=name_by_content(table.raw)) if unit is None else table


def _spike_times(spikes: Mapping[str, np.ndarray], path: Path) -> list[np.ndarray] | None:
    """Return the spike times of each unit; None if the archive has templates or features only."""
    if ("spike_times" in spikes) != ("spike_times_index" in spikes):
        raise DataError(
            f"{path} has one of spike_times and spike_times_index: the second holds where each unit ends in the first"
        )
    if "spike_times" not in spikes:
        return None
    return split_by_index(spikes["spike_times"], spikes["spike_times_index"], path)
