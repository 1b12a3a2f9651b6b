"""The way of a turn through the manager, on a real database."""

import asyncio
from typing import Any

import pytest

from dialogue.config import DialogueConfig
from dialogue.engine.base import QueuePosition
from dialogue.extras import ReplyExtras, decode_extras
from dialogue.messages import Abilities, Button, FileRef, ReplyCommitted, ReplyDelta, ReplyWaiting
from dialogue.router import CommandContext, CommandReply
from dialogue.skills.base import Passage
from storage.records import OutboxState, TurnStatus
from storage.unit_of_work import UnitOfWork
from tests.dialogue.harness import Harness, PuppetEngine, Said, dialogue, read_all


async def test_a_message_is_answered_and_recorded() -> None:
    """A message streams its reply, and turn, outbox row and inbox item say the same afterwards."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [["Hel", "lo ", "Ada."]]
        said = await kefu.say("hi")
        assert [event.text for event in said.events if isinstance(event, ReplyDelta)] == ["Hel", "lo ", "Ada."]
        assert (said.turn.status, said.turn.skill, said.turn.user_text, said.reply) == (TurnStatus.ANSWERED, "chat", "hi", "Hello Ada.")
        assert said.turn.engine == "puppet:puppet-1"

        async def look(work: UnitOfWork) -> None:
            assert said.committed.outbox_id is not None
            row = await work.outbox.get(said.committed.outbox_id)
            assert (row.text, row.state, row.turn_id) == ("Hello Ada.", OutboxState.READY, said.turn.id)
            assert await work.inbox.pending() == 0

        await kefu.database.read(look)


async def test_later_prompts_hold_what_was_said() -> None:
    """The second prompt holds the first message and its reply, and not the other chat's."""
    async with dialogue() as kefu:
        await kefu.say("my shoes are too small")
        await kefu.say("something else entirely", chat="2", sender="bob")
        await kefu.say("what now?")
        prompt = kefu.prompt_text()
        assert "my shoes are too small" in prompt
        assert "Fine." in prompt
        assert "something else entirely" not in prompt


async def test_a_burst_is_one_turn() -> None:
    """Messages in a row are lines of one turn, and all their inbox items are done with it."""
    async with dialogue() as kefu:
        said = await kefu.say("one moment", "I have a question")
        assert said.turn.user_text == "one moment\nI have a question"
        assert len(kefu.engine.requests) == 1
        assert await kefu.database.read(lambda work: work.inbox.pending()) == 0


async def test_stop_keeps_what_was_said() -> None:
    """A stop ends the engine's work at once and commits the text so far."""
    stop, never = asyncio.Event(), asyncio.Event()

    async with dialogue() as kefu:
        kefu.engine.scripts = [["As far as ", "here", never]]
        messages = [kefu.message("tell me everything")]
        claim = await kefu.claim()
        events = kefu.manager.respond(claim, messages, [item.id for item in claim.items], stop=stop)
        seen = [await anext(events), await anext(events)]
        stop.set()
        seen += [event async for event in events]
        committed = seen[-1]
        assert isinstance(committed, ReplyCommitted)
        assert (committed.turn.status, committed.turn.reply_text) == (TurnStatus.STOPPED, "As far as here")
        assert committed.timings.completion_tokens > 0
        assert kefu.engine.running == 0


async def test_stop_before_anything_was_said() -> None:
    """A stop before the first word is answered with a word."""
    stop = asyncio.Event()
    stop.set()
    async with dialogue() as kefu:
        said = await kefu.say("hi", stop=stop)
        assert (said.turn.status, said.reply) == (TurnStatus.STOPPED, "Stopped.")
        assert kefu.engine.requests == []


async def test_closing_the_stream_cancels_and_commits_nothing() -> None:
    """A consumer that goes away frees the engine; the message still waits for its turn."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [["Hello", asyncio.Event()]]
        claim = await kefu.claim()
        events = kefu.manager.respond(claim, [kefu.message("hi")], [item.id for item in claim.items])
        assert isinstance(await anext(events), ReplyDelta)
        await events.aclose()
        assert kefu.engine.running == 0
        assert await kefu.database.read(lambda work: work.inbox.pending()) == 1
        assert await kefu.turns(claim.conversation.id) == ()


async def test_an_empty_generation_gets_words() -> None:
    """A model that says nothing is answered for."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [["  \n"]]
        said = await kefu.say("hi")
        assert (said.turn.status, said.reply) == (TurnStatus.FAILED, "I have no answer to that. Please ask in other words.")


async def test_a_person_who_took_over_is_not_talked_over() -> None:
    """While a person has the conversation, messages are recorded and the bot says nothing; later it knows them."""
    async with dialogue() as kefu:
        first = await kefu.say("hi")
        conversation = first.turn.conversation_id
        await kefu.database.write(lambda work: work.conversations.take(conversation, "agent"))
        silent = await kefu.say("are you still there?")
        assert (silent.turn.status, silent.reply, silent.committed.outbox_id) == (TurnStatus.UNANSWERED, "", None)
        assert len(silent.events) == 1
        assert len(kefu.engine.requests) == 1
        await kefu.database.write(lambda work: work.conversations.release(conversation, "agent"))
        await kefu.say("and now?")
        assert "are you still there?\n\nand now?" in kefu.prompt_text()


async def test_waiting_is_told_when_others_come_first() -> None:
    """A place behind others is told at once and when it changes, the first place is not."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [[QueuePosition(3), QueuePosition(3), QueuePosition(2), "Hi"], [QueuePosition(1), "Hi"]]
        said = await kefu.say("hi")
        assert [event for event in said.events if isinstance(event, ReplyWaiting)] == [ReplyWaiting(3), ReplyWaiting(2)]
        said = await kefu.say("hi")
        assert [event for event in said.events if isinstance(event, ReplyWaiting)] == []


async def test_a_long_wait_for_the_first_place_is_told() -> None:
    """After two seconds without a word the place is told even when it is the first."""
    async with dialogue() as kefu:
        begun = asyncio.Event()
        kefu.engine.scripts = [[begun, "Hi"]]
        claim = await kefu.claim()
        events = kefu.manager.respond(claim, [kefu.message("hi")], [item.id for item in claim.items])
        kefu.time.passes.set()
        assert await anext(events) == ReplyWaiting(1)
        assert kefu.time.slept == [2.0]
        begun.set()
        assert await anext(events) == ReplyDelta("Hi")
        await events.aclose()


async def test_a_committed_turn_is_not_generated_again() -> None:
    """A second run with the id of a finished turn only repeats what is stored."""
    async with dialogue() as kefu:
        first = await kefu.say("hi", turn_id="a" * 32)
        claim = await kefu.claim()
        again = [event async for event in kefu.manager.respond(claim, [kefu.message("hi")], [], turn_id="a" * 32)]
        assert again == [ReplyCommitted(first.turn, first.committed.outbox_id)]
        assert len(kefu.engine.requests) == 1


async def test_a_reserved_row_becomes_the_reply() -> None:
    """The row that was reserved for the previews carries the final text."""
    async with dialogue() as kefu:
        claim = await kefu.claim()
        row = await kefu.database.write(lambda work: work.outbox.reserve(claim, "b" * 32, ""))
        events = kefu.manager.respond(claim, [kefu.message("hi")], [item.id for item in claim.items], turn_id="b" * 32)
        committed = [event async for event in events][-1]
        assert isinstance(committed, ReplyCommitted)
        assert committed.outbox_id == row.id


async def test_a_sticky_choice_stays() -> None:
    """/support chooses the customer service until /chat chooses otherwise; with a text behind it, that is answered too."""
    async with dialogue(DialogueConfig(organisation="Shoe Shop")) as kefu:
        chosen = await kefu.say("/support")
        assert "customer service of Shoe Shop" in chosen.reply
        assert kefu.engine.requests == []
        assert (await kefu.say("where is my order?")).turn.skill == "support"
        assert "customer service of Shoe Shop" in kefu.prompt_text()
        assert (await kefu.say("/chat how are you?")).turn.skill == "chat"
        assert (await kefu.say("and now?")).turn.skill == "chat"


async def test_a_refusal_says_how_it_works() -> None:
    """A skill with nothing to do explains itself, without a generation and outside later prompts."""
    async with dialogue() as kefu:
        said = await kefu.say("/translate")
        assert "/translate to German" in said.reply
        await kefu.say("hi")
        assert "/translate" not in kefu.prompt_text()


async def test_passages_reach_the_prompt_and_the_document() -> None:
    """A skill that retrieves gets passages; others do not ask for them."""

    asked: list[tuple[str, str]] = []

    class Shelf:
        async def retrieve(self, question: str, *, language: str) -> list[Passage]:
            asked.append((question, language))
            return [Passage("Returns take 14 days.", "https://example.org/returns", "Returns")]

    async with dialogue(DialogueConfig(default_skill="support"), retriever=Shelf()) as kefu:
        said = await kefu.say("how long may I return shoes?")
        assert "[1] Returns\nReturns take 14 days." in kefu.prompt_text()
        assert (await kefu.document(said.turn.id)).passages[0].source == "https://example.org/returns"
        await kefu.say("/chat hello")
        assert asked == [("how long may I return shoes?", "en")]


async def test_the_request_is_the_owners() -> None:
    """Sampling, seed, adapter and keys of the request are those of settings, conversation and user."""

    def newest(conversation_id: str, skill: str) -> str:
        return f"release-{skill}"

    config = DialogueConfig(seed=42, temperature=0.5, top_p=0.9, top_k=30, repetition_penalty=1.2, max_reply_tokens=99, deadline_s=33)
    async with dialogue(config, adapter_for=newest) as kefu:
        said = await kefu.say("hi", turn_id="c" * 32)
        request = kefu.engine.requests[0]
        sampling = request.sampling
        assert (request.request_id, request.adapter, request.deadline_s) == ("c" * 32, "release-chat", 33)
        assert (sampling.seed, sampling.temperature, sampling.top_p, sampling.top_k) == (42, 0.5, 0.9, 30)
        assert (sampling.repetition_penalty, sampling.max_tokens) == (1.2, 99)
        assert request.cache_key == f"{said.turn.conversation_id}:chat"
        assert request.fair_key == said.turn.user_id
        assert said.turn.adapter == "release-chat"
        await kefu.say("/translate to German hello")
        assert kefu.engine.requests[1].cache_key == ""


async def test_each_turn_has_a_seed_of_its_own() -> None:
    """Without a fixed seed every turn draws one, and its document has it."""
    async with dialogue(DialogueConfig()) as kefu:
        turns = [(await kefu.say("hi")).turn for _ in range(3)]
        seeds = [(await kefu.document(turn.id)).sampling.seed for turn in turns]
        assert len(set(seeds)) == 3
        assert seeds == [request.sampling.seed for request in kefu.engine.requests]


async def test_a_message_beyond_measure_is_cut_and_told() -> None:
    """A message that does not fit loses its middle, which prompt and user are told; what is stored is whole."""
    async with dialogue(engine=PuppetEngine(context_tokens=600)) as kefu:
        text = "begin " + "word " * 2000 + "end"
        said = await kefu.say(text)
        assert "characters left out" in kefu.prompt_text()
        assert "I have read it without" in said.reply
        assert said.turn.user_text == text
        assert len(kefu.engine.requests[0].prompt) + kefu.engine.requests[0].sampling.max_tokens <= 600


async def test_the_language_of_the_user_is_spoken() -> None:
    """Prompts and canned words are Chinese for a Chinese user, by the platform's word or by the text."""
    async with dialogue() as kefu:
        await kefu.say("hello", language="zh-hans")
        assert "你是Kefu" in kefu.prompt_text()
        await kefu.say("你好，请问在吗", chat="2", language=None)
        assert "你是Kefu" in kefu.prompt_text()
        await kefu.say("hello", chat="3", language=None)
        assert "You are Kefu" in kefu.prompt_text()


async def test_today_stands_last_when_it_matters() -> None:
    """The date is in the prompt only of a message that speaks of time."""
    async with dialogue() as kefu:
        await kefu.say("are you open tomorrow?")
        assert "are you open tomorrow?\n\nToday is Saturday, 3 October 2026." in kefu.prompt_text()
        await kefu.say("thank you")
        assert "Today is" not in kefu.prompt_text()


async def test_group_replies_name_their_message() -> None:
    """In a group the reply names the message that it answers; in a private chat it need not."""
    async with dialogue() as kefu:
        group = await kefu.say("hi", chat="g", private=False, message_ref="77")
        private = await kefu.say("hi", message_ref="78")
        ids = [said.committed.outbox_id or "" for said in (group, private)]
        rows = [await kefu.database.read(lambda work, row_id=row_id: work.outbox.get(row_id)) for row_id in ids]
        assert [row.reply_to for row in rows] == ["77", ""]


async def _extras(kefu: Harness, said: Said) -> ReplyExtras:
    outbox_id = said.committed.outbox_id
    assert outbox_id is not None
    return decode_extras((await kefu.database.read(lambda work: work.outbox.get(outbox_id))).extras)


@pytest.mark.parametrize(
    ("text", "script", "is_rateable"),
    [("hi", ["Fine."], True), ("hi", [], False), ("/translate", ["Fine."], False), ("/memory", ["Fine."], False), ("hi", ["a"] * 9, True)],
)
async def test_only_words_of_the_model_are_rated(text: str, script: list[str], is_rateable: bool) -> None:
    """Buttons for opinions stand under what was generated, not under what the program says by itself."""
    async with dialogue() as kefu:
        kefu.engine.scripts = [script]
        assert await _extras(kefu, await kefu.say(text)) == ReplyExtras(is_rateable=is_rateable)


async def test_a_stopped_answer_is_not_rated() -> None:
    """Who stopped an answer has said what they think of it."""
    async with dialogue() as kefu:
        stop = asyncio.Event()
        stop.set()
        assert await _extras(kefu, await kefu.say("hi", stop=stop)) == ReplyExtras()


class Ask:
    """A command that asks by a button, where there are buttons."""

    name = "ask"

    def describe(self, language: str) -> str:
        return ""

    async def run(self, context: CommandContext) -> CommandReply:
        return CommandReply("?", extras=ReplyExtras(buttons=((Button("Yes", "yes"),),) if context.abilities.buttons else ()))


@pytest.mark.parametrize("abilities", [None, Abilities(files=True), Abilities(buttons=True)])
async def test_a_command_knows_what_can_go_out(abilities: Abilities | None) -> None:
    """What the channel can show reaches the command, and what the command adds reaches the outbox."""
    async with dialogue(commands={"ask": Ask()}) as kefu:
        claim = await kefu.claim()
        ids = [item.id for item in claim.items]
        said = await read_all(kefu.manager.respond(claim, [kefu.message("/ask")], ids, abilities=abilities))
        has_buttons = abilities is not None and abilities.buttons
        assert (await _extras(kefu, said)).buttons == (((Button("Yes", "yes"),),) if has_buttons else ())


FILE = FileRef("f1", "notes.md")


@pytest.mark.parametrize(
    ("messages", "reply"),
    [
        ([{"text": "", "is_unreadable": True}], "I can read text so far"),
        ([{"text": " ", "is_unreadable": True}, {"text": "", "is_unreadable": True}], "I can read text so far"),
        ([{"text": "", "is_unreadable": True, "quoted_text": "what it replies to"}], "I can read text so far"),
        ([{"text": "", "is_unreadable": True, "language": "zh"}], "我目前只能阅读文字"),
        ([{"text": "", "file": FILE}], "I have your file."),
        ([{"text": "", "file": FILE}, {"text": "", "is_unreadable": True}], "I have your file."),
    ],
)
async def test_what_cannot_be_read_gets_one_friendly_answer(messages: list[dict[str, Any]], reply: str) -> None:
    """Pictures and stickers, however many at once, and a lonely file: canned words that stay out of prompts, and no generation."""
    async with dialogue() as kefu:
        claim = await kefu.claim(count=len(messages))
        ids = [item.id for item in claim.items]
        said = await read_all(kefu.manager.respond(claim, [kefu.message(**message) for message in messages], ids))
        assert said.reply.startswith(reply)
        assert kefu.engine.requests == []
        assert await kefu.database.read(lambda work: work.turns.window(claim.conversation.id)) == ()


@pytest.mark.parametrize("more", [{"is_unreadable": True}, {"file": FILE}])
async def test_a_caption_is_answered(more: dict[str, Any]) -> None:
    """What is written under a picture, or beside one, is a message like any other."""
    async with dialogue() as kefu:
        assert (await kefu.say("what is this?", **more)).reply == "Fine."
        assert "what is this?" in kefu.prompt_text()
