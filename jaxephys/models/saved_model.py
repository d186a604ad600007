"""The files of a saved model.

    config.json       everything that is not an array
    orbax/            all arrays as an Orbax checkpoint, which ``orbax.checkpoint.StandardCheckpointer`` restores without this package
    params.npz        the same arrays, for NumPy
    model_info.json   what the model does, its input columns and its origin, for programs such as SpikeInterface
    README.md         the same for people, with a header that the Hugging Face hub reads
    checksums.json    SHA-256 of the other files, which are compared before anything is loaded

:func:`write_model` writes them and :func:`read_model` reads them, and also the two files of earlier versions: ``config.json`` and
``params.npz``. :func:`jaxephys.load` makes an estimator of them. A changed file is an error, except for ``README.md``, which people
edit: a change of it is a warning.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jaxephys.engine.orbax_files import CheckpointError, read_tree, write_tree
from jaxephys.engine.task import PyTree
from jaxephys.models.migrations import SCHEMA_VERSION

SEPARATOR = "/"  # between the levels of a nested name in params.npz
CONFIG, ARRAYS, EXPORT, CHECKSUMS = "config.json", "orbax", "params.npz", "checksums.json"
INFO, CARD = "model_info.json", "README.md"
SKOPS = "model.skops"  # in the folder that `jaxephys.models.spikeinterface_export` writes
FIRST_WITH_CHECKSUMS = 3  # schema version
EMPTY = "empty_arrays"  # key of config.json: Orbax stores no array without entries


def write_model(
    folder: str | Path,
    arrays: PyTree,
    config: dict[str, Any],
    *,
    overwrite: bool = False,
    texts: Mapping[str, str] | None = None,
) -> Path:
    """Write a model folder. It is written beside its place and read back first, so that the folder holds a whole model or none.

    Parameters
    ----------
    folder : str or Path
        The folder to create; its parents are created as well.
    arrays : dict
        Nested dict of arrays, each with a leading run axis. ``params.npz`` holds one array for each leaf under its joined
        name, for example ``params/encoder/kernel``.
    config : dict
        Content of ``config.json``.
    overwrite : bool
        Replace an existing folder. By default an existing folder is an error.
    texts : mapping of str to str, optional
        Text files by name that are written as well: ``model_info.json`` and the model card ``README.md``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If the folder exists and ``overwrite`` is False.
    CheckpointError
        If something else is read back than was written.
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise ValueError(f"{folder} exists: choose another name or pass overwrite=True")
    config = json.loads(json.dumps(config))  # as it will be read
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        arrays = jax.tree.map(np.asarray, jax.device_get(arrays))
        for name, text in (texts or {}).items():
            (temporary / name).write_text(text, encoding="utf-8")
        _write_files(temporary, _flatten(arrays), config)
        _verify(temporary, arrays, config)
        os.chmod(temporary, 0o755)
        _replace(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def read_model(folder: str | Path) -> tuple[PyTree, dict[str, Any]]:
    """Read the files of a model folder, after a comparison with their checksums.

    The arrays are read from ``orbax/``, or from ``params.npz`` where there is no ``orbax/``.

    Parameters
    ----------
    folder : str or Path
        A folder written by :func:`write_model`, or by an earlier version.

    Returns
    -------
    arrays : dict
        Nested dict of NumPy arrays, each with a leading run axis.
    config : dict
        Content of ``config.json``, as it was written: not migrated.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged or was changed, or a newer version of jaxephys has written it.
    """
    folder = Path(folder)
    try:
        config = dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        if (version := config.get("schema_version", 0)) > SCHEMA_VERSION:
            raise CheckpointError(
                f"{folder} was saved with schema version {version} by jaxephys {config.get('version', 'of a later release')}, but "
                f"this version reads schema versions up to {SCHEMA_VERSION}: update jaxephys"
            )
        _compare_checksums(folder, config)
        flat = _read_orbax(folder, config) if (folder / ARRAYS).exists() else _read_export(folder)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no saved model: {Path(error.filename).name} is missing") from error
    except CheckpointError:
        raise
    except Exception as error:  # zipfile and NumPy raise many types of exceptions for a damaged file
        raise CheckpointError(
            f"the saved model {folder} is damaged: save it again, or resume the run that made it"
        ) from error
    config.pop(EMPTY, None)
    return traverse_util.unflatten_dict(flat, sep=SEPARATOR), config


def _write_files(folder: Path, flat: dict[str, np.ndarray], config: dict[str, Any]) -> None:
    stored = {name: leaf for name, leaf in flat.items() if leaf.size}
    empty = {name: [leaf.dtype.str, *leaf.shape] for name, leaf in flat.items() if not leaf.size}
    if stored:
        write_tree(folder / ARRAYS, traverse_util.unflatten_dict(stored, sep=SEPARATOR))
    np.savez(folder / EXPORT, allow_pickle=False, **flat)
    config = {**config, EMPTY: empty} if empty else config
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    checksums = {"settings": _settings_sha256(config), "files": _sha256_of_files(folder)}
    (folder / CHECKSUMS).write_text(json.dumps(checksums, indent=2) + "\n", encoding="utf-8")


def _verify(folder: Path, arrays: PyTree, config: dict[str, Any]) -> None:
    """Read a folder as NumPy and Orbax do, and compare with what should be in it."""
    expected = _flatten(arrays)
    found, found_config = read_model(folder)
    for flat in (_flatten(found), _read_export(folder)):
        same = flat.keys() == expected.keys() and all(_is_same(leaf, flat[name]) for name, leaf in expected.items())
        if not same or _settings_sha256(found_config) != _settings_sha256(config):
            raise CheckpointError(f"what was written to {folder.parent} is read back changed: check the disk")


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have the same bytes, NaN included."""
    left, right = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (a, b))
    return (a.dtype, a.shape) == (b.dtype, b.shape) and np.array_equal(left, right)


def _replace(folder: Path, temporary: Path) -> None:
    """Move a complete folder to its place. A folder that is there is moved aside first, and back if that fails."""
    if not folder.exists():
        os.replace(temporary, folder)
        return
    previous = folder.with_name(f"{temporary.name}-previous")
    os.replace(folder, previous)
    try:
        os.replace(temporary, folder)
    except OSError:
        os.replace(previous, folder)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _flatten(tree: PyTree) -> dict[str, Any]:
    return dict(traverse_util.flatten_dict(tree, sep=SEPARATOR))


def _read_orbax(folder: Path, config: dict[str, Any]) -> dict[str, np.ndarray]:
    flat = _flatten(read_tree(folder / ARRAYS))
    empty = {name: np.zeros(shape, dtype) for name, (dtype, *shape) in config.get(EMPTY, {}).items()}
    return flat | empty


def _read_export(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / EXPORT, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _compare_checksums(folder: Path, config: dict[str, Any]) -> None:
    """Raise an error that names the file if one differs from what was saved. Models of earlier versions have no checksums."""
    if not (folder / CHECKSUMS).exists() and config.get("schema_version", 0) < FIRST_WITH_CHECKSUMS:
        return
    checksums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    expected = {CONFIG: checksums["settings"], **checksums["files"]}
    found = {CONFIG: _settings_sha256(config), **_sha256_of_files(folder)}
    for name, digest in found.items():
        if name == CARD and expected.get(name, digest) != digest:
            warnings.warn(f"{folder / name} was edited after the model was saved", stacklevel=3)
        elif name != CARD and expected.get(name) != digest:
            raise CheckpointError(f"{folder / name} was damaged or changed after the model was saved: save it again")
    for name in sorted(set(expected) - set(found)):
        # One of orbax/ and params.npz may be deleted as a whole, and the descriptions of the model.
        if (folder / name.split(SEPARATOR)[0]).exists():
            raise CheckpointError(f"{folder} is no saved model: {Path(name).name} is missing")


def _sha256_of_files(folder: Path) -> dict[str, str]:
    """The hash of each file besides ``config.json``, by its path in the folder."""
    names = (EXPORT, INFO, CARD)
    paths = [path for path in (*map(folder.joinpath, names), *sorted((folder / ARRAYS).rglob("*"))) if path.is_file()]
    hashes = {}
    for path in paths:
        with path.open("rb") as file:
            hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _settings_sha256(config: dict[str, Any]) -> str:
    """The hash of all settings, which does not depend on white space or the order of keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
