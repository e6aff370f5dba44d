"""A local stand-in of the hub over HTTP: what ``huggingface_hub`` asks of it, and every way it may fail.

HEAD, GET /OWNER/NAME/resolve/REVISION/FILE     X-Repo-Commit, ETag, Content-Length, ranges
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

import pytest
from huggingface_hub import constants

_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>[^?]+)")


class HubServer:
    """Serves repositories from memory; use as a context manager.

    Attributes:
        files: repository -> commit -> file name -> bytes.
        branches: repository -> revision -> commit.
        requests: what was asked: method, path, the Range header.
        cut_after: if set, the next GET of more sends this many bytes and breaks the connection.
        dies: whether nobody answers after that cut.
        gated: repositories that return 403.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.cut_after: int | None = None
        self.dies = False
        self.gated: set[str] = set()
        self._dead = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub.respond(self, body=False)

            def do_GET(self) -> None:
                hub.respond(self, body=True)

            def log_message(self, format: str, *arguments: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, repository: str, folder: Path, branch: str = "main") -> str:
        """Serve the files of a folder as a new commit of a branch; returns the commit."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        digest = hashlib.sha1(repr([(name, hashlib.sha1(data).hexdigest()) for name, data in files.items()]).encode())
        commit = digest.hexdigest()
        self.files.setdefault(repository, {})[commit] = files
        self.branches.setdefault(repository, {})[branch] = commit
        return commit

    def asked(self, method: str, file: str) -> int:
        """How often a file was asked for."""
        return sum(each == method and path.endswith(f"/{file}") for each, path, _ in self.requests)

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def revive(self) -> None:
        """Answer again."""
        self._dead = self.dies = False

    def stop(self) -> None:
        """From now on nobody answers."""
        self._server.shutdown()
        self._server.server_close()

    def respond(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        """One request."""
        if self._dead:
            request.close_connection = True
            return None
        asked_range = request.headers.get("Range")
        self.requests.append((request.command, request.path, asked_range))
        match = _RESOLVE.match(request.path)
        if match is None or match["repo"] not in self.files:
            return self._refuse(request, 404 if match is None else 401, "RepoNotFound", "Repository Not Found", body)
        repository, revision, file = match["repo"], match["revision"], match["file"]
        if repository in self.gated:
            return self._refuse(request, 403, "GatedRepo", "Access to this model is restricted", body)
        commit = self.branches[repository].get(revision, revision)
        if commit not in self.files[repository]:
            return self._refuse(request, 404, "RevisionNotFound", "Invalid rev id", body)
        if file not in self.files[repository][commit]:
            return self._refuse(request, 404, "EntryNotFound", "Entry not found", body, commit)
        data = self.files[repository][commit][file]
        start = int(asked_range.removeprefix("bytes=").split("-")[0]) if asked_range else 0
        request.send_response(206 if asked_range else 200)
        request.send_header("X-Repo-Commit", commit)
        request.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        request.send_header("Accept-Ranges", "bytes")
        if asked_range:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        if not body:
            return None
        if self.cut_after is not None and len(data) - start > self.cut_after:
            request.wfile.write(data[start : start + self.cut_after])
            request.wfile.flush()
            self.cut_after, self._dead = None, self.dies
            request.close_connection = True
            return None
        request.wfile.write(data[start:])
        return None

    def _refuse(
        self, request: BaseHTTPRequestHandler, status: int, code: str, message: str, body: bool, commit: str = ""
    ) -> None:
        data = json.dumps({"error": message}).encode()
        request.send_response(status)
        request.send_header("X-Error-Code", code)
        request.send_header("X-Error-Message", message)
        if commit:
            request.send_header("X-Repo-Commit", commit)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if body:
            request.wfile.write(data)


def use_server(server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the hub's library at the stand-in, with a cache of its own."""
    template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
