"""The rolling summary: made only when the window is cut, and never at the expense of the turn."""

from dialogue.config import DialogueConfig
from dialogue.engine.base import GenerationRequest
from dialogue.errors import EngineOverloaded
from tests.dialogue.harness import Harness, PuppetEngine, Script, dialogue

CONFIG = DialogueConfig(seed=1, history_tokens=400, rolling_summary=True)


class Summariser(PuppetEngine):
    """Answers requests for summaries with a script of their own."""

    summary: Script = ("They bought ", "red shoes.")

    def is_summary(self, request: GenerationRequest) -> bool:
        return request.request_id.endswith("-summary")

    async def generate(self, request: GenerationRequest):  # type: ignore[no-untyped-def, override]
        self.scripts = [self.summary] if self.is_summary(request) else []
        async for event in super().generate(request):
            yield event


async def talk_until_cut(kefu: Harness) -> str:
    """Talk until the window moved; return the conversation's id."""
    for number in range(30):
        said = await kefu.say(f"message {number} " + "about red shoes " * 8)
        if kefu.sent[-1].window_start > 1:
            return said.turn.conversation_id
    raise AssertionError("the window was never cut")


async def test_what_leaves_the_window_is_summarised() -> None:
    """The summary is made of the leaving turns, stored with the turn, and stands in this and later prompts."""
    engine = Summariser(context_tokens=4096)
    async with dialogue(CONFIG, engine=engine) as kefu:
        conversation_id = await talk_until_cut(kefu)
        summary_request, request = engine.requests[-2:]
        assert engine.is_summary(summary_request)
        assert (summary_request.cache_key, summary_request.sampling.temperature) == ("", 0.0)
        assert "message 0" in kefu.prompt_text(-2)
        assert "message 0" not in kefu.prompt_text(-1)
        assert "Earlier in this conversation, in short:\nThey bought red shoes." in kefu.prompt_text(-1)
        conversation = await kefu.database.read(lambda work: work.conversations.get(conversation_id))
        assert conversation.summary == "They bought red shoes."
        before = len(engine.requests)
        await kefu.say("thanks")
        assert len(engine.requests) == before + 1
        assert "They bought red shoes." in kefu.prompt_text()
        assert kefu.tokenizer.decode(request.prompt).split("message")[0] == kefu.prompt_text().split("message")[0]


async def test_the_next_summary_holds_the_one_before() -> None:
    """When the window is cut again, the summary so far is part of what is summarised."""
    engine = Summariser(context_tokens=4096)
    async with dialogue(CONFIG, engine=engine) as kefu:
        for number in range(20):
            await kefu.say(f"message {number} " + "about red shoes " * 8)
        summaries = [index for index, request in enumerate(engine.requests) if engine.is_summary(request)]
        assert len(summaries) >= 2
        assert "They bought red shoes." not in kefu.prompt_text(summaries[0])
        assert "They bought red shoes." in kefu.prompt_text(summaries[1])


async def test_a_failed_summary_does_not_fail_the_turn() -> None:
    """When no summary can be made, the turn is answered without one."""
    engine = Summariser(context_tokens=4096)
    engine.summary = (EngineOverloaded("full", retry_after_s=1),)
    async with dialogue(CONFIG, engine=engine) as kefu:
        conversation_id = await talk_until_cut(kefu)
        turns = await kefu.turns(conversation_id)
        assert {turn.reply_text for turn in turns} == {"Fine."}
        assert any(engine.is_summary(request) for request in engine.requests)


async def test_it_is_off_by_default() -> None:
    """Without the owner's wish nothing is summarised."""
    engine = Summariser(context_tokens=4096)
    async with dialogue(DialogueConfig(seed=1, history_tokens=400), engine=engine) as kefu:
        await talk_until_cut(kefu)
        assert not any(engine.is_summary(request) for request in engine.requests)


async def test_a_new_conversation_forgets_the_summary() -> None:
    """What /new does to the window it does to the summary."""
    engine = Summariser(context_tokens=4096)
    async with dialogue(CONFIG, engine=engine) as kefu:
        conversation_id = await talk_until_cut(kefu)
        await kefu.database.write(lambda work: work.conversations.start_new(conversation_id))
        await kefu.say("hello")
        assert "red shoes" not in kefu.prompt_text()
