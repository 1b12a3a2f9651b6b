"""Translate a text: `/translate [to LANGUAGE | LANGUAGE: | FROM>TO] TEXT`, or as an answer to a message."""

import re
from typing import Final, NamedTuple

from dialogue.config import DialogueConfig
from dialogue.skills.base import PromptPlan, Refusal, SamplingChange, SkillInput, TaskFields
from dialogue.skills.languages import MOST_WORDS, Detector, detect_language, find_language, language_name
from dialogue.skills.texts import as_data, prompt_text
from dialogue.words import say

_PAIR: Final = re.compile(r"([^\s>→:：-]+)\s*(?:->|>|→)\s*([^\s>→:：]+)\s*(?:[:：]|\s|$)\s*")
_TO: Final = re.compile(r"(?:in)?to\s+(?=\S)", re.IGNORECASE)
_TO_CHINESE: Final = re.compile(r"(?:请?把?(?:翻译|译|翻)?(?:成|为|到))\s*")
_COLON: Final = re.compile(r"([^:：\n]{2,30})[:：]\s*")
_NAME_END: Final = re.compile(r"\s*[:：]\s*|\s+|$")
_ENGLISH_WORDS: Final = frozenset({"it", "he", "no", "hi", "id", "la", "ms", "da", "el"})  # codes that "to it she said" does not mean
_EXTRA_TOKENS: Final = 64
_LONGEST_CHINESE_NAME: Final = 6


class TranslationOrder(NamedTuple):
    """What the user asked for; "" where nothing was said."""

    text: str
    source: str = ""
    target: str = ""


def parse_order(argument: str, quoted_text: str = "") -> TranslationOrder:
    """Read the argument of /translate. What names no known language is part of the text."""
    order = _pair(argument) or _after_to(argument) or _after_chinese_to(argument) or _before_colon(argument)
    if order is None:
        lonely = find_language(argument) if quoted_text.strip() else None
        order = TranslationOrder("", target=lonely) if lonely else TranslationOrder(argument.strip())
    return order if order.text else order._replace(text=quoted_text.strip())


def _pair(argument: str) -> TranslationOrder | None:
    match = _PAIR.match(argument)
    if match is None:
        return None
    source, target = find_language(match[1]), find_language(match[2])
    return TranslationOrder(argument[match.end() :].strip(), source, target) if source and target else None


def _after_to(argument: str) -> TranslationOrder | None:
    match = _TO.match(argument)
    if match is None:
        return None
    rest = argument[match.end() :]
    words = list(re.finditer(r"[^\s:：]+", rest))[:MOST_WORDS]
    for last in reversed(words):
        name, after = rest[: last.end()], rest[last.end() :]
        plain_word = name.casefold() in _ENGLISH_WORDS and after.strip() and not after.lstrip().startswith((":", "："))
        target = find_language(name)
        if target and not plain_word:
            return TranslationOrder(_NAME_END.sub("", after, count=1).strip(), target=target)
    return None


def _after_chinese_to(argument: str) -> TranslationOrder | None:
    match = _TO_CHINESE.match(argument)
    if match is None:
        return None
    rest = argument[match.end() :]
    for length in range(min(_LONGEST_CHINESE_NAME, len(rest)), 0, -1):
        target = find_language(rest[:length])
        if target:
            return TranslationOrder(rest[length:].lstrip(" :：,，").strip(), target=target)
    return None


def _before_colon(argument: str) -> TranslationOrder | None:
    match = _COLON.match(argument)
    target = find_language(match[1]) if match else None
    return TranslationOrder(argument[match.end() :].strip(), target=target) if match and target else None


def choose_target(source: str, language: str) -> str:
    """Return the target when none was named: the user's language, or English (or Chinese) when the text is in it already."""
    own = find_language(language) or "en"
    if own.partition("-")[0] != source.partition("-")[0]:
        return own
    return "zh" if own == "en" else "en"


class TranslateSkill:
    """Translates one text; old turns stay out of the prompt."""

    name = "translate"
    commands = ("translate", "tr")
    sticky = False
    retrieves = False

    def __init__(self, config: DialogueConfig, detect: Detector = detect_language) -> None:
        self._config = config
        self._detect = detect

    def describe(self, language: str) -> str:
        return say("skill_translate", language)

    def plan(self, given: SkillInput) -> PromptPlan | Refusal:
        order = parse_order(given.text, given.quoted_text)
        if not order.text:
            return Refusal(say("translate_usage", given.language))
        source = order.source or self._detect(order.text) or ""
        target = order.target or choose_target(source, given.language)
        names = {
            "source": language_name(source, given.language),
            "target": language_name(target, given.language),
        }
        known = source and source != target  # a short text is easily taken for the wrong language
        task = prompt_text("translate_task", given.language, target=names["target"])
        return PromptPlan(
            system=prompt_text("translate" if known else "translate_unknown", given.language, **names),
            user_text=f"{task}\n{as_data(order.text)}",
            language=given.language,
            history=False,
            sampling=SamplingChange(temperature=0.0, max_tokens=max(self._config.max_reply_tokens, len(order.text) + _EXTRA_TOKENS)),
            fields=TaskFields(task, order.text, source, target),
        )
