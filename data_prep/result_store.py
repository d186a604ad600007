"""Results of items that are processed in parallel: one file for each item, written in one step.

`data_prep.parallel.process_items` writes these files, and a later run reads them to skip items that are finished. The file
of an item is a zip archive that NumPy opens too::

    outcome.json      key, fingerprint, reason, seconds, memory
    facts.json        values of the result that JSON can hold
    <name>.npy        arrays of the result, none of them pickled

The bytes are made by the worker and written by the calling process, so that remote workers need no access to the folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxephys.schemas.storage import DataError

ItemOutput = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]  # what the work returns: arrays, and JSON values

SUMMARY_ENTRY, FACTS_ENTRY = "outcome.json", "facts.json"
EMPTY: Mapping[str, Any] = MappingProxyType({})


class ParallelError(DataError):
    """A run that cannot start or continue; the message is one sentence with the remedy."""


@dataclass(frozen=True)
class ItemResult:
    """Result of one item; its arrays stay on disk until `load` is called.

    Parameters
    ----------
    key : str
        Unique name of the item.
    fingerprint : str
        Version of the item's input; an item whose fingerprint has changed is processed again.
    reason : str
        Why there is no result, for example ``"ValueError: no sweeps"``, ``"worker died: SIGSEGV"`` or
        ``"timeout: longer than 600 s"``; empty if the item succeeded.
    seconds : float
        Time that the item took.
    memory : int
        Largest resident memory of the worker until then, in bytes; 0 where unknown.
    path : Path
        File of the result.
    reused : bool, default False
        Whether the result was written by an earlier run.
    """

    key: str
    fingerprint: str
    reason: str
    seconds: float
    memory: int
    path: Path
    reused: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the item has a result."""
        return not self.reason

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Read the result of the item.

        Returns
        -------
        arrays : dict of str to ndarray
            Arrays that the work returned.
        facts : dict
            JSON values that the work returned.

        Raises
        ------
        ParallelError
            If the item failed, or its file is damaged.
        """
        if self.reason:
            raise ParallelError(f"{self.key} has no result: {self.reason}")
        try:
            with zipfile.ZipFile(self.path) as file:
                names = [name for name in file.namelist() if name.endswith(".npy")]
                arrays = {name[:-4]: np.lib.format.read_array(io.BytesIO(file.read(name))) for name in names}
                return arrays, json.loads(file.read(FACTS_ENTRY))
        except (OSError, zipfile.BadZipFile, zlib.error):
            raise ParallelError(f"{self.path} cannot be read: delete it and run again") from None


def pack_result(
    key: str,
    fingerprint: str,
    reason: str,
    seconds: float = 0.0,
    memory: int = 0,
    arrays: Mapping[str, np.ndarray] = EMPTY,
    facts: Mapping[str, Any] = EMPTY,
) -> bytes:
    """Return the content of an item's file.

    `numpy.savez` is not used: it pickles object arrays, and no array could be named ``file``.

    Parameters
    ----------
    key, fingerprint, reason : str
        See `ItemResult`.
    seconds : float, default 0.0
        Time that the item took.
    memory : int, default 0
        Largest resident memory of the worker in bytes.
    arrays : mapping of str to ndarray, default empty
        Arrays of the result, of any shape and of any type but object.
    facts : mapping, default empty
        JSON values of the result.

    Returns
    -------
    bytes
        Content of the file.

    Raises
    ------
    ValueError
        If an array holds objects.
    TypeError
        If a fact is not a JSON value.
    """
    summary = {"key": key, "fingerprint": fingerprint, "reason": reason, "seconds": seconds, "memory": memory}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr(SUMMARY_ENTRY, json.dumps(summary))
        file.writestr(FACTS_ENTRY, json.dumps(dict(facts)))
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def write_result(path: Path, content: bytes) -> ItemResult:
    """Write the file of an item in one step, so that it is never incomplete.

    Parameters
    ----------
    path : Path
        File to write; an existing one is replaced.
    content : bytes
        Content that `pack_result` returned.

    Returns
    -------
    ItemResult
        The written result.
    """
    draft = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return _read_summary(io.BytesIO(content), path, reused=False)


def read_result(path: Path) -> ItemResult | None:
    """Return the result that an earlier run wrote.

    Parameters
    ----------
    path : Path
        File of the item.

    Returns
    -------
    ItemResult or None
        None if there is no such file, or if it is damaged: the item is then processed again.
    """
    try:
        return _read_summary(path, path, reused=True)
    except (FileNotFoundError, zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError):
        return None


def result_file_name(key: str) -> str:
    """Return a file name that is unique to a key, readable, and valid in every file system.

    Parameters
    ----------
    key : str
        Name of an item.

    Returns
    -------
    str
        Up to 60 plain characters of the key, 20 digits of its SHA-256, and ``.npz``.
    """
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:20]
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", key)[-60:].lstrip("._-")
    return f"{plain}-{digest}.npz".lstrip("-")


def file_fingerprint(item: object) -> str:
    """Return size and modification time of a file, so that a changed file is processed again.

    Parameters
    ----------
    item : object
        Usually a path.

    Returns
    -------
    str
        Empty if ``item`` is not the path of a file.
    """
    if not isinstance(item, str | os.PathLike) or not os.path.isfile(item):
        return ""
    status = os.stat(item)
    return f"{status.st_size} bytes, changed {status.st_mtime_ns}"


def _read_summary(source: Path | io.BytesIO, path: Path, *, reused: bool) -> ItemResult:
    with zipfile.ZipFile(source) as file:
        return ItemResult(**json.loads(file.read(SUMMARY_ENTRY)), path=path, reused=reused)
