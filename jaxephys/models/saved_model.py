"""Saved models: a folder with ``params.npz``, which NumPy alone reads, and ``config.json``.

``load`` returns the estimator that a folder holds, whatever its class. ``write_model`` and ``read_model`` handle the two files.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.engine.task import PyTree
from jaxephys.models.migrations import migrate
from jaxephys.models.registry import find_class, known_kinds

SEPARATOR = "/"  # between the levels of a nested name in params.npz


def load(path: str | Path) -> Any:
    """Load a saved model.

    Parameters
    ----------
    path : str or Path
        A folder written by ``save``, or the folder of a finished experiment, whose ``model/`` is loaded. Models saved by
        earlier versions of jaxephys are migrated.

    Returns
    -------
    PatchSeqClassifier or Hippie or SpikeTransformer
        The fitted estimator. It predicts the same numbers as the one that was saved.

    Raises
    ------
    CheckpointError
        If the folder holds no model, a damaged one, or one of an unknown kind or a newer version. It is a ``ValueError``.

    Examples
    --------
    >>> import jaxephys
    >>> import numpy as np
    >>> x, y = np.random.default_rng(0).normal(size=(90, 5)), np.repeat(["Pvalb", "Sst", "Vip"], 30)
    >>> settings = {"families": {"isi": 3, "psth": 2}, "hidden": 4, "seeds": 2, "max_epochs": 25, "batch_size": 16}
    >>> model = jaxephys.PatchSeqClassifier(**settings, progress=False).fit(x, y)
    >>> folder = model.save("subclasses")
    >>> again = jaxephys.load("subclasses")
    >>> bool((again.predict_proba(x) == model.predict_proba(x)).all())
    True
    >>> again.describe()
    '2 networks of ... parameters, 3 classes, 2 families'
    """
    path = Path(path)
    folder = path / "model" if (path / "model").is_dir() else path
    unfinished = (path / "checkpoints").is_dir()
    if not (folder / "config.json").exists() or (unfinished and folder == path):
        hint = f": its run has not finished, continue it with --resume {path}" if unfinished else ""
        raise CheckpointError(f"{path} holds no saved model{hint}")
    arrays, config = read_model(folder)
    try:
        estimator_class = find_class(config["kind"])
    except KeyError:
        raise CheckpointError(
            f"{folder} holds a model of the kind {config.get('kind')!r}: this version knows {', '.join(known_kinds())}"
        ) from None
    try:
        config, arrays = migrate(config, arrays)
        return estimator_class.from_saved(arrays, config)
    except CheckpointError as error:
        raise CheckpointError(f"the saved model {folder} cannot be loaded: {error}") from error
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the saved model {folder} lacks {error}: save it again") from error


def write_model(folder: str | Path, arrays: PyTree, config: dict[str, Any], *, overwrite: bool = False) -> Path:
    """Write a model folder. Both files are written beside it first, so that the folder holds a whole model or none.

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

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If the folder exists and ``overwrite`` is False.
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise ValueError(f"{folder} exists: choose another name or pass overwrite=True")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        flat = traverse_util.flatten_dict(jax.device_get(arrays), sep=SEPARATOR)
        np.savez(
            temporary / "params.npz", allow_pickle=False, **{name: np.asarray(leaf) for name, leaf in flat.items()}
        )
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        os.chmod(temporary, 0o755)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def read_model(folder: str | Path) -> tuple[PyTree, dict[str, Any]]:
    """Read the two files of a model folder.

    Parameters
    ----------
    folder : str or Path
        A folder written by :func:`write_model`.

    Returns
    -------
    arrays : dict
        Nested dict of NumPy arrays, each with a leading run axis.
    config : dict
        Content of ``config.json``, as it was written: not migrated.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged.
    """
    folder = Path(folder)
    try:
        config = dict(json.loads((folder / "config.json").read_text()))
        with np.load(folder / "params.npz", allow_pickle=False) as file:
            flat = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no saved model: {Path(error.filename).name} is missing") from error
    except Exception as error:  # zipfile and NumPy raise many types of exceptions for a damaged file
        raise CheckpointError(
            f"the saved model {folder} is damaged: save it again, or resume the run that made it"
        ) from error
    return traverse_util.unflatten_dict(flat, sep=SEPARATOR), config
