"""The whole program in one process: it starts, answers, tells how it is, and ends properly on every way out."""

import asyncio
import os
import signal
import stat
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest

from bot.app import App, RunOptions
from bot.channels.fake import FakeChannel
from bot.channels.fake_platform import FakePlatform
from bot.control import call
from bot.errors import ExitCode, describe
from bot.settings_sections import AccessSection, StorageSection
from dialogue.engine.base import AdapterRef, EngineInfo
from dialogue.engine.scripted import ScriptedEngine
from dialogue.errors import AdapterRejected, EngineUnavailable
from storage.database import open_database
from storage.records import AdapterReleaseRecord, InboxState, ReleaseStatus
from storage.testing import drop_postgres, postgres_config
from tests.bot.apps import app_settings, make_app, running
from tests.bot.rig import Gate


def _fake() -> tuple[FakePlatform, FakeChannel]:
    platform = FakePlatform()
    return platform, FakeChannel(platform)


async def _shows(platform: FakePlatform, *texts: str) -> None:
    async with asyncio.timeout(20):
        while platform.shown() != texts:
            await platform.changed()


async def _answered_with(app: App) -> str:
    """Return the adapter that answers now; empty = the base model does."""
    turn = (await app.ask("hello")).turn
    assert turn is not None
    return turn.adapter


async def test_messages_are_answered_from_end_to_end(tmp_path: Path) -> None:
    """From the platform through inbox, worker, engine and outbox back to the platform."""
    platform, channel = _fake()
    app = make_app(app_settings(tmp_path))
    async with running(app, [channel]):
        platform.say("one")
        await _shows(platform, "You said: one")
        platform.say("two")
        await _shows(platform, "You said: one", "You said: two")


async def test_messages_are_accepted_while_the_engine_loads(tmp_path: Path) -> None:
    """What comes before the engine is ready waits in the inbox and is answered then."""
    platform, channel = _fake()
    gate = Gate()
    engine = ScriptedEngine("late but there", start_delay_s=1.0, sleep=gate.sleep)
    app = make_app(app_settings(tmp_path), engine)
    task = asyncio.create_task(app.run([channel], RunOptions(patience_s=5.0)))
    platform.say("early")
    await gate.reached.wait()
    assert not app.ready.is_set()
    gate.open.set()
    await _shows(platform, "late but there")
    app.stopping.ask()
    assert await task is ExitCode.OK


async def test_ask_answers_one_question_without_history(tmp_path: Path) -> None:
    """Two questions share nothing; the answer comes with turn, tokens and timings."""
    app = make_app(app_settings(tmp_path))
    async with running(app):
        first, second = await asyncio.gather(app.ask("one?"), app.ask("two?"))
    assert (first.answer, second.answer) == ("You said: one?", "You said: two?")
    assert first.turn is not None
    assert second.turn is not None
    assert first.turn.conversation_id != second.turn.conversation_id
    told = first.as_json()
    assert told["turn_id"] == first.turn.id
    assert told["tokens"]["completion"] > 0
    assert told["timings_ms"]["total"] >= told["timings_ms"]["first_token"] > 0


async def test_whoever_runs_the_program_has_no_limits(tmp_path: Path) -> None:
    """Limits and lists are for people from outside: questions of the operator are answered however many there are."""
    app = make_app(app_settings(tmp_path).model_copy(update={"access": AccessSection(messages_per_minute=1, allow=("telegram:1",))}))
    async with running(app), asyncio.timeout(20):
        assert [(await app.ask(text)).answer for text in ("a", "b", "c")] == ["You said: a", "You said: b", "You said: c"]


async def test_a_question_that_gets_no_answer_is_not_left_waiting(tmp_path: Path) -> None:
    """When a turn fails for good, the words that are said instead reach who asked, with the turn's id and no engine."""

    def broken(prompt: Sequence[int]) -> str:
        raise ZeroDivisionError

    app = make_app(app_settings(tmp_path), ScriptedEngine(broken))
    async with running(app), asyncio.timeout(20):
        told = (await app.ask("hello")).as_json()
    assert told["answer"]
    assert (told["status"], told["engine"]) == ("failed", "")
    assert told["turn_id"]


async def test_commands_reach_the_running_program(tmp_path: Path) -> None:
    """Ping, ask, status and data operations work through the control socket, which nobody else may open."""
    settings = app_settings(tmp_path)
    async with running(make_app(settings)):
        path = settings.control_socket
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await call(path, "ping") == {"ready": True}
        assert (await call(path, "ask", text="hello"))["answer"] == "You said: hello"
        assert len(await call(path, "conversations.list")) == 1
        assert (await call(path, "status"))["pending"] == 0
    assert not path.exists()


async def test_stop_through_the_control_socket(tmp_path: Path) -> None:
    """`stop` ends the program as SIGTERM does."""
    settings = app_settings(tmp_path)
    async with running(make_app(settings)) as task:
        await call(settings.control_socket, "stop")
        assert await task is ExitCode.OK


async def test_two_processes_share_a_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """The second one serves too; commands go to the first. Each question is answered where it was asked."""
    config = postgres_config(postgres_url)
    settings = app_settings(tmp_path)
    settings = settings.model_copy(update={"storage": StorageSection.model_validate({"url": config.url})})
    try:
        first, second = make_app(settings), make_app(settings)
        async with running(first), running(second):
            answers = await asyncio.gather(*(app.ask(f"{number}?") for number, app in enumerate((first, second) * 3)))
            assert await call(settings.control_socket, "ping") == {"ready": True}
        assert [result.answer for result in answers] == [f"You said: {number}?" for number in range(6)]
    finally:
        drop_postgres(postgres_url, config)


async def test_pages_tell_readiness_and_numbers(tmp_path: Path) -> None:
    """Not ready while the engine loads, ready afterwards; the metrics count the turn that was answered."""
    gate = Gate()
    app = make_app(app_settings(tmp_path), ScriptedEngine("hi", start_delay_s=1.0, sleep=gate.sleep))
    task = asyncio.create_task(app.run([], RunOptions(http=True, patience_s=5.0)))
    await gate.reached.wait()
    assert app.pages is not None
    root = f"http://127.0.0.1:{app.pages.port}"
    async with httpx2.AsyncClient(trust_env=False, base_url=root) as client:
        loading = await client.get("/readyz")
        assert (loading.status_code, "engine" in loading.text) == (503, True)
        gate.open.set()
        await app.ready.wait()
        assert (await client.get("/readyz")).status_code == 200
        await app.ask("hello")
        metrics = (await client.get("/metrics")).text
    assert 'kefu_turns_total{skill="chat",status="answered"} 1.0' in metrics
    assert 'kefu_outbox_rows{state="ready"} 0.0' in metrics
    assert "kefu_engine_ready 1.0" in metrics
    assert "kefu_database_connections 0.0" not in metrics
    assert "kefu_tasks 0.0" not in metrics
    app.stopping.ask()
    await task


async def test_a_taken_port_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    """The program does not run without the pages that were asked for, and says which setting helps."""
    first = make_app(app_settings(tmp_path / "a"))
    async with running(first, options=RunOptions(http=True)):
        assert first.pages is not None
        settings = app_settings(tmp_path / "b")
        taken = settings.model_copy(update={"http": settings.http.model_copy(update={"port": first.pages.port})})
        with pytest.raises(OSError, match="in use") as caught:
            await make_app(taken).run([], RunOptions(http=True))
    assert describe(caught.value).code is ExitCode.TEMPORARY


async def test_an_engine_that_cannot_start_ends_the_program(tmp_path: Path) -> None:
    """One sentence, exit code 75, database closed: the next start has no trouble with it."""
    settings = app_settings(tmp_path)
    with pytest.raises(ExceptionGroup) as caught:
        await make_app(settings, ScriptedEngine("x", start_error="no memory")).run([], RunOptions())
    failure = describe(caught.value)
    assert (failure.code, failure.message, failure.expected) == (ExitCode.TEMPORARY, "no memory", True)
    async with running(make_app(settings)):
        pass


async def test_a_receiver_that_fails_ends_the_program(tmp_path: Path) -> None:
    """What no retry can heal in a channel is told, not swallowed."""

    class Revoked(FakeChannel):
        async def receive(self, inlet: object) -> None:
            raise OSError(13, "token revoked")

    with pytest.raises(ExceptionGroup) as caught:
        await make_app(app_settings(tmp_path)).run([Revoked(FakePlatform())], RunOptions())
    assert "token revoked" in describe(caught.value).message


async def test_stopping_lets_the_running_answer_finish(tmp_path: Path) -> None:
    """SIGTERM: nothing new begins, what is being made is delivered, exit code 0."""
    platform, channel = _fake()
    gate = Gate(tokens=1)
    app = make_app(app_settings(tmp_path), ScriptedEngine("to the end", sleep=gate.sleep))
    async with running(app, [channel]) as task:
        platform.say("one")
        await gate.reached.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await app.stopping.asked.wait()
        gate.open.set()
        assert await task is ExitCode.OK
    assert platform.shown() == ("to the end",)


async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    """The running answer is cancelled, its message keeps its attempt and is answered by the next run."""
    platform, channel = _fake()
    gate = Gate(tokens=1)
    settings = app_settings(tmp_path)
    app = make_app(settings, ScriptedEngine("never", sleep=gate.sleep))
    async with running(app, [channel], RunOptions(patience_s=600.0)) as task:
        platform.say("one")
        await gate.reached.wait()
        os.kill(os.getpid(), signal.SIGINT)
        await app.stopping.asked.wait()
        os.kill(os.getpid(), signal.SIGINT)
        assert await task is ExitCode.INTERRUPTED
    database = await open_database(settings.storage_config())
    items = await database.read(lambda unit: unit.inbox.list())
    await database.close()
    assert [(item.state, item.attempts) for item in items] == [(InboxState.NEW, 0)]
    async with running(make_app(settings), [FakeChannel(platform)]):
        await _shows(platform, "You said: one")


async def test_patience_ends(tmp_path: Path) -> None:
    """An answer that does not finish in time is cancelled; the program ends."""
    platform, channel = _fake()
    gate = Gate(tokens=1)
    app = make_app(app_settings(tmp_path), ScriptedEngine("never", sleep=gate.sleep))
    async with running(app, [channel], RunOptions(patience_s=0.01)) as task:
        platform.say("one")
        await gate.reached.wait()
        app.stopping.ask()
        assert await task is ExitCode.OK


async def test_ctrl_c_is_for_the_channel_first(tmp_path: Path) -> None:
    """What `on_interrupt` takes does not stop the program; what it leaves does, and that is a normal end."""
    taken = [False, True]
    app = make_app(app_settings(tmp_path))
    async with running(app, options=RunOptions(on_interrupt=taken.pop)) as task:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)
        assert not app.stopping.asked.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert await task is ExitCode.OK


async def test_the_program_ends_with_its_last_channel(tmp_path: Path) -> None:
    """A channel that has nothing more to say, like a closed pipe, ends the program."""

    class Short(FakeChannel):
        async def receive(self, inlet: object) -> None:
            return

    assert await make_app(app_settings(tmp_path)).run([Short(FakePlatform())], RunOptions()) is ExitCode.OK


async def test_a_promoted_adapter_goes_live(tmp_path: Path) -> None:
    """The release that is active in the database answers; its id stands in the turn."""
    settings = app_settings(tmp_path)
    folder = tmp_path / "adapter"
    folder.mkdir()
    release = AdapterReleaseRecord("r1", "first", "0" * 64, str(folder), "1" * 64, ReleaseStatus.ACTIVE, "", 0, passed=True)
    settings.data_dir.mkdir(parents=True)
    database = await open_database(settings.storage_config())
    await database.write(lambda unit: unit.adapters.add(release))
    await database.close()
    app = make_app(settings)
    async with running(app):
        assert await _answered_with(app) == "r1"


async def test_a_broken_adapter_leaves_the_old_one(tmp_path: Path) -> None:
    """A release that the engine rejects is logged; answers go on without it."""
    settings = app_settings(tmp_path)
    release = AdapterReleaseRecord("r1", "gone", "0" * 64, str(tmp_path / "nowhere"), "1" * 64, ReleaseStatus.ACTIVE, "", 0, passed=True)
    settings.data_dir.mkdir(parents=True)
    database = await open_database(settings.storage_config())
    await database.write(lambda unit: unit.adapters.add(release))
    await database.close()
    app = make_app(settings)
    async with running(app):
        assert await _answered_with(app) == ""


class Particular(ScriptedEngine):
    """Looks at its adapters when it starts, as an engine in a child process does."""

    given: Sequence[AdapterRef] = ()

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        self.given = adapters

    async def start(self) -> EngineInfo:
        if self.given:
            raise EngineUnavailable("It holds NaN.") from AdapterRejected("It holds NaN.")
        return await super().start()


async def test_a_damaged_adapter_does_not_keep_the_program_down(tmp_path: Path) -> None:
    """An engine that does not start with the active release starts without it."""
    settings = app_settings(tmp_path)
    release = AdapterReleaseRecord("r1", "damaged", "0" * 64, str(tmp_path), "1" * 64, ReleaseStatus.ACTIVE, "", 0, passed=True)
    settings.data_dir.mkdir(parents=True)
    database = await open_database(settings.storage_config())
    await database.write(lambda unit: unit.adapters.add(release))
    await database.close()
    async with running(app := make_app(settings, Particular("here I am"))):
        assert await _answered_with(app) == ""


def test_an_app_is_built_without_opening_anything(tmp_path: Path) -> None:
    """The composition root touches no file before it runs."""
    assert isinstance(make_app(app_settings(tmp_path)), App)
    assert list(tmp_path.iterdir()) == []
