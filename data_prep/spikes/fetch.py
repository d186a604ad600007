"""Fetch: the files of a recording of the registry, from where it lies. The only part that uses the network.

Single files and data sets of Mendeley Data come over HTTP; where the source names checksums they are verified. Sessions of the
International Brain Laboratory come through its own client, ONE, from the public server (the extra ``ibl``).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlencode

from data_prep.spikes.registry import Entry, Mendeley, Session, Web
from data_prep.spikes.spike_times import SpikesError

MENDELEY = "https://data.mendeley.com/public-api/datasets"
OPENALYX = "https://openalyx.internationalbrainlab.org"


@dataclass(frozen=True)
class Remote:
    """One file: where it lies under the folder, and what is known of it."""

    path: str
    url: str
    size: int | None = None
    sha256: str = ""


def fetch(entry: Entry, out: Path) -> list[Path]:
    """Bring the files of an entry into a folder; those that are there and right stay."""
    if isinstance(entry.source, Session):
        return fetch_session(entry.source, out / entry.name)
    from data_prep.patchseq.stream import why

    try:
        files = remote_files(entry.source)
        return download_all(files, out)
    except OSError as error:
        raise SpikesError(
            f"{entry.name} was not fetched: {why(error)}; the same command goes on where it stopped"
        ) from None


def remote_files(source: Web | Mendeley) -> list[Remote]:
    if isinstance(source, Web):
        return [Remote(name, url) for name, url in source.files.items()]
    about = f"{MENDELEY}/{source.dataset}"
    folders = {folder["id"]: folder for folder in ask(f"{about}/folders/{source.version}")}
    found = []
    for identity in ("root", *folders):
        query = urlencode({"folder_id": identity, "version": source.version})
        for file in ask(f"{about}/files?{query}"):
            details = file["content_details"]
            place = [*above(identity, folders), file["filename"]]
            found.append(
                Remote("/".join(place), details["download_url"], file.get("size"), details.get("sha256_hash", ""))
            )
    return found


def ask(url: str) -> list[dict[str, Any]]:
    from data_prep.patchseq.stream import read_whole

    try:
        answer = json.loads(read_whole(url))
    except ValueError:
        answer = None
    if not isinstance(answer, list):
        raise SpikesError(f"{url} gives no list of files: get the files by hand from its page")
    return answer


def above(identity: str, folders: dict[str, dict[str, Any]]) -> list[str]:
    """The names of the folders that a folder lies in, and its own."""
    names: list[str] = []
    while identity in folders:
        names.insert(0, folders[identity]["name"])
        identity = folders[identity].get("parent_id", "")
    return names


def download_all(files: list[Remote], out: Path) -> list[Path]:
    from data_prep.scale.progress import Report

    done = []
    with Report("files", len(files), 0, 0) as report:
        for file in files:
            done.append(download_one(file, out))
            report(failed=False)
    return done


def download_one(file: Remote, out: Path) -> Path:
    """The file has its name once it is whole, and right as far as the source says what is right."""
    from data_prep.patchseq.stream import download, read_whole

    relative = PurePosixPath(file.path)
    if relative.is_absolute() or ".." in relative.parts:
        raise SpikesError(f"the source names a file {file.path!r} outside of the folder: get it by hand")
    path = out / relative
    if path.exists() and (not file.sha256 or sha256(path) == file.sha256):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    if file.size is None:
        part.write_bytes(read_whole(file.url))
    else:
        download(file.url, part, file.size, lambda count: None)
    if file.sha256 and sha256(part) != file.sha256:
        part.unlink()
        raise SpikesError(f"{file.path} came with another checksum than {file.sha256[:12]}: fetch again")
    os.replace(part, path)
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_session(session: Session, out: Path) -> list[Path]:
    """Spikes, clusters and passive periods of one probe of a session, as ONE lays them out."""
    try:
        from one.alf.exceptions import ALFError  # pyright: ignore[reportMissingImports]
        from one.api import ONE  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise SpikesError('sessions of the IBL come through ONE: pip install "jaxephys[ibl]"') from None
    try:
        # The password of the public server, as its documentation gives it to everyone.
        one = ONE(base_url=OPENALYX, password="international", silent=True, cache_dir=str(out))
        eids = one.search(subject=session.subject, date_range=[session.date, session.date])
        if not eids:
            raise SpikesError(f"the server has no public session of {session.subject} on {session.date}")
        sorted_in = [name for name in one.list_collections(eids[0], filename="spikes.times*") if session.probe in name]
        if not sorted_in:
            raise SpikesError(f"{session.subject} {session.date} has no sorted spikes of {session.probe}")
        place = max(sorted_in, key=lambda name: ("pykilosort" in name, name))
        wanted = [("spikes", place, ["times", "clusters"]), ("clusters", place, ["depths", "metrics"])]
        files = [
            Path(path)
            for name, collection, attributes in [*wanted, ("passivePeriods", "alf", ["intervalsTable"])]
            for path in one.load_object(eids[0], name, collection=collection, attribute=attributes, download_only=True)
        ]
    except (OSError, ALFError) as error:
        raise SpikesError(f"{session.subject} {session.date} was not fetched: {error}") from None
    return files
