"""C4: the HDF5 files of the cerebellar cell-type database (Hausser, Hull, Lisberger) -> units.

A neuron is a group such as ``hull_neuron_7`` with ``spike_indices`` (samples), ``sampling_rate`` (Hz), ``mean_waveform_preprocessed``
[channel, sample] (microvolts; [sample, 1] in the Lisberger file), two masks of spikes and its labels. ``sane_spikes`` takes away the
spikes around the light that tagged the neuron, ``fn_fp_filtered_spikes`` those of bad stretches; one that holds a single "None" (again
Lisberger) keeps all. Layers (``phyllum_layer``, ``human_layer``) are not read: they nearly name the class.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from data_prep.units.features import SortedUnit, units_of
from data_prep.units.h5 import array, open_h5
from data_prep.units.labels import clean_label
from data_prep.units.table import Units, UnitsError

LABELS = ("ground_truth_label", "expert_label", "optotagged_label")  # the first that says something
MASKS = ("sane_spikes", "fn_fp_filtered_spikes")


def read_c4(path: str | Path, *, label: str | None = None) -> Units:
    """The units of one file; ``label`` names the field of the label if it is none of LABELS."""
    path = Path(path)
    with open_h5(path) as file:
        names = [name for name in map(str, file) if "_neuron_" in name]
        if not names:
            raise UnitsError(f"{path} has no group such as hull_neuron_0: give a file of the C4 database")
        names.sort(key=lambda name: int(name.rsplit("_", 1)[1]))
        fields = (label,) if label else LABELS
        if label and not any(label in neuron(file, name) for name in names):
            raise UnitsError(
                f"no neuron of {path} has the field {label!r}: choose from {', '.join(neuron(file, names[0]))}"
            )
        return units_of(neurons(file, names, fields), {"source": "h5", "file": path.name, "notes": []})


def neuron(file: h5py.File, name: str) -> h5py.Group:
    group = file[name]
    if not isinstance(group, h5py.Group):
        raise UnitsError(f"{name} of {file.filename} is no group of a neuron: give a file of the C4 database")
    return group


def neurons(file: h5py.File, names: list[str], fields: tuple[str, ...]) -> Iterator[SortedUnit]:
    for name in names:
        group = neuron(file, name)
        rate = float(array(group, "sampling_rate").item())
        said = (clean_label(array(group, field).item()) for field in fields if field in group)
        about = {"label": next(filter(None, said), "")}
        if "dataset_id" in group:
            about["session"] = clean_label(array(group, "dataset_id").item())
        yield SortedUnit(name, kept_spikes(group) / rate, template(group), rate, about)


def kept_spikes(group: h5py.Group) -> np.ndarray:
    spikes = array(group, "spike_indices").ravel().astype(np.int64)
    keep = np.ones(len(spikes), bool)
    for name in MASKS:
        mask = array(group, name).ravel() if name in group else np.array([])
        if len(mask) == len(spikes) and mask.dtype.kind in "bui":
            keep &= mask.astype(bool)
    return spikes[keep]


def template(group: h5py.Group) -> np.ndarray | None:
    if "mean_waveform_preprocessed" not in group:
        return None
    found = array(group, "mean_waveform_preprocessed").astype(float)
    # There are more samples than channels.
    return found.T if found.ndim == 2 and found.shape[0] > found.shape[1] else found
