"""Trees of arrays in Orbax format, written by one process and read back as NumPy arrays.

A plain ``orbax.checkpoint.StandardCheckpointer`` restores what :func:`write_tree` has written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxephys.engine.task import PyTree


class CheckpointError(ValueError):
    """A folder cannot be read or written. The message names the folder and the remedy."""


def local_process() -> ocp.options.MultiprocessingOptions:
    """Return the options with which a process reads and writes without waiting for other processes.

    Returns
    -------
    MultiprocessingOptions
        Options of an Orbax checkpointer.
    """
    process = jax.process_index()
    if process > 0:
        _write_numpy_arrays_in_every_process()
    return ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"host{process}"
    )


def write_tree(path: str | Path, tree: PyTree) -> None:
    """Write a tree of arrays. The folder appears when all of it is written.

    Parameters
    ----------
    path : str or Path
        The folder to create. Its parent must exist.
    tree : nested dict of arrays
        The arrays. Orbax stores none without entries.

    Raises
    ------
    CheckpointError
        If Orbax cannot write it, most often because the disk is full.
    """
    path, tree = Path(path).absolute(), jax.device_get(tree)
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=local_process())
    with (
        readable_errors(path.parent),
        ocp.Checkpointer(handler, multiprocessing_options=local_process()) as checkpointer,
    ):
        checkpointer.save(path, args=ocp.args.StandardSave(tree))


@contextmanager
def readable_errors(folder: Path) -> Iterator[None]:
    """Turn whatever prevents a checkpoint from being written, most often a full disk, into one sentence.

    Parameters
    ----------
    folder : Path
        The folder that the message names.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    CheckpointError
        If the code in this context raises an exception.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many types
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise CheckpointError(
            f"the checkpoint cannot be written to {folder} ({reason}): "
            "free space, change the permissions of the folder or choose another one"
        ) from error


def read_tree(path: str | Path, select: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> PyTree:
    """Read a tree of arrays, or a part of it.

    Parameters
    ----------
    path : str or Path
        A folder that :func:`write_tree` or another Orbax checkpointer has written, on any number of devices.
    select : callable, optional
        Returns the part that is read, as a nested dict, when it is given the whole tree with a description in place of each
        array. By default all arrays are read.

    Returns
    -------
    nested dict of NumPy arrays
        The arrays.

    Raises
    ------
    CheckpointError
        If the folder is damaged or no Orbax checkpoint.
    """
    path = Path(path).absolute()
    options: dict[str, Any] = {"multiprocessing_options": local_process()}
    try:
        if select is None:
            return ocp.Checkpointer(ocp.StandardCheckpointHandler(**options), **options).restore(path)
        directory: Any = path  # annotated as a class of etils, of which it needs no method
        part = select(ocp.PyTreeCheckpointHandler(**options).metadata(directory).tree)
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), part)
        arguments = ocp.args.PyTreeRestore(item=part, restore_args=as_numpy, partial_restore=True)
        return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options), **options).restore(path, args=arguments)
    except Exception as error:  # Orbax and TensorStore raise many types of exceptions for a damaged file
        raise CheckpointError(
            f"the checkpoint {path} is damaged or was not written by jaxephys ({type(error).__name__})"
        ) from error


@cache
def _write_numpy_arrays_in_every_process() -> None:
    """Make Orbax write NumPy arrays in this process too: it leaves them to process 0, which has other runs here."""
    from orbax.checkpoint._src.serialization import ocdbt_utils, tensorstore_utils

    class LocalNumpyHandler(ocp.type_handlers.NumpyHandler):
        async def _background_serialize(self, values: Any, infos: Any, args: Any = None) -> None:
            writes = []
            for value, info, options in zip(values, infos, args, strict=True):
                await info.await_path_creation()
                ocdbt = info.is_ocdbt_checkpoint
                process = ocdbt_utils.get_process_index_for_subdir(use_ocdbt=ocdbt, override_ocdbt_process_id=None)
                shapes = {"global_shape": value.shape, "local_shape": value.shape, "dtype": value.dtype}
                target = {"use_ocdbt": ocdbt, "process_index": process, "metadata_key": self._metadata_key}
                spec = tensorstore_utils.build_array_write_spec(info=info, arg=options, **shapes, **target)
                writes.append(self._open_and_write(value, spec.json, info.ts_context))
            await asyncio.gather(*writes)

    ocp.type_handlers.register_type_handler(np.ndarray, LocalNumpyHandler(), override=True)
