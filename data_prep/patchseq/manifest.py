"""Manifest: what the DANDI archive says of a dandiset and of its files, from its API or from a folder.

Paths are ``sub-<subject>/sub-<subject>_ses-<session>_icephys.nwb``. In the Allen Institute's dandisets the session,
which is ``Asset.cell`` here, is no ``cell_specimen_id``: it is ``ephys_session_id`` of the mouse table of labels and
``nwb_id`` of the human one. The subject, ``Asset.donor``, stands in neither table.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import requests

from data_prep.patchseq.nwb import cell_of
from data_prep.patchseq.stream import why

if TYPE_CHECKING:
    from dandi.dandiapi import BaseRemoteAsset, DandiAPIClient

DANDISETS = {"mouse": "000020", "human": "000636"}  # the Allen Institute's Patch-seq recordings
API = "https://api.dandiarchive.org/api"
MANIFEST = "manifest.json"
TIMEOUT = 20  # seconds until an API that does not answer counts as absent

# DANDI's client logs each failed request with its traceback; here one sentence is raised instead.
logging.getLogger("dandi").addHandler(logging.NullHandler())


class FetchError(RuntimeError):
    """What cannot be fetched, in one sentence."""


@dataclass(frozen=True)
class Asset:
    """One file of the archive; ``open_remote(asset.url)`` reads it without a download."""

    path: str
    size: int
    asset_id: str
    url: str
    sha256: str = ""  # "" where DANDI has not computed it (yet)
    etag: str = ""  # DANDI's own: MD5 of the MD5s of parts of 64 MiB

    @property
    def cell(self) -> str:
        return cell_of(self.path)[0]

    @property
    def donor(self) -> str:
        return cell_of(self.path)[1]


@dataclass(frozen=True)
class Manifest:
    """The files chosen from one version of a dandiset, and on what terms they are given."""

    dandiset: str
    version: str
    licence: Sequence[str]
    citation: str
    api: str
    date: str
    assets: Sequence[Asset]
    tables: Sequence[Mapping[str, str]] = field(default_factory=tuple)  # of labels: file, source, sha256, date

    def write(self, folder: Path) -> None:
        draft = folder / f"{MANIFEST}.tmp"
        draft.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(draft, folder / MANIFEST)


def read_manifest(folder: str | Path) -> Manifest | None:
    """The manifest of a folder that ``fetch`` has written; None if it holds none."""
    path = Path(folder) / MANIFEST
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(**{**stored, "assets": [Asset(**asset) for asset in stored["assets"]]})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise FetchError(f"{path} is not a manifest of fetch: move it away, or give another folder") from None


def remote_assets(dandiset: str, **choice: Any) -> list[Asset]:
    """The chosen files as they lie in the archive, nothing downloaded; ``choice`` as for ``remote_manifest``."""
    return list(remote_manifest(dandiset, **choice).assets)


def remote_manifest(
    dandiset: str,
    *,
    limit: int | None = None,
    match: str = "*",
    version: str | None = None,
    api: str | None = None,
    jobs: int = 4,
    known: Sequence[Asset] = (),
) -> Manifest:
    """Ask the archive: of the files that match (``*`` stands for ``/`` too) the first ``limit``, in the order of paths.

    Without a ``version`` it is the last published one, or the draft if there is none. An asset never changes under its
    id, so ``known`` ones are not asked for again: each costs a request.
    """
    number, api = number_of(dandiset), (api or API).rstrip("/")
    for name, value in (("limit", limit), ("jobs", jobs)):
        if value is not None and value < 1:
            raise FetchError(f"{name} is {value}: give at least 1")
    from dandi.exceptions import NotFoundError

    before = {asset.asset_id: asset for asset in known}
    try:
        with _client(api) as client:
            remote = client.get_dandiset(number, version, lazy=False)
            about = remote.get_raw_metadata()
            chosen = _choose(list(remote.get_assets()), match, number)[:limit]
            with ThreadPoolExecutor(jobs) as pool:
                assets = list(pool.map(lambda asset: before.get(asset.identifier) or _described(asset, api), chosen))
    except NotFoundError as error:
        said = str(error).partition(". ")[0]
        raise FetchError(f"{api} says {said!r}: look the number and its versions up at dandiarchive.org") from None
    except requests.RequestException as error:
        raise FetchError(
            f"the list of dandiset {number} did not come whole from {api} ({why(error)}): try again"
        ) from None
    return Manifest(
        dandiset=number,
        version=remote.version_id,
        licence=about.get("license") or [],
        citation=about.get("citation") or "",
        api=api,
        date=now(),
        assets=assets,
    )


def number_of(dandiset: str) -> str:
    """``mouse``, ``20``, ``000020`` or ``DANDI:000020`` -> ``000020``."""
    text = DANDISETS.get(dandiset.lower(), dandiset.upper().removeprefix("DANDI:"))
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise FetchError(f"{dandiset!r} is no dandiset: give mouse, human, or a number such as 000020")
    return text.zfill(6)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _client(api: str) -> DandiAPIClient:
    """DANDI's client, after a request of our own: the client tries for a minute before it says that nobody answers."""
    os.environ.setdefault("DANDI_NO_ET", "1")  # no call to a third server that counts its users
    from dandi.dandiapi import DandiAPIClient

    try:
        requests.get(f"{api}/info/", timeout=TIMEOUT).raise_for_status()
        return DandiAPIClient(api)
    except requests.RequestException as error:
        raise FetchError(
            f"fetch needs the network: no answer from {api} ({why(error)}); connect, or give the folder of files "
            "that you have to `extract`"
        ) from None
    except RuntimeError as error:  # this version of the client is not accepted
        raise FetchError(f"{api} refuses this DANDI client: {error}") from None


def _choose(listed: Sequence[BaseRemoteAsset], match: str, number: str) -> list[BaseRemoteAsset]:
    from dandi.dandiapi import AssetType

    # A Zarr asset is a folder of thousands of files, which no reader here takes.
    files = sorted((asset for asset in listed if asset.asset_type is AssetType.BLOB), key=lambda asset: asset.path)
    chosen = [asset for asset in files if fnmatchcase(asset.path, match)]
    if not chosen:
        example = f", one path is {files[0].path}" if files else ""
        raise FetchError(f"no file of dandiset {number} matches {match!r} ({len(files)} files{example})")
    return chosen


def _described(asset: BaseRemoteAsset, api: str) -> Asset:
    about = asset.get_raw_metadata()
    path, digest = PurePosixPath(asset.path), about.get("digest") or {}
    if path.is_absolute() or ".." in path.parts:
        raise FetchError(f"asset {asset.identifier} would be written outside of the folder, to {asset.path}")
    # The store's own address, if it is given: the API's would lead there with a redirection for every range read.
    direct = [url for url in about.get("contentUrl") or [] if not url.startswith(api)]
    return Asset(
        path=asset.path,
        size=asset.size,
        asset_id=asset.identifier,
        url=direct[0] if direct else asset.base_download_url,
        sha256=digest.get("dandi:sha2-256", ""),
        etag=digest.get("dandi:dandi-etag", ""),
    )
