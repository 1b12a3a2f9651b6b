"""The samples that come with Kefu, and the two examples that the base model is shown. Files and licences: see data/README.md."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from dialogue.messages import ChatMessage, Role
from dialogue.skills.base import Passage
from dialogue.skills.texts import prompt_text
from dialogue.words import assistant_language
from finetune.samples import Sample, decode_sample

BUILT_IN: Final = ("plain_chat", "injection", "forgetting")


@cache
def built_in_samples() -> tuple[Sample, ...]:
    """Return the samples of all built-in suites."""
    folder = files("finetune.evaluation").joinpath("data")
    lines = [line for name in BUILT_IN for line in folder.joinpath(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return tuple(decode_sample(line) for line in lines)


_EXAMPLES: Final[Mapping[str, tuple[tuple[str, tuple[Passage, ...], str], ...]]] = {
    "en": (
        (
            "How long do I have to send something back?",
            (
                Passage("Parcels are sent on weekdays before 4 pm.", "parcels", "Parcels"),
                Passage("You can return what you bought within 30 days. The label is in the box.", "returns", "Returns"),
            ),
            "You can return it within 30 days; the label is in the box. [2]",
        ),
        ("Do you have a shop in Rome?", (Passage("Our shop opens from 9 am to 6 pm.", "opening", "Opening hours"),), ""),
    ),
    "zh": (
        (
            "我多久之内可以退货？",
            (Passage("工作日下午四点前发货。", "parcels", "发货"), Passage("购买后30天内可以退货，标签在盒子里。", "returns", "退货")),
            "您可以在30天内退货，标签在盒子里。[2]",
        ),
        ("你们在罗马有门店吗？", (Passage("门店营业时间为上午9点到下午6点。", "opening", "营业时间"),), ""),
    ),
}


def example_turns(language: str) -> tuple[ChatMessage, ...]:
    """Return two example turns, one that cites and one that does not know, as they would stand in the history with their passages."""
    turns: list[ChatMessage] = []
    for question, passages, answer in _EXAMPLES[assistant_language(language)]:
        listed = "\n".join(f"[{number}] {passage.title}\n{passage.text}" for number, passage in enumerate(passages, start=1))
        asked = f"{question}\n\n{prompt_text('passages', language, passages=listed)}"
        turns += [ChatMessage(Role.USER, asked), ChatMessage(Role.ASSISTANT, answer or prompt_text("support_unknown", language))]
    return tuple(turns)
