"""A turn can be read and generated again."""

from contextlib import aclosing

from dialogue.config import DialogueConfig
from dialogue.engine.base import GenerationFinished, TextDelta
from dialogue.engine.scripted import ScriptedEngine
from dialogue.replay import describe, load, regenerate
from tests.dialogue.harness import dialogue


async def test_a_stored_turn_says_what_it_was_made_of() -> None:
    """The description names engine, adapter, seed and hashes and shows each section of the prompt and its text as the model saw it."""

    def release(conversation_id: str, skill: str) -> str:
        return "release-7"

    async with dialogue(DialogueConfig(seed=11), adapter_for=release) as kefu:
        await kefu.say("my name is Ada")
        turn = (await kefu.say("who am I?")).turn
        stored = await kefu.database.read(lambda work: work.turns.document(turn.id))
        document = load(stored or b"")
        parts = {part.name: part.text for part in describe(document, kefu.tokenizer.decode)}
        assert "adapter: release-7" in parts["made by"]
        assert f"template sha256: {kefu.template.sha256}" in parts["made by"]
        assert "seed: 11" in parts["sampling"]
        assert parts["prompt: message"] == "who am I?"
        assert "my name is Ada" in parts["prompt as the model saw it"]
        assert parts["prompt ids"].split() == [str(token) for token in kefu.engine.requests[-1].prompt]
        assert "ended by: stop" in parts["timings"]


async def test_a_stored_turn_is_generated_again() -> None:
    """The same prompt, sampling and adapter go to the engine under a new id, and what comes is streamed."""
    async with dialogue() as kefu:
        turn = (await kefu.say("hi")).turn
        document = await kefu.document(turn.id)
        async with aclosing(regenerate(document, kefu.engine)) as events:
            text = "".join([event.text async for event in events if isinstance(event, TextDelta)])
        original, again = kefu.engine.requests
        assert text == turn.reply_text
        assert (original.prompt, original.sampling, original.adapter) == (again.prompt, again.sampling, again.adapter)
        assert again.request_id != original.request_id
        assert again.cache_key == ""


async def test_an_engine_that_answers_by_the_prompt_says_the_same() -> None:
    """Regenerated on an engine whose answer depends on the prompt alone, the answer is the same."""
    async with dialogue() as kefu:
        turn = (await kefu.say("hi")).turn
        document = await kefu.document(turn.id)
        engine = ScriptedEngine()
        await engine.start()
        runs = [[event async for event in regenerate(document, engine)] for _ in range(2)]
        texts = ["".join(event.text for event in run if isinstance(event, TextDelta)) for run in runs]
        assert texts[0] == texts[1] != ""
        assert all(isinstance(run[-1], GenerationFinished) for run in runs)
