"""The answer to a question, quoted from the passage that holds it, and the facts in it."""

import re
from collections.abc import Sequence
from typing import Final

from finetune.sources.passages import Unit, show
from finetune.sources.words import content_words

_MOST_CHARS: Final = 360  # of an answer; people read little in a chat
_ENOUGH_CHARS: Final = 90  # of a sentence that is an answer alone
_LEAD_IN: Final = (":", "：")
_LINK: Final = re.compile(r"https?://[^\s)\]>\"”]+[^\s)\]>\"”.,;:!?]|\b[\w-]+(?:\.[\w-]+)*\.(?:gov|com|org|net|mil)(?:/[\w./-]*\w)?\b")
_NUMBER: Final = re.compile(r"(?<![\w.])\(?\+?\d[\d,.:() /-]*\d(?!\w)|(?<![\w.])\d+(?![\w.])|\b[A-Z]{1,4}-?\d{2,}\b")
_QUOTED: Final = re.compile(r"[“\"]([^“”\"\n]{2,40})[”\"]")
_ITEM_NUMBER: Final = re.compile(r"^\d+\. ", re.MULTILINE)


def quote(units: Sequence[Unit], question: str, *, wants_steps: bool, is_whole: bool) -> str:
    """Return the part of a passage that answers the question: its steps, if it wants and has them all, else one or two sentences.

    "" when the passage holds nothing that stands alone.
    """
    steps = _steps(units) if wants_steps and is_whole else ()
    return show(steps) if steps else show(_sentences(units, question)) or show(_listed(units, is_whole=is_whole))


def _steps(units: Sequence[Unit]) -> Sequence[Unit]:
    """Return the numbered items and the line that leads to them; nothing when they are too long for a chat."""
    places = [place for place, unit in enumerate(units) if unit.is_item and unit.text[0].isdigit()]
    if not places:
        return ()
    first = places[0] - 1 if places[0] and units[places[0] - 1].text.endswith(_LEAD_IN) else places[0]
    chosen = units[first : places[-1] + 1]
    return chosen if len(show(chosen)) <= _MOST_CHARS else ()


def _sentences(units: Sequence[Unit], question: str) -> Sequence[Unit]:
    """Return the sentence that shares most words with the question, the first of equals, and the next one where it is short."""
    wanted = content_words(question)
    stands_alone = [unit for unit in units if not unit.is_item and not unit.text.endswith(_LEAD_IN) and len(unit.text) <= _MOST_CHARS]
    if not stands_alone:
        return ()
    best = max(range(len(stands_alone)), key=lambda place: (len(wanted & content_words(stands_alone[place].text)), -place))
    chosen = stands_alone[best : best + 1]
    more = stands_alone[best + 1 : best + 2]
    fits = len(chosen[0].text) < _ENOUGH_CHARS and bool(more) and not more[0].begins_line
    return [*chosen, *more] if fits and len(show([*chosen, *more])) <= _MOST_CHARS else chosen


def _listed(units: Sequence[Unit], *, is_whole: bool) -> Sequence[Unit]:
    return units if is_whole and len(units) > 1 and len(show(units)) <= _MOST_CHARS else ()


def facts(answer: str) -> tuple[str, ...]:
    """Return the links, numbers and quoted names of an answer, in its order; numbers of list items are none."""
    text = _ITEM_NUMBER.sub("", answer)
    links = [match.group() for match in _LINK.finditer(text)]
    rest = _LINK.sub(" ", text)
    found = [*links, *(_balanced(match.group()) for match in _NUMBER.finditer(rest)), *(match[1] for match in _QUOTED.finditer(rest))]
    return tuple(sorted(dict.fromkeys(fact for fact in found if fact in answer), key=answer.index))


def _balanced(number: str) -> str:
    """Return a number without a bracket that is not closed in it: "(844) 875-6446" keeps its own, "(10 years)" does not."""
    return number if ")" in number else number.lstrip("(")
