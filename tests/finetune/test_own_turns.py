"""The project's own turns as training data: corrected, without what nobody should learn, and by nobody's name."""

from pathlib import Path
from typing import Any

from finetune.sources.mapping import map_row
from finetune.sources.own_turns import OwnTurns, collect, pseudonym
from storage.database import Database
from storage.records import NewInboxItem, TurnRecord, TurnStatus
from tests.finetune.making import section
from tests.storage.world import accept, answer, claim


class Shop:
    """A database in which customers ask and are answered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._events = 0

    async def say(self, question: str, reply: str, *, who: str = "ann", chat: str = "", **changes: Any) -> TurnRecord:
        """Let somebody ask; return the turn."""
        self._events += 1
        chat = chat or who
        await accept(self._database, NewInboxItem(str(self._events), chat, b"raw", is_private=chat == who))
        held = await claim(self._database)
        turn, row = await answer(self._database, held, external_id=who, user_text=question, reply_text=reply, **changes)
        if row is not None:
            await self._database.write(lambda unit: unit.outbox.start(row.id))
            await self._database.write(lambda unit: unit.outbox.add_chunk(row.id, 0, f"m{self._events}"))
            await self._database.write(lambda unit: unit.outbox.sent(row.id))
        await self._database.write(lambda unit: unit.inbox.release(held))
        return turn

    async def rate(self, turn: TurnRecord, rating: int, correction: str = "", who: str = "") -> None:
        """Let somebody rate an answer: its own user, unless told otherwise."""
        by = who or turn.user_id
        await self._database.write(lambda unit: unit.feedback.rate(turn.id, by, rating, correction=correction))


def talks(found: OwnTurns) -> list[list[str]]:
    """Return what is said in each dialogue."""
    return [[message["content"] for message in row.values["messages"]] for row in found.rows]


async def test_a_correction_takes_the_place_of_the_reply(database: Database) -> None:
    """What a person would have said is learned, a bad reply without a correction is not, a good one stays."""
    shop = Shop(database)
    await shop.rate(await shop.say("Open today?", "No.", skill="support"), -1, "Yes, until six.")
    await shop.rate(await shop.say("And tomorrow?", "Maybe.", skill="support"), -1)
    await shop.rate(await shop.say("Thanks!", "You are welcome.", skill="support"), 1)
    await shop.say("Bye.", "Bye!", skill="chat")
    found = await collect(database)
    assert talks(found) == [["Open today?", "Yes, until six.", "Thanks!", "You are welcome.", "Bye.", "Bye!"]]
    assert found.left_out == ["called bad and not corrected"]


async def test_only_answers_are_learned(database: Database) -> None:
    """Failed, stopped and unanswered turns, commands and tasks of other skills are left out."""
    shop = Shop(database)
    await shop.say("One?", "One.", skill="chat")
    await shop.say("/help", "This is help.", skill="chat", in_history=False)
    await shop.say("Two?", "Sorry, something went wrong.", skill="chat", status=TurnStatus.FAILED)
    await shop.say("Three?", "Thr", skill="chat", status=TurnStatus.STOPPED)
    await shop.say("Translate this", "Übersetze das", skill="translate")
    found = await collect(database)
    assert talks(found) == [["One?", "One."]]
    assert found.left_out == ["another skill"]


async def test_everybody_stays_apart(database: Database) -> None:
    """In a group each person's turns are a dialogue of their own; all dialogues of a person share a group, which names nobody."""
    shop = Shop(database)
    await shop.say("Ann alone?", "Ann.", skill="chat")
    ann = await shop.say("Ann in the group?", "Ann again.", chat="group", skill="chat")
    bob = await shop.say("Bob in the group?", "Bob.", who="bob", chat="group", skill="chat")
    found = await collect(database)
    assert sorted(talks(found)) == [["Ann alone?", "Ann."], ["Ann in the group?", "Ann again."], ["Bob in the group?", "Bob."]]
    samples = [map_row(section(Path("x"), map="own_turns"), row)[0] for row in found.rows]
    groups = {sample.question.split()[0]: sample.group for sample in samples}
    assert groups == {"Ann": f"s:{pseudonym(ann.user_id)}", "Bob": f"s:{pseudonym(bob.user_id)}"}
    assert len({sample.id for sample in samples}) == 3
    assert not any(known in repr(samples) for known in (ann.user_id, bob.user_id, ann.conversation_id))


async def test_a_correction_outlives_a_later_thumb(database: Database) -> None:
    """When several people of a group rate an answer, the newest correction counts, and no later opinion undoes it."""
    shop = Shop(database)
    turn = await shop.say("Where?", "There.", chat="group", skill="chat")
    bob = await shop.say("Hello?", "Hi.", who="bob", chat="group", skill="chat")
    await shop.rate(turn, -1, "In the cellar.")
    await shop.rate(turn, -1, who=bob.user_id)
    assert ["Where?", "In the cellar."] in talks(await collect(database))


async def test_many_users_are_all_read(database: Database, monkeypatch: Any) -> None:
    """Users are read some at a time, and nobody is passed over."""
    monkeypatch.setattr("finetune.sources.own_turns._USERS_AT_ONCE", 2)
    shop = Shop(database)
    for number in range(5):
        await shop.say(f"I am {number}.", "Hello.", who=f"user{number}", skill="chat")
    assert len((await collect(database)).rows) == 5
    assert (await collect(database)).rows == (await collect(database)).rows
