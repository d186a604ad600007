"""Tables of units from the objects of analysis packages, from NWB files, and from spike times with templates.

:class:`~jaxephys.schemas.unit_table.UnitTable` has a method for each of them, and :func:`as_unit_table` finds the right one. No analysis
package is imported, except SpikeInterface to load an analyzer from its folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.schemas.spike_sources import is_analyzer, is_sorting, is_ts_group, read_spikes
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_csv import clean_label
from jaxephys.schemas.unit_features import SortedUnit, make_unit_table
from jaxephys.schemas.unit_nwb import find_nwb_files, read_nwb_units
from jaxephys.schemas.unit_table import UnitTable

ANALYZER_FILES = ("spikeinterface_info.json", ".zattrs", "zarr.json")  # of which the folder of an analyzer has one


def as_unit_table(source: Any) -> UnitTable:
    """Return what holds sorted units as a table of units.

    Parameters
    ----------
    source : UnitTable, analyzer, sorting, TsGroup, mapping, str or Path
        One of

        - a table, which is returned as it is;
        - a SpikeInterface ``SortingAnalyzer`` with templates, or its folder;
        - a SpikeInterface sorting, a pynapple ``TsGroup`` or a mapping of units to spike times in seconds, which have no waveforms;
        - the path of a table (``units.npz`` or a folder), of a folder of CSV files, of an NWB file, or of a folder of Phy or
          Kilosort.

    Returns
    -------
    UnitTable
        One row per unit.

    Raises
    ------
    DataError
        If nothing of this kind is given, or its units are not valid.

    Examples
    --------
    >>> as_unit_table({"a": [0.1, 0.105, 0.3], "b": [0.2, 0.25]})
    UnitTable(2 units: wave 0, isi 2, acg 2; 0 labelled)
    """
    if isinstance(source, UnitTable):
        return source
    if is_analyzer(source):
        return read_analyzer(source)
    if isinstance(source, Mapping) or is_sorting(source) or is_ts_group(source):
        return units_of_times(source)
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix == ".nwb":
            return read_nwb_tables([path])
        if path.is_dir() and any((path / name).exists() for name in ANALYZER_FILES):
            return read_analyzer(path)
        return units_of_times(path) if (path / "params.py").exists() else UnitTable.read(path)
    shape = f" of shape {np.shape(source)}" if hasattr(source, "__array__") else ""
    raise DataError(
        f"a {type(source).__name__}{shape} holds no units: give a UnitTable (UnitTable.from_arrays(wave=..., isi=..., acg=...)), a "
        "SpikeInterface SortingAnalyzer or a path"
    )


def is_unit_source(source: Any) -> bool:
    """Return whether :func:`as_unit_table` reads an object.

    Parameters
    ----------
    source : object
        Any object.

    Returns
    -------
    bool
        True for tables of units, the objects of analysis packages, mappings and paths; False for arrays and data frames.
    """
    return isinstance(source, UnitTable | Mapping | str | Path) or any(
        test(source) for test in (is_analyzer, is_sorting, is_ts_group)
    )


def read_analyzer(source: Any, *, label: str | None = None, **about: str | Sequence[str] | np.ndarray) -> UnitTable:
    """Read the units of a SpikeInterface ``SortingAnalyzer``.

    Parameters
    ----------
    source : SortingAnalyzer, str or Path
        The analyzer, with templates and a single segment, or the folder that it was saved to.
    label : str, optional
        Property of the sorting that holds the class of each unit.
    **about : str or sequence of str of length n_units
        Text columns by name, such as ``technology="neuropixels"``. One text holds for every unit.

    Returns
    -------
    UnitTable
        One row per unit.

    Raises
    ------
    DataError
        If SpikeInterface or the folder is missing, or the analyzer has several segments, no mean or median templates or no such
        property.
    """
    name = Path(source).name if isinstance(source, str | Path) else "in memory"
    analyzer = _load_analyzer(source) if isinstance(source, str | Path) else source
    if not is_analyzer(analyzer):
        raise DataError(
            f"a {type(analyzer).__name__} is no SortingAnalyzer: make one with spikeinterface.create_sorting_analyzer(sorting, recording)"
        )
    if analyzer.get_num_segments() > 1:
        raise DataError(
            f"the analyzer {name} has {analyzer.get_num_segments()} segments: concatenate them, or give one at a time"
        )
    templates = analyzer.get_extension("templates")
    if templates is None:
        raise DataError(f"the analyzer {name} has no templates: run analyzer.compute(['random_spikes', 'templates'])")
    keys = list(analyzer.sorting.get_property_keys())
    if label is not None and label not in keys:
        raise DataError(f"the sorting of {name} has no property {label!r}: choose from {', '.join(keys) or 'none'}")
    labels = analyzer.sorting.get_property(label) if label else None
    operator = _template_operator(templates, name)
    units = make_unit_table(
        _analyzer_units(analyzer, templates, operator, labels),
        {"source": "spikeinterface", "folder": name, "notes": []},
    )
    if operator != "average":
        units.provenance["notes"].append(f"the waveforms are {operator} templates: the analyzer has no mean ones")
    return with_texts(units, about)


def read_nwb_tables(
    paths: Sequence[str | Path], *, label: str | None = None, rate: float | None = None, **about: str | Sequence[str]
) -> UnitTable:
    """Read the units tables of NWB files.

    Parameters
    ----------
    paths : sequence of str or Path
        NWB files, or folders of them. Identifiers of units are "session/id".
    label : str, optional
        Column of the units table that holds the class. By default it is the one with a usual name, if there is one.
    rate : float, optional
        Sampling rate of the templates in Hz where a file does not give it.
    **about : str or sequence of str of length n_units
        Text columns by name, such as ``technology="neuropixels"``. One text holds for every unit.

    Returns
    -------
    UnitTable
        One row per unit.

    Raises
    ------
    DataError
        If a file cannot be read or has no units table, the label column is missing or ambiguous, or there is no unit.
    """
    files = find_nwb_files(paths)
    rate = None if rate is None else float(rate)
    units = (one for path in files for one in read_nwb_units(path, label=label, rate=rate))
    table = make_unit_table(units, {"source": "nwb", "files": [path.name for path in files], "notes": []})
    return with_texts(table, about)


def units_of_times(
    times: Any,
    templates: np.ndarray | Sequence[np.ndarray] | None = None,
    *,
    rate: float | None = None,
    **about: str | Sequence[str] | np.ndarray,
) -> UnitTable:
    """Compute the features of units from their spike times and templates.

    Parameters
    ----------
    times : mapping, sorting, TsGroup, str or Path
        Spike times in seconds by unit, a SpikeInterface sorting, a pynapple ``TsGroup``, or a folder of Phy or Kilosort.
    templates : array-like of shape (n_units, n_samples) or (n_units, n_channels, n_samples), optional
        Mean waveform of each unit in any unit of voltage, in the order of the units. By default units have no waveform.
    rate : float, optional
        Sampling rate of the templates in Hz.
    **about : str or sequence of str of length n_units
        Text columns by name, such as ``label=`` or ``technology=``. One text holds for every unit.

    Returns
    -------
    UnitTable
        One row per unit.

    Raises
    ------
    DataError
        If times or templates are not valid, or their numbers differ.
    """
    trains = read_spikes(times)
    if templates is not None and len(templates) != len(trains.unit):
        raise DataError(f"there are {len(templates)} templates for {len(trains.unit)} units: give one for each unit")
    shapes = [None] * len(trains.unit) if templates is None else [np.asarray(one) for one in templates]
    units = (
        SortedUnit(unit, some, shape, None if rate is None else float(rate))
        for unit, some, shape in zip(trains.unit, trains.times, shapes, strict=True)
    )
    return with_texts(make_unit_table(units, {"source": trains.source, "folder": trains.name, "notes": []}), about)


def with_texts(units: UnitTable, about: Mapping[str, str | Sequence[str] | np.ndarray]) -> UnitTable:
    """Return units with further text columns.

    Parameters
    ----------
    units : UnitTable of n_units
        The units.
    about : mapping of str to (str or sequence of str of length n_units)
        Columns by name; one text holds for every unit.

    Returns
    -------
    UnitTable
        The units.
    """
    columns = {
        name: np.full(len(units), text) if isinstance(text, str) else np.array(text, str)
        for name, text in about.items()
    }
    return replace(units, about={**units.about, **columns})


def _load_analyzer(folder: str | Path) -> Any:
    try:
        import spikeinterface  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise DataError("a sorting analyzer needs SpikeInterface: pip install spikeinterface") from None
    if not Path(folder).exists():
        raise DataError(f"there is no analyzer {folder}: give the folder that analyzer.save_as has written")
    return spikeinterface.load_sorting_analyzer(folder)


def _template_operator(templates: Any, name: str) -> str:
    """Return which templates to read: mean ones, or median ones where there are no others."""
    operators = dict(getattr(templates, "params", None) or {}).get("operators", ["average"])
    found = next((operator for operator in ("average", "median") if operator in operators), None)
    if found is None:
        raise DataError(
            f"the analyzer {name} has templates of {', '.join(map(str, operators))} only: compute them with operators=['average']"
        )
    return found


def _analyzer_units(analyzer: Any, templates: Any, operator: str, labels: Any) -> Iterator[SortedUnit]:
    rate = float(analyzer.sampling_frequency)
    for i, unit in enumerate(analyzer.unit_ids):
        times = np.asarray(analyzer.sorting.get_unit_spike_train(unit, segment_index=0)) / rate
        about = {} if labels is None else {"label": clean_label(labels[i])}
        template = np.asarray(templates.get_unit_template(unit, operator=operator)).T  # theirs are [sample, channel]
        yield SortedUnit(str(unit), times, template, rate, about)
