"""A package index and a model hub on a loopback server, as their public documents describe them."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence

from dialogue.engine.model_sources import SIMPLE_JSON, ModelSources
from tests.fakes.file_server import Fault, FileServer, Served


def sources(server: FileServer, token: str = "") -> ModelSources:
    """Return where to look when `server` is both."""
    return ModelSources(index_url=f"{server.url}/simple", hub_url=server.url, hub_token=token)


def wheel(members: Mapping[str, bytes]) -> bytes:
    """Return a wheel with these files in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("demo/__init__.py", b"raise SystemExit('never imported')")
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def publish(server: FileServer, name: str, version: str, data: bytes, *faults: Fault, sha256: str | None = None) -> Served:
    """Put a wheel on the index (PEP 691) and return what its file is asked for."""
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    other = {"filename": f"{name}-{version}.tar.gz", "url": "../../files/other", "hashes": {"sha256": "1" * 64}}
    digest = hashlib.sha256(data).hexdigest() if sha256 is None else sha256
    file = {"filename": filename, "url": f"../../files/{filename}", "hashes": {"sha256": digest}, "size": len(data)}
    page = {"meta": {"api-version": "1.1"}, "name": name, "files": [other, file]}
    server.add(f"/simple/{name}/", json.dumps(page).encode(), kind=SIMPLE_JSON)
    return server.add(f"/files/{filename}", data, *faults)


def publish_html(server: FileServer, name: str, version: str, data: bytes) -> Served:
    """Put a wheel on the index as old mirrors show it (PEP 503)."""
    filename = f"{name}-{version}-py3-none-any.whl"
    digest = hashlib.sha256(data).hexdigest()
    page = f'<!DOCTYPE html><html><body><a href="/files/{filename}#sha256={digest}">{filename}</a></body></html>'
    server.add(f"/simple/{name}/", page.encode(), kind="text/html")
    return server.add(f"/files/{filename}", data)


def publish_on_hub(
    server: FileServer,
    repository: str,
    files: Mapping[str, bytes],
    *,
    revision: str = "main",
    large: Sequence[str] = (".gguf", ".safetensors"),
) -> None:
    """Put files on the hub, in a tree of two pages; those with a `large` ending are kept by git-lfs."""
    entries: list[dict[str, object]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "folder"}]
    for name, data in files.items():
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": git_oid(data)}
        if name.endswith(tuple(large)):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        entries.append(entry)
        server.add(f"/{repository}/resolve/{revision}/{name}", data)
    tree = f"/api/models/{repository}/tree/{revision}?recursive=true"
    half = len(entries) // 2
    first = server.add(tree, json.dumps(entries[:half]).encode(), kind="application/json")
    first.headers["Link"] = f'<{server.url}{tree}&cursor=2>; rel="next"'
    server.add(f"{tree}&cursor=2", json.dumps(entries[half:]).encode(), kind="application/json")


def git_oid(data: bytes) -> str:
    """Return git's name for a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
