"""Facts about a run for its manifest and its report: versions, hashes, hardware, time, and how to load its models."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxephys import __version__
from jaxephys.engine.progress import format_seconds

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn", "imbalanced-learn")
CITATION = f"jaxephys {__version__}, the jaxephys developers (CITATION.cff has the entry)."


def run_facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the command, versions, hardware, data and times of a run as texts for its report.

    Parameters
    ----------
    manifest : mapping of str to object
        Content of ``manifest.json``.

    Returns
    -------
    dict of str to str
        Texts by name.
    """
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    facts = {
        "Command": " ".join(manifest["command"]),
        "Versions": f"Python {manifest['python']}, {versions}",
        "Devices": ", ".join(f"{n} x {kind}" for kind, n in Counter(manifest["devices"]).items()),
        "Time": f"{format_seconds(manifest['wall_seconds'])} in total",
        "Data": ", ".join(
            f"{key[5:]} sha256 {value[:12]}" for key, value in manifest.items() if key.startswith("data_")
        ),
    }
    trainings = {"": manifest, **{name: entry for name, entry in manifest.items() if isinstance(entry, dict)}}
    for name, entry in trainings.items():
        if "run_seconds" in entry:
            compiled, trained = (format_seconds(entry[key]) for key in ("compile_seconds", "run_seconds"))
            facts[f"Training {name}".strip()] = f"{entry['execution']}; compiled in {compiled}, trained in {trained}"
    return {name: text for name, text in facts.items() if text}


def setting_text(value: Any) -> str:
    """Return the value of a setting as text.

    Parameters
    ----------
    value : object
        A JSON value.

    Returns
    -------
    str
        The value; the items of a list are separated by commas.
    """
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def load_lines(path: Path) -> list[str]:
    """Return the lines of Python that load the models of a run folder.

    Parameters
    ----------
    path : Path
        The run folder.

    Returns
    -------
    list of str
        One line per saved model; empty if there is none.
    """
    saved = path / "model"
    if (saved / "config.json").exists() or ((path / "checkpoints").is_dir() and not saved.exists()):
        return [f'model = jaxephys.load("{path.as_posix()}")']
    folders = sorted(folder for folder in saved.glob("*") if (folder / "config.json").exists())
    return [f'{_identifier(folder.name)} = jaxephys.load("{folder.as_posix()}")' for folder in folders]


def fingerprint(arrays: Any) -> str:
    """Return a hash of the values, shapes and types of all arrays of a pytree.

    Parameters
    ----------
    arrays : pytree of arrays
        The data of an experiment.

    Returns
    -------
    str
        SHA-256 digest, 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(arrays):
        leaf = np.ascontiguousarray(leaf)
        digest.update(f"{leaf.shape}{leaf.dtype}".encode() + leaf.tobytes())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that results depend on.

    Returns
    -------
    dict of str to str
        Version, or ``"not installed"``, by name of the distribution.
    """
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _identifier(name: str) -> str:
    """A variable name for the model of a data set."""
    return "model_" + "".join(letter if letter.isalnum() else "_" for letter in name)
