"""The terminal channel: lines and answers alternate, nothing that was owed is forgotten, nothing moves the cursor."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from bot.channels.terminal import TerminalChannel
from bot.channels.terminal_pipe import MAX_LINE_BYTES, LineReader, PipeScreen
from bot.channels.terminal_screen import remainder
from dialogue.byte_chat import echo_user
from dialogue.engine.scripted import ScriptedEngine
from storage.clock import ManualClock
from storage.database import Database
from storage.records import InboxState
from storage.testing import temporary_database
from tests.bot.rig import Gate, build_rig
from tests.contracts.channels import MemoryScreen, Noted, reply


class Session:
    """One session of a person at a terminal."""

    def __init__(self, database: Database, engine: ScriptedEngine, *, fresh: bool = False) -> None:
        self.database = database
        self.engine = engine
        self.screen = MemoryScreen()
        self.channel = TerminalChannel(self.screen, user="ann", max_chars=100, fresh=fresh)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Session"]:
        """Work in the background while the block runs."""
        rig = await build_rig(self.database, engine=self.engine, also=self.channel)
        self.pool = rig.pool
        self.inbox = rig.inlet(self.channel)
        worker = asyncio.create_task(self.pool.run())
        yield self
        self.pool.close()
        await worker

    async def type(self, *lines: str) -> None:
        """The person types these lines and leaves."""
        self.screen.lines.extend(lines)
        async with asyncio.timeout(20):
            await self.channel.receive(self.inbox)


@pytest.fixture
async def sqlite() -> AsyncIterator[Database]:
    async with temporary_database(ManualClock()) as database:
        yield database


async def test_each_line_is_answered_before_the_next_is_read(sqlite: Database) -> None:
    """Answers come in the order of the lines, each whole; blank lines are nothing."""
    async with Session(sqlite, ScriptedEngine(echo_user)).running() as session:
        await session.type("one", "", "   ", "two", "/privacy")
    answers = session.screen.said("finish")
    assert answers[:2] == ["You said: one", "You said: two"]
    assert len(answers) == 3
    assert session.screen.closed == 1


async def test_tokens_appear_as_they_are_made(sqlite: Database) -> None:
    """The waiting sign comes first, then text that is the beginning of the answer."""
    gate = Gate(tokens=3)
    async with Session(sqlite, ScriptedEngine("one two three four", sleep=gate.sleep)).running() as session:
        typing = asyncio.create_task(session.type("count"))
        await gate.reached.wait()
        assert session.screen.said("finish") == []
        gate.open.set()
        await typing
    assert session.screen.log[0][0] == "wait"
    shown = "".join(session.screen.said("write"))
    assert shown
    assert session.screen.said("finish")[0].startswith(shown)


async def test_a_long_line_is_cut_and_said_so(sqlite: Database) -> None:
    """What is beyond the limit is left out with a remark, and the rest is answered."""
    async with Session(sqlite, ScriptedEngine(echo_user)).running() as session:
        await session.type("x" * 150)
    assert session.screen.said("finish") == ["You said: " + "x" * 100]
    assert "50 characters" in session.screen.said("note")[0]


async def test_ctrl_c_stops_the_answer_and_keeps_it_so_far(sqlite: Database) -> None:
    """The first Ctrl-C belongs to the answer, a second one to the program; afterwards the next line is read."""
    gate = Gate(tokens=4)
    async with Session(sqlite, ScriptedEngine("one two three four five", sleep=gate.sleep)).running() as session:
        assert not session.channel.stop_answer()
        typing = asyncio.create_task(session.type("count"))
        await gate.reached.wait()
        assert session.channel.stop_answer()
        assert not session.channel.stop_answer()
        await typing
        assert not session.channel.stop_answer()
    assert session.screen.said("finish") == ["one two thre"]
    assert session.screen.said("note") == ["stopped"]
    assert session.screen.said("owe") == []


async def test_the_next_session_shows_what_was_owed(sqlite: Database) -> None:
    """A question that was left without an answer is answered in the next session, marked as such and before its own answers."""
    gate = Gate(tokens=1)
    first = Session(sqlite, ScriptedEngine("never finished", sleep=gate.sleep))
    async with first.running() as session:
        typing = asyncio.create_task(session.type("old question"))
        await gate.reached.wait()
        typing.cancel()
        session.pool.close()
        gate.open.set()
    second = Session(sqlite, ScriptedEngine(echo_user))
    assert first.screen.said("owe", "finish") == ["never finished"]
    await sqlite.write(lambda unit: unit.inbox.accept("terminal", "ann", [second.channel.item("left behind")]))
    async with second.running() as session:
        await session.type("new question")
    assert [entry for entry in second.screen.log if entry[0] in {"owe", "finish"}] == [
        ("owe", "You said: left behind"),
        ("finish", "You said: new question"),
    ]


async def test_a_fresh_start_leaves_the_old_turns_out(sqlite: Database) -> None:
    """`--new` begins anew without a word about it: older turns do not stand in the prompt any more."""
    prompts: list[int] = []

    def measure(prompt: Sequence[int]) -> str:
        prompts.append(len(prompt))
        return "ok"

    for fresh in (False, False, True):
        async with Session(sqlite, ScriptedEngine(measure), fresh=fresh).running() as session:
            await session.type("a question")
        assert session.screen.said("finish", "owe") == ["ok"]
    assert prompts[0] == prompts[2] < prompts[1]


async def test_a_person_at_the_desk_is_mentioned(sqlite: Database) -> None:
    """When a person has the conversation, the line is kept and the prompt comes back."""
    kept = await sqlite.write(lambda unit: unit.conversations.ensure("terminal", "ann", "local", True))
    await sqlite.write(lambda unit: unit.conversations.take(kept.id, "agent"))
    async with Session(sqlite, ScriptedEngine(echo_user)).running() as session:
        await session.type("hello")
    assert "a person" in session.screen.said("note")[0]
    items = await sqlite.read(lambda unit: unit.inbox.list())
    assert [item.state for item in items] == [InboxState.DONE]


async def test_a_reader_that_went_away_ends_the_program(sqlite: Database) -> None:
    """When stdout is closed (`kefu chat | head -1`), receive raises, and the answer stays owed."""

    class Broken(MemoryScreen):
        def finish(self, text: str) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    session = Session(sqlite, ScriptedEngine(echo_user))
    session.screen = session.channel.screen = Broken()
    async with session.running():
        with pytest.raises(BrokenPipeError):
            await session.type("hello")
    (row_left,) = await sqlite.read(lambda unit: unit.outbox.list())
    assert row_left.state.value == "unknown"


def _pipe(sent: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, sent)
    os.close(writing)
    return reading


async def test_piped_lines_are_read_whatever_they_hold() -> None:
    """Line ends of every system, no end at the last line, bytes that are no UTF-8: every line arrives, then None for ever."""
    reader = LineReader(_pipe(b"one\r\n\n\xff two\nlast"))
    lines = [await reader.readline() for _ in range(6)]
    assert lines == ["one", "", "\ufffd two", "last", None, None]


async def test_a_line_without_end_fills_no_memory() -> None:
    """A giant line is cut at the limit, and the next one is read as usual."""
    reading, writing = os.pipe()
    reader = LineReader(reading)

    def write() -> None:
        for _ in range(MAX_LINE_BYTES // 65_536 + 3):
            os.write(writing, b"x" * 65_536)
        os.write(writing, b"\nnext\n")
        os.close(writing)

    writer = asyncio.create_task(asyncio.to_thread(write))
    giant = await reader.readline()
    assert giant is not None
    assert len(giant) <= MAX_LINE_BYTES
    assert await reader.readline() == "next"
    await writer


def test_output_moves_no_cursor() -> None:
    """Control characters of an answer are visible, not obeyed; answers go to stdout, everything else to stderr."""
    out, err = io.StringIO(), io.StringIO()
    screen = PipeScreen(0, out, err)
    screen.finish("a\x1b[2Jb\nc\x07")
    screen.owe("late\r")
    assert out.getvalue() == "a\\x1b[2Jb\nc\\x07\n"
    assert err.getvalue() == "I still owed you this answer: late\\x0d\n"


@pytest.mark.parametrize(
    ("shown", "final", "expected"),
    [("", "abc", "abc"), ("ab", "abc", "c"), ("abc", "abc", ""), ("abc \n", "abc", ""), ("abx", "abc", None), ("abc", "", None)],
)
def test_only_what_is_missing_is_added(shown: str, final: str, expected: str | None) -> None:
    """The end of an answer is what was not shown yet; when the preview was something else, all of it."""
    assert remainder(shown, final) == expected


async def test_a_row_is_shown_once_in_a_session() -> None:
    """A delivery that is repeated because its success could not be written down shows nothing again."""
    screen = MemoryScreen()
    channel = TerminalChannel(screen, user="ann", max_chars=100)
    late = reply(channel, "late", chat="local")
    for _ in range(2):
        await channel.deliver(late, Noted(refuse=True))
    await channel.deliver(replace(late, row=replace(late.row, id="o2", text="later")), Noted(refuse=True))
    assert screen.said("owe") == ["late", "later"]
