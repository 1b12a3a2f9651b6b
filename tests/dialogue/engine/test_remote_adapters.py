"""Adapters on remote servers: loaded from the folder that the servers see, named as each kind wants, never another one's."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dialogue.engine.base import AdapterRef
from dialogue.errors import AdapterRejected, AdapterUnknown, EngineUnavailable
from tests.dialogue.engine.adapter_folders import write_adapter
from tests.dialogue.engine.remote_scene import ASK, OFTEN, PATIENT, answer, engine_at, fall_silent, two_servers, until_health
from tests.fakes.completion_server import completion_server, refuse

ROOT = "/srv/adapters"


@pytest.mark.parametrize(("kind", "page"), [("vllm", "/v1/load_lora_adapter"), ("sglang", "/load_lora_adapter")])
async def test_an_adapter_is_loaded_at_run_time(tmp_path: Path, kind: str, page: str) -> None:
    """A server is asked to load the release from the folder that it sees; requests then name it as the server wants."""
    folder = write_adapter(tmp_path / "r-7")
    async with completion_server(kind=kind, loadable={f"{ROOT}/r-7"}) as server, engine_at(server, adapter_root=ROOT) as engine:
        await engine.set_adapters([AdapterRef("release-7", str(folder))])
        await answer(engine, replace(ASK, adapter="release-7"))
        await answer(engine)
        adapted, plain = (request.body for request in server.completions())
        assert [request.body for request in server.seen if request.path == page] == [{"lora_name": "release-7", "lora_path": f"{ROOT}/r-7"}]
    assert (adapted["model"], adapted.get("lora_path")) == (("release-7", None) if kind == "vllm" else ("base", "release-7"))
    assert (plain["model"], plain.get("lora_path")) == ("base", None)


@pytest.mark.parametrize(
    ("settings", "config", "scale", "words"),
    [
        ({}, {}, 1.0, "did not load"),
        ({"loadable": {f"{ROOT}/a"}}, {"bias": "all"}, 1.0, "bias"),
        ({"loadable": {f"{ROOT}/a"}}, None, 1.0, "not there"),
        ({"loadable": {f"{ROOT}/a"}}, {}, 0.5, "scale"),
        ({"adapters": {"r": "/elsewhere"}}, {}, 1.0, "another adapter"),
    ],
    ids=["not allowed", "unsafe folder", "no folder", "scaled", "another of that name"],
)
async def test_adapters_that_are_rejected(
    tmp_path: Path, settings: dict[str, Any], config: dict[str, object] | None, scale: float, words: str
) -> None:
    """An adapter that the server does not load, that is unsafe or that would be another one is rejected; the old ones stay."""
    folder = tmp_path / "a"
    if config is not None:
        write_adapter(folder, config=config)
    async with completion_server(**settings) as server, engine_at(server, adapter_root=ROOT) as engine:
        with pytest.raises(AdapterRejected, match=words):
            await engine.set_adapters([AdapterRef("r", str(folder), scale)])
        with pytest.raises(AdapterUnknown):
            await answer(engine, replace(ASK, adapter="r"))
        assert (await answer(engine))[0]


async def test_adapters_without_a_root() -> None:
    """Without remote.adapter_root an adapter must have been loaded by hand, before or after the start; it is used by its name."""
    async with completion_server() as server, engine_at(server) as engine:
        server.adapters["by-hand"] = "/x"
        await engine.set_adapters([AdapterRef("by-hand", "/nowhere")])
        await answer(engine, replace(ASK, adapter="by-hand"))
        assert server.completions()[0].body["model"] == "by-hand"
        with pytest.raises(AdapterRejected, match="adapter_root"):
            await engine.set_adapters([AdapterRef("other", "/nowhere")])


async def test_a_server_that_lost_an_adapter(tmp_path: Path) -> None:
    """A server that was restarted and forgot a release says so once; then it is examined and given the release again."""
    folder = write_adapter(tmp_path / "r")
    lost = refuse(404, "The model `release` does not exist.")
    async with completion_server(loadable={f"{ROOT}/r"}) as server, engine_at(server, adapter_root=ROOT) as engine:
        await engine.set_adapters([AdapterRef("release", str(folder))])
        server.adapters.clear()
        server.behaviours.append(lost)
        with pytest.raises(AdapterUnknown):
            await answer(engine, replace(ASK, adapter="release"))
        assert (await answer(engine, replace(ASK, adapter="release")))[0] == "Hello world!"
        assert server.adapters == {"release": f"{ROOT}/r"}


async def test_another_server_has_the_adapter() -> None:
    """A server that lost a release is passed by before the first token: another one answers, with that release."""
    async with two_servers() as (first, second, engine):
        for server in (first, second):
            server.adapters["release"] = "/x"
        await engine.set_adapters([AdapterRef("release", "/x")])
        first.behaviours.append(refuse(404, "The model `release` does not exist."))
        assert (await answer(engine, replace(ASK, adapter="release")))[0] == "Hello world!"
        assert [request.body["model"] for request in second.completions()] == ["release"]


async def test_a_promotion_while_a_server_is_away(tmp_path: Path) -> None:
    """A server that dies while a release is loaded holds up nobody: the others get it, and the next look gives it to that one."""
    folder = write_adapter(tmp_path / "r")
    now = [0.0]
    async with (
        completion_server(loadable={f"{ROOT}/r"}) as one,
        completion_server(loadable={f"{ROOT}/r"}) as other,
        engine_at(one, other, adapter_root=ROOT, timeouts=OFTEN, clock=lambda: now[0]) as engine,
    ):
        one.is_down = True
        await engine.set_adapters([AdapterRef("release", str(folder))])
        assert (await answer(engine, replace(ASK, adapter="release")))[0] == "Hello world!"
        assert (one.adapters, other.adapters) == ({}, {"release": f"{ROOT}/r"})
        one.is_down, now[0] = False, 60.0
        await until_health(engine, "2 of 2")
        assert one.adapters == other.adapters


async def test_a_promotion_while_all_are_away(tmp_path: Path) -> None:
    """When no server answers, the promotion fails as unavailable, which is tried again; it is no verdict on the adapter."""
    folder = write_adapter(tmp_path / "r")
    async with completion_server() as server, engine_at(server, adapter_root=ROOT) as engine:
        server.is_down = True
        with pytest.raises(EngineUnavailable, match="does not answer"):
            await engine.set_adapters([AdapterRef("release", str(folder))])


async def test_a_promotion_while_a_server_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and then says nothing counts as failed; the others take the release. Once, it held promotions up for ever."""
    folder = write_adapter(tmp_path / "r")
    async with (
        completion_server(loadable={f"{ROOT}/r"}) as one,
        completion_server(loadable={f"{ROOT}/r"}) as other,
        engine_at(one, other, adapter_root=ROOT, timeouts=replace(PATIENT, examine_s=2)) as engine,
    ):
        fall_silent(one, monkeypatch)
        async with asyncio.timeout(20):
            await engine.set_adapters([AdapterRef("release", str(folder))])
        assert "answers too slowly" in engine.health().detail
        assert (one.adapters, other.adapters) == ({}, {"release": f"{ROOT}/r"})
        assert (await answer(engine, replace(ASK, adapter="release")))[0] == "Hello world!"


async def test_a_promotion_while_nobody_says_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the only server is silent, the promotion fails as unavailable, which is tried again."""
    folder = write_adapter(tmp_path / "r")
    async with completion_server() as server, engine_at(server, adapter_root=ROOT, timeouts=replace(PATIENT, examine_s=2)) as engine:
        fall_silent(server, monkeypatch)
        async with asyncio.timeout(20):
            with pytest.raises(EngineUnavailable, match="answers too slowly"):
                await engine.set_adapters([AdapterRef("release", str(folder))])
