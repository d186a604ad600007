"""Units from the HDF5 files of the cerebellar cell-type database C4 (Hausser, Hull and Lisberger labs).

A neuron is a group such as ``hull_neuron_7`` with ``spike_indices`` (samples), ``sampling_rate`` (Hz),
``mean_waveform_preprocessed`` [channel, sample] (uV; [sample, 1] in the Lisberger file), two masks of spikes and
labels. ``sane_spikes`` excludes the spikes around the light pulses that identified the neuron,
``fn_fp_filtered_spikes`` those of unreliable periods; a mask that holds a single "None" (Lisberger again) keeps all
spikes. Layers (``phyllum_layer``, ``human_layer``) are not read: they nearly determine the class.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from jaxephys.schemas.hdf5 import open_h5, read_array
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_csv import clean_label
from jaxephys.schemas.unit_features import SortedUnit, make_unit_table
from jaxephys.schemas.unit_table import UnitTable

LABEL_FIELDS = ("ground_truth_label", "expert_label", "optotagged_label")  # the first that is not empty is used
SPIKE_MASKS = ("sane_spikes", "fn_fp_filtered_spikes")


def read_c4(path: str | Path, *, label: str | None = None) -> UnitTable:
    """Read the units of one file.

    Parameters
    ----------
    path : str or Path
        HDF5 file of the C4 database.
    label : str, optional
        Field that holds the class, instead of ``LABEL_FIELDS``.

    Returns
    -------
    UnitTable
        One row per neuron, in the order of their numbers.

    Raises
    ------
    DataError
        If the file has no neurons or none has the field ``label``.
    """
    path = Path(path)
    with open_h5(path) as file:
        names = [name for name in map(str, file) if "_neuron_" in name]
        if not names:
            raise DataError(f"{path} has no group such as hull_neuron_0: give a file of the C4 database")
        names.sort(key=lambda name: int(name.rsplit("_", 1)[1]))
        fields = (label,) if label else LABEL_FIELDS
        if label and not any(label in _neuron(file, name) for name in names):
            raise DataError(
                f"no neuron of {path} has the field {label!r}: choose from {', '.join(_neuron(file, names[0]))}"
            )
        return make_unit_table(_sorted_units(file, names, fields), {"source": "h5", "file": path.name, "notes": []})


def _neuron(file: h5py.File, name: str) -> h5py.Group:
    group = file[name]
    if not isinstance(group, h5py.Group):
        raise DataError(f"{name} of {file.filename} is not a group: give a file of the C4 database")
    return group


def _sorted_units(file: h5py.File, names: list[str], fields: tuple[str, ...]) -> Iterator[SortedUnit]:
    for name in names:
        group = _neuron(file, name)
        rate = float(read_array(group, "sampling_rate").item())
        labels = (clean_label(read_array(group, field).item()) for field in fields if field in group)
        about = {"label": next(filter(None, labels), "")}
        if "dataset_id" in group:
            about["session"] = clean_label(read_array(group, "dataset_id").item())
        yield SortedUnit(name, _unmasked_spikes(group) / rate, _template(group), rate, about)


def _unmasked_spikes(group: h5py.Group) -> np.ndarray:
    """Return the spikes (samples) that no mask excludes."""
    spikes = read_array(group, "spike_indices").ravel().astype(np.int64)
    keep = np.ones(len(spikes), bool)
    for name in SPIKE_MASKS:
        mask = read_array(group, name).ravel() if name in group else np.array([])
        if len(mask) == len(spikes) and mask.dtype.kind in "bui":
            keep &= mask.astype(bool)
    return spikes[keep]


def _template(group: h5py.Group) -> np.ndarray | None:
    """Return the mean waveform as [channel, sample]; there are more samples than channels."""
    if "mean_waveform_preprocessed" not in group:
        return None
    template = read_array(group, "mean_waveform_preprocessed").astype(float)
    return template.T if template.ndim == 2 and template.shape[0] > template.shape[1] else template
