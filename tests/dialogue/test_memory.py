"""What is remembered about a person is theirs to see, change and erase."""

from collections.abc import Awaitable, Callable

import pytest

from dialogue.memory import MAX_NOTE_CHARACTERS, MAX_NOTES
from dialogue.messages import ReplyCommitted
from dialogue.router import CommandContext, CommandReply
from storage.records import ProfileRecord
from storage.unit_of_work import UnitOfWork
from tests.dialogue.harness import Harness, dialogue


async def profile(kefu: Harness) -> ProfileRecord:
    """Return Ada's profile as it is stored."""

    async def read(work: UnitOfWork) -> ProfileRecord:
        user = await work.users.find("test", "bot", "ada")
        assert user is not None
        return await work.users.profile(user.id)

    return await kefu.database.read(read)


async def test_notes_are_added_shown_and_erased() -> None:
    """/remember adds, /memory shows all with numbers, /forget N erases one and /forget everything."""
    async with dialogue() as kefu:
        assert (await kefu.say("/remember I like tea")).reply == "I will remember: I like tea"
        await kefu.say("/remember I have\n  a dog")
        await kefu.say("/name Ada")
        await kefu.say("/tone formal")
        assert (await kefu.say("/memory")).reply == ("What I remember about you:\nName: Ada\nTone: formal\n1. I like tea\n2. I have a dog")
        await kefu.say("who am I?")
        assert "- Note: I have a dog" in kefu.prompt_text()
        assert (await kefu.say("/forget 1")).reply == "I have forgotten: I like tea"
        assert await profile(kefu) == ProfileRecord((await profile(kefu)).user_id, "Ada", "", "formal", ("I have a dog",))
        assert (await kefu.say("/forget 7")).reply.startswith("There is no note 7.")
        assert "everything" in (await kefu.say("/forget")).reply
        assert await profile(kefu) == ProfileRecord((await profile(kefu)).user_id)
        await kefu.say("who am I now?")
        assert "dog" not in kefu.prompt_text()


async def test_commands_stand_in_no_prompt() -> None:
    """What was said in commands is not repeated to the model."""
    async with dialogue() as kefu:
        await kefu.say("/remember canary")
        await kefu.say("/forget")
        await kefu.say("hello")
        assert "canary" not in kefu.prompt_text()
        assert "/remember" not in kefu.prompt_text()


async def test_limits() -> None:
    """Notes have a limit in number and length, and the user is told."""
    async with dialogue() as kefu:
        assert "500 characters" in (await kefu.say("/remember " + "x" * (MAX_NOTE_CHARACTERS + 1))).reply
        await kefu.say("hi")
        user = (await profile(kefu)).user_id

        async def fill(work: UnitOfWork) -> None:
            for number in range(MAX_NOTES):
                await work.users.add_note(user, f"note {number}")

        await kefu.database.write(fill)
        assert (await kefu.say("/remember one more")).reply.startswith("I remember 50 notes about you, more do not fit.")
        assert len((await profile(kefu)).notes) == MAX_NOTES


async def test_the_language_changes_at_once() -> None:
    """/language takes codes and names, answers in the new language and holds from then on."""
    async with dialogue() as kefu:
        assert (await kefu.say("/language 中文")).reply == "您的语言已设为中文。"
        assert (await profile(kefu)).language == "zh"
        await kefu.say("hello")
        assert "你是Kefu" in kefu.prompt_text()
        assert "Klingon" in (await kefu.say("/language Klingon")).reply
        assert (await kefu.say("/language English")).reply == "Your language is now English."


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("/remember", "What shall I remember?"),
        ("/name", "How shall I call you?"),
        ("/tone", "Which tone?"),
        ("/language", "Which language?"),
        ("/forget that I like tea", "/forget erases everything"),
        ("/forget ²", "/forget erases everything"),
        ("/name " + "x" * 81, "That is too long"),
        ("/memory", "I remember nothing about you."),
        ("/dance", "I do not know /dance. What there is:\n/chat"),
    ],
)
async def test_what_cannot_be_done_is_explained(text: str, reply: str) -> None:
    """A command without its argument, or with a wrong one, says how it works and changes nothing."""
    async with dialogue() as kefu:
        assert (await kefu.say(text)).reply.startswith(reply)
        assert await profile(kefu) == ProfileRecord((await profile(kefu)).user_id)
        assert kefu.engine.requests == []


class Count:
    """A command that counts in the database how often it had its effect."""

    name = "count"

    def describe(self, language: str) -> str:
        return ""

    async def run(self, context: CommandContext) -> CommandReply:
        async def effect(work: UnitOfWork) -> None:
            await work.users.add_note(context.user_id, "counted")

        return CommandReply("Counted.", effect=effect)


async def test_an_effect_happens_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same turn committed twice, as after a crash, has its effect once."""
    async with dialogue(commands={"count": Count()}) as kefu:
        await kefu.say("hello")
        claim = await kefu.claim()
        ids = [item.id for item in claim.items]
        first, second = (kefu.manager.respond(claim, [kefu.message("/count")], ids, turn_id="a" * 32) for _ in range(2))
        write = kefu.database.write

        async def be_overtaken(work: Callable[[UnitOfWork], Awaitable[object]]) -> object:
            """Let the second run commit after the first one has looked whether the turn is there."""
            monkeypatch.setattr(kefu.database, "write", write)
            assert [event async for event in second]
            return await write(work)

        monkeypatch.setattr(kefu.database, "write", be_overtaken)
        committed = [event async for event in first][-1]
        assert isinstance(committed, ReplyCommitted)
        assert committed.turn.reply_text == "Counted."
        assert (await profile(kefu)).notes == ("counted",)


async def test_an_effect_that_fails_takes_the_turn_along() -> None:
    """When the effect fails, neither reply nor turn is there: the user is never told of what did not happen."""

    class Failing(Count):
        async def run(self, context: CommandContext) -> CommandReply:
            async def effect(work: UnitOfWork) -> None:
                await work.users.add_note(context.user_id, "counted")
                raise ZeroDivisionError

            return CommandReply("Counted.", effect=effect)

    async with dialogue(commands={"count": Failing()}) as kefu:
        claim = await kefu.claim()
        with pytest.raises(ZeroDivisionError):
            [event async for event in kefu.manager.respond(claim, [kefu.message("/count")], [item.id for item in claim.items])]
        assert await kefu.turns(claim.conversation.id) == ()
        assert (await profile(kefu)).notes == ()
        assert await kefu.database.read(lambda work: work.inbox.pending()) == 1
