"""The manager with the engine that ships for tests: what its metrics say about reuse, and its failures."""

import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from dialogue.config import DialogueConfig
from dialogue.engine.scripted import Fault, FaultKind, ScriptedEngine
from dialogue.manager import DialogueManager
from dialogue.messages import ReplyDelta, ReplyRestarted
from dialogue.ports import ServedModel
from dialogue.router import Router
from dialogue.skills.registry import load_skills
from storage.records import TurnStatus
from tests.dialogue.harness import Harness, dialogue

CONFIG = DialogueConfig(seed=1)


@asynccontextmanager
async def scripted_dialogue(engine: ScriptedEngine) -> AsyncGenerator[Harness, None]:
    """Give a dialogue whose manager has this engine."""
    async with dialogue(CONFIG) as kefu:
        model = ServedModel(engine, await engine.start(), kefu.template, kefu.tokenizer)
        router = Router(load_skills(CONFIG, installed=()), {}, "chat")
        kefu.manager = DialogueManager(kefu.database, model, router, CONFIG, time=kefu.time.ports())
        yield kefu
        await engine.close()


async def test_the_timings_tell_how_much_was_reused() -> None:
    """From the second turn on, nearly all of the prompt but the new message is reused, and the event says so."""
    async with scripted_dialogue(ScriptedEngine("As you wish.")) as kefu:
        timings = [(await kefu.say("tell me something about shoes")).committed.timings for _ in range(8)]
        assert timings[0].cached_tokens == 0
        for before, after in itertools.pairwise(timings):
            assert after.cached_tokens >= before.prompt_tokens - 2
        assert timings[-1].cached_tokens / timings[-1].prompt_tokens > 0.8


async def test_a_failing_engine_is_survived() -> None:
    """When every second generation fails in the middle, every turn is answered all the same, with one restart."""
    engine = ScriptedEngine("A rather long answer.", faults=[Fault(FaultKind.RAISE, every=2, after_tokens=2)])
    async with scripted_dialogue(engine) as kefu:
        turns = [await kefu.say("hi") for _ in range(4)]
        assert [said.reply for said in turns] == ["A rather long answer."] * 4
        assert [sum(isinstance(event, ReplyRestarted) for event in said.events) for said in turns] == [0, 1, 1, 1]


async def test_previews_make_up_the_reply() -> None:
    """What was shown since the last restart is what is stored."""
    engine = ScriptedEngine("你好，世界 👍🏽 and more", faults=[Fault(FaultKind.RAISE, every=2, after_tokens=3)])
    async with scripted_dialogue(engine) as kefu:
        for _ in range(3):
            said = await kefu.say("hi")
            shown = ""
            for event in said.events:
                shown = "" if isinstance(event, ReplyRestarted) else shown + (event.text if isinstance(event, ReplyDelta) else "")
            assert shown.strip() == said.reply == "你好，世界 👍🏽 and more"


async def test_a_closed_engine_is_said_so() -> None:
    """An engine that is gone for good ends in an apology, and the message is kept."""
    engine = ScriptedEngine()
    async with scripted_dialogue(engine) as kefu:
        await engine.close()
        said = await kefu.say("hi")
        assert said.turn.status is TurnStatus.FAILED
        assert said.reply.startswith("I cannot answer at the moment")
