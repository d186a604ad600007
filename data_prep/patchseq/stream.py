"""HTTP ranges: a download that goes on where it broke off, and a remote file of which only the needed parts are read.

``h5py.File(open_remote(url), "r")`` reads a recording in an archive. What is saved is disk and bytes, rarely time:
HDF5 strews the headers of its groups over the whole file, and each costs a request. Of a file of 21 MB with 100 sweeps
one sweep came in 9 requests and 0.4 MB; the headers of all and 10 current-clamp sweeps in 234 requests and 8 MB.
Larger blocks are fewer requests and more bytes (64 KiB: 216 and 14 MB; 256 KiB: 79 and all of it).
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import requests

TIMEOUT = (10, 60)  # seconds: to connect, and between two pieces of an answer
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before the further tries of a request
PASSING = (408, 429, 500, 502, 503, 504)  # answers that another try may not get
PIECE = 1 << 18  # bytes that a broken connection or a kill loses at most
BLOCK = 1 << 15

Result = TypeVar("Result")


def open_remote(url: str, block: int = BLOCK) -> RemoteFile:
    """A file-like object for h5py which reads only the blocks that are needed."""
    return RemoteFile(url, block)


class RemoteFile(io.RawIOBase):
    """A remote file in blocks, each read once and kept until the file is closed; neighbours come in one request."""

    def __init__(self, url: str, block: int = BLOCK) -> None:
        self.url, self.block = url, block
        self._session = new_session()
        self._blocks: dict[int, bytes] = {}
        self._at = 0
        self.size = block  # until the first answer tells
        self._load(0, 0)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start, stop = self._at, min(self._at + len(view), self.size)
        if start >= stop:
            return 0
        first, last = start // self.block, (stop - 1) // self.block
        missing = [number for number in range(first, last + 1) if number not in self._blocks]
        if missing:
            self._load(missing[0], missing[-1])
        skipped = first * self.block
        found = b"".join(self._blocks[number] for number in range(first, last + 1))[start - skipped : stop - skipped]
        view[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _load(self, first: int, last: int) -> None:
        start, stop = first * self.block, min((last + 1) * self.block, self.size)
        content = patiently(lambda: self._part(start, stop))
        for number in range(first, last + 1):
            offset = (number - first) * self.block
            self._blocks[number] = content[offset : offset + self.block]

    def _part(self, start: int, stop: int) -> bytes:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        with self._session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            if answer.status_code != 206:  # the whole file is on its way: leave it there
                raise OSError(f"the server of {self.url} gives no parts of files: fetch the file instead")
            self.size = int(answer.headers["Content-Range"].rpartition("/")[2])
            content = answer.content
        if len(content) != min(stop, self.size) - start:
            raise requests.ConnectionError(f"{len(content)} bytes came of {self.url} for {stop - start}")
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._blocks.clear()
        self._session.close()
        super().close()


def download(url: str, part: Path, size: int, advance: Callable[[int], None]) -> None:
    """Bring ``part`` to ``size`` bytes, from where it ends; ``advance`` hears of every piece."""
    part.touch()
    with new_session() as session:
        patiently(lambda: _append(session, url, part, size, advance))


def _append(session: requests.Session, url: str, part: Path, size: int, advance: Callable[[int], None]) -> None:
    have = part.stat().st_size
    if have >= size:
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        answer.raise_for_status()
        if have and answer.status_code != 206:  # the server begins at the beginning, and so must the file
            advance(-have)
            have = 0
        with part.open("ab" if have else "wb", buffering=0) as file:
            for piece in answer.iter_content(PIECE):
                file.write(piece)
                advance(len(piece))


def read_whole(url: str) -> bytes:
    """A small file."""

    def once() -> bytes:
        answer = session.get(url, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.content

    with new_session() as session:
        return patiently(once)


def new_session() -> requests.Session:
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # offsets count the bytes of the file, not of a compressed answer
    return session


def patiently(work: Callable[[], Result]) -> Result:
    """Do it, and once more after each pause while the network or a busy server is to blame."""
    for pause in PAUSES:
        try:
            return work()
        except requests.RequestException as error:
            if error.response is not None and error.response.status_code not in PASSING:
                raise
        time.sleep(pause)
    return work()


def why(error: OSError) -> str:
    """A failure of the network or of the disk in a few words."""
    if isinstance(error, requests.RequestException) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not let it through"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return "the connection failed"
    return error.strerror or str(error)
