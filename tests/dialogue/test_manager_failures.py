"""What users are told, and what is kept, when a turn does not go well."""

import asyncio

import pytest

from dialogue.config import DialogueConfig
from dialogue.errors import (
    AdapterUnknown,
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    RequestPoisoned,
    RequestTooLong,
)
from dialogue.messages import ReplyCommitted, ReplyDelta, ReplyRestarted
from storage.clock import ManualClock
from storage.errors import ClaimLost
from storage.records import TurnStatus
from tests.dialogue.harness import PuppetEngine, dialogue


async def test_a_lost_engine_is_asked_once_more() -> None:
    """An engine that dies in the middle of a reply gets the same request again; previews begin anew, nothing is said twice."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [["Hello A", EngineUnavailable("it crashed")], ["Hello ", "Ada."]]
        said = await kefu.say("hi", turn_id="a" * 32)
        assert said.events[:-1] == (ReplyDelta("Hello A"), ReplyRestarted(), ReplyDelta("Hello "), ReplyDelta("Ada."))
        assert (said.turn.status, said.reply) == (TurnStatus.ANSWERED, "Hello Ada.")
        first, second = kefu.engine.requests
        assert first.request_id == second.request_id == "a" * 32
        assert first.sampling == second.sampling
        assert (await kefu.document(said.turn.id)).attempts == 2


async def test_nothing_restarts_that_was_not_shown() -> None:
    """When the engine was lost before its first word, no preview has to begin anew."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [[EngineUnavailable("it crashed")], ["Hello."]]
        said = await kefu.say("hi")
        assert said.events[:-1] == (ReplyDelta("Hello."),)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (EngineOverloaded("full", retry_after_s=7.2), "I am very busy right now. Your message is kept; please try again in 8 s."),
        (DeadlineExceeded("late"), "This took too long, so I stopped. Your message is kept; please try again in a while."),
        (RequestPoisoned("twice"), "I cannot process this message, sorry; it is kept for the operator. Please write it in another way."),
        (RequestTooLong("long"), "This is too long for me. Please send a shorter text."),
        (AdapterUnknown("gone"), "I cannot answer at the moment, sorry. Your message is kept; please try again in a minute."),
        (EngineError("other"), "I cannot answer at the moment, sorry. Your message is kept; please try again in a minute."),
    ],
)
async def test_what_is_refused_is_said_so_and_kept(error: EngineError, words: str) -> None:
    """Each failure of the engine ends in a sentence, and the message is stored with it."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [[error]]
        said = await kefu.say("an important question")
        assert (said.turn.status, said.reply) == (TurnStatus.FAILED, words)
        assert (said.turn.user_text, said.turn.engine) == ("an important question", "")
        assert len(kefu.engine.requests) == 1
        assert await kefu.database.read(lambda work: work.inbox.pending()) == 0


async def test_an_engine_that_stays_away() -> None:
    """After the second loss the user is told; the half sentence of the first is not part of it."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [["Hello A", EngineUnavailable("it crashed")], ["Hel", EngineUnavailable("it crashed again")]]
        said = await kefu.say("hi")
        assert said.reply == "I cannot answer at the moment, sorry. Your message is kept; please try again in a minute."
        assert len(kefu.engine.requests) == 2


async def test_the_next_turn_answers_a_kept_message() -> None:
    """A message that could not be answered stands in the next prompt, the excuse does not."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [[EngineOverloaded("full", retry_after_s=1)]]
        await kefu.say("where is my parcel?")
        await kefu.say("please try again")
        assert "where is my parcel?\n\nplease try again" in kefu.prompt_text()
        assert "very busy" not in kefu.prompt_text()


async def test_a_poisonous_message_does_not_come_back() -> None:
    """A text that killed the engine stands in no later prompt."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [[EngineUnavailable("died")], [RequestPoisoned("died again")]]
        await kefu.say("the poisonous text")
        await kefu.say("hello")
        assert "poisonous" not in kefu.prompt_text()


async def test_what_came_before_the_deadline_is_kept() -> None:
    """A reply that the deadline cuts off is delivered as far as it came, with a word about it."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [["Half of an ans", DeadlineExceeded("late")]]
        said = await kefu.say("hi")
        assert said.reply.startswith("Half of an ans\n\nThis took too long")


async def test_a_claim_that_was_lost_says_nothing_final() -> None:
    """When another worker claimed the conversation meanwhile, the turn is not committed and the stream ends without a final event."""
    clock = ManualClock()
    async with dialogue(clock=clock) as kefu:
        go = asyncio.Event()
        kefu.engine.scripts = [["Hello", go, " Ada"]]
        claim = await kefu.claim()
        events = kefu.manager.respond(claim, [kefu.message("hi")], [item.id for item in claim.items])
        assert await anext(events) == ReplyDelta("Hello")
        clock.advance(3_600_000)
        assert await kefu.database.write(lambda work: work.inbox.claim("faster")) is not None
        go.set()
        assert await anext(events) == ReplyDelta(" Ada")
        with pytest.raises(ClaimLost):
            await anext(events)
        assert await kefu.turns(claim.conversation.id) == ()


async def test_a_takeover_while_the_answer_is_made() -> None:
    """When a person takes over while the bot thinks, what it thought is not said."""
    async with dialogue() as kefu:
        claim = await kefu.claim()
        events = kefu.manager.respond(claim, [kefu.message("hi")], [item.id for item in claim.items])
        assert await anext(events) == ReplyDelta("Fine.")
        await kefu.database.write(lambda work: work.conversations.take(claim.conversation.id, "agent"))
        with pytest.raises(ClaimLost):
            await anext(events)
        assert await kefu.turns(claim.conversation.id) == ()


async def test_a_bug_of_an_engine_is_not_hidden() -> None:
    """What is no engine error comes through, so that the worker hears of it; nothing is committed."""

    class Broken(PuppetEngine):
        def generate(self, request: object) -> None:  # type: ignore[override]
            raise ZeroDivisionError

    async with dialogue(engine=Broken()) as kefu:
        claim = await kefu.claim()
        with pytest.raises(ZeroDivisionError):
            [event async for event in kefu.manager.respond(claim, [kefu.message("hi")], [item.id for item in claim.items])]
        assert await kefu.turns(claim.conversation.id) == ()


async def test_instructions_that_fill_the_context() -> None:
    """When the owner's instructions leave no room, the user is told that the text is too long, and nothing breaks."""
    config = DialogueConfig(instructions="be nice " * 500)
    async with dialogue(config, engine=PuppetEngine(context_tokens=600)) as kefu:
        said = await kefu.say("hi")
        assert (said.turn.status, said.reply) == (TurnStatus.FAILED, "This is too long for me. Please send a shorter text.")
        assert kefu.engine.requests == []


async def test_failures_speak_chinese() -> None:
    """A Chinese user gets the excuses in Chinese."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [[EngineOverloaded("full", retry_after_s=5)]]
        said = await kefu.say("你好", language="zh")
        assert said.reply == "我现在非常忙。您的消息已保留，请在 5 秒后再试。"
        assert isinstance(said.events[-1], ReplyCommitted)
