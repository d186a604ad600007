"""Migrations: how the files of models saved by earlier versions become what this version reads.

A saved model carries a ``schema_version``. Files without one were written by jaxephys 0.1.0 and count as version 0. When the
meaning or the name of something in ``config.json`` or ``params.npz`` changes, increase ``SCHEMA_VERSION`` and register, for each
affected kind of model, a function that turns the files of the version before into those of the new one:

    @migration("Hippie", from_version=1)
    def rename_latent(config, arrays):
        config["parameters"]["latent_size"] = config["parameters"].pop("latent")
        return config, arrays

Kinds without a registered function are unchanged between two versions. ``tests/checkpoints`` holds a model of every kind and
version; see ``write_fixtures.py`` there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SCHEMA_VERSION = 3  # 3: the folder has an Orbax checkpoint and checksums
Config = dict[str, Any]
Arrays = dict[str, Any]
Migration = Callable[[Config, Arrays], tuple[Config, Arrays]]
_migrations: dict[tuple[str, int], Migration] = {}


def migration(kind: str, *, from_version: int) -> Callable[[Migration], Migration]:
    """Register a function that migrates one kind of model from one schema version to the next (a decorator).

    Parameters
    ----------
    kind : str
        Name of the estimator class.
    from_version : int
        The schema version that the function reads. It returns files of version ``from_version + 1``.

    Returns
    -------
    callable
        The decorator. It returns the function unchanged.
    """

    def register(function: Migration) -> Migration:
        _migrations[kind, from_version] = function
        return function

    return register


def migrate(config: Config, arrays: Arrays) -> tuple[Config, Arrays]:
    """Bring the content of a saved model to the current schema version.

    Parameters
    ----------
    config : dict
        Content of ``config.json``. Without ``schema_version`` it counts as version 0.
    arrays : dict
        Content of ``params.npz`` as a nested dict of arrays, each with a leading run axis.

    Returns
    -------
    config : dict
        The config, with ``schema_version`` equal to ``SCHEMA_VERSION``.
    arrays : dict
        The arrays in the current layout.
    """
    for step in range(config.get("schema_version", 0), SCHEMA_VERSION):
        function = _migrations.get((config["kind"], step))
        if function is not None:
            config, arrays = function(config, arrays)
    return {**config, "schema_version": SCHEMA_VERSION}, arrays
