"""The servers of a remote engine: looked at before they are used, and looked after."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from dialogue.config import RemoteConfig
from dialogue.engine.remote import RemoteEngine
from dialogue.engine.remote_fleet import Fleet
from dialogue.errors import EngineUnavailable
from tests.dialogue.engine.remote_scene import KEY, OFTEN, answer, engine_at, two_servers, until_health
from tests.fakes.completion_server import (
    completion_server,
)


async def test_a_server_that_comes_later() -> None:
    """One of two servers is enough to start; the other is used once it is there, and counts among the slots from the start."""
    async with completion_server() as gone:
        port = int(gone.url.rpartition(":")[2])
    now = [0.0]
    async with completion_server() as there, engine_at(gone, there, timeouts=OFTEN, clock=lambda: now[0], slots=3) as engine:
        assert engine.health().detail.startswith("1 of 2")
        assert (await engine.start()).slots == 6
        now[0] += 2.0
        async with completion_server(port):
            await until_health(engine, "2 of 2")


async def test_an_idle_server_that_falls_ill() -> None:
    """A server that nobody uses is asked how it is: when it is ill or gone, no conversation has to find out."""
    now = [0.0]
    async with two_servers() as (first, second, _), engine_at(first, second, timeouts=OFTEN, clock=lambda: now[0]) as engine:
        for ill in ({"health": 503}, {"is_down": True}):
            vars(first).update(ill)
            await until_health(engine, "1 of 2")
            first.seen.clear()
            await answer(engine)
            assert first.completions() == []
            vars(first).update(health=200, is_down=False)
            now[0] += 60.0
            await until_health(engine, "2 of 2")


async def test_a_proxy_that_hides_the_health_page() -> None:
    """A page that is not there says nothing against the server behind it."""
    async with completion_server(health=404) as server, engine_at(server, timeouts=OFTEN) as engine:
        async with asyncio.timeout(10):
            while sum(request.path == "/health" for request in server.seen) < 2:  # noqa: ASYNC110 - a list of the fake
                await asyncio.sleep(0.01)
        assert engine.health().detail == "1 of 1 servers answer"


def _three_ids(_: str) -> list[int]:
    return [1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "openai"}, "not vLLM, SGLang or llama.cpp"),
        ({"takes_ids": False}, "does not take token ids"),
        ({"keys": {"another"}}, "refuses the key"),
        ({"model": "other"}, "does not serve 'base'"),
        ({"context": None}, "how long its context is"),
        ({"tokenize": _three_ids}, "other tokens than remote.tokenizer"),
    ],
    ids=["another kind", "no ids", "wrong key", "another model", "no context", "another tokenizer"],
)
async def test_unfit_servers_are_refused(settings: dict[str, Any], words: str) -> None:
    """A server that cannot serve is refused at the start, with a sentence that says what is wrong."""
    async with completion_server(**settings) as server:
        engine = RemoteEngine(RemoteConfig((server.url,), "base", KEY), encode=_bytes_of)
        try:
            with pytest.raises(EngineUnavailable, match=words) as caught:
                await engine.start()
            assert server.url.removeprefix("http://") in str(caught.value)
        finally:
            await engine.close()


def _bytes_of(text: str) -> list[int]:
    return list(text.encode())


async def test_the_same_tokenizer_is_accepted() -> None:
    """A server that cuts the probe texts as we do is accepted; one without /tokenize is accepted with a warning."""
    for page, warnings in ((_bytes_of, 0), (None, 1)):
        with capture_logs() as logs:
            async with completion_server(tokenize=page) as server:
                engine = RemoteEngine(RemoteConfig((server.url,), "base"), encode=_bytes_of)
                await engine.start()
                await engine.close()
        assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["remote_tokenizer_unchecked"] * warnings


async def test_an_old_vllm_is_warned_about() -> None:
    """A vLLM before 0.33 is used with a warning."""
    for version, warned in (("0.32.1", True), ("0.33.0", False), ("1.0.0", False)):
        with capture_logs() as logs:
            async with completion_server(version=version) as server, engine_at(server):
                pass
        assert any(entry["event"] == "remote_server_old" for entry in logs) is warned


async def test_nobody_there() -> None:
    """A server that is not there is named, and starting again later is possible."""
    async with completion_server() as gone:
        port = int(gone.url.rpartition(":")[2])
    engine = RemoteEngine(RemoteConfig((gone.url,), "base"))
    with pytest.raises(EngineUnavailable, match=f"127.0.0.1:{port} does not answer"):
        await engine.start()
    async with completion_server(port):
        assert (await engine.start()).engine == "remote(vllm)"
        await engine.close()


@pytest.mark.parametrize("url", ["http://user:pass@host", "ftp://host", "host:80", "http://host/?key=1"])
def test_addresses_with_secrets_are_refused(url: str) -> None:
    """An address takes no password and no query: those end in logs."""
    with pytest.raises(EngineUnavailable) as caught:
        RemoteEngine(RemoteConfig((url,), "base"))
    assert "pass@" not in str(caught.value)


async def test_the_looks_go_on_after_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that ends in an unexpected error is told to the log, and the next one finds the server; once, there was no next one."""
    look = Fleet.look

    async def broken(_: Fleet) -> None:
        monkeypatch.setattr(Fleet, "look", look)
        raise OverflowError("a defect")

    async with completion_server() as server, engine_at(server, timeouts=OFTEN) as engine:
        with capture_logs() as logs:
            monkeypatch.setattr(Fleet, "look", broken)
            vars(server).update(health=503)
            await until_health(engine, "0 of 1")
    assert "remote_look_broke" in [entry["event"] for entry in logs]


async def test_a_defect_in_an_examination() -> None:
    """An examination that ends in an unexpected error is one server's failure, told as such, and keeps no other from being used."""

    def broken(_: str) -> list[int]:
        raise OverflowError("a defect")

    async with completion_server(tokenize=_bytes_of) as strange, completion_server() as good:
        engine = RemoteEngine(RemoteConfig((strange.url, good.url), "base"), encode=broken)
        try:
            await engine.start()
            assert "1 of 2 servers answer" in engine.health().detail
            assert "cannot be examined (OverflowError)" in engine.health().detail
        finally:
            await engine.close()
