"""Headings of help articles as customers would ask them, in one of a few wordings."""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from finetune.sources.words import content_words

_DEED: Final = re.compile(
    r"(?:How to )?((?:add|adjust|allow|avoid|back up|browse|calibrate|cancel|change|charge|check|choose|clear|configure"
    r"|connect|control|copy|create|customize|delete|disable|disconnect|display|edit|enable|enter|find|fix|get"
    r"|hide|improve|import|increase|install|keep|link|list|lock|log|magnify|make|manage|move|open|pair|play"
    r"|prevent|print|protect|read|record|recover|reduce|remove|rename|reset|restore|save|scan|search|select"
    r"|send|set|share|show|sign|simulate|sort|start|stop|store|switch|take|test|transfer|turn|unlock|update"
    r"|use|verify|view|write)\b.*)",
    re.IGNORECASE,
)
_HOW_TO: Final = re.compile(r"How to (.+)", re.IGNORECASE)
_TROUBLE: Final = re.compile(r"(?:I|I['’]m|I['’]ve|My|We)\b.*|.*(?:\bnot\b|n['’]t\b|\bcannot\b).*")
_OURS: Final = (("yourself", "myself"), ("yours", "mine"), ("your", "my"), ("you’re", "I’m"), ("you're", "I'm"), ("you", "I"))

_ASK: Final = ("{q}", "{q}", "{q}", "Hello, {low}", "Hi! {q}", "I have a question: {low}", "{q} Thank you.")
_ASK_HOW: Final = (
    "How do I {deed}?",
    "How can I {deed}?",
    "I want to {deed}. How does that work?",
    "Can you tell me how to {deed}?",
    "Hi, how do I {deed}?",
    "What do I have to do to {deed}?",
    "I would like to {deed}.",
)
_ASK_TROUBLE: Final = ("{t}. What can I do?", "{t}. Can you help?", "Hello, {t}. What now?", "{t}. Why is that?")
_ASK_ABOUT: Final = (
    "What should I know about {a}?",
    "Can you tell me about {a}?",
    "I have a question about {a}.",
    "{a}: what do I need to know?",
    "Where do I find help with {a}?",
)
_ASK_ZH: Final = ("{a}？", "请问{a}？", "你好，我想了解：{a}", "关于“{a}”，能告诉我吗？")
_FEW_WORDS: Final = 2  # a heading with fewer says nothing without its article's title


def ask(heading: str, title: str, language: str, rng: Random) -> str:
    """Return the question that a section with this heading answers."""
    heading, title = heading.strip().rstrip(":："), title.strip().rstrip(":：")
    if language.startswith("zh"):
        return rng.choice(_ASK_ZH).format(a=_with_title(heading, title, "：").rstrip("？?"))
    if not language.startswith("en"):
        return heading if heading.endswith("?") else f"{_with_title(heading, title, ': ')}?"
    question, topic = _english(heading, rng)
    question = question[0].upper() + question[1:]
    needs_title = heading != title and (len(content_words(heading)) < _FEW_WORDS or topic)
    return f"{question} ({title})" if needs_title and title.casefold() not in question.casefold() else question


def _english(heading: str, rng: Random) -> tuple[str, bool]:
    """Return a question, and whether it is about a mere topic."""
    for fits, wordings, value in _FORMS:
        if fits(heading):
            text = value(heading)
            return rng.choice(wordings).format(q=text, low=_lower(text), deed=text, t=text, a=text), wordings is _ASK_ABOUT
    raise AssertionError("the last form fits every heading that is not empty")


def is_how_to(question: str) -> bool:
    """Whether steps are a good answer."""
    return (
        re.search(r"\bhow (?:do|can|to|does)\b|\bI (?:want|would like) to\b|\bhave to do\b|如何|怎么|怎样", question, re.IGNORECASE)
        is not None
    )


def _deed(heading: str) -> str:
    match = _HOW_TO.fullmatch(heading) or _DEED.fullmatch(heading)
    return _own(_lower(match[1] if match else heading))


def _own(text: str) -> str:
    """Return what is said to the reader as the reader says it."""
    for theirs, mine in _OURS:
        text = re.sub(rf"\b{theirs}\b", mine, text)
    return text


def _lower(text: str) -> str:
    first = text.partition(" ")[0]
    keeps = first in {"I", "Login.gov"} or first.startswith(("I'", "I’")) or any(letter.isupper() for letter in first[1:])
    return text if keeps or not text else text[0].lower() + text[1:]


def _with_title(heading: str, title: str, joint: str) -> str:
    return heading if heading == title or not title or len(content_words(heading)) >= _FEW_WORDS else f"{title}{joint}{heading}"


_FORMS: Final[tuple[tuple[Callable[[str], bool], Sequence[str], Callable[[str], str]], ...]] = (
    (lambda heading: heading.endswith("?"), _ASK, lambda heading: heading),
    (lambda heading: bool(_HOW_TO.fullmatch(heading) or _DEED.fullmatch(heading)), _ASK_HOW, _deed),
    (lambda heading: bool(_TROUBLE.fullmatch(heading)), _ASK_TROUBLE, lambda heading: heading),
    (bool, _ASK_ABOUT, _lower),
)
