"""Functions that the file formats of all schemas use: a content hash, a reader and an atomic writer of ``.npz`` archives.

A table or recording is an ``.npz`` archive of plain arrays (no pickle) with a ``schema`` string and a ``sha256`` of its
content. :func:`content_hash` defines that hash; it does not depend on compression, on the order of the arrays in the archive
or on the platform's width of text.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# What NumPy raises for files that are damaged or no archives; TypeError: the file holds one bare array.
UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


class DataError(ValueError):
    """Data that violate their schema or cannot be read or made. The message is one sentence with the cause and the remedy."""


class TableError(DataError):
    """A table that violates its schema, or a file that cannot be read."""


def content_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of named arrays.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Numeric, Boolean or text arrays of any shape, by name.

    Returns
    -------
    str
        64 hexadecimal digits.

    Notes
    -----
    Arrays are hashed in the order of their names; for each the UTF-8 bytes of name and shape, then its content: the entries
    of a text array joined by NUL characters, or the bytes of any other array in C order.

    Examples
    --------
    >>> import numpy as np
    >>> content_hash({"values": np.arange(3), "cell": np.array(["a", "b", "c"])})[:12]
    '620b13490273'
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        content = (
            "\0".join(array.ravel()).encode() if array.dtype.kind == "U" else np.ascontiguousarray(array).tobytes()
        )
        digest.update(f"{name}{array.shape}".encode() + content)
    return digest.hexdigest()


def read_npz(path: str | Path, kind: str) -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz`` archive.

    Parameters
    ----------
    path : str or Path
        The archive.
    kind : str
        What the file should hold, such as ``"table"`` or ``"recording"``; it is used in error messages only.

    Returns
    -------
    dict of str to ndarray
        The arrays by name.

    Raises
    ------
    TableError
        If the file does not exist, is damaged, or holds pickled objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise TableError(f"there is no {kind} {path}: give the .npz that data_prep has built") from None
    except UNREADABLE:
        raise TableError(f"{path} is not a readable .npz: build the {kind} again with data_prep") from None


def write_npz(path: str | Path, arrays: Mapping[str, Any]) -> Path:
    """Write a compressed ``.npz`` archive by way of a temporary file, so that readers never see a partial file.

    Parameters
    ----------
    path : str or Path
        File to create or replace; no suffix is added. Its folder is created.
    arrays : mapping of str to array-like
        What to store, by name.

    Returns
    -------
    Path
        The path of the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
