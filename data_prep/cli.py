"""What the command lines of the three systems share: types of their arguments, the choice of a source, the download.

Each system has a module ``cli`` with its ``COMMANDS``; ``data_prep.__main__`` runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxephys.schemas.storage import DataError

OutputFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
TableFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]


def chosen_source(options: Mapping[str, Any]) -> str:
    """Return the only option of a command that was given.

    Parameters
    ----------
    options : mapping of str to object
        Value of each option that names a source; None or an empty tuple if it was not given.

    Returns
    -------
    str
        Name of the option, without ``--``.

    Raises
    ------
    DataError
        If no option or several were given.

    Examples
    --------
    >>> chosen_source({"csv": None, "nwb": ("a.nwb", "b.nwb")})
    'nwb'
    """
    given = [name for name, value in options.items() if value]
    if len(given) != 1:
        listed = " and ".join(f"--{name}" for name in given) or "no source"
        raise DataError(f"{listed} given: give one of {', '.join(f'--{name}' for name in options)}")
    return given[0]


def fetch_recordings(dandiset: str, out: Path, **options: Any) -> None:
    """Download files of a dandiset and print a summary.

    Parameters
    ----------
    dandiset : str
        Number of the dandiset, ``"mouse"`` or ``"human"``.
    out : Path
        Folder for the files.
    **options
        See :func:`data_prep.dandi_archive.fetch_dandiset`.

    Raises
    ------
    DataError
        If a file could not be downloaded.
    """
    from data_prep.dandi_archive import fetch_dandiset

    summary = fetch_dandiset(dandiset, out, **options)
    print(summary)
    if summary.failed:
        raise DataError(f"{len(summary.failed)} files failed; the same command tries them again")
