"""Download the files of a recording of the registry; the only part of this package that uses the network.

Single files and data sets of Mendeley Data come over HTTP (`data_prep.download`); where the source lists checksums they
are verified. Sessions of the International Brain Laboratory are downloaded with its client, ONE, from the public server
(the extra ``ibl``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from data_prep.ibl import IblServer
from data_prep.spikes.registry import Entry, IblSession, MendeleyDataset
from jaxephys.schemas.storage import DataError

if TYPE_CHECKING:
    from data_prep.download import RemoteFile

MENDELEY = "https://data.mendeley.com/public-api/datasets"


def fetch(entry: Entry, folder: Path) -> list[Path]:
    """Download the files of an entry into a folder; complete files stay, and partial ones are resumed.

    Parameters
    ----------
    entry : Entry
        A recording of the registry.
    folder : Path
        Where to; created if needed.

    Returns
    -------
    list of Path
        The files, in the order in which the source lists them.

    Raises
    ------
    DataError
        If a file cannot be downloaded, or differs from its checksum.
    """
    if isinstance(entry.source, IblSession):
        return fetch_session(entry.source, folder / entry.name)
    from data_prep.download import download_files

    files = list_files(entry.source)
    failed = download_files(files, folder)[2]
    if failed:
        path, reason = next(iter(failed.items()))
        raise DataError(f"{entry.name} was not fetched: {path}: {reason}; the same command resumes it")
    return [folder / file.path for file in files]


def list_files(source: Mapping[str, str] | MendeleyDataset) -> list[RemoteFile]:
    """List the files of a source.

    Parameters
    ----------
    source : mapping of str to str, or MendeleyDataset
        Where the files are.

    Returns
    -------
    list of RemoteFile
        The files; Mendeley Data lists their sizes and checksums too.

    Raises
    ------
    DataError
        If Mendeley Data cannot be reached, or answers with anything but a list.
    """
    from data_prep.download import RemoteFile

    if isinstance(source, Mapping):
        return [RemoteFile(name, url) for name, url in source.items()]
    address = f"{MENDELEY}/{source.dataset}"
    folders = {folder["id"]: folder for folder in query_list(f"{address}/folders/{source.version}")}
    files = []
    for identifier in ("root", *folders):
        parts: list[str] = []  # names of the folder and of those that contain it
        parent = identifier
        while parent in folders:
            parts.insert(0, folders[parent]["name"])
            parent = folders[parent].get("parent_id", "")
        query = urlencode({"folder_id": identifier, "version": source.version})
        for file in query_list(f"{address}/files?{query}"):
            details, path = file["content_details"], "/".join([*parts, file["filename"]])
            files.append(RemoteFile(path, details["download_url"], file.get("size"), details.get("sha256_hash", "")))
    return files


def query_list(url: str) -> list[dict[str, Any]]:
    """Return the JSON list at an address.

    Parameters
    ----------
    url : str
        An address of Mendeley Data's public interface.

    Returns
    -------
    list of dict
        Its answer.

    Raises
    ------
    DataError
        If the server cannot be reached, or the answer is anything else.
    """
    from data_prep.download import read_url

    try:
        answer = json.loads(read_url(url))
    except ValueError:
        answer = None
    if not isinstance(answer, list):
        raise DataError(f"{url} does not answer with a list of files: download the files by hand from its page")
    return answer


def fetch_session(session: IblSession, folder: Path) -> list[Path]:
    """Download spikes, clusters and passive periods of one probe of a session with ONE.

    Parameters
    ----------
    session : IblSession
        Mouse, day and probe.
    folder : Path
        Where ONE arranges the files.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    DataError
        If ONE is not installed, the session or its sorted spikes do not exist, or the download fails.
    """
    server = IblServer(folder)
    sessions = server.search(subject=session.subject, date_range=[session.date, session.date])
    if not sessions:
        raise DataError(f"the server has no public session of {session.subject} on {session.date}")
    sorting = server.sortings(sessions[0]).get(session.probe)
    if sorting is None:
        raise DataError(f"{session.subject} {session.date} has no sorted spikes of {session.probe}")
    requested = [
        ("spikes", sorting, ["times", "clusters"]),
        ("clusters", sorting, ["depths", "metrics"]),
        ("passivePeriods", "alf", ["intervalsTable"]),
    ]
    return server.download(sessions[0], requested)
