"""A server on the loopback interface that answers as the Hugging Face hub does, for tests.

It serves `ROOT/models/OWNER/NAME/REVISION/...` and `ROOT/datasets/OWNER/NAME/REVISION/...`: the part of the
hub's API that huggingface_hub 2.4 and datasets 5.2 use to look up, list and download repositories.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".parquet")  # files that the hub keeps in LFS
MAX_BODY = 1_000_000  # bytes of a POST
API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
    r"(?:/(?P<verb>revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<path>.*))?)?"
)
FILE = re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/(?P<verb>resolve)/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class Hub:
    """The repositories, what is wrong with them, and what was asked.

    Attributes:
        root: the folder described above.
        token: the one token that sees private and gated repositories.
        private, gated: names of such repositories.
        corrupt: names of files whose last byte is sent wrong.
        interrupt: how many file bodies still break off after half of their bytes.
        reset: whether these connections are reset, or closed in order.
        xet: whether large files are announced to lie in a Xet storage, which then has none of them.
        status: answers everything with this status, if it is not 0.
        requests: "METHOD path" of every request.
        tokens: every Authorization header.
    """

    root: Path
    token: str = "hf_right"
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    corrupt: set[str] = field(default_factory=set)
    interrupt: int = 0
    reset: bool = True
    xet: bool = False
    status: int = 0
    requests: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    url: str = ""

    def commit(self, kind: str, name: str, revision: str) -> tuple[str, Path] | None:
        """The commit and folder of a revision, which may be a branch or a commit."""
        for folder in sorted((self.root / kind / name).iterdir()):
            content = [(p.relative_to(folder).as_posix(), p.read_bytes()) for p in files(folder)]
            commit = hashlib.sha1(repr(content).encode()).hexdigest()
            if revision in (folder.name, commit):
                return commit, folder
        return None


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def blob(path: Path) -> dict[str, Any]:
    """How the hub describes a file: by Git's hash, and in LFS also by SHA-256."""
    content = path.read_bytes()
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "oid": oid, "size": len(content)}
    if path.suffix in LARGE:
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
    return entry


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10  # seconds without a request until a connection is closed
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the tests' output quiet."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        url = urlsplit(self.path)
        length = min(int(self.headers.get("Content-Length", 0)), MAX_BODY)
        form = parse_qs(self.rfile.read(length).decode())
        authorization = self.headers.get("Authorization", "")
        self.hub.requests.append(f"{self.command} {url.path}")
        if authorization:
            self.hub.tokens.append(authorization)
        if self.hub.status:
            return self.refuse(self.hub.status, "", "out of order")
        if url.path == "/":
            return self.send_json("the home page")
        if url.path == "/xet-token":
            access = {"X-Xet-Cas-Url": f"{self.hub.url}/xet", "X-Xet-Access-Token": "token"}
            return self.send_json({}, headers={**access, "X-Xet-Token-Expiration": "4000000000"})
        match = API.fullmatch(url.path) or FILE.fullmatch(url.path)
        if match is None:
            return self.refuse(404, "", "no such page")
        name, verb, path = match["name"], match["verb"], unquote(match["path"] or "")
        kind = "models" if match["kind"] is None else match["kind"].rstrip("/")
        known = authorization == f"Bearer {self.hub.token}"
        if authorization and not known:
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        if not (self.hub.root / kind / name).is_dir() or (name in self.hub.private and not known):
            # The hub does not tell strangers which repositories exist.
            return self.refuse(404 if known else 401, "RepoNotFound", "Repository not found")
        found = self.hub.commit(kind, name, unquote(match["revision"] or "main"))
        if found is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        commit, folder = found
        if verb == "resolve":
            if name in self.hub.gated and not known:
                return self.refuse(401, "GatedRepo", "Access is restricted")
            if not (folder / path).is_file():
                return self.refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return self.send_file(folder / path, commit)
        if verb == "tree":
            return self.send_tree(folder, path, recursive="recursive=true" in url.query.lower())
        if verb == "paths-info":
            wanted = [folder / p for p in form.get("paths", [])]
            return self.send_json([entry(folder, p) for p in wanted if p.exists() and p != folder])
        siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in files(folder)]
        identity = {"_id": commit[:24], "id": name, "sha": commit, "private": name in self.hub.private}
        return self.send_json({**identity, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0})

    def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        errors = {"X-Error-Code": code, "X-Error-Message": message} if code else {"X-Error-Message": message}
        self.send_json({"error": message}, status, {**errors, **(headers or {})})

    def send_json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def send_tree(self, folder: Path, path: str, recursive: bool) -> None:
        if not (folder / path).is_dir():
            return self.refuse(404, "EntryNotFound", "Entry not found")
        inside = (folder / path).rglob("*") if recursive else (folder / path).iterdir()
        return self.send_json([entry(folder, p) for p in sorted(inside)])

    def send_file(self, path: Path, commit: str) -> None:
        content, described = path.read_bytes(), blob(path)
        if path.name in self.hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        etag = described["lfs"]["oid"] if "lfs" in described else described["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if self.hub.xet and "lfs" in described:
            headers |= {"X-Xet-Hash": "ab" * 32, "X-Xet-Refresh-Route": f"{self.hub.url}/xet-token"}
        status = 200
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            status, content = 206, content[first : last + 1]
        if self.command == "GET" and self.hub.interrupt > 0:
            self.hub.interrupt -= 1
            return self.break_off(content, status, headers)
        return self.send(content, status, headers)

    def send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def break_off(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        """Sends half of the bytes and drops the connection."""
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        if self.hub.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())  # at once, before anybody can close it in order
        self.close_connection = True


def entry(folder: Path, path: Path) -> dict[str, Any]:
    described = blob(path) if path.is_file() else {"type": "directory", "oid": "0" * 40, "size": 0}
    return {"path": path.relative_to(folder).as_posix(), **described}


@contextmanager
def serve(root: Path) -> Iterator[Hub]:
    """Serves a folder on a free port of the loopback interface until the block ends."""
    hub = Hub(root)
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
