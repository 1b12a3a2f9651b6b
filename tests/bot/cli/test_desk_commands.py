"""`kefu conversations take|say|release` and `kefu outbox`, with the true program on a SQLite file and beside a `kefu run`."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bot.cli.outbox import next_try
from storage.config import StorageConfig
from storage.database import Database, open_database
from storage.records import OutboxRecord
from storage.repositories.outbox_reading import NEVER
from tests.bot.cli.program import Program, make_program
from tests.storage.world import ready_message

CANARY = "canary-91d2"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return make_program(tmp_path)


def stored(program: Program, work: Callable[[Database], Awaitable[OutboxRecord]]) -> OutboxRecord:
    """Do something with the program's own database, which nobody else has open."""

    async def run() -> OutboxRecord:
        program.data_dir.mkdir(exist_ok=True)
        database = await open_database(StorageConfig(f"sqlite:///{program.data_dir / 'kefu.db'}"))
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


async def failed(database: Database) -> OutboxRecord:
    """Bring a reply to `failed`, with a canary as its words and an orphan."""
    row = await ready_message(database, CANARY)
    await database.write(lambda unit: unit.outbox.start(row.id))
    await database.write(lambda unit: unit.outbox.failed(row.id, "blocked \x1b[2Jby the user"))
    await database.write(lambda unit: unit.outbox.add_orphan(row.id))
    return row


def test_a_person_takes_speaks_and_gives_back(program: Program) -> None:
    """The whole desk in three commands: notes for people on stderr, and what is stored waits for `kefu run`."""
    conversation = stored(program, ready_message).conversation_id
    early = program.call("conversations", "say", conversation, "hello")
    assert (early.code, "take it first" in early.stderr) == (1, True)
    taken = program.call("conversations", "take", conversation)
    assert (taken.code, taken.stdout, "the bot is silent" in taken.stderr) == (0, "", True)
    assert "had it already" in program.call("conversations", "take", conversation).stderr
    assert json.loads(program.call("conversations", "list", "--json").stdout)[0]["owner"] == "human"
    said = program.call("conversations", "say", conversation, "Good morning.")
    assert (said.code, "`kefu run` delivers it" in said.stderr) == (0, True)
    assert program.call("conversations", "release", conversation).code == 0
    assert "had it already" in program.call("conversations", "release", conversation).stderr
    rows = json.loads(program.call("outbox", "list", "--state", "ready", "--text", "--json").stdout)
    assert [(row["text"], row["turn_id"]) for row in rows] == [("Good morning.", None)]


def test_what_a_person_said_is_shown_in_its_place(program: Program) -> None:
    """The reader sees the words of a person behind the turn before them, marked as such, with how far they came."""
    conversation = stored(program, ready_message).conversation_id
    program.call("conversations", "take", conversation)
    program.call("conversations", "say", conversation, "I am \x1b[2JAda.\nHello!")
    shown = program.call("conversations", "show", conversation).stdout
    assert (
        re.sub(r"\S+ \S+Z| · \w{32}", "", shown)
        == "── 1 ·  · chat · answered\n> 1\nre 1\n\n── a person ·  · ready\nI am \\x1b[2JAda.\nHello!\n\n"
    )


def test_the_desk_speaks_json(program: Program) -> None:
    """Each command prints its result as JSON for machines."""
    conversation = stored(program, ready_message).conversation_id
    taken = json.loads(program.call("conversations", "take", conversation, "--json").stdout)
    said = json.loads(program.call("conversations", "say", conversation, "hello", "--no-wait", "--json").stdout)
    given = json.loads(program.call("conversations", "release", conversation, "--json").stdout)
    assert taken == {"id": conversation, "owner": "human", "already": False, "in_flight": ""}
    assert said["state"] == "ready"
    assert given == {"id": conversation, "owner": "bot", "already": False}


def test_words_come_from_standard_input(program: Program) -> None:
    """`-` reads what is said from stdin; nothing there is a usage error."""
    conversation = stored(program, ready_message).conversation_id
    program.call("conversations", "take", conversation)
    assert program.call("conversations", "say", conversation, "-").code == 2
    assert program.spawn("conversations", "say", conversation, "-", text="two\nlines\n").code == 0
    (row,) = json.loads(program.call("outbox", "list", "--state", "ready", "--text", "--json").stdout)
    assert row["text"] == "two\nlines"


@pytest.mark.parametrize(
    ("state", "words", "remedy"),
    [
        ("failed", "It was refused: blocked.", "kefu outbox retry 7"),
        ("unknown", "not known whether it arrived: blocked.", "tries it again"),
    ],
)
def test_what_did_not_arrive_is_told_with_its_remedy(
    program: Program, monkeypatch: pytest.MonkeyPatch, state: str, words: str, remedy: str
) -> None:
    """The person hears whether the platform refused the words or did not answer, and who tries again."""

    def answered(*_arguments: object, **_named: object) -> dict[str, str]:
        return {"id": "7", "state": state, "error": "blocked"}

    monkeypatch.setattr("bot.cli.conversations.operate", answered)
    ended = program.call("conversations", "say", "1", "hello")
    assert (ended.code, words in ended.stderr, remedy in ended.stderr) == (1, True, True)


def test_an_unknown_conversation_is_named(program: Program) -> None:
    """A wrong id exits 1 with a sentence, for each command."""
    stored(program, ready_message)
    for arguments in (("take", "gone"), ("say", "gone", "hello"), ("release", "gone")):
        ended = program.call("conversations", *arguments)
        assert (ended.code, ended.stdout, "no conversation gone" in ended.stderr) == (1, "", True)


def test_the_outbox_is_listed_without_words(program: Program) -> None:
    """Rows come as a table and as JSON, what they say only with --text; what a platform said cannot move the cursor."""
    row = stored(program, failed)
    table = program.call("outbox", "list", "--state", "failed").stdout
    assert row.id in table
    assert "blocked \\x1b[2Jby the user" in table
    assert CANARY not in table
    assert CANARY not in program.call("outbox", "list", "--json").stdout
    assert CANARY in program.call("outbox", "list", "--text").stdout
    assert json.loads(program.call("outbox", "list", "--orphans", "--json").stdout)[0]["orphans"] == 1
    assert json.loads(program.call("outbox", "list", "--state", "unknown", "--json").stdout) == []
    empty = program.call("outbox", "list", "--state", "unknown")
    assert (empty.code, empty.stdout, empty.stderr) == (0, "", "There is no such message.\n")
    assert program.call("outbox", "list", "--state", "lost").code == 2


@pytest.mark.parametrize(
    ("state", "at", "words"),
    [
        ("ready", 1000, "now"),
        ("ready", 61_000, "in 1 min"),
        ("unknown", 13_000, "in 12 s"),
        ("unknown", NEVER, "by hand"),
        ("failed", 1000, "by hand"),
        ("sent", 61_000, ""),
    ],
)
def test_the_list_tells_what_goes_on_by_itself(state: str, at: int, words: str) -> None:
    """The owner sees which messages are tried again without them, and which wait for a hand."""
    assert next_try({"state": state, "next_attempt_at": at}, 1000) == words


def test_messages_are_tried_again_or_given_up(program: Program) -> None:
    """`retry` needs no consent, `drop` does; each says what happens next."""
    row = stored(program, failed)
    again = program.call("outbox", "retry", row.id)
    assert (again.code, "`kefu run` delivers it" in again.stderr) == (0, True)
    assert program.call("outbox", "drop", row.id).code == 2
    dropped = program.call("outbox", "drop", row.id, "--yes", "--json")
    assert [result["state"] for result in json.loads(dropped.stdout)] == ["cancelled"]


def test_one_bad_id_does_not_stop_the_others(program: Program) -> None:
    """Every message is tried, each result is told, and the exit code says that one could not be done."""
    row = stored(program, failed)
    ended = program.call("outbox", "retry", "gone", row.id, "--json")
    results = json.loads(ended.stdout)
    assert ended.code == 1
    assert results[0] == {"id": "gone", "problem": "There is no message gone."}
    assert results[1]["state"] == "ready"
    told = program.call("outbox", "drop", "gone", row.id, "--yes")
    assert (told.code, told.stderr.count("\n")) == (1, 2)
