"""A small DANDI archive on the loopback: the used part of its API, files by ranges, and a count of the bytes sent."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dandischema.digests.dandietag import ETagHashlike

DATE = "2021-09-13T16:39:00Z"
PAGE = 2  # assets a page, so that every list has several
PIECE = 1 << 16


class Archive:
    """One dandiset with one published version, as a context manager. Faults are set on it while it runs."""

    def __init__(self, files: Mapping[str, bytes], number: str = "000020", version: str = "0.210913.1639") -> None:
        self.files, self.number, self.version = dict(files), number, version
        self.ids = {path: f"00000000-0000-4000-8000-{index:012d}" for index, path in enumerate(self.files)}
        self.sent: Counter[str] = Counter()  # path -> bytes of its content
        self.ranges: list[tuple[str, int]] = []  # path and first byte of every request for content
        self.api_requests: Counter[str] = Counter()  # path in the API -> requests
        self.corrupt: Counter[str] = Counter()  # path -> number of further answers with one wrong byte
        self.busy: Counter[str] = Counter()  # path -> number of further answers that are 503
        self.broken: Counter[str] = Counter()  # path -> number of further answers that end in the middle
        self.missing: set[str] = set()  # paths whose content is 404
        self.digests = ["dandi:dandi-etag", "dandi:sha2-256"]  # checksums that the API lists
        self.pages: dict[str, bytes] = {}  # path -> other content of the server
        self.takes_ranges = True
        self.pause = 0.0  # seconds between two pieces

    def __enter__(self) -> Archive:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"archive": self}))
        self._server.daemon_threads = True
        self.root = f"http://127.0.0.1:{self._server.server_port}"
        self.api = f"{self.root}/api"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"{self.root}/blobs/{self.ids[path]}"

    # The API.

    def answer(self, path: str, page: int) -> object | None:
        published = dict(version=self.version, name="Patch-seq", status="Published", asset_count=len(self.files))
        published |= dict(size=sum(map(len, self.files.values())), created=DATE, modified=DATE)
        versions = dict(most_recent_published_version=published, draft_version=published | {"version": "draft"})
        person = dict(identifier=self.number, contact_person="", embargo_status="OPEN", created=DATE, modified=DATE)
        server = {"version": "0.3", "services": {"api": {"url": self.api}}}
        dandiset = f"/dandisets/{self.number}/"
        of_version = f"{dandiset}versions/{self.version}/"
        known = {
            "/info/": server | {"cli-minimal-version": "0.60.0", "cli-bad-versions": []},
            dandiset: person | versions,
            of_version: dict(license=["spdx:CC-BY-4.0"], citation="Nobody (2021) Nothing. DANDI archive."),
            f"{of_version}assets/": self._page(f"{self.api}{of_version}assets/", page),
            **{f"{of_version}assets/{self.ids[name]}/": self._about(name) for name in self.files},
        }
        return known.get(path)

    def _page(self, url: str, page: int) -> object:
        listed = list(reversed(self.files))  # in an order that a client cannot rely on
        results = [
            dict(
                asset_id=self.ids[name],
                blob=self.ids[name],
                path=name,
                size=len(self.files[name]),
                created=DATE,
                modified=DATE,
            )
            for name in listed[(page - 1) * PAGE : page * PAGE]
        ]
        following = f"{url}?page={page + 1}" if page * PAGE < len(listed) else None
        return dict(count=len(listed), next=following, previous=None, results=results)

    def _about(self, name: str) -> object:
        etag = ETagHashlike(len(self.files[name]))
        etag.update(self.files[name])
        counted = {
            "dandi:dandi-etag": etag.hexdigest(),
            "dandi:sha2-256": hashlib.sha256(self.files[name]).hexdigest(),
        }
        digest = {kind: counted[kind] for kind in self.digests}
        download = f"{self.api}/assets/{self.ids[name]}/download/"
        return {"path": name, "digest": digest, "contentUrl": [download, self.url(name)]}


class Handler(BaseHTTPRequestHandler):
    archive: Archive
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a short answer does not wait for the one before it to be acknowledged

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith("/blobs/"):
            names = [name for name, number in self.archive.ids.items() if path == f"/blobs/{number}"]
            return self._content(names[0]) if names else self._send_answer(404, b"")
        if path in self.archive.pages:
            return self._send_answer(200, self.archive.pages[path])
        page = re.search(r"page=(\d+)", query)
        self.archive.api_requests[path] += 1
        found = self.archive.answer(path.removeprefix("/api"), int(page[1]) if page else 1)
        return (
            self._send_answer(200, json.dumps(found).encode()) if found is not None else self._send_answer(404, b"{}")
        )

    def _send_answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _content(self, name: str) -> None:
        archive, content = self.archive, self.archive.files[name]
        if name in archive.missing:
            return self._send_answer(404, b"")
        if archive.busy[name] > 0:
            archive.busy[name] -= 1
            return self._send_answer(503, b"")
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if archive.takes_ranges else None
        first = int(requested[1]) if requested else 0
        last = min(int(requested[2]), len(content) - 1) if requested and requested[2] else len(content) - 1
        if archive.corrupt[name] > 0:
            archive.corrupt[name] -= 1
            content = content[:first] + bytes([content[first] ^ 1]) + content[first + 1 :]
        archive.ranges.append((name, first))
        self.send_response(206 if requested else 200)
        if requested:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self._send(name, content[first : last + 1])

    def _send(self, name: str, body: bytes) -> None:
        archive = self.archive
        if archive.broken[name] > 0:
            archive.broken[name] -= 1
            body, self.close_connection = body[: len(body) // 2], True
        for start in range(0, len(body), PIECE):
            piece = body[start : start + PIECE]
            archive.sent[name] += len(
                piece
            )  # counted first, because a test may read it as soon as the last piece arrives
            try:
                self.wfile.write(piece)
            except ConnectionError:  # the client has left
                archive.sent[name] -= len(piece)
                self.close_connection = True
                return
            time.sleep(archive.pause)

    def log_message(self, format: str, *args: object) -> None:
        pass
