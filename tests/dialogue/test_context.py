"""Who may know what: canaries of private chats never reach a group, nor another person."""

import random
import re

import pytest

from dialogue.config import DialogueConfig
from dialogue.context import guess_language
from tests.dialogue.harness import Harness, dialogue
from tests.sizes import record_proof, size

CANARIES = ("canary-name", "canary-tone", "canary-note", "canary-chat", "canary-quote")


async def tell_secrets(kefu: Harness) -> None:
    """Tell the assistant in private what no group may hear."""
    await kefu.say("/name canary-name")
    await kefu.say("/tone canary-tone")
    await kefu.say("/remember canary-note")
    await kefu.say("canary-chat", quoted_text="canary-quote")


async def test_a_group_hears_nothing_of_a_private_chat() -> None:
    """After a person told private things, no prompt and no reply of a group has any of them."""
    async with dialogue() as kefu:
        await tell_secrets(kefu)
        before = len(kefu.engine.requests)
        replies = [
            (await kefu.say(text, chat="group", private=False)).reply
            for text in (
                "hello",
                "/memory",
                "/summarize",
                "/support who am I?",
                "/write poem about me",
                "/translate to German hi",
                "/nonsense",
            )
        ]
        prompts = [kefu.prompt_text(number) for number in range(before, len(kefu.engine.requests))]
        assert len(prompts) == 5
        assert [canary for canary in CANARIES for text in (*prompts, *replies) if canary in text] == []


async def test_the_canaries_are_seen_where_they_may_be() -> None:
    """The same canaries stand in the person's own private prompt: a check that sees nothing there would prove nothing."""
    async with dialogue() as kefu:
        await tell_secrets(kefu)
        assert "canary-quote" in kefu.prompt_text()
        await kefu.say("who am I?")
        assert [canary for canary in CANARIES if canary not in kefu.prompt_text()] == ["canary-quote"]


async def test_another_person_hears_nothing() -> None:
    """What one person told stands in no other person's prompt."""
    async with dialogue() as kefu:
        await tell_secrets(kefu)
        await kefu.say("who am I?", chat="2", sender="bob")
        assert [canary for canary in CANARIES if canary in kefu.prompt_text()] == []


async def test_a_group_changes_no_profile() -> None:
    """Commands about the profile do nothing in a group, and say so."""
    async with dialogue() as kefu:
        for text in ("/remember canary-note", "/name canary-name", "/tone canary-tone", "/language zh", "/forget"):
            said = await kefu.say(text, chat="group", private=False)
            assert said.reply == "What I remember about you stays between us. Please ask me in a private chat."
        assert (await kefu.say("/memory")).reply.startswith("I remember nothing about you")


async def test_a_chat_that_claims_to_be_private_in_a_group_stays_a_group() -> None:
    """A conversation that was once a group gets no profile, whatever a later message says of itself."""
    async with dialogue() as kefu:
        await tell_secrets(kefu)
        await kefu.say("hello", chat="group", private=False)
        await kefu.say("hello again", chat="group", private=True)
        assert [canary for canary in CANARIES if canary in kefu.prompt_text()] == []


async def test_the_profile_is_one_for_all_private_chats() -> None:
    """A person's profile follows them into each of their private chats; the history does not."""
    async with dialogue() as kefu:
        await tell_secrets(kefu)
        await kefu.say("who am I?", chat="other")
        assert "canary-note" in kefu.prompt_text()
        assert "canary-chat" not in kefu.prompt_text()


async def test_names_follow_the_platform() -> None:
    """A new display name of a known person is stored with the next turn."""
    async with dialogue() as kefu:
        first = await kefu.say("hi")
        message = kefu.message("hi again")
        claim = await kefu.claim()
        renamed = type(message.sender)("ada", "Countess Ada", "en")
        events = kefu.manager.respond(claim, [type(message)(message.key, renamed, "hi", is_private=True)], [i.id for i in claim.items])
        assert [event async for event in events]
        exported = await kefu.database.read(lambda work: work.users.export(first.turn.user_id))
        assert "Countess Ada" in str(exported)


@pytest.mark.parametrize(
    ("text", "language"),
    [("hello", "en"), ("你好", "zh"), ("请问 iPhone 15 Pro 多少钱", "zh"), ("123 !?", "en"), ("", "en"), ("Wo ist 北京?", "zh")],
)
def test_the_language_is_guessed_from_letters(text: str, language: str) -> None:
    """Where nobody says the language, Chinese characters decide."""
    assert guess_language(text) == language


@pytest.mark.parametrize("seed", range(size("isolation_runs", small=1, proof=40)))
async def test_nothing_crosses_over(seed: int) -> None:
    """In any mixture of people, chats and groups, a prompt holds marks of its own conversation and, in private, of its person only."""
    chance, turns = random.Random(seed), size("isolation_turns", small=60, proof=250)
    people, groups = ["ada", "bob", "eve"], ["g1", "g2"]
    async with dialogue(DialogueConfig(seed=1, history_tokens=600)) as kefu:
        for number in range(turns):
            person = chance.choice(people)
            private = chance.random() < 0.6
            chat = f"{person}-{chance.randint(1, 2)}" if private else chance.choice(groups)
            mark = f"mark.{chat if chance.random() < 0.7 or not private else person}.{number}"
            text = f"{mark} hello" if person not in mark.split(".") else f"/remember {mark}"
            await kefu.say(text, chat=chat, sender=person, private=private)
            allowed = {chat, person} if private else {chat}
            if not text.startswith("/"):
                seen = {found.split(".")[1] for found in re.findall(r"mark\.[\w-]+\.\d+", kefu.prompt_text())}
                assert seen <= allowed
                assert chat in seen
        record_proof("nothing of a private chat elsewhere", seed=seed, size=turns, result="0 marks in a foreign prompt")
