"""Fetch: recordings of the DANDI archive -> a folder of verified files.

    manifest.json                           dandiset, version, licence, citation; each file's size, checksum, address
    sub-<subject>/sub-<subject>_ses-<session>_icephys.nwb
    20200711_patchseq_metadata_mouse.csv    a table of labels, if one was given

The tables of labels lie elsewhere, and ``fetch`` does not know where: give a path or an address. The mouse table is
``20200711_patchseq_metadata_mouse.csv`` of the Allen Institute's Patch-seq release, the human one
``LeeDalley_manuscript_metadata_v2.csv`` of AllenInstitute/human_patchseq_gaba.

DANDI's own client lists the files; the download is ours. ``dandi.download`` gives a file its final name before it
compares the checksum and leaves a wrong one there, takes time and size for proof that an older file is right, and has
no limit. Here a file is ``NAME.<digest>.part`` until its checksum is right: a kill at any moment leaves nothing to
doubt, and the next fetch asks for the rest of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from urllib.parse import unquote, urlsplit

from dandischema.digests.dandietag import DandiETag
from fasteners import InterProcessLock
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from data_prep.patchseq.manifest import Asset, FetchError, Manifest, now, number_of, read_manifest, remote_manifest
from data_prep.patchseq.stream import download, read_whole, why

GIVE_UP = 10  # failures in a row that are not a file's own fault: the network is gone, or the disk is full
PLAIN_SECONDS = 10.0  # between lines where there is no terminal


@dataclass(frozen=True)
class Summary:
    """What a fetch came to: paths, and for each that is missing the reason."""

    manifest: Manifest
    fetched: Sequence[str]
    present: Sequence[str]
    failed: Mapping[str, str]

    def __str__(self) -> str:
        head = f"{len(self.fetched)} files fetched, {len(self.present)} were there, {len(self.failed)} failed"
        return "\n".join([head, *(f"  {path}: {reason}" for path, reason in self.failed.items())])


class Stopped(Exception):
    """Raised in a download when the fetch has ended."""


def fetch(
    dandiset: str,
    out: str | Path,
    *,
    limit: int | None = None,
    match: str = "*",
    jobs: int = 4,
    version: str | None = None,
    api: str | None = None,
    metadata: str | Path | None = None,
) -> Summary:
    """Fetch what ``remote_manifest`` chooses into ``out``; what is there and right stays, what was begun goes on.

    ``metadata`` is a table of labels. A file that fails does not stop the others. The manifest names all files that were
    ever asked for from one version.
    """
    out, number = Path(out), number_of(dandiset)
    if out.exists() and not out.is_dir():
        raise FetchError(f"{out} is a file: give a folder")
    before = read_manifest(out)
    if before is not None and before.dandiset != number:
        raise FetchError(f"{out} holds files of dandiset {before.dandiset}: give another folder for {number}")
    known = before.assets if before else ()
    asked = remote_manifest(dandiset, limit=limit, match=match, version=version, api=api, jobs=jobs, known=known)
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        _must_fit(asked.assets, out)
        tables = {entry["file"]: entry for entry in (before.tables if before else ())}
        if metadata is not None:
            entry = copy_table(metadata, out)
            tables[entry["file"]] = entry
        same = {asset.path: asset for asset in known if before and before.version == asked.version}
        all_assets = same | {asset.path: asset for asset in asked.assets}
        manifest = replace(
            asked, assets=[all_assets[path] for path in sorted(all_assets)], tables=list(tables.values())
        )
        manifest.write(out)
        return Summary(manifest, *_download_all(asked.assets, out, jobs))


def _must_fit(assets: Sequence[Asset], out: Path) -> None:
    needed, free = sum(asset.size for asset in assets if not (out / asset.path).exists()), shutil.disk_usage(out).free
    if needed > free:
        raise FetchError(
            f"{decimal(needed)} do not fit into {out} ({decimal(free)} free): choose fewer files, or another disk"
        )


def copy_table(source: str | Path, out: Path) -> dict[str, str]:
    """Lay a table of labels, from a path or an address, beside the manifest."""
    text = str(source)
    remote = text.startswith(("http://", "https://"))
    name = PurePosixPath(unquote(urlsplit(text).path)).name if remote else Path(source).name
    try:
        content = read_whole(text) if remote else Path(source).read_bytes()
    except OSError as error:
        raise FetchError(f"the table {text} cannot be read ({why(error)})") from None
    if not name or content.lstrip()[:1] in (b"<", b""):
        raise FetchError(f"{text} is no table but a page of the web, or empty: give the address of the file itself")
    (out / name).write_bytes(content)
    return {"file": name, "source": text, "sha256": hashlib.sha256(content).hexdigest(), "date": now()}


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Two fetches into one folder would write into the same unfinished files. The lock ends with its process."""
    lock = InterProcessLock(out / ".fetch.lock")
    if not lock.acquire(blocking=False):
        raise FetchError(f"another fetch is at work in {out}: wait for its end, or give another folder")
    try:
        yield
    finally:
        lock.release()


def _download_all(assets: Sequence[Asset], out: Path, jobs: int) -> tuple[list[str], list[str], dict[str, str]]:
    """The paths that were downloaded, those that were there, and the reasons of the others."""
    fetched, present, failed = [], [], {}
    stop, in_a_row = threading.Event(), 0
    with ByteBar(assets) as bar, ThreadPoolExecutor(jobs) as pool:

        def advance(count: int) -> None:
            if stop.is_set():
                raise Stopped
            bar.advance(count)

        futures = {pool.submit(_get, asset, out, advance): asset.path for asset in assets}
        try:
            for future in as_completed(futures):
                path = futures[future]
                try:
                    (fetched if future.result() else present).append(path)
                    in_a_row = 0
                except FetchError as error:
                    failed[path] = str(error)
                except OSError as error:
                    failed[path] = why(error)
                    in_a_row += getattr(error, "response", None) is None
                except Stopped:
                    failed[path] = f"not tried to the end: {GIVE_UP} files failed in a row"
                bar.ended(path, failed.get(path))
                if in_a_row >= GIVE_UP:
                    stop.set()
        finally:  # at Ctrl-C what is under way ends with its next piece, and what waits does not begin
            stop.set()
    return sorted(fetched), sorted(present), dict(sorted(failed.items()))


def _get(asset: Asset, out: Path, advance: Callable[[int], None]) -> bool:
    """Download one file; False if it is there. A wrong checksum is downloaded once more."""
    advance(0)  # has the fetch ended?
    if not asset.sha256 and not asset.etag:
        raise FetchError("DANDI lists no checksum to verify it by")
    target = out / asset.path
    if target.exists():
        if wrong := difference(target, asset):
            raise FetchError(f"the file that stands there is not DANDI's ({wrong}): move it away to fetch it")
        advance(asset.size)
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{(asset.sha256 or asset.etag)[:8]}.part")  # of this content, no other
    if part.exists():
        advance(part.stat().st_size)
    wrong = None
    for _ in range(2):
        download(asset.url, part, asset.size, advance)
        wrong = difference(part, asset)
        if wrong is None:
            os.replace(part, target)
            return True
        advance(-part.stat().st_size)
        part.unlink()
    raise FetchError(f"what came is not what DANDI lists, twice ({wrong})")


def difference(path: Path, asset: Asset) -> str | None:
    """In what a file differs from the archive's: its size, its SHA-256, or DANDI's etag where there is no SHA-256."""
    size = path.stat().st_size
    if size != asset.size:
        return f"{size} bytes, not {asset.size}"
    if asset.sha256:
        with path.open("rb") as file:
            kind, found, wanted = "sha256", hashlib.file_digest(file, "sha256").hexdigest(), asset.sha256
    else:
        kind, found, wanted = "etag", DandiETag.from_file(path).as_str(), asset.etag
    return None if found == wanted else f"{kind} {found[:12]}, not {wanted[:12]}"


class ByteBar:
    """A bar of bytes on a terminal, elsewhere a line every ten seconds: ``3 of 12 files, 75.0 MB of 301.2 MB``."""

    def __init__(self, assets: Sequence[Asset]) -> None:
        self.files, self.total = len(assets), sum(asset.size for asset in assets)
        self.done = self.bytes = self.failed = 0
        self.console = Console(file=sys.stderr)
        self.spoke = time.monotonic()
        self._lock = threading.Lock()
        columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        self._bar = Progress(
            TextColumn("{task.description}"), *columns, console=self.console, disable=not self.console.is_terminal
        )
        self._line = self._bar.add_task("", total=self.total)

    def __enter__(self) -> ByteBar:
        self._bar.start()
        if self._bar.disable:
            self._say(self._text())
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()
        if self._bar.disable:
            self._say(self._text())

    def advance(self, count: int) -> None:
        with self._lock:
            self.bytes += count
            self._bar.update(self._line, completed=self.bytes, description=f"{self.done} of {self.files} files")
            if self._bar.disable and time.monotonic() - self.spoke >= PLAIN_SECONDS:
                self._say(self._text())

    def ended(self, path: str, reason: str | None) -> None:
        self.done += 1
        self.failed += reason is not None
        self.advance(0)
        if reason is not None:
            self._say(f"{path}: {reason}")

    def _text(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.files} files, {decimal(self.bytes)} of {decimal(self.total)}{failed}"

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        self.spoke = time.monotonic()
