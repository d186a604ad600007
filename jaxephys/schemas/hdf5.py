"""Reading arrays of HDF5 files, with errors that name the file, for C4 and NWB files of units and of spike times.

h5py is imported where it is used, so that it is needed only to read such files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.schemas.storage import DataError


def open_h5(path: str | Path) -> Any:
    """Open an HDF5 file for reading.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    h5py.File
        The open file, to be used as a context manager.

    Raises
    ------
    DataError
        If it cannot be opened, or h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise DataError(f'reading {path} needs h5py: pip install "jaxephys[prep]"') from None
    try:
        return h5py.File(str(path), "r")
    except OSError as error:
        raise DataError(f"{path} is not a readable HDF5 file ({error}): fetch it again, or leave it out") from None


def get_dataset(group: Any, name: str) -> Any:
    """Return a data set of a group, without reading it.

    Parameters
    ----------
    group : h5py.Group
        The group.
    name : str
        Path of the data set in the group.

    Returns
    -------
    h5py.Dataset
        The data set.

    Raises
    ------
    DataError
        If there is none of this name.
    """
    import h5py

    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{group.name} of {group.file.filename} has no array {name}: the file has another layout")
    return found


def read_array(group: Any, name: str) -> np.ndarray:
    """Read a data set of a group.

    Parameters
    ----------
    group : h5py.Group
        The group.
    name : str
        Path of the data set in the group.

    Returns
    -------
    ndarray
        All its values.
    """
    return np.asarray(get_dataset(group, name)[()])


def row_slice(ends: np.ndarray, row: int) -> slice:
    """Return where the entries of a row are in a ragged column.

    Parameters
    ----------
    ends : ndarray of int of shape (n_rows,)
        Index after the last entry of each row (the ``_index`` column of NWB).
    row : int
        The row.

    Returns
    -------
    slice
        Range of its entries.
    """
    return slice(int(ends[row - 1]) if row else 0, int(ends[row]))


def read_ragged(table: Any, name: str) -> list[np.ndarray]:
    """Read a ragged column of a table of NWB.

    Parameters
    ----------
    table : h5py.Group
        The table.
    name : str
        Name of the column, which the column ``name_index`` divides into rows.

    Returns
    -------
    list of ndarray
        The entries of each row.
    """
    values, ends = read_array(table, name), read_array(table, f"{name}_index")
    return [values[row_slice(ends, row)] for row in range(len(ends))]
