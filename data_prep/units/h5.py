"""H5: arrays of an HDF5 file, read whole."""

from __future__ import annotations

import h5py
import numpy as np

from data_prep.units.table import UnitsError


def open_h5(path: object) -> h5py.File:
    try:
        return h5py.File(str(path), "r")
    except OSError as error:
        raise UnitsError(f"{path} is no readable HDF5 file ({error}): fetch it again, or leave it out") from None


def dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        raise UnitsError(f"{group.name} of {group.file.filename} has no array {name}: it is of another layout")
    return found


def array(group: h5py.Group, name: str) -> np.ndarray:
    return np.asarray(dataset(group, name)[()])


def span(ends: np.ndarray, row: int) -> slice:
    """Where the entries of a row lie in a column that has an index of ends."""
    return slice(int(ends[row - 1]) if row else 0, int(ends[row]))
