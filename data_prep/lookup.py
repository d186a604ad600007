"""Finding a data set, recording or population by its name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from jaxephys.schemas.storage import DataError


def find_by_name(name: str, known: Mapping[str, Any], kind: str) -> Any:
    """Return the entry of a name.

    Parameters
    ----------
    name : str
        The name.
    known : mapping of str to object
        Entries by name; several names may lead to one entry. Each has an attribute ``name``, which messages show.
    kind : str
        What the entries are, for the error message.

    Returns
    -------
    object
        The entry.

    Raises
    ------
    DataError
        If there is none; the message suggests similar names, or else lists all.
    """
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or known
    suggested = dict.fromkeys(known[other].name for other in near)
    raise DataError(f"there is no {kind} {name!r}: did you mean {' or '.join(suggested)}?")
