"""Analyzer: what SpikeInterface has sorted -> units. SpikeInterface is not among our dependencies: pip install spikeinterface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.units.features import SortedUnit, units_of
from data_prep.units.labels import clean_label
from data_prep.units.table import Units, UnitsError


def read_analyzer(source: Any, *, label: str | None = None) -> Units:
    """The units of a SortingAnalyzer, or of the folder that holds one; ``label`` names a property of its sorting."""
    name = Path(source).name if isinstance(source, (str, Path)) else "in memory"
    analyzer = load_analyzer(source) if isinstance(source, (str, Path)) else source
    if analyzer.get_num_segments() > 1:
        raise UnitsError(
            f"the analyzer {name} has {analyzer.get_num_segments()} segments: concatenate them, or give one at a time"
        )
    templates = analyzer.get_extension("templates")
    if templates is None:
        raise UnitsError(f"the analyzer {name} has no templates: run analyzer.compute(['random_spikes', 'templates'])")
    keys = list(analyzer.sorting.get_property_keys())
    if label is not None and label not in keys:
        raise UnitsError(f"the sorting of {name} has no property {label!r}: choose from {', '.join(keys) or 'none'}")
    labels = analyzer.sorting.get_property(label) if label else None
    return units_of(
        sorted_units(analyzer, templates, labels), {"source": "spikeinterface", "folder": name, "notes": []}
    )


def load_analyzer(folder: str | Path) -> Any:
    try:
        import spikeinterface  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise UnitsError("a sorting analyzer needs SpikeInterface: pip install spikeinterface") from None
    if not Path(folder).exists():
        raise UnitsError(f"there is no analyzer {folder}: give the folder that analyzer.save_as has written")
    return spikeinterface.load_sorting_analyzer(folder)


def sorted_units(analyzer: Any, templates: Any, labels: Any) -> Iterator[SortedUnit]:
    rate = float(analyzer.sampling_frequency)
    for i, unit in enumerate(analyzer.unit_ids):
        times = np.asarray(analyzer.sorting.get_unit_spike_train(unit, segment_index=0)) / rate
        about = {} if labels is None else {"label": clean_label(labels[i])}
        yield SortedUnit(str(unit), times, np.asarray(templates.get_unit_template(unit)).T, rate, about)
