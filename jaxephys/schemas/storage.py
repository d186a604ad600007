"""What all schemas share: errors, checks, label codes, a content hash, a reader and an atomic writer of ``.npz`` archives.

A table or recording is an ``.npz`` archive of plain arrays (no pickle) with a ``schema`` string and a ``sha256`` of its
content. :func:`content_hash` defines that hash; it does not depend on compression, on the order of the arrays in the archive
or on the platform's width of text.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

# What NumPy raises for files that are damaged or no archives. TypeError: the file holds one bare array; NotImplementedError: an unknown
# compression; RuntimeError: an encrypted entry; KeyError: an entry whose name does not agree with the directory of the archive.
UNREADABLE = (
    *(OSError, ValueError, TypeError, EOFError, NotImplementedError, RuntimeError, KeyError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)
# Groups of named columns: in an archive an array of their names, and for each an array whose name begins with the prefix.
GROUPS = {"about": "about_", "truths": "truth_"}


class DataError(ValueError):
    """Data that violate their schema or cannot be read or made. The message is one sentence with the cause and the remedy."""


class TableError(DataError):
    """A table that violates its schema, or a file that cannot be read."""


def check_rows(kind: str, identifiers: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
    """Check that columns have one entry for each row of a table and that no two rows have the same identifier.

    Parameters
    ----------
    kind : str
        What a row is, such as ``"cell"``, for the error message.
    identifiers : ndarray of str, shape (n_rows,)
        Identifiers.
    columns : mapping of str to ndarray, shape (n_rows, ...)
        Columns by name. Those of text have one dimension.

    Raises
    ------
    TableError
        If a column has another shape, or an identifier occurs more than once.
    """
    count = len(identifiers)
    for name, column in {"identifiers": identifiers, **columns}.items():
        shape = np.shape(column)
        if shape[:1] != (count,) or (len(shape) > 1 and column.dtype.kind == "U"):
            raise TableError(f"{name} has the shape {shape} for {count} {kind}s: give one entry for each {kind}")
    unique, counts = np.unique(identifiers, return_counts=True)
    if counts.max() > 1:
        twice = unique[counts.argmax()]
        raise TableError(f"{kind} {twice} occurs {counts.max()} times: give every {kind} its own identifier")


def encode_labels(
    labels: Shaped[np.ndarray, "row"], classes: Shaped[np.ndarray, "class"] | None = None
) -> Int[np.ndarray, "row"]:
    """Return labels as indices into sorted classes.

    Parameters
    ----------
    labels : ndarray of str, shape (n_rows,)
        Labels; "" where there is none.
    classes : ndarray of str, shape (n_classes,), optional
        Sorted classes. Default: the labels that occur.

    Returns
    -------
    ndarray of int32, shape (n_rows,)
        Index of each label, -1 where there is none.

    Raises
    ------
    TableError
        If a label is not among ``classes``.

    Examples
    --------
    >>> import numpy as np
    >>> encode_labels(np.array(["Vip", "", "Sst", "Vip"])).tolist()
    [1, -1, 0, 1]
    """
    known = np.unique(labels[labels != ""])
    classes = known if classes is None else classes
    unknown = np.setdiff1d(known, classes)
    if len(unknown):
        raise TableError(f"label {str(unknown[0])!r} is not one of the classes {', '.join(map(str, classes))}")
    return np.where(labels == "", -1, np.searchsorted(classes, labels)).astype(np.int32)


def content_hash(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of named arrays.

    Parameters
    ----------
    content : mapping of str to ndarray
        Numeric, Boolean or text arrays of any shape, by name. A mapping ``about`` or ``truths`` of columns is hashed as the
        array of its names and an array ``about_NAME`` or ``truth_NAME`` for each column.

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
    for name, array in sorted(_flatten(content).items()):
        text = array.dtype.kind == "U"
        data = "\0".join(array.ravel()).encode() if text else np.ascontiguousarray(array).tobytes()
        digest.update(f"{name}{array.shape}".encode() + data)
    return digest.hexdigest()


def read_npz(path: str | Path, kind: str, schema: str, keys: Collection[str]) -> dict[str, np.ndarray]:
    """Read an ``.npz`` archive of a known schema.

    Parameters
    ----------
    path : str or Path
        The archive.
    kind : str
        What the file should hold, such as ``"recording"``; it is used in error messages only.
    schema : str
        Text that the array ``schema`` must hold.
    keys : collection of str
        Names of the arrays that the archive must hold besides. Where ``about`` or ``truths`` is an array of column names,
        it must hold these columns too.

    Returns
    -------
    dict of str to ndarray
        All arrays by name.

    Raises
    ------
    TableError
        If the file does not exist, is damaged or holds pickled objects, lacks an array, or has another schema.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise TableError(f"there is no {kind} {path}: give the .npz that data_prep has built") from None
    except UNREADABLE:
        raise TableError(f"{path} is not a readable .npz: build the {kind} again with data_prep") from None
    columns = {f"{prefix}{name}" for group, prefix in GROUPS.items() for name in arrays.get(group, ())}
    missing = {"schema", *keys, *columns} - set(arrays)
    if missing or str(arrays["schema"]) != schema:
        found = f"lacks {', '.join(sorted(missing))}" if missing else f"has the schema {str(arrays['schema'])!r}"
        raise TableError(f"{path} is no {kind} of the schema {schema!r}: it {found}; build it again with data_prep")
    return arrays


def read_table(
    path: str | Path, kind: str, schema: str, keys: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the archive of a table and compare its content with the stored hash.

    Parameters
    ----------
    path : str or Path
        The archive.
    kind : str
        What a message calls it, such as ``"unit table"``.
    schema : str
        Text that the array ``schema`` must hold.
    keys : collection of str
        Names of the arrays that the archive must hold besides schema, hash and provenance.

    Returns
    -------
    content : dict of str to ndarray
        The arrays by name; ``about`` and ``truths`` are dicts of columns.
    provenance : dict
        The origin of the values.

    Raises
    ------
    TableError
        If the file cannot be read, has another schema, or was changed after it was written.
    """
    content: dict[str, Any] = read_npz(path, kind, schema, {"sha256", "provenance", *keys})
    facts = {name: str(content.pop(name)) for name in ("schema", "sha256", "provenance")}
    if content_hash(content) != facts["sha256"]:
        raise TableError(f"{path} was changed after it was written (its content hash differs): build it again")
    for group, prefix in GROUPS.items():
        if group in content:
            content[group] = {str(name): content.pop(f"{prefix}{name}") for name in content[group]}
    return content, json.loads(facts["provenance"])


def write_table(
    path: str | Path,
    schema: str,
    content: Mapping[str, Any],
    provenance: Mapping[str, Any],
    summary: Mapping[str, Any] | None = None,
) -> Path:
    """Write the archive of a table, which :func:`read_table` reads.

    Parameters
    ----------
    path : str or Path
        File to create or replace. Its folder is created.
    schema : str
        Name and version of the format.
    content : mapping of str to ndarray
        The arrays by name; ``about`` and ``truths`` are mappings of columns.
    provenance : mapping
        The origin of the values; anything that JSON can hold.
    summary : mapping, optional
        If given, schema, hash, these entries and the provenance are written as ``provenance.json`` beside the archive.

    Returns
    -------
    Path
        The path of the archive.
    """
    facts = {"schema": schema, "sha256": content_hash(content)}
    stored = json.dumps(dict(provenance))
    text = (
        json.dumps({**facts, **(summary or {}), **provenance}, indent=2) + "\n"
    )  # before anything is written: it may fail
    path = write_npz(path, {**_flatten(content), **facts, "provenance": stored})
    if summary is not None:
        with replace_file(path.with_name("provenance.json")) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path


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
    with replace_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    return Path(path)


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Write a file by way of a temporary one, so that readers never see a partial file.

    Parameters
    ----------
    path : str or Path
        File to create or replace. Its folder is created.

    Yields
    ------
    Path
        Temporary file in the same folder, which becomes ``path`` at the end. After an error it is deleted, and so is the folder if it
        was created for the file.
    """
    path = Path(path)
    is_new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        if is_new and not any(path.parent.iterdir()):
            path.parent.rmdir()


def _flatten(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return every group of columns as the array of their names and one array for each."""
    arrays = {name: np.asarray(value) for name, value in content.items() if not isinstance(value, Mapping)}
    for group in set(content) - set(arrays):
        arrays[group] = np.array(list(content[group]), dtype=str)
        arrays |= {f"{GROUPS[group]}{name}": np.asarray(column) for name, column in content[group].items()}
    return arrays
