"""Sorted units of SpikeInterface, which is not among our dependencies: ``pip install spikeinterface``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.units.features import SortedUnit, make_unit_table
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_csv import clean_label
from jaxephys.schemas.unit_table import UnitTable


def read_analyzer(source: Any, *, label: str | None = None) -> UnitTable:
    """Read the units of a ``SortingAnalyzer``.

    Parameters
    ----------
    source : SortingAnalyzer, str or Path
        The analyzer, with templates and a single segment, or the folder that it was saved to.
    label : str, optional
        Property of the sorting that holds the class of each unit.

    Returns
    -------
    UnitTable
        One row per unit.

    Raises
    ------
    DataError
        If SpikeInterface or the folder is missing, or the analyzer has several segments, no templates or no such
        property.
    """
    name = Path(source).name if isinstance(source, (str, Path)) else "in memory"
    analyzer = _load_analyzer(source) if isinstance(source, (str, Path)) else source
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
    units = _sorted_units(analyzer, templates, labels)
    return make_unit_table(units, {"source": "spikeinterface", "folder": name, "notes": []})


def _load_analyzer(folder: str | Path) -> Any:
    try:
        import spikeinterface  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise DataError("a sorting analyzer needs SpikeInterface: pip install spikeinterface") from None
    if not Path(folder).exists():
        raise DataError(f"there is no analyzer {folder}: give the folder that analyzer.save_as has written")
    return spikeinterface.load_sorting_analyzer(folder)


def _sorted_units(analyzer: Any, templates: Any, labels: Any) -> Iterator[SortedUnit]:
    rate = float(analyzer.sampling_frequency)
    for i, unit in enumerate(analyzer.unit_ids):
        times = np.asarray(analyzer.sorting.get_unit_spike_train(unit, segment_index=0)) / rate
        about = {} if labels is None else {"label": clean_label(labels[i])}
        # SpikeInterface has templates of [sample, channel].
        yield SortedUnit(str(unit), times, np.asarray(templates.get_unit_template(unit)).T, rate, about)
