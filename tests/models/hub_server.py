"""A stand-in of the Hugging Face hub on this machine: the requests that the client makes to push and to fetch files, and no others."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class HubServer(ThreadingHTTPServer):
    """Repositories in memory: by name a list of commits, each a dict of contents by path.

    ``requests`` holds the method and path of every request, ``refused`` the status that all writing requests are answered with.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.requests: list[str] = []
        self.refused = 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def sha(self, repository: str, commit: int) -> str:
        return hashlib.sha1(f"{repository} {commit}".encode()).hexdigest()

    def content(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit hash and the files at a revision."""
        commits = self.repositories[repository]
        for index in range(len(commits)):
            if revision in (self.sha(repository, index), "main" if index == len(commits) - 1 else None):
                return self.sha(repository, index), commits[index]
        return None


class Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Print nothing."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self._path()
        if self.server.refused:
            return self._answer({"error": "refused"}, self.server.refused)
        if path == ["api", "validate-yaml"]:
            return self._answer({})
        if path == ["api", "repos", "create"]:
            repository = "{organization}/{name}".format(**json.loads(body))
            status = 409 if repository in self.server.repositories else 200
            self.server.repositories.setdefault(repository, [{}])
            return self._answer({"url": f"{self.server.endpoint}/{repository}"}, status)
        _, _, owner, name, action, _ = path
        repository = f"{owner}/{name}"
        if action == "preupload":
            wanted = json.loads(body)["files"]
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in wanted]
            return self._answer({"files": files})
        files = dict(self.server.repositories[repository][-1])
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del files[line["value"]["path"]]
        self.server.repositories[repository].append(files)
        sha = self.server.sha(repository, len(self.server.repositories[repository]) - 1)
        self._answer({"commitUrl": f"{self.server.endpoint}/{repository}/commit/{sha}", "commitOid": sha})

    def do_GET(self):
        path = self._path()
        owner, name, *words = path[2:] if path[0] == "api" else path
        action, revision, *rest = words or ("revision", "main")
        repository = f"{owner}/{name}"
        if repository not in self.server.repositories:
            return self._answer({"error": "none"}, 404, {"X-Error-Code": "RepoNotFound"})
        found = self.server.content(repository, revision)
        if found is None:
            return self._answer({"error": "none"}, 404, {"X-Error-Code": "RevisionNotFound"})
        sha, files = found
        if action == "revision":
            siblings = [{"rfilename": path} for path in files]
            return self._answer({"id": repository, "sha": sha, "siblings": siblings})
        if action == "tree":
            tree = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
            return self._answer(tree)
        content = files["/".join(rest)]
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": sha}
        self._answer(content, 200, headers)

    do_HEAD = do_GET

    def _path(self) -> list[str]:
        self.server.requests.append(f"{self.command} {self.path}")
        return unquote(urlsplit(self.path).path).strip("/").split("/")

    def _answer(self, content, status=200, headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
