"""Reading NumPy files of spikes and units, with errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxephys.schemas.storage import UNREADABLE, DataError


def load_arrays(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """Read an ``.npy`` or ``.npz`` file without pickled objects.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray or dict of str to ndarray
        The array of an ``.npy`` file, or the arrays of an ``.npz`` file by name.

    Raises
    ------
    DataError
        If the file is missing or damaged, holds objects, or is a table or recording of this package.
    """
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            arrays = {name: content[name] for name in content.files}
    except FileNotFoundError:
        raise DataError(f"there is no file {path}: give an npz or npy file") from None
    except UNREADABLE as error:
        raise DataError(
            f"{path} is not a file of plain arrays ({error}): write it with np.savez or np.save, text as arrays of str"
        ) from None
    if "schema" in arrays:
        raise DataError(f"{path} is a finished table or recording: use it as it is")
    return arrays


def split_by_index(times: np.ndarray, ends: np.ndarray, path: Path) -> list[np.ndarray]:
    """Split spike times that are stored one unit after the other.

    Parameters
    ----------
    times : ndarray of shape (n_spikes,)
        Spike times.
    ends : ndarray of int of shape (n_units,)
        Index after the last spike of each unit (the column ``spike_times_index`` of NWB).
    path : Path
        The file, for error messages.

    Returns
    -------
    list of ndarray
        Spike times of each unit.

    Raises
    ------
    DataError
        If the ends do not increase to the number of spikes.

    Examples
    --------
    >>> import numpy as np
    >>> [unit.tolist() for unit in split_by_index(np.array([0.1, 0.3, 0.2]), np.array([2, 3]), Path("a.npz"))]
    [[0.1, 0.3], [0.2]]
    """
    if np.any(np.diff(ends, prepend=0) < 0) or (len(ends) and ends[-1] != len(times)):
        raise DataError(
            f"spike_times_index of {path} does not increase to the {len(times)} spikes: give the end of each unit"
        )
    return np.split(times, ends[:-1]) if len(ends) else []


def load_array(path: Path) -> np.ndarray:
    """Read an ``.npy`` file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray
        Its array.

    Raises
    ------
    DataError
        If the file is missing or damaged, or holds objects or several arrays.
    """
    content = load_arrays(path)
    if isinstance(content, dict):
        raise DataError(f"{path} holds named arrays: give an npy file")
    return content
