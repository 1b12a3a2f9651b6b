"""Promises of a download that may break, lie, stall or find no room."""

import errno
import hashlib
import os
import random
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import httpx2
import pytest

from dialogue.engine.download import HEADROOM_BYTES, PAUSES_S, RemoteFile, disk_errors, download
from dialogue.errors import ModelDownloadFailed, ModelHashMismatch
from tests.fakes.file_server import Fault, FileServer, Served, file_server

DATA = random.Random(1).randbytes(5_000_000)
PATH = "/big.gguf"


class Scene(NamedTuple):
    """A server with a file and a place for it."""

    server: FileServer
    target: Path
    part: Path
    client: httpx2.Client
    pauses: list[float]

    def fetch(self, *faults: Fault, sha256: str = hashlib.sha256(DATA).hexdigest(), size: int | None = len(DATA)) -> Served:
        served = self.server.add(PATH, DATA, *faults)
        download(self.client, RemoteFile(self.server.url + PATH, sha256, size), self.target, sleep=self.pauses.append)
        assert self.target.read_bytes() == DATA
        assert not self.part.exists()
        return served


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with file_server() as server, httpx2.Client(timeout=0.3, follow_redirects=True, trust_env=False) as client:
        yield Scene(server, tmp_path / "model.gguf", tmp_path / "model.gguf.part", client, [])


def test_a_file_arrives(scene: Scene) -> None:
    """A good server is asked once."""
    assert len(scene.fetch().requests) == 1
    assert scene.pauses == []


def test_progress(scene: Scene) -> None:
    """Progress grows from 0 to the size."""
    scene.server.add(PATH, DATA)
    seen: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        seen.append((done, total))

    file = RemoteFile(scene.server.url + PATH, hashlib.sha256(DATA).hexdigest(), len(DATA))
    download(scene.client, file, scene.target, note)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == ((0, len(DATA)), (len(DATA), len(DATA)))


@pytest.mark.parametrize("size", [len(DATA), None])
def test_a_broken_download_goes_on(scene: Scene, size: int | None) -> None:
    """What arrived before the connection broke is not sent again."""
    served = scene.fetch(Fault(breaks_after=2_000_000), Fault(breaks_after=1_000_000), size=size)
    assert [request.get("range") for request in served.requests] == [None, "bytes=2000000-", "bytes=3000000-"]
    assert served.sent == len(DATA)


def test_a_stalled_download_goes_on(scene: Scene) -> None:
    """Silence counts as a break."""
    served = scene.fetch(Fault(stalls_after=2_000_000))
    assert served.requests[1]["range"] == "bytes=2000000-"


def test_a_later_call_goes_on(scene: Scene) -> None:
    """What an earlier program left behind is continued."""
    scene.part.write_bytes(DATA[:1234])
    assert scene.fetch().requests[0]["range"] == "bytes=1234-"


@pytest.mark.parametrize("fault", [Fault(ignores_range=True), Fault(wrong_range=True)])
def test_a_server_that_cannot_continue(scene: Scene, fault: Fault) -> None:
    """A server that begins anew, whatever it was asked, still gives the right file."""
    scene.fetch(Fault(breaks_after=2_000_000), fault)


@pytest.mark.parametrize("leftover", [DATA + b"more", b"x" * len(DATA), DATA[:-1] + b"x", b"wrong beginning"])
def test_a_wrong_leftover_is_dropped(scene: Scene, leftover: bytes) -> None:
    """A partial file with other bytes leads to a clean restart, not to a wrong file."""
    scene.part.write_bytes(leftover)
    scene.fetch()


def test_a_whole_leftover_needs_no_server(scene: Scene) -> None:
    """A file whose renaming did not happen any more is only verified."""
    scene.part.write_bytes(DATA)
    assert scene.fetch().requests == []


def test_wrong_bytes_once(scene: Scene) -> None:
    """A changed byte is noticed and the file fetched again from the start."""
    served = scene.fetch(Fault(flips=4_000_000))
    assert [request.get("range") for request in served.requests] == [None, None]


def test_wrong_bytes_always(scene: Scene) -> None:
    """A server that keeps sending other bytes ends in ModelHashMismatch, and nothing of it stays."""
    with pytest.raises(ModelHashMismatch, match="Try again later"):
        scene.fetch(sha256="0" * 64)
    assert list(scene.target.parent.iterdir()) == []


def test_more_bytes_than_promised(scene: Scene) -> None:
    """A server cannot fill the disk: nothing is taken beyond the promised size."""
    sizes: list[int] = []
    scene.server.add(PATH, DATA)
    file = RemoteFile(scene.server.url + PATH, "0" * 64, 1_500_000)
    with pytest.raises(ModelHashMismatch):
        download(scene.client, file, scene.target, lambda done, _: sizes.append(done))
    assert max(sizes) <= 1_500_000


def test_a_moment_of_trouble_is_waited_out(scene: Scene) -> None:
    """500 and 503 are tried again after growing pauses."""
    scene.fetch(Fault(status=500), Fault(status=503), Fault(status=500))
    assert scene.pauses == list(PAUSES_S[:3])


def test_lasting_trouble_ends(scene: Scene) -> None:
    """A server that never recovers is given up with a sentence."""
    with pytest.raises(ModelDownloadFailed, match=r"answered 500\. Try again later\."):
        scene.fetch(*[Fault(status=500)] * 9)
    assert scene.pauses == list(PAUSES_S)


def test_a_connection_that_always_breaks_ends(scene: Scene) -> None:
    """Breaking at the same place for ever is given up; what arrived is kept."""
    with pytest.raises(ModelDownloadFailed, match=r"kept\. Try again"):
        scene.fetch(Fault(breaks_after=1000), *[Fault(breaks_after=0)] * 9)
    assert scene.part.read_bytes() == DATA[:1000]


@pytest.mark.parametrize(("status", "remedy"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "Check the name"), (418, "Try again later")])
def test_refusals_are_not_repeated(scene: Scene, status: int, remedy: str) -> None:
    """What will not change is told at once."""
    with pytest.raises(ModelDownloadFailed, match=remedy):
        scene.fetch(Fault(status=status))
    assert scene.pauses == []


def test_no_network(tmp_path: Path) -> None:
    """A server that is not there ends in a sentence that names the way without one."""
    with (
        httpx2.Client(trust_env=False) as client,
        pytest.raises(ModelDownloadFailed, match=r"127\.0\.0\.1 cannot be reached.*model.reference"),
    ):
        download(client, RemoteFile("http://127.0.0.1:9/x", "0" * 64, 1), tmp_path / "x", sleep=lambda _: None)


def certificate_error() -> httpx2.ConnectError:
    error = httpx2.ConnectError("handshake failed")
    error.__cause__ = ssl.SSLCertVerificationError("unable to get local issuer certificate")
    return error


@pytest.mark.parametrize(
    ("error", "remedy"),
    [(certificate_error(), "SSL_CERT_FILE"), (httpx2.ProxyError("407"), "HTTPS_PROXY"), (httpx2.ReadError("reset"), "kept")],
)
def test_network_errors_are_told_apart(tmp_path: Path, error: httpx2.TransportError, remedy: str) -> None:
    """A proxy, a certificate and a broken connection each have their own remedy."""

    def fail(_: httpx2.Request) -> httpx2.Response:
        raise error

    with httpx2.Client(transport=httpx2.MockTransport(fail)) as client, pytest.raises(ModelDownloadFailed, match=remedy):
        download(client, RemoteFile("https://index.example/x", "0" * 64, 1), tmp_path / "x", sleep=lambda _: None)


def test_secrets_stay_out_of_errors(scene: Scene) -> None:
    """User, password and query of a URL are in no message."""
    url = scene.server.url.replace("http://", "http://someone:secret@") + "/missing?token=secret"
    with pytest.raises(ModelDownloadFailed) as caught:
        download(scene.client, RemoteFile(url, "0" * 64, 1), scene.target)
    assert "secret" not in str(caught.value)
    assert "/missing" in str(caught.value)


def test_too_little_room_is_told_before(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for the file nothing is fetched."""
    usage = shutil.disk_usage(scene.target.parent)._replace(free=HEADROOM_BYTES + len(DATA) - 1)
    monkeypatch.setattr(shutil, "disk_usage", Mock(return_value=usage))
    with pytest.raises(ModelDownloadFailed, match=r"needs 69 MiB.*Free some space"):
        scene.fetch()
    assert scene.server.files[PATH].requests == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up(scene: Scene) -> None:
    """A full disk ends in a sentence, and what had arrived makes room again."""
    scene.part.symlink_to("/dev/full")
    with pytest.raises(ModelDownloadFailed, match="is full; what had arrived was deleted"):
        scene.fetch()
    assert not scene.part.is_symlink()


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EROFS, "cannot be written"), (errno.EACCES, "cannot be written"), (errno.ENOTDIR, "cannot be used")]
)
def test_a_disk_that_cannot_be_written(number: int, words: str) -> None:
    """A read-only disk names the setting that leads elsewhere."""
    with pytest.raises(ModelDownloadFailed, match=f"/cache {words}.*paths.cache_dir"), disk_errors(Path("/cache")):
        raise OSError(number, os.strerror(number))


def test_a_file_in_the_way(scene: Scene, tmp_path: Path) -> None:
    """A cache folder that cannot be made ends in the same sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelDownloadFailed, match=r"paths\.cache_dir"):
        scene._replace(target=tmp_path / "file" / "model.gguf").fetch()


def test_ctrl_c_keeps_what_arrived(scene: Scene) -> None:
    """An interrupted download goes on at the next call."""
    served = scene.server.add(PATH, DATA)
    file = RemoteFile(scene.server.url + PATH, hashlib.sha256(DATA).hexdigest(), len(DATA))

    def interrupt(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(scene.client, file, scene.target, interrupt)
    kept = scene.part.stat().st_size
    assert 0 < kept < len(DATA)
    download(scene.client, file, scene.target)
    assert served.requests[-1]["range"] == f"bytes={kept}-"
    assert scene.target.read_bytes() == DATA
