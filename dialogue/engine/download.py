"""One big file from an HTTP server onto the disk: resumed where it broke off, verified before it gets its name.

It knows nothing of models. Bytes arrive in `NAME.part`, which stays when the network fails or the user presses Ctrl-C and
goes when its bytes turn out wrong or the disk is full. Every way to fail ends in one sentence with a remedy.
"""

import errno
import hashlib
import shutil
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import httpx2

from dialogue.errors import ModelDownloadFailed, ModelHashMismatch

Progress = Callable[[int, int], None]  # bytes that are there, bytes in all

CHUNK_BYTES = 1 << 20
HEADROOM_BYTES = 64 << 20  # of the disk is left to others, the database among them
TIMEOUT = httpx2.Timeout(30.0, connect=15.0)  # seconds of silence, not of the whole download
PAUSES_S = (0.5, 1.0, 2.0, 4.0)  # before each further try without a byte of progress
_WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that somebody promised."""

    url: str
    sha256: str  # lower-case hexadecimal; from the index, not from the server that sends the bytes
    size: int | None  # bytes; None = the index does not say
    headers: Mapping[str, str] = field(default_factory=dict)  # sent along, such as an authorisation


class _TryAgainError(Exception):
    """The transfer broke off in a way that often heals."""


def new_client() -> httpx2.Client:
    """Return a client that follows redirects and uses the system's proxies and certificates."""
    return httpx2.Client(timeout=TIMEOUT, follow_redirects=True, headers={"User-Agent": "kefu", "Accept-Encoding": "identity"})


def download(
    client: httpx2.Client, file: RemoteFile, target: Path, progress: Progress | None = None, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Bring `file` to `target`; a `.part` of an earlier try is continued. Wrong bytes are fetched once more from the start.

    Raises ModelDownloadFailed and ModelHashMismatch.
    """
    part = target.with_name(f"{target.name}.part")
    with disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        for last_try in (False, True):
            _transfer(client, file, part, progress or (lambda _done, _total: None), sleep)
            if file_sha256(part) == file.sha256:
                part.replace(target)
                return
            part.unlink()
            if last_try:
                raise ModelHashMismatch(
                    f"{shown(file.url)} sends other bytes than its index promises, twice; they were deleted. "
                    "Try again later; if it stays so, a proxy on the way or the server itself changes the file."
                )


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_space(folder: Path, needed: int) -> None:
    """Raise ModelDownloadFailed unless `needed` bytes fit into `folder` with room to spare."""
    free = shutil.disk_usage(folder).free
    if free < needed + HEADROOM_BYTES:
        raise ModelDownloadFailed(
            f"The model needs {_mib(needed + HEADROOM_BYTES)} in {folder}, but {_mib(free)} are free. "
            "Free some space or let the setting paths.cache_dir name a folder on another disk."
        )


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the disk under `folder` into ModelDownloadFailed."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            sentence = f"The disk of {folder} is full; what had arrived was deleted. Free some space, then try again."
        elif error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            sentence = f"The folder {folder} cannot be written. Let the setting paths.cache_dir name one that can."
        else:
            sentence = f"The folder {folder} cannot be used ({error.strerror or error}). Let the setting paths.cache_dir name another."
        raise ModelDownloadFailed(sentence) from error


@contextmanager
def network_errors(url: str) -> Iterator[None]:
    """Turn errors of the network into ModelDownloadFailed."""
    try:
        yield
    except httpx2.HTTPStatusError as error:
        refuse(error.response)
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
        raise ModelDownloadFailed(_why_unreachable(url, error)) from error


def refuse(response: httpx2.Response) -> NoReturn:
    """Raise ModelDownloadFailed for an answer that is none."""
    url = shown(str(response.request.url))
    match response.status_code:
        case 401 | 403:
            remedy = "The model may need a permission: ask its owners for it and set HF_TOKEN, or name another model."
        case 404 | 410:
            remedy = "Check the name, the version and the file in the model reference."
        case _:
            remedy = "Try again later."
    raise ModelDownloadFailed(f"{url} answered {response.status_code}. {remedy}")


def shown(url: str) -> str:
    """Return a URL without user, password and query, for messages."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _transfer(client: httpx2.Client, file: RemoteFile, part: Path, progress: Progress, sleep: Callable[[float], None]) -> None:
    """Bring the rest of `file` into `part`. Gives up after len(PAUSES_S) tries in a row that brought nothing."""
    failures = 0
    while True:
        before = _size(part)
        try:
            with network_errors(file.url):
                return _continue(client, file, part, progress)
        except _TryAgainError as error:
            failures = 0 if _size(part) > before else failures
            if failures == len(PAUSES_S):
                raise ModelDownloadFailed(str(error)) from error.__cause__
            sleep(PAUSES_S[failures])
            failures += 1
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                part.unlink(missing_ok=True)
            raise


def _continue(client: httpx2.Client, file: RemoteFile, part: Path, progress: Progress) -> None:
    """Ask for what is missing and append it. Raises _TryAgainError with the sentence to give up with."""
    done = _size(part)
    if file.size is not None and done >= file.size:
        if done == file.size:
            return
        part.unlink()
        done = 0
    check_space(part.parent, (file.size or 0) - done)
    headers = {**file.headers, **({"Range": f"bytes={done}-"} if done else {})}
    try:
        with client.stream("GET", file.url, headers=headers) as response:
            if response.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
                raise _TryAgainError(f"{shown(file.url)} does not send the rest of a broken download. Try again.")
            _store(_checked(response), file, part, progress)
    except httpx2.TransportError as error:
        raise _TryAgainError(_why_unreachable(file.url, error)) from error


def _checked(response: httpx2.Response) -> httpx2.Response:
    if response.status_code in _WORTH_RETRYING:
        raise _TryAgainError(f"{shown(str(response.request.url))} answered {response.status_code}. Try again later.")
    if response.status_code not in {httpx2.codes.OK, httpx2.codes.PARTIAL_CONTENT}:
        refuse(response)
    return response


def _store(response: httpx2.Response, file: RemoteFile, part: Path, progress: Progress) -> None:
    """Append what comes, as it comes, so that little is lost when it breaks off. A server that does not continue begins anew."""
    done = _size(part) if _continues(response, _size(part)) else 0
    total = file.size or done + int(response.headers.get("Content-Length", 0))
    with part.open("ab" if done else "wb") as stream:
        progress(done, total)
        for chunk in response.iter_bytes():
            done += len(chunk)
            if file.size is not None and done > file.size:
                break  # more than was promised: the hash will say so
            stream.write(chunk)
            progress(done, total)
    if file.size is not None and done < file.size:
        raise _TryAgainError(f"{shown(file.url)} broke off after {_mib(done)} of {_mib(total)}; they are kept. Try again.")


def _continues(response: httpx2.Response, offset: int) -> bool:
    return response.status_code == httpx2.codes.PARTIAL_CONTENT and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _why_unreachable(url: str, error: Exception) -> str:
    host = urlsplit(url).hostname or url
    if isinstance(error, httpx2.ProxyError):
        return f"The proxy on the way to {host} refuses ({error}). Check HTTPS_PROXY and NO_PROXY."
    if _is_certificate_trouble(error):
        return f"The certificate of {host} is not trusted ({error}). Behind a company's proxy let SSL_CERT_FILE name its certificate."
    if isinstance(error, httpx2.TimeoutException):
        return f"{host} does not answer in time; what has arrived is kept. Check the network, then try again."
    if isinstance(error, httpx2.ConnectError):
        return f"{host} cannot be reached ({error}). Check the network; without one, let the setting model.reference name a file."
    return f"The connection to {host} broke ({type(error).__name__}: {error}); what has arrived is kept. Try again."


def _is_certificate_trouble(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
