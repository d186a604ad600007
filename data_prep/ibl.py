"""Sessions of the International Brain Laboratory (IBL), which its own client, ONE, downloads from the public server.

Start with :class:`IblServer`. ONE is in the extra ``ibl``; only the commands named ``fetch`` use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jaxephys.schemas.storage import DataError

OPENALYX = "https://openalyx.internationalbrainlab.org"
Request = tuple[str, str, list[str]]  # object, collection and attributes of ALF files


class IblServer:
    """The public server of the IBL.

    Parameters
    ----------
    folder : Path
        Where ONE arranges the files that it downloads.

    Raises
    ------
    DataError
        If ONE is not installed, or the server does not answer.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from one.alf.exceptions import ALFError  # pyright: ignore[reportMissingImports]
            from one.api import ONE  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError:
            raise DataError('sessions of the IBL are downloaded with ONE: pip install "jaxephys[ibl]"') from None
        self.errors = (OSError, ALFError)
        # The password of the public server, as its documentation gives it to everyone.
        options = {"base_url": OPENALYX, "password": "international", "silent": True, "cache_dir": str(folder)}
        self.one = self._call(ONE, **options)

    def search(self, **terms: Any) -> list[str]:
        """Search for sessions.

        Parameters
        ----------
        **terms
            Search terms of ``ONE.search``, such as ``subject``, ``date_range`` or ``project``.

        Returns
        -------
        list of str
            Identifiers of the sessions.
        """
        return [str(session) for session in self._call(self.one.search, **terms)]

    def sortings(self, session: str, filename: str = "spikes.times*") -> dict[str, str]:
        """Find the sorted spikes of each probe of a session.

        Parameters
        ----------
        session : str
            Identifier of the session.
        filename : str, default "spikes.times*"
            Pattern of a file that the sorting must have.

        Returns
        -------
        dict of str to str
            The collection of each probe; that of pykilosort if it exists.
        """
        best: dict[str, str] = {}
        for name in self._call(self.one.list_collections, session, filename=filename):
            probe = re.search(r"probe\w+", name)
            if probe is not None:
                best[probe[0]] = max(
                    best.get(probe[0], ""), str(name), key=lambda found: ("pykilosort" in found, found)
                )
        return best

    def download(self, session: str, requested: Iterable[Request]) -> list[Path]:
        """Download files of a session.

        Parameters
        ----------
        session : str
            Identifier of the session.
        requested : iterable of (str, str, list of str)
            Object, collection and attributes of the files.

        Returns
        -------
        list of Path
            The files.
        """
        return [
            Path(path)
            for name, collection, attributes in requested
            for path in self._call(
                self.one.load_object, session, name, collection=collection, attribute=attributes, download_only=True
            )
        ]

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except self.errors as error:
            raise DataError(f"the server of the IBL failed: {type(error).__name__}: {error}") from None
