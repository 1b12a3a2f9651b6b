"""Slots of a writing order, such as "name: Aromi; area: riverside", and the errors of a text that should tell them. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from finetune.evaluation.facts import keeps

_SLOT: Final = re.compile(r"\s*([A-Za-z ]+?)\s*\[([^\]]*)\]\s*,?")


class SlotErrors(NamedTuple):
    """How a text treats the slots that it was ordered to tell. (missing + wrong) / total is the slot error rate."""

    missing: int
    wrong: int  # slots that the text gives a value that the order does not have
    total: int


# What may stand for a value of the E2E restaurants (Novikova et al. 2017), where the value itself seldom does. A slot that is
# listed has no other values, so that a wrong one can be told.
_VALUES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "familyfriendly": {
        "no": (
            "not family friendly", "not family-friendly", "non family-friendly", "non-family-friendly", "not a family friendly",
            "not a family-friendly", "isn't family friendly", "isn't family-friendly", "no children", "not child friendly",
            "not kid friendly", "not kid-friendly", "not child-friendly", "adults only", "adult only", "not for families",
            "not suitable for children", "not for children", "not for kids", "does not welcome", "no kids", "adult", "adults",
        ),
        "yes": (
            "family friendly", "family-friendly", "families", "kid friendly", "kid-friendly", "kids", "child friendly",
            "child-friendly", "children",
        ),
    },
    "pricerange": {
        "cheap": ("cheap", "low price", "low-price", "low priced", "low-priced", "low cost", "low-cost", "inexpensive"),
        "moderate": (
            "moderate", "moderately priced", "moderately-priced", "medium-priced", "mid-priced", "mid-range", "mid-price", "mid price",
            "average price", "average-priced",
        ),
        "high": (
            "high price", "high-price", "high priced", "high-priced", "highly priced", "pricey", "high-end", "expensive",
            "price range is high", "prices are high",
        ),
        "less than £20": ("less than £20", "less than 20", "under £20", "under 20", "below £20", "cheap", "low price"),
        "£20-25": ("£20-25", "20-25", "£20 to £25", "20 to 25", "£20-£25", "£20 and £25"),
        "more than £30": ("more than £30", "more than 30", "over £30", "above £30", "over 30"),
    },
    "area": {
        "city centre": ("city centre", "city center", "centre of the city", "center of the city", "in the centre", "downtown"),
        "riverside": ("riverside", "river", "waterfront"),
    },
    "food": {"english": ("english", "british"), "french": ("french",), "italian": ("italian",), "japanese": ("japanese",)},
    "customerrating": {
        "low": (
            "low customer rating", "low rating", "low rated", "low-rated", "poor", "rated low", "rating of low", "low ratings",
            "rating is low",
        ),
        "average": ("average",),
        "high": ("high customer rating", "high rating", "highly rated", "high-rated", "rated high", "rating of high", "rating is high"),
        "1 out of 5": ("1 out of 5", "one out of five", "1 star", "one star", "1-star", "1/5"),
        "3 out of 5": ("3 out of 5", "three out of five", "3 star", "three star", "3-star", "3/5"),
        "5 out of 5": ("5 out of 5", "five out of five", "5 star", "five star", "5-star", "5/5"),
    },
}  # fmt: skip


def parse_slots(order: str) -> tuple[tuple[str, str], ...]:
    """Return (slot, value) of an order such as "name[Aromi], area[riverside]" or "name: Aromi; area: riverside"; () = it names none."""
    if "[" in order:
        return tuple((name.strip(), value.strip()) for name, value in _SLOT.findall(order))
    pairs = (part.partition(":") for part in order.split(";"))
    return tuple((name.strip(), value.strip()) for name, colon, value in pairs if colon and value.strip())


def slot_errors(text: str, slots: Iterable[tuple[str, str]]) -> SlotErrors:
    """Count the slots that a text leaves out, and those to which it gives another value."""
    verdicts = [_judge_slot(text, name.casefold().replace(" ", ""), value) for name, value in slots]
    return SlotErrors(verdicts.count("missing"), verdicts.count("wrong"), len(verdicts))


def _judge_slot(text: str, slot: str, value: str) -> str:
    values = _VALUES.get(slot, {})
    own = values.get(value.casefold(), (value,))
    rest = text.casefold()
    said = any(keeps(rest, phrase) for phrase in own)
    for phrase in own:  # "family friendly" stands in "not family friendly" as well
        rest = rest.replace(phrase.casefold(), " ")
    others = [phrase for other, phrases in values.items() if other != value.casefold() for phrase in phrases if phrase not in own]
    if slot == "familyfriendly" and value.casefold() == "yes":
        said = said and not any(keeps(text, phrase) for phrase in others)
        rest = text
    if any(keeps(rest, phrase) for phrase in others):
        return "wrong"
    return "said" if said else "missing"
