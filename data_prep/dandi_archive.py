"""List and fetch files of the DANDI archive.

`fetch_dandiset` writes a folder of verified files::

    manifest.json                           dandiset, version, licence, citation; size, checksum and address of each file
    sub-<subject>/sub-<subject>_ses-<session>_icephys.nwb
    20200711_patchseq_metadata_mouse.csv    a table of labels, if one was given

`query_archive` returns what the archive holds without a download; `data_prep.remote_file.open_remote` reads it.

In the Allen Institute's Patch-seq dandisets the session in a path is no ``cell_specimen_id``: it is
``ephys_session_id`` of the mouse table of labels and ``nwb_id`` of the human one. The subject is in neither table. The
tables are published elsewhere, and their address or path must be given: the mouse table is
``20200711_patchseq_metadata_mouse.csv`` of the Allen Institute's Patch-seq release, the human one
``LeeDalley_manuscript_metadata_v2.csv`` of AllenInstitute/human_patchseq_gaba.

DANDI's client lists the files; `data_prep.download` downloads them, for the reasons given there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import requests

from data_prep.download import (
    DownloadError,
    RemoteFile,
    check_disk_space,
    describe_error,
    download_files,
    lock_folder,
    read_url,
)

if TYPE_CHECKING:
    from dandi.dandiapi import BaseRemoteAsset, DandiAPIClient

DANDISETS = {"mouse": "000020", "human": "000636"}  # the Allen Institute's Patch-seq recordings
# The versions that the published cross-species study cites, which are the defaults of these dandisets.
PUBLISHED_VERSIONS = {"000020": "0.210913.1639", "000636": "0.241120.0510"}
LATEST = "latest"
API = "https://api.dandiarchive.org/api"
MANIFEST = "manifest.json"
TIMEOUT = 20  # seconds until an API that does not answer counts as unreachable

# DANDI's client logs each failed request with its traceback; here one sentence is raised instead.
logging.getLogger("dandi").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Asset(RemoteFile):
    """One file of the archive.

    Parameters
    ----------
    path, url : str
        See `data_prep.download.RemoteFile`.
    size : int, optional
        Size in bytes.
    sha256, etag : str, default ""
        Checksums.
    asset_id : str, default ""
        Identifier in the archive; the content of an identifier never changes.
    """

    asset_id: str = ""


@dataclass(frozen=True)
class Manifest:
    """Files chosen from one version of a dandiset, and the terms under which they are published.

    Parameters
    ----------
    dandiset : str
        Number of the dandiset, six digits.
    version : str
        Published version, or ``"draft"``.
    licence : sequence of str
        Licences, such as ``"spdx:CC-BY-4.0"``.
    citation : str
        How to cite the dandiset.
    api : str
        Address of the archive's API.
    date : str
        When the archive was queried, in ISO 8601.
    assets : sequence of Asset
        The files, sorted by path.
    tables : sequence of dict
        Tables of labels in the folder: file, source, sha256 and date of each.
    """

    dandiset: str
    version: str
    licence: Sequence[str]
    citation: str
    api: str
    date: str
    assets: Sequence[Asset]
    tables: Sequence[Mapping[str, str]] = field(default_factory=tuple)

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder in one step.

        Parameters
        ----------
        folder : Path
            An existing folder.
        """
        draft = folder / f"{MANIFEST}.tmp"
        draft.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(draft, folder / MANIFEST)


@dataclass(frozen=True)
class FetchSummary:
    """Result of a download; ``str`` gives a summary with one line for each failed file.

    Parameters
    ----------
    manifest : Manifest
        The manifest of the folder.
    downloaded, present : sequence of str
        Paths of the files that were downloaded, and of those that were already complete.
    failed : mapping of str to str
        Path of each missing file, and the reason.
    """

    manifest: Manifest
    downloaded: Sequence[str]
    present: Sequence[str]
    failed: Mapping[str, str]

    def __str__(self) -> str:
        summary = (
            f"{len(self.downloaded)} files downloaded, {len(self.present)} already present, {len(self.failed)} failed"
        )
        return "\n".join([summary, *(f"  {path}: {reason}" for path, reason in self.failed.items())])


def fetch_dandiset(
    dandiset: str, folder: str | Path, *, metadata: str | Path | None = None, jobs: int = 4, **selection: Any
) -> FetchSummary:
    """Download files of a dandiset into a folder; complete files stay, and partial ones are resumed.

    Parameters
    ----------
    dandiset : str
        ``"mouse"``, ``"human"``, or a number such as ``"000020"``.
    folder : path
        Where to; it belongs to one dandiset. Its manifest names all files that were ever requested of the version.
    metadata : path or str, optional
        Path or address of a table of labels, which is copied into the folder.
    jobs : int, default 4
        Number of simultaneous requests and downloads.
    **selection
        Which files: ``limit``, ``match``, ``version`` and ``api`` of :func:`query_archive`.

    Returns
    -------
    FetchSummary
        What was downloaded, and the reason for each file that failed.

    Raises
    ------
    DownloadError
        If the archive does not answer, the dandiset, version or files do not exist, or the folder cannot be used.
    """
    folder, number = Path(folder), dandiset_number(dandiset)
    if folder.exists() and not folder.is_dir():
        raise DownloadError(f"{folder} is a file: give a folder")
    previous = read_manifest(folder)
    if previous is not None and previous.dandiset != number:
        raise DownloadError(f"{folder} holds files of dandiset {previous.dandiset}: give another folder for {number}")
    known = previous.assets if previous else ()
    requested = query_archive(dandiset, jobs=jobs, known=known, **selection)
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        check_disk_space(requested.assets, folder)
        tables = {entry["file"]: entry for entry in (previous.tables if previous else ())}
        if metadata is not None:
            entry = copy_table(metadata, folder)
            tables[entry["file"]] = entry
        same_version = known if previous and previous.version == requested.version else ()
        assets = {asset.path: asset for asset in (*same_version, *requested.assets)}
        manifest = replace(requested, assets=[assets[path] for path in sorted(assets)], tables=list(tables.values()))
        manifest.write(folder)
        return FetchSummary(manifest, *download_files(requested.assets, folder, jobs=jobs, require_checksum=True))


def copy_table(source: str | Path, folder: Path) -> dict[str, str]:
    """Copy a table of labels into a folder.

    Parameters
    ----------
    source : path or str
        Path or address of the table.
    folder : Path
        An existing folder.

    Returns
    -------
    dict
        file, source, sha256 and date, as the manifest records them.

    Raises
    ------
    DownloadError
        If the table cannot be read, or the address leads to a web page.
    """
    text = str(source)
    remote = text.startswith(("http://", "https://"))
    name = PurePosixPath(unquote(urlsplit(text).path)).name if remote else Path(source).name
    try:
        content = read_url(text) if remote else Path(source).read_bytes()
    except OSError as error:
        raise DownloadError(f"the table {text} cannot be read ({error.strerror})") from None
    if not name or content.lstrip()[:1] in (b"<", b""):
        raise DownloadError(f"{text} is a web page or empty, and no table: give the address of the file itself")
    (folder / name).write_bytes(content)
    return {"file": name, "source": text, "sha256": hashlib.sha256(content).hexdigest(), "date": _now()}


def read_manifest(folder: str | Path) -> Manifest | None:
    """Read the manifest that `fetch_dandiset` has written.

    Parameters
    ----------
    folder : path
        Folder of a fetch.

    Returns
    -------
    Manifest or None
        None if the folder has no manifest.

    Raises
    ------
    DownloadError
        If ``manifest.json`` is damaged or of another program.
    """
    path = Path(folder) / MANIFEST
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(**{**stored, "assets": [Asset(**asset) for asset in stored["assets"]]})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise DownloadError(f"{path} is not a manifest of fetch: move it away, or give another folder") from None


def query_archive(
    dandiset: str,
    *,
    limit: int | None = None,
    match: str = "*",
    version: str | None = None,
    api: str | None = None,
    jobs: int = 4,
    known: Sequence[Asset] = (),
) -> Manifest:
    """Query the archive for its description of a dandiset and of the chosen files.

    Parameters
    ----------
    dandiset : str
        ``"mouse"``, ``"human"``, or a number such as ``"000020"``.
    limit : int, optional
        Only the first files in the order of their paths.
    match : str, default "*"
        Only files whose path matches this pattern; ``*`` matches ``/`` too.
    version : str, optional
        Version of the dandiset, ``"latest"`` (the last published one, or the draft if there is none) or ``"draft"``. By
        default that of ``PUBLISHED_VERSIONS``, and the latest for other dandisets.
    api : str, optional
        Address of another archive's API.
    jobs : int, default 4
        Number of simultaneous requests.
    known : sequence of Asset, default none
        Files whose description is known; each other file costs a request.

    Returns
    -------
    Manifest
        The description, without tables of labels.

    Raises
    ------
    DownloadError
        If the archive does not answer, or the dandiset, version or files do not exist.
    """
    number, api = dandiset_number(dandiset), (api or API).rstrip("/")
    for name, value in (("limit", limit), ("jobs", jobs)):
        if value is not None and value < 1:
            raise DownloadError(f"{name} is {value}: give at least 1")
    from dandi.exceptions import NotFoundError

    version = PUBLISHED_VERSIONS.get(number, LATEST) if version is None else version
    by_id = {asset.asset_id: asset for asset in known}
    try:
        with _connect(api) as client:
            remote = client.get_dandiset(number, None if version == LATEST else version, lazy=False)
            description = remote.get_raw_metadata()
            chosen = _choose(list(remote.get_assets()), match, number)[:limit]
            with ThreadPoolExecutor(jobs) as executor:
                assets = list(executor.map(lambda asset: by_id.get(asset.identifier) or _describe(asset, api), chosen))
    except NotFoundError as error:
        message = str(error).partition(". ")[0]
        raise DownloadError(
            f"{api} answers {message!r}: the numbers and versions that exist are listed at dandiarchive.org"
        ) from None
    except requests.RequestException as error:
        raise DownloadError(
            f"the list of dandiset {number} is incomplete: {api} failed ({describe_error(error)}); try again"
        ) from None
    return Manifest(
        dandiset=number,
        version=remote.version_id,
        licence=description.get("license") or [],
        citation=description.get("citation") or "",
        api=api,
        date=_now(),
        assets=assets,
    )


def dandiset_number(dandiset: str) -> str:
    """Return the six-digit number of a dandiset.

    Parameters
    ----------
    dandiset : str
        ``"mouse"``, ``"human"``, ``"20"``, ``"000020"`` or ``"DANDI:000020"``.

    Returns
    -------
    str
        For example ``"000020"``.

    Raises
    ------
    DownloadError
        If the text is nothing of these.

    Examples
    --------
    >>> dandiset_number("mouse")
    '000020'
    """
    text = DANDISETS.get(dandiset.lower(), dandiset.upper().removeprefix("DANDI:"))
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise DownloadError(f"{dandiset!r} is not a dandiset: give mouse, human, or a number such as 000020")
    return text.zfill(6)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _connect(api: str) -> DandiAPIClient:
    """Return DANDI's client. A first request shows quickly whether the server answers; the client would try for a minute."""
    os.environ.setdefault("DANDI_NO_ET", "1")  # no request to the server that counts the users of the client
    from dandi.dandiapi import DandiAPIClient

    try:
        requests.get(f"{api}/info/", timeout=TIMEOUT).raise_for_status()
        return DandiAPIClient(api)
    except requests.RequestException as error:
        raise DownloadError(
            f"fetch needs the network: no answer from {api} ({describe_error(error)}); connect, or give the folder of "
            "files that you have to `extract`"
        ) from None
    except RuntimeError as error:
        raise DownloadError(f"{api} refuses this version of the DANDI client: {error}") from None


def _choose(listed: Sequence[BaseRemoteAsset], match: str, number: str) -> list[BaseRemoteAsset]:
    from dandi.dandiapi import AssetType

    # A Zarr asset is a folder of thousands of files, which nothing here reads.
    files = sorted((asset for asset in listed if asset.asset_type is AssetType.BLOB), key=lambda asset: asset.path)
    chosen = [asset for asset in files if fnmatchcase(asset.path, match)]
    if not chosen:
        example = f", for example {files[0].path}" if files else ""
        raise DownloadError(f"no file of dandiset {number} matches {match!r} ({len(files)} files{example})")
    return chosen


def _describe(asset: BaseRemoteAsset, api: str) -> Asset:
    metadata = asset.get_raw_metadata()
    digest = metadata.get("digest") or {}
    # The address of the content store, if it is given: the API's address costs a redirection for every range request.
    direct = [url for url in metadata.get("contentUrl") or [] if not url.startswith(api)]
    return Asset(
        path=asset.path,
        url=direct[0] if direct else asset.base_download_url,
        size=asset.size,
        sha256=digest.get("dandi:sha2-256", ""),
        etag=digest.get("dandi:dandi-etag", ""),
        asset_id=asset.identifier,
    )
