"""The buttons under the assistant's messages, and what they say when they are pressed. Pure.

rate:1:TURN  rate:-1:TURN        an answer was good, or was not
why:REASON:TURN                  what was wrong with it
forget:SCOPE:PERSON              erase (all, memory, here) or cancel; only for the person who asked
stop                             end the answer that is being written
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bot.command_words import say
from dialogue.messages import Button, ButtonRows

GOOD: Final = 1
BAD: Final = -1
REASONS: Final = ("wrong", "incomplete", "outdated", "tone", "language", "unsafe")
REASONS_IN_A_ROW: Final = 3
SCOPES: Final = ("all", "memory", "here", "cancel")
_FACES: Final[Mapping[int, str]] = {GOOD: "👍", BAD: "👎"}
_CHOSEN: Final = "✓ "


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a person thinks of an answer."""

    turn_id: str
    rating: int  # GOOD or BAD
    reason: str = ""  # one of REASONS


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants to be erased."""

    scope: str  # one of SCOPES
    person: str  # who was asked


def rating_buttons(turn_id: str) -> ButtonRows:
    """Return what stands under an answer that nobody has rated."""
    return (tuple(Button(face, f"rate:{rating}:{turn_id}") for rating, face in _FACES.items()),)


def rated_buttons(opinion: Opinion, language: str) -> ButtonRows:
    """Return what stands under an answer after it was rated: the opinion is marked, and a bad one may say why."""
    faces = tuple(Button(_marked(face, rating == opinion.rating), f"rate:{rating}:{opinion.turn_id}") for rating, face in _FACES.items())
    if opinion.rating == GOOD:
        return (faces,)
    reasons = [
        Button(_marked(say(f"reason_{reason}", language), reason == opinion.reason), f"why:{reason}:{opinion.turn_id}")
        for reason in REASONS
    ]
    rows = [tuple(reasons[start : start + REASONS_IN_A_ROW]) for start in range(0, len(reasons), REASONS_IN_A_ROW)]
    return (faces, *rows)


def forget_buttons(language: str, person: str, *, is_private: bool) -> ButtonRows:
    """Return what stands under the question what is to be erased."""
    scopes = {"all": "button_erase_all", "memory": "button_erase_memory"} if is_private else {"here": "button_erase_here"}
    scopes["cancel"] = "button_cancel"
    return tuple((Button(say(words, language), f"forget:{scope}:{person}"),) for scope, words in scopes.items())


def read_press(data: str) -> Opinion | Wish | None:
    """Return what a button means; None when it is none of these."""
    match data.split(":"):
        case ["rate", ("1" | "-1") as rating, turn_id]:
            return Opinion(turn_id, int(rating))
        case ["why", reason, turn_id] if reason in REASONS:
            return Opinion(turn_id, BAD, reason)
        case ["forget", scope, person] if scope in SCOPES:
            return Wish(scope, person)
        case _:
            return None


def _marked(label: str, is_chosen: bool) -> str:  # noqa: FBT001 - a fact about the label
    return f"{_CHOSEN}{label}" if is_chosen else label
