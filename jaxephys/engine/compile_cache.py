"""Compiled programs are kept, since compiling a network takes longer than training it on a small data set.

On disk, for every process of a user, by JAX's persistent cache: `use_persistent_cache`. In memory, for all fits of a process:
`compiled_program`. `padded_length` rounds numbers of rows, so that the folds of one analysis have programs of the same shapes.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from types import MethodType
from typing import TypeVar

import jax

F = TypeVar("F", bound=Callable)
log = logging.getLogger("jaxephys")

MIN_SECONDS = 0.5  # programs that compile faster are not written
MAX_BYTES = 2 * 2**30  # of the default folder; the oldest programs are deleted
MAX_KEPT = 16  # in memory
TIMES = "compile_times.json"
_kept: OrderedDict[Hashable, jax.stages.Compiled] = OrderedDict()


def use_persistent_cache() -> Path | None:
    """Write compiled programs to a folder of the user and read them in later processes.

    A folder that the user has chosen by ``JAX_COMPILATION_CACHE_DIR`` is used instead of the default one,
    ``~/.cache/jaxephys/xla``, and ``JAX_ENABLE_COMPILATION_CACHE=false`` turns the cache off.

    Returns
    -------
    Path or None
        The folder; None if the cache is off.
    """
    if not jax.config.jax_enable_compilation_cache:  # pyright: ignore[reportAttributeAccessIssue]
        return None
    folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if folder is None:
        folder = str(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxephys" / "xla")
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
        delete_oldest(Path(folder), MAX_BYTES)
    return Path(folder)


def delete_oldest(folder: Path, max_bytes: int) -> None:
    """Delete the oldest files of a folder until the rest is small enough.

    JAX limits the size of its cache only where the package filelock is installed.

    Parameters
    ----------
    folder : Path
        The folder. It need not exist.
    max_bytes : int
        Largest size of all files together.
    """
    try:
        files = sorted(folder.glob("*"), key=lambda file: file.stat().st_mtime, reverse=True)
        sizes = accumulate(file.stat().st_size for file in files)
        for file, size in zip(files, sizes, strict=True):
            if size > max_bytes:
                file.unlink(missing_ok=True)
    except OSError as error:
        log.debug("the cache of compiled programs was not reduced: %s", error)


def compiled_program(
    key: Hashable, title: str, lower: Callable[[], jax.stages.Lowered], announce: Callable[[str], None]
) -> tuple[jax.stages.Compiled, float]:
    """Return a program from memory, or compile it.

    Parameters
    ----------
    key : hashable
        Everything that the program depends on.
    title : str
        Name of the program in the announcement, under which the time of its compilation is recorded.
    lower : callable
        Returns the program before compilation. It is called only if the program is not in memory.
    announce : callable
        Receives a line of text before the compilation: the title, and how long it took last time.

    Returns
    -------
    program : jax.stages.Compiled
        The program.
    seconds : float
        Time of tracing and compilation; 0 for a program from memory.
    """
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key], 0.0
    times = _read_times()
    announce(f"compiling the {title}" + (f" ({times[title]:.0f} s last time)" if title in times else ""))
    start = time.perf_counter()
    program = _kept[key] = lower().compile()
    seconds = time.perf_counter() - start
    _write_times({**times, title: round(seconds, 1)})
    while len(_kept) > MAX_KEPT:
        _kept.popitem(last=False)
    return program, seconds


def recorded_seconds(title: str) -> float | None:
    """Return how long the compilation of a program took last time.

    Parameters
    ----------
    title : str
        The title that `compiled_program` received.

    Returns
    -------
    float or None
        Seconds; None if it was never compiled, or the persistent cache is off.
    """
    return _read_times().get(title)


def function_key(function: Callable) -> Hashable:
    """Return a key that is equal for functions that compute the same.

    Parameters
    ----------
    function : callable
        A function, a ``functools.partial`` of hashable arguments, or a method of a hashable object, such as a frozen dataclass.

    Returns
    -------
    hashable
        The parts of the function. Methods are equal if their objects are.
    """
    if isinstance(function, partial):
        return function_key(function.func), function.args, tuple(sorted(function.keywords.items()))
    if isinstance(function, MethodType):
        return function.__func__, function.__self__
    return function


def memoize(function: F) -> F:
    """Cache the results of a function of a network, so that equal networks share one task and are compiled once.

    Parameters
    ----------
    function : callable
        A function whose arguments are hashable, as Flax modules are.

    Returns
    -------
    callable
        The function with a cache of 16 results.
    """
    return lru_cache(maxsize=16)(function)  # pyright: ignore[reportReturnType]


def padded_length(length: int, step: int = 1) -> int:
    """Round a number of rows up to one of eight lengths between two powers of two.

    Parameters
    ----------
    length : int
        Number of rows.
    step : int
        The result is a multiple of it, such as the batch size.

    Returns
    -------
    int
        At least ``length`` and, for a ``step`` of 1, less than 9/8 of it.

    Examples
    --------
    >>> padded_length(571), padded_length(573), padded_length(100, step=64)
    (576, 576, 128)
    """
    count = -(-length // step)
    unit = max(1, 2 ** (count.bit_length() - 4))
    return step * unit * -(-count // unit)


def _read_times() -> dict[str, float]:
    folder = use_persistent_cache()
    try:
        return {} if folder is None else json.loads((folder / TIMES).read_text())
    except (OSError, ValueError):
        return {}


def _write_times(times: dict[str, float]) -> None:
    folder = use_persistent_cache()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{TIMES}.{os.getpid()}"
        temporary.write_text(json.dumps(times, indent=1))
        temporary.replace(folder / TIMES)
    except OSError as error:
        log.debug("the times of compilation were not written: %s", error)
