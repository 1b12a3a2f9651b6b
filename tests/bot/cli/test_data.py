"""Commands on stored data, with the true program on a SQLite file."""

import asyncio
import json
import sqlite3
import stat
from pathlib import Path

import pytest

from storage.config import StorageConfig
from storage.database import Database, open_database
from storage.ids import new_id
from storage.records import NewInboxItem, NewTurn, TurnStatus
from storage.unit_of_work import UnitOfWork
from tests.bot.cli.program import Program, make_program

CANARY = "canary-7f3a"
ANN = ("--channel", "test", "--account", "shop", "--id", "ann")


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return make_program(tmp_path)


def fill(program: Program) -> str:
    """Store one turn of Ann's, with escape sequences in it, and one of Bob's; return Ann's conversation id."""

    async def work() -> str:
        program.data_dir.mkdir()
        database = await open_database(StorageConfig(f"sqlite:///{program.data_dir / 'kefu.db'}"))
        try:
            ann = await converse(database, "ann", f"{CANARY} \x1b[2Jhello [bold]", "Hello\nAnn.")
            await converse(database, "bob", "hi", "Hello Bob.")
            return ann
        finally:
            await database.close()

    return asyncio.run(work())


async def converse(database: Database, who: str, text: str, reply: str) -> str:
    await database.write(lambda unit: unit.inbox.accept("test", "shop", [NewInboxItem(f"event-{who}", who, text.encode())]))
    claim = await database.write(lambda unit: unit.inbox.claim("worker", channel="test"))
    assert claim is not None

    async def answer(unit: UnitOfWork) -> None:
        user = await unit.users.ensure("test", "shop", who, who.title())
        ids = tuple(item.id for item in claim.items)
        turn = NewTurn(new_id(), user.id, "chat", TurnStatus.ANSWERED, text, reply, ids)
        await unit.turns.commit(claim, turn, reply=reply, owner_epoch=claim.conversation.owner_epoch)

    await database.write(answer)
    return claim.conversation.id


def test_conversations_are_listed(program: Program) -> None:
    """The list names every conversation, newest first, as a table and as JSON; an empty database gives an empty list."""
    assert json.loads(program.call("conversations", "list", "--json").stdout) == []
    ann = fill_existing(program)
    listed = json.loads(program.call("conversations", "list", "--json").stdout)
    assert [(row["channel"], row["chat"], row["turns"]) for row in listed] == [("test", "bob", 1), ("test", "ann", 1)]
    table = program.call("conversations", "list").stdout
    assert ann in table
    assert "waiting since" in table
    assert json.loads(program.call("conversations", "list", "--json", "--limit", "1").stdout)[0]["chat"] == "bob"
    assert json.loads(program.call("conversations", "list", "--json", "--waiting").stdout) == []


def fill_existing(program: Program) -> str:
    for path in program.data_dir.iterdir():
        path.unlink()
    program.data_dir.rmdir()
    return fill(program)


def test_a_conversation_is_shown_safely(program: Program) -> None:
    """Turns are shown whole; what people wrote cannot move the cursor and is no markup."""
    ann = fill(program)
    shown = program.call("conversations", "show", ann)
    assert f"> {CANARY} \\x1b[2Jhello [bold]" in shown.stdout
    assert "Hello\nAnn." in shown.stdout
    turns = json.loads(program.call("conversations", "show", ann, "--json").stdout)["turns"]
    assert turns[0]["user_text"] == f"{CANARY} \x1b[2Jhello [bold]"


def test_an_export_holds_everything_of_one_person(program: Program) -> None:
    """The export is JSON with that person's rows and nobody else's; a file is private and never overwritten."""
    fill(program)
    exported = json.loads(program.call("users", "export", *ANN).stdout)
    assert CANARY in json.dumps(exported)
    assert "Bob" not in json.dumps(exported)
    written = program.call("users", "export", *ANN, "--output", "ann.json")
    target = program.folder / "ann.json"
    assert written.stdout == "ann.json\n"
    assert json.loads(target.read_text()) == exported
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert program.call("users", "export", *ANN, "--output", "ann.json").code == 1


def test_an_erasure_needs_consent_and_leaves_nothing(program: Program) -> None:
    """Without a terminal --yes is needed; then the person is gone from the files, others stay, and it says what went."""
    fill(program)
    assert program.call("users", "erase", *ANN).code == 2
    assert program.call("users", "export", *ANN).code == 0
    erased = program.call("users", "erase", *ANN, "--yes")
    assert erased.code == 0
    assert "1 turns" in erased.stderr
    for path in program.data_dir.iterdir():
        assert CANARY.encode() not in path.read_bytes()
    again = program.call("users", "erase", *ANN, "--yes")
    assert (again.code, "Nobody is known" in again.stderr) == (1, True)
    assert len(json.loads(program.call("conversations", "list", "--json").stdout)) == 1


def test_schema_goes_up_and_down(program: Program) -> None:
    """`db current`, `downgrade` (with consent) and `upgrade` agree with one another."""
    fill(program)
    before = json.loads(program.call("db", "current", "--json").stdout)
    assert before["current"] == before["head"]
    assert program.call("db", "downgrade", "base").code == 2
    assert program.call("db", "downgrade", "base", "--yes").code == 0
    assert json.loads(program.call("db", "current", "--json").stdout)["current"] is None
    assert program.call("db", "upgrade").code == 0
    assert json.loads(program.call("db", "current", "--json").stdout) == before


def test_an_older_schema_asks_for_the_upgrade(program: Program) -> None:
    """A command on a database of another version exits 78 and names the remedy."""
    fill(program)
    with sqlite3.connect(program.data_dir / "kefu.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    refused = program.call("conversations", "list")
    assert refused.code == 78
    assert "newer" in refused.stderr


def test_backup_and_restore(program: Program) -> None:
    """A backup brings back what was there; it is never overwritten, a restore needs consent, and nonsense is refused."""
    fill(program)
    assert program.call("db", "backup", "copy.db").stdout == "copy.db\n"
    assert program.call("db", "backup", "copy.db").code == 1
    program.call("users", "erase", *ANN, "--yes")
    assert program.call("db", "restore", "copy.db").code == 2
    assert program.call("db", "restore", "copy.db", "--yes").code == 0
    assert CANARY in program.call("users", "export", *ANN).stdout
    (program.folder / "nonsense.db").write_bytes(b"nonsense" * 1000)
    refused = program.call("db", "restore", "nonsense.db", "--yes")
    assert (refused.code, "Traceback" in refused.stderr) == (1, False)
    assert CANARY in program.call("users", "export", *ANN).stdout
