"""Download files that resume, are verified and appear under their name only when they are complete.

Start reading at `download_files`. Only the ``fetch`` commands call it. `data_prep.remote_file` reads parts of a remote file
without a download, and `data_prep.dandi_archive` lists what the DANDI archive holds.

A file is ``NAME.part`` (with the first digits of its checksum in front of ``.part``) until its checksum is right. After
a kill at any moment the next call requests the remaining bytes only.

The download itself is written here, because the libraries cannot do it without a loss (measured with a file of 8 MB whose
download was killed after 2 MB). `pooch` 1.9 writes to a temporary file with a random name: the second call transferred all
8.0 MB and left the first temporary file behind; here it transferred 6.2 MB. The client of DANDI 0.81 resumes, but gives a
file its final name before it compares the checksum, so that a corrupted file stays under the right name; it also accepts an
existing file by its time and size, and overwrites a changed one. DANDI's client is therefore used to list files only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import requests
from rich.filesize import decimal

from data_prep.progress import ProgressReport
from jaxephys.schemas.storage import DataError

TIMEOUT = (10, 60)  # seconds: to connect, and between two chunks of an answer
RETRY_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before each repetition of a request
TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)  # HTTP answers after which a request is repeated
CHUNK = 1 << 18  # bytes that a broken connection or a kill loses at most
MAX_CONSECUTIVE_FAILURES = 10  # after as many failures of connection or disk, the remaining files are not tried

Value = TypeVar("Value")


class DownloadError(DataError):
    """A download that is not possible; the message is one sentence with the remedy."""


class _Stopped(Exception):
    """Raised in a download thread after the others have been stopped."""


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Parameters
    ----------
    path : str
        Path below the folder of the download, with ``/`` between its parts.
    url : str
        Address of the content.
    size : int, optional
        Size in bytes; None if the source does not list it.
    sha256 : str, default ""
        SHA-256 of the content in hexadecimal digits; empty if unknown.
    etag : str, default ""
        DANDI's checksum (MD5 of the MD5s of parts of 64 MiB), used where there is no SHA-256.
    """

    path: str
    url: str
    size: int | None = None
    sha256: str = ""
    etag: str = ""


def download_files(
    files: Sequence[RemoteFile], folder: Path, *, jobs: int = 4, require_checksum: bool = False
) -> tuple[list[str], list[str], dict[str, str]]:
    """Download files into a folder; complete ones are verified and kept, and partial ones are resumed.

    A file that fails does not stop the others, unless `MAX_CONSECUTIVE_FAILURES` in a row failed for lack of a connection
    or of disk space.

    Parameters
    ----------
    files : sequence of RemoteFile
        What to download.
    folder : Path
        Where to; created if needed.
    jobs : int, default 4
        Number of simultaneous downloads.
    require_checksum : bool, default False
        Whether a file without a checksum counts as failed.

    Returns
    -------
    downloaded : list of str
        Paths of the files that were downloaded, sorted.
    present : list of str
        Paths of the files that were already complete, sorted.
    failed : dict of str to str
        Path of each other file, and the reason.

    Raises
    ------
    DownloadError
        If a path leads out of the folder.
    """
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
            raise DownloadError(f"the source lists {file.path!r}, which would be written outside of the folder")
    downloaded, present, failed = [], [], {}
    stop, failures_in_a_row = threading.Event(), 0
    total_bytes = sum(file.size or 0 for file in files)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        ProgressReport("files", len(files), total_bytes=total_bytes or None) as progress,
        ThreadPoolExecutor(jobs) as executor,
    ):

        def count_bytes(count: int) -> None:
            if stop.is_set():
                raise _Stopped
            progress.add_bytes(count)

        futures = {
            executor.submit(_download_file, file, folder, require_checksum, count_bytes): file.path for file in files
        }
        try:
            for future in as_completed(futures):
                path = futures[future]
                try:
                    (downloaded if future.result() else present).append(path)
                    failures_in_a_row = 0
                except DownloadError as error:
                    failed[path] = str(error)
                except OSError as error:
                    failed[path] = describe_error(error)
                    failures_in_a_row += getattr(error, "response", None) is None
                except _Stopped:
                    failed[path] = f"not completed: {MAX_CONSECUTIVE_FAILURES} files failed in a row"
                progress.advance(failed=path in failed)
                if path in failed:
                    progress.print_message(f"{path}: {failed[path]}")
                if failures_in_a_row >= MAX_CONSECUTIVE_FAILURES:
                    stop.set()
        finally:  # after Ctrl-C running downloads end with their next chunk, and waiting ones do not start
            stop.set()
    return sorted(downloaded), sorted(present), dict(sorted(failed.items()))


def read_url(url: str) -> bytes:
    """Return the content of a small remote file.

    Parameters
    ----------
    url : str
        Its address.

    Returns
    -------
    bytes
        The content.

    Raises
    ------
    DownloadError
        If the server cannot be reached or refuses.
    """

    def request() -> bytes:
        response = requests.get(url, timeout=TIMEOUT)
        response.raise_for_status()
        return response.content

    try:
        return with_retries(request)
    except requests.RequestException as error:
        raise DownloadError(f"{url} cannot be read ({describe_error(error)}): try again") from None


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep a second process from downloading into a folder; the lock ends with its process.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Yields
    ------
    None

    Raises
    ------
    DownloadError
        If another process holds the lock.
    """
    from fasteners import InterProcessLock

    lock = InterProcessLock(folder / ".fetch.lock")
    if not lock.acquire(blocking=False):
        raise DownloadError(f"another fetch is running in {folder}: wait for its end, or give another folder")
    try:
        yield
    finally:
        lock.release()


def check_disk_space(files: Sequence[RemoteFile], folder: Path) -> None:
    """Refuse a download that does not fit on the disk.

    Parameters
    ----------
    files : sequence of RemoteFile
        The files; those that exist need no space.
    folder : Path
        An existing folder.

    Raises
    ------
    DownloadError
        If the remaining files are larger than the free space.
    """
    needed = sum(file.size or 0 for file in files if not (folder / file.path).exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"{decimal(needed)} do not fit into {folder} ({decimal(free)} free): choose fewer files, or another disk"
        )


def describe_error(error: OSError) -> str:
    """Describe a failure of the network or of the disk in a few words.

    Parameters
    ----------
    error : OSError
        What was raised.

    Returns
    -------
    str
        For example ``"the server answers 404 Not Found"``.
    """
    if isinstance(error, requests.RequestException) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    for kind, description in (
        (requests.exceptions.SSLError, "its certificate is not accepted"),
        (requests.exceptions.ProxyError, "the proxy refuses the connection"),
        (requests.Timeout, "no answer in time"),
        (requests.ConnectionError, "the connection failed"),
        (requests.exceptions.ChunkedEncodingError, "the connection failed"),
    ):
        if isinstance(error, kind):
            return description
    return error.strerror or str(error)


def with_retries(request: Callable[[], Value]) -> Value:
    """Call a function, and again after each of `RETRY_PAUSES` while the network or a busy server fails.

    Parameters
    ----------
    request : callable
        Function without arguments that raises `requests.RequestException`.

    Returns
    -------
    object
        What the function returns.
    """
    for pause in RETRY_PAUSES:
        try:
            return request()
        except requests.RequestException as error:
            if error.response is not None and error.response.status_code not in TRANSIENT_STATUS:
                raise
        time.sleep(pause)
    return request()


def _download_file(file: RemoteFile, folder: Path, require_checksum: bool, count_bytes: Callable[[int], None]) -> bool:
    """Download one file; return False if it is already there. After a wrong checksum it is downloaded once more."""
    count_bytes(0)  # raises if the others have been stopped
    checksum = file.sha256 or file.etag
    if require_checksum and not checksum:
        raise DownloadError("the archive lists no checksum to verify it by")
    target = folder / file.path
    if target.exists():
        if difference := _difference(target, file):
            raise DownloadError(
                f"the existing file differs from the listed one ({difference}): move it away to fetch it"
            )
        count_bytes(file.size or 0)
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{checksum[:8]}.part")  # a partial file of this content and of no other
    if file.size is None:
        part.unlink(missing_ok=True)  # without a size nothing shows whether it is complete
    part.touch()
    count_bytes(part.stat().st_size)
    difference = None
    for _ in range(2):
        with_retries(lambda: _append_rest(file, part, count_bytes))
        difference = _difference(part, file)
        if difference is None:
            os.replace(part, target)
            return True
        count_bytes(-part.stat().st_size)
        part.write_bytes(b"")
    part.unlink()
    raise DownloadError(f"the downloaded file differs from the listed one, twice ({difference})")


def _append_rest(file: RemoteFile, part: Path, count_bytes: Callable[[int], None]) -> None:
    present = part.stat().st_size
    if file.size is not None and present >= file.size:
        return
    headers = {"Accept-Encoding": "identity"}  # positions count the bytes of the file, not of a compressed answer
    if present:
        headers["Range"] = f"bytes={present}-"
    with requests.get(file.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        if present and response.status_code != 206:  # the server sends the whole file
            count_bytes(-present)
            present = 0
        with part.open("ab" if present else "wb", buffering=0) as output:
            for chunk in response.iter_content(CHUNK):
                output.write(chunk)
                count_bytes(len(chunk))


def _difference(path: Path, file: RemoteFile) -> str | None:
    """Return how a local file differs from the listed one: in size, SHA-256, or DANDI's etag where there is no SHA-256."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size} bytes, not {file.size}"
    if file.sha256:
        with path.open("rb") as content:
            kind, actual, expected = "sha256", hashlib.file_digest(content, "sha256").hexdigest(), file.sha256
    elif file.etag:
        from dandischema.digests.dandietag import DandiETag

        kind, actual, expected = "etag", DandiETag.from_file(path).as_str(), file.etag
    else:
        return None
    return None if actual == expected else f"{kind} {actual[:12]}, not {expected[:12]}"
