"""Ways to reach a person: e-mail addresses, phone numbers, and links that belong to one person."""

import re
from collections.abc import Iterator
from typing import Final

from phonenumbers import Leniency, PhoneNumberMatcher

from finetune.cleaning.spans import Span

_EMAIL: Final = re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,}(?![\w-])")
# Who follows such a link is signed in, or is taken to what is one person's.
_PERSONAL_LINK: Final = re.compile(
    r"\bhttps?://(?:[^\s/@<>\"]+@[^\s<>\"]+|[^\s<>\"?#]+[?#][^\s<>\"]*?(?:token|session|sid|auth|key|code|user|uid|email|mail|name|phone)=[^\s<>\"]+)",
    re.IGNORECASE,
)
_REGIONS: Final = ("US", "CN", "GB")


def find_emails(text: str) -> Iterator[Span]:
    """Yield e-mail addresses."""
    yield from (Span(*match.span(), "EMAIL") for match in _EMAIL.finditer(text))


def find_links(text: str) -> Iterator[Span]:
    """Yield links that hold a user, a token or the like; all others are facts that an answer needs."""
    yield from (Span(*match.span(), "LINK") for match in _PERSONAL_LINK.finditer(text))


def find_phones(text: str) -> Iterator[Span]:
    """Yield phone numbers: international ones, and those that are written as one writes them in one of a few countries."""
    for region in _REGIONS:
        for match in PhoneNumberMatcher(text, region, leniency=Leniency.STRICT_GROUPING):
            yield Span(match.start, match.end, "PHONE")
