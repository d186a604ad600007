"""Outcome: what became of one item. It stands in one file of the store, which is all that a later run needs to know of it.

The file is an npz with two entries more::

    outcome.json      key, fingerprint, reason, seconds, memory: read when a run begins
    facts.json        the facts of the result
    <name>.npy        its arrays, none of them pickled

It is packed where the item was worked on and travels as bytes, so the parent only writes and the workers need no access to
the store.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import resource
import sys
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

Result = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]  # arrays, and facts that JSON can hold

NOTE, FACTS = "outcome.json", "facts.json"
NOTHING: Mapping[str, Any] = MappingProxyType({})
LONGEST_REASON = 300  # characters


class ScaleError(RuntimeError):
    """A run that cannot begin or go on, in one sentence."""


class Job(NamedTuple):
    """One item to be worked on, and where its outcome will stand."""

    item: Any
    key: str
    fingerprint: str
    path: Path


@dataclass(frozen=True)
class Outcome:
    """What became of one item; ``load`` reads the result when it is wanted, so that thousands need not be held at once."""

    key: str
    fingerprint: str
    reason: str  # why there is no result: "ValueError: no sweeps", "worker died: SIGSEGV", "timeout: ..."; "" if there is one
    seconds: float
    memory: int  # the most bytes that its worker had held by then, 0 where unknown
    path: Path
    earlier: bool = False  # it stood in the store before this run

    @property
    def done(self) -> bool:
        return not self.reason

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays and the facts of a result."""
        if self.reason:
            raise ScaleError(f"{self.key} has no result: {self.reason}")
        try:
            with zipfile.ZipFile(self.path) as file:
                names = [name for name in file.namelist() if name.endswith(".npy")]
                arrays = {name[:-4]: np.lib.format.read_array(io.BytesIO(file.read(name))) for name in names}
                return arrays, json.loads(file.read(FACTS))
        except (OSError, zipfile.BadZipFile, zlib.error):
            raise ScaleError(f"{self.path} cannot be read: delete it and run again") from None


def attempt(work: Callable[[Any], Result], item: Any, key: str, fingerprint: str) -> bytes:
    """Work on one item, in a worker -> its file. An exception is the reason of a failed outcome and stops nobody else."""
    start = time.perf_counter()
    try:
        arrays, facts = work(item)
        return pack(key, fingerprint, "", time.perf_counter() - start, peak_memory(), arrays, facts)
    except (Exception, SystemExit) as error:
        message = " ".join(str(error).split())
        reason = f"{type(error).__name__}: {message}"[:LONGEST_REASON]
        return pack(key, fingerprint, reason, time.perf_counter() - start, peak_memory())


def pack(
    key: str,
    fingerprint: str,
    reason: str,
    seconds: float = 0.0,
    memory: int = 0,
    arrays: Mapping[str, np.ndarray] = NOTHING,
    facts: Mapping[str, Any] = NOTHING,
) -> bytes:
    """The file of an outcome. Not ``np.savez``: it would pickle objects, and it lets no array be called ``file``."""
    note = {"key": key, "fingerprint": fingerprint, "reason": reason, "seconds": seconds, "memory": memory}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr(NOTE, json.dumps(note))
        file.writestr(FACTS, json.dumps(dict(facts)))
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Outcome:
    """Put a file into the store in one step, never half."""
    draft = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return _read(io.BytesIO(data), path, earlier=False)


def stored(path: Path) -> Outcome | None:
    """The outcome of an earlier run; None if there is none, or one that cannot be read: then the item is done again."""
    try:
        return _read(path, path, earlier=True)
    except (FileNotFoundError, zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError):
        return None


def _read(source: Path | io.BytesIO, path: Path, *, earlier: bool) -> Outcome:
    with zipfile.ZipFile(source) as file:
        return Outcome(**json.loads(file.read(NOTE)), path=path, earlier=earlier)


def file_name(key: str) -> str:
    """A name that any file system takes, tells a person something, and belongs to this key alone."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:20]
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", key)[-60:].lstrip("._-")
    return f"{plain}-{digest}.npz".lstrip("-")


def file_stamp(item: object) -> str:
    """Size and time of change of a file, so that a changed file is done again; "" for anything that is no file."""
    if not isinstance(item, str | os.PathLike) or not os.path.isfile(item):
        return ""
    found = os.stat(item)
    return f"{found.st_size} bytes, changed {found.st_mtime_ns}"


def peak_memory() -> int:
    """The most bytes this process has held.

    Linux counts in ``ru_maxrss`` what the parent had held when it started the process: a worker of a large parent would
    look large. The high-water mark in ``/proc`` begins with the process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
