"""The estimator classes that a saved model can belong to, by the name that its ``config.json`` gives as ``kind``.

This module imports neither JAX nor any system: ``jaxephys/__init__.py`` registers the estimators of the package by the
module that defines them, and a module is imported when a model of its kind is loaded.
"""

from __future__ import annotations

import importlib
from typing import Any

_classes: dict[str, str | type] = {}


def register(kind: str, location: str | type) -> None:
    """Make an estimator class known to :func:`jaxephys.load`.

    Parameters
    ----------
    kind : str
        Name of the class, stored as ``kind`` in ``config.json``.
    location : str or type
        The class itself, or the dotted name of the module that defines it. A class replaces the name of its module.
    """
    _classes[kind] = location


def known_kinds() -> list[str]:
    """Return the names of all registered estimator classes, sorted.

    Returns
    -------
    list of str
        The kinds that :func:`find_class` accepts.
    """
    return sorted(_classes)


def find_class(kind: str) -> Any:
    """Return a registered estimator class, importing its module where necessary.

    Parameters
    ----------
    kind : str
        Name of the class.

    Returns
    -------
    type
        A subclass of :class:`jaxephys.models.base.EnsembleEstimator`.

    Raises
    ------
    KeyError
        If no class of that name is registered.
    """
    location = _classes[kind]
    return getattr(importlib.import_module(location), kind) if isinstance(location, str) else location
