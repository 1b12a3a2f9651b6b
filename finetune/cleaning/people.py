"""Names of people: by a list of given names, and by the words that come before a name.

No model of language stands behind this: it finds a name that begins with a known given name ("Ask Maria da Silva") and a name of
any origin where someone says that one follows ("my name is", "Dear", "Mr.", 我叫). An unknown name without such words stays.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from finetune.cleaning.spans import Span

_WORD: Final = re.compile(r"[^\W\d_]+(?:(?:['’](?!s\b)|-)[^\W\d_]+)*")
_LONGEST: Final = 5  # words of one name
_PARTICLES: Final = frozenset(
    ("al", "bin", "da", "de", "del", "den", "der", "di", "do", "dos", "du", "el", "ibn", "la", "le", "van", "von", "zu")
)
_NO_NAMES: Final = frozenset(
    (
        "All", "And", "Are", "At", "But", "Can", "Could", "Customer", "Customers", "Did", "Do", "Everyone", "For", "Friend", "Friends",
        "From", "Good", "Guest", "He", "Hiring", "Hello", "Hi", "How", "If", "In", "Is", "It", "Madam", "Manager", "My", "No", "Not",
        "Of", "Ok", "Okay", "On", "Or", "Our", "Please", "Professor", "She", "Sir", "So", "Sorry", "Support", "Team", "Thank", "Thanks",
        "That", "The", "There", "They", "This", "To", "User", "Valued", "We", "What", "When", "Where", "Who", "Why", "Will", "With",
        "Would", "Yes", "You", "Your", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
        "Mr", "Mrs", "Ms", "Miss", "Dr", "Prof", "Herr", "Frau",
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
    )
)  # fmt: skip
_TITLE: Final = r"\b(?:[Mm]rs?|[Mm]s|[Mm]iss|[Dd]r|[Pp]rof|Professor|Herr|Frau|Monsieur|Madame|Sra?|Señora?|Signora?)\b\.?\s"
_SAID: Final = (
    r"\b(?i:(?:my|your|his|her|their|full|first|last|middle|given|maiden|family|partner's|account holder) name(?:'s| is|:|\?)?"
    r"|name(?:'s| is|:)|named(?: him| her)?|calls? me|dear|change it to|regards,|sincerely,|signed,)\s"
)
_BEFORE: Final = re.compile(f"{_TITLE}|{_SAID}")
# What makes a company or a place of a name: San Diego, Logan Airport, Bertha Inc.
_NO_PERSON_BEFORE: Final = re.compile(r"\b(?:San|Santa|Santo|São|Saint|Sainte|St\.?|Fort|Port|Mount|Lake|Los|Las|Puerto|New) $")
_NO_PERSON_WORDS: Final = frozenset(
    (
        "Inc", "LLC", "Ltd", "Corp", "Corporation", "Company", "Group", "GmbH", "Airport", "International", "Hills", "Valley", "Centre",
        "Center", "City", "Restaurant", "Pizzeria", "Hotel", "Inn", "Islands", "Island", "Road", "Street", "St", "Avenue", "Square",
        "Market", "Park", "University", "Hospital", "Returns", "Bank", "Station",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    text: str

    @property
    def may_be_name(self) -> bool:
        """Whether it is written like a name and is none of the words that only begin a sentence."""
        return self.text[0].isupper() and not self.text.isupper() and self.text not in _NO_NAMES

    @property
    def may_be_between(self) -> bool:
        """Whether it may stand between the parts of a name: an initial or a "de la"."""
        return self.text in _PARTICLES or (len(self.text) == 1 and self.text.isupper())


@cache
def given_names() -> frozenset[str]:
    """Return the known given names."""
    return frozenset(files("finetune.cleaning").joinpath("given_names.txt").read_text(encoding="utf-8").split())


def find_people(text: str) -> Iterator[Span]:
    """Yield names of people, and the parts of a full name where they stand alone."""
    names = [] if text.isspace() else list(_full_names(text))
    yield from (Span(name[0].start, name[-1].end, "PERSON") for name in names)
    parts = {word.text for name in names for word in name if word.may_be_name and len(word.text) > 2}
    yield from (Span(word.start, word.end, "PERSON") for word in _words(text) if word.text in parts)


def _words(text: str) -> list[_Word]:
    return [_Word(*match.span(), match.group()) for match in _WORD.finditer(text)]


def _full_names(text: str) -> Iterator[Sequence[_Word]]:
    words = _words(text)
    announced = {match.end() for match in _BEFORE.finditer(text)}
    position = 0
    while position < len(words):
        end = position
        if _begins(words[position], is_announced=words[position].start in announced):
            end = _end_of_name(text, words, position)
            if _is_person(text, words[position : end + 1], end - position):
                yield words[position:end]
        position = max(end, position + 1)


def _begins(word: _Word, *, is_announced: bool) -> bool:
    known = word.text in given_names() or (is_announced and word.text.title() in given_names())
    return known or (is_announced and word.may_be_name)


def _is_person(text: str, words: Sequence[_Word], length: int) -> bool:
    """Whether the first `length` of these words are a person and not a place or a company; `words` has one more, if there is one."""
    next_to_it = words[length : length + 1] if text[words[length - 1].end :].startswith((" ", ", ")) else []
    if any(word.text in _NO_PERSON_WORDS for word in (*words[:length], *next_to_it)):
        return False
    return not _NO_PERSON_BEFORE.search(text, 0, words[0].start)


def _end_of_name(text: str, words: Sequence[_Word], start: int) -> int:
    """Return the index after the last word of the name that begins at `start`."""
    end = start + 1
    for place in range(start + 1, min(start + _LONGEST, len(words))):
        gap = text[words[place - 1].end : words[place].start]
        if gap != " " and not (gap == ". " and len(words[place - 1].text) == 1):
            break
        if words[place].may_be_name:
            end = place + 1
        elif not words[place].may_be_between:
            break
    return end
