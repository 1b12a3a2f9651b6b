"""Personal data becomes typed placeholders, before anything is written.

    EMAIL PHONE CARD IBAN NATIONAL_ID IP PERSON ADDRESS    and LINK: a link with a part that belongs to one person

Other links stay: a support answer without them is worth nothing. Numbers are known by their check digits, names and addresses by the
words around them and a list of given names; what that finds and misses is measured in docs/decisions/0015-personal-data.md.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from finetune.cleaning.addresses import find_addresses
from finetune.cleaning.contacts import find_emails, find_links, find_phones
from finetune.cleaning.national_ids import find_national_ids
from finetune.cleaning.numbers import find_cards, find_ibans, find_ips
from finetune.cleaning.people import find_people
from finetune.cleaning.people_zh import find_chinese_people
from finetune.cleaning.spans import PLACEHOLDER, Span, choose

Finder = Callable[[str], Iterable[Span]]

# The surest first: where two find the same characters, the earlier one names them.
FINDERS: Final[tuple[Finder, ...]] = (
    find_links,  # one may hold an e-mail address
    find_emails,
    find_ips,
    find_ibans,
    find_cards,
    find_national_ids,
    find_phones,
    find_addresses,
    find_people,
    find_chinese_people,
)


class Scrubber:
    """Replaces personal data. Scrubbing twice changes nothing more."""

    def __init__(self, finders: Iterable[Finder] = FINDERS) -> None:
        self._finders = tuple(finders)

    def find(self, text: str) -> list[Span]:
        """Return the personal data that one look finds, in the order of the text, without overlaps; placeholders are left alone."""
        placeholders = [Span(match.start(), match.end(), "") for match in PLACEHOLDER.finditer(text)]
        return choose((span for finder in self._finders for span in finder(text)), placeholders)

    def scrub(self, text: str) -> tuple[str, Counter[str]]:
        """Return the text with placeholders, and how many of each kind were put in."""
        counts: Counter[str] = Counter()
        while found := self.find(text):  # a replaced name can give its neighbour away; each round leaves less to find
            counts.update(span.kind for span in found)
            text = _replace(text, found)
        return text, counts


def _replace(text: str, spans: list[Span]) -> str:
    for span in reversed(spans):
        text = f"{text[: span.start]}[{span.kind}]{text[span.end :]}"
    return text
