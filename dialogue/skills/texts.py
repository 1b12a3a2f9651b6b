"""The prompt texts: `prompts/NAME.LANGUAGE.txt`, English and Chinese side by side, filled in with `$name`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Final

from dialogue.words import assistant_language

FENCE: Final = "`"


@cache
def _template(name: str, language: str) -> Template:
    return Template(files("dialogue.skills").joinpath("prompts", f"{name}.{language}.txt").read_text(encoding="utf-8").strip())


def prompt_text(name: str, language: str, **values: object) -> str:
    """Return the prompt `name` in the language that the assistant speaks to a user of `language`."""
    return _template(name, assistant_language(language)).substitute(values)


def paragraphs(parts: Iterable[str]) -> str:
    """Join what is not empty with blank lines."""
    return "\n\n".join(part for part in (part.strip() for part in parts) if part)


def as_data(text: str) -> str:
    """Fence a text that is material and no instruction; the fence is longer than any run of its character inside."""
    longest = run = 0
    for character in text:
        run = run + 1 if character == FENCE else 0
        longest = max(longest, run)
    fence = FENCE * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


_TIME_WORDS: Final = re.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|date|weekday|day is it|(?:this|next|last) (?:week|month|year))\b"
    r"|[今明昨后]天|今晚|今年|明年|去年|几号|几月|星期几|周几|礼拜几|日期|[本这上下]个?(?:周|星期|月)",
    re.IGNORECASE,
)


def speaks_of_time(text: str) -> bool:
    """Whether today's date may matter. It is left out otherwise: it would end the part of the prompt that engines have cached."""
    return _TIME_WORDS.search(text) is not None


def prompt_lines(name: str, language: str, values: Mapping[str, Sequence[str]]) -> str:
    """Return the prompt `name` with each line that has a `$value` once for each of that value's texts: never, once or more."""
    lines: list[str] = []
    for line in _template(name, assistant_language(language)).template.splitlines():
        keys = Template(line).get_identifiers()
        lines += [Template(line).substitute({keys[0]: value}) for value in values.get(keys[0], ())] if keys else [line]
    return "\n".join(lines)
