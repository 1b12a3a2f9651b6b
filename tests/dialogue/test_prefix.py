"""The start of a prompt stays as it is from turn to turn, so that engines can keep what they computed."""

import random
from collections.abc import Sequence

import pytest

from dialogue import prompt as prompt_module
from dialogue.budget import common_prefix, prefix_is_stable
from dialogue.config import DialogueConfig
from tests.dialogue.harness import Harness, PuppetEngine, dialogue
from tests.dialogue.prefix import check_prefixes, cuts, hit_rate
from tests.fakes.tiny_tokenizers import PAIRS
from tests.sizes import record_proof, size

TURNS = 30
SEED = 20261003
WORDS = (
    *("shoes", "return", "order", "订单", "please?", "谢谢！", "\n\n", "ok...", "12345", "été", "<|im_end|>", "user:", "assistant"),
    *("why,", "tomorrow", "the", "size", "is", "wrong"),
)


async def converse(kefu: Harness, turns: int, seed: int) -> None:
    """Talk in the ways that people do: short, long, several lines, of today, with a word that looks like a control token."""
    chance = random.Random(seed)
    for _ in range(turns):
        kefu.engine.default = (" ".join(chance.choices(WORDS, k=chance.randint(1, 25))) + ".",)
        await kefu.say("x" + " ".join(chance.choices(WORDS, k=chance.randint(0, 20))))


@pytest.mark.parametrize(("template", "tokenizer"), PAIRS if size("prefix_models", small=0, proof=1) else PAIRS[::4])
async def test_each_prompt_begins_with_the_one_before(template: str, tokenizer: str) -> None:
    """Over thirty turns every prompt begins with the one before it unless the window was cut, which is seldom."""
    config = DialogueConfig(seed=1, history_tokens=1500)
    async with dialogue(config, engine=PuppetEngine(context_tokens=4096), model=(template, tokenizer)) as kefu:
        await converse(kefu, TURNS, SEED)
        check_prefixes(kefu.sent)
        assert 1 <= cuts(kefu.sent) <= TURNS // 4
        assert hit_rate(kefu.sent) > 0.6
        record_proof(f"prefix of {template} on {tokenizer}", seed=SEED, size=TURNS, result=f"hit rate {hit_rate(kefu.sent):.2f}")


async def test_cutting_one_turn_at_a_time_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault of a window that slides moves at nearly every turn and loses most of the reuse."""

    def slide(sizes: Sequence[int], limit: int, room: int) -> int:
        return next(dropped for dropped in range(len(sizes) + 1) if sum(sizes[dropped:]) <= min(limit, room))

    monkeypatch.setattr(prompt_module, "cut_history", slide)
    async with dialogue(DialogueConfig(seed=1, history_tokens=500), engine=PuppetEngine(context_tokens=4096)) as kefu:
        await converse(kefu, TURNS, SEED)
        assert cuts(kefu.sent) > TURNS // 2
        assert hit_rate(kefu.sent) < 0.6


async def test_a_changing_start_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault of a prompt whose history changes fails the check of the whole suite."""
    counter = iter(range(100))
    original = prompt_module.PromptBuilder._history

    def unstable(self: prompt_module.PromptBuilder, turns: Sequence[object], language: str) -> object:
        messages, unanswered = original(self, turns, language)  # type: ignore[arg-type]
        return [type(message)(message.role, f"{next(counter)} {message.content}") for message in messages], unanswered

    monkeypatch.setattr(prompt_module.PromptBuilder, "_history", unstable)
    with pytest.raises(AssertionError, match="ids are shared"):
        async with dialogue() as kefu:
            await converse(kefu, 3, SEED)


@pytest.mark.parametrize(
    ("previous", "new", "volatile", "stable"),
    [
        ([1, 2, 3], [1, 2, 3, 4], 0, True),
        ([1, 2, 3], [1, 2, 9, 4], 0, False),
        ([1, 2, 3], [1, 2, 9, 4], 1, True),
        ([], [1], 0, True),
        ([1, 2], [1], 0, False),
    ],
)
def test_what_stable_means(previous: list[int], new: list[int], volatile: int, *, stable: bool) -> None:
    """A prompt is stable when it begins with the one before it, but for that one's volatile end."""
    assert prefix_is_stable(previous, new, volatile) is stable
    assert common_prefix(previous, previous) == len(previous)
