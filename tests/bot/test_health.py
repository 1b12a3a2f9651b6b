"""What the operator's tools are told."""

import asyncio
import errno
from collections.abc import Sequence

import httpx2
import pytest
from starlette.applications import Starlette

from bot.errors import ExitCode, describe
from bot.health import build_pages
from bot.http_server import HttpServer
from bot.metrics import Metrics
from dialogue.engine.base import EngineHealth
from dialogue.messages import ReplyCommitted, ReplyTimings
from storage.records import OutboxState, TurnRecord, TurnStatus


def _pages(*reasons: str, scraped: bytes = b"x 1\n") -> Starlette:
    async def missing() -> Sequence[str]:
        return reasons

    async def scrape() -> bytes:
        return scraped

    return build_pages(missing, scrape)


async def _get(server: HttpServer, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://{server.host}:{server.port}{path}")


async def _serve(*reasons: str) -> tuple[HttpServer, asyncio.Task[None]]:
    server = HttpServer(_pages(*reasons), "127.0.0.1", 0, name="health")
    return server, asyncio.create_task(server.run())


async def test_alive_and_ready() -> None:
    """A process that can answer says 200 on both pages and gives its numbers."""
    server, task = await _serve()
    assert (await _get(server, "/healthz")).status_code == 200
    assert (await _get(server, "/readyz")).json() == {"ready": True, "reasons": []}
    metrics = await _get(server, "/metrics")
    assert (metrics.text, metrics.headers["content-type"].split(";")[0]) == ("x 1\n", "text/plain")
    server.close()
    await task


async def test_not_ready_says_why() -> None:
    """503 with every reason, while the process counts as alive."""
    server, task = await _serve("the engine is not ready (starting)")
    ready = await _get(server, "/readyz")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["the engine is not ready (starting)"])
    assert (await _get(server, "/healthz")).status_code == 200
    server.close()
    await task


async def test_only_three_pages_and_only_reading() -> None:
    """Nothing else is served, and nothing can be changed."""
    server, task = await _serve()
    assert (await _get(server, "/docs")).status_code == 404
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.post(f"http://127.0.0.1:{server.port}/metrics")).status_code == 405
    server.close()
    await task


async def test_a_taken_port_is_told_in_a_sentence() -> None:
    """The second server on a port names the address and the setting, with the exit code for "later"."""
    server, task = await _serve()
    with pytest.raises(OSError, match=str(server.port)) as caught:
        HttpServer(_pages(), "127.0.0.1", server.port, name="health")
    assert caught.value.errno == errno.EADDRINUSE
    failure = describe(caught.value)
    assert (failure.code, "[http] port" in failure.hint) == (ExitCode.TEMPORARY, True)
    server.close()
    await task


async def test_cancelling_ends_it() -> None:
    """The port is free again when the task is cancelled."""
    server, task = await _serve()
    await _get(server, "/healthz")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    HttpServer(_pages(), "127.0.0.1", server.port, name="health").release()


def test_metrics_speak_of_turns_tokens_and_rows() -> None:
    """A committed turn, the state of the queues and of the engine come out as Prometheus text, prefix hits as a share."""
    metrics = Metrics()
    turn = TurnRecord("t", "c", 1, "u", "chat", TurnStatus.ANSWERED, "", "", "", "", 0, 0, 0)
    metrics.turn_committed(
        ReplyCommitted(turn, "o", ReplyTimings(5.0, 50.0, 500.0, prompt_tokens=100, cached_tokens=80, completion_tokens=7))
    )
    metrics.turn_committed(ReplyCommitted(turn, "o"))
    metrics.set_storage(3, 2500, {OutboxState.UNKNOWN: 1})
    metrics.set_engine(EngineHealth(ready=True, running=2, waiting=1, restarts=4))
    text = metrics.scrape().decode()
    for line in (
        'kefu_turns_total{skill="chat",status="answered"} 2.0',
        'kefu_tokens_total{kind="cached"} 80.0',
        "kefu_prefix_hit_ratio 0.8",
        "kefu_inbox_pending 3.0",
        "kefu_inbox_oldest_seconds 2.5",
        'kefu_outbox_rows{state="unknown"} 1.0',
        'kefu_outbox_rows{state="failed"} 0.0',
        "kefu_engine_restarts 4.0",
        'kefu_first_token_seconds_bucket{le="0.05"} 1.0',
    ):
        assert line in text
