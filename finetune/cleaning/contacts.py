"""Ways to reach a person: e-mail addresses, phone numbers, and links that belong to one person."""

import re
from collections.abc import Iterator
from typing import Final

from phonenumbers import Leniency, PhoneNumberMatcher

from finetune.cleaning.other_numbers import OTHER_NUMBER, is_other_number
from finetune.cleaning.spans import Span

_EMAIL: Final = re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,}(?![\w-])")
# Who follows such a link is signed in, or is taken to what is one person's.
_PERSONAL_LINK: Final = re.compile(
    r"\bhttps?://(?:[^\s/@<>\"]+@[^\s<>\"]+|[^\s<>\"?#]+[?#][^\s<>\"]*?(?:token|session|sid|auth|key|code|user|uid|email|mail|name|phone)=[^\s<>\"]+)",
    re.IGNORECASE,
)
_REGIONS: Final = ("US", "CN", "GB")
_ENOUGH_DIGITS: Final = re.compile(r"\d(?:[^\d\n]{0,4}\d){5}")
_PHONE_WORDS: Final = (
    r"(?:\b(?:tele)?(?:phones?|fax)\b|\b(?:tel|mobile|cell|whatsapp|call(?:s|ed|ing)?|text|sms|dial|ring|reach(?:ed)?|contact)\b"
    r"|\b(?:answering|messages|registered)\b"
    r"|\bmy number\b|电话|手机|传真|联系方式|微信)"
)
_ANNOUNCED: Final = re.compile(
    rf"{_PHONE_WORDS}(?P<between>[^\d;!?]{{0,25}}?)(?P<number>(?<![\w.])[+(]?\d(?:[ ().-]{{0,2}}\d){{5,14}}(?![\w-]))", re.IGNORECASE
)
_BARE: Final = re.compile(r"\d+")
_CHINESE_MOBILE: Final = re.compile(r"1[3-9]\d{9}")


def find_emails(text: str) -> Iterator[Span]:
    """Yield e-mail addresses."""
    yield from (Span(*match.span(), "EMAIL") for match in _EMAIL.finditer(text))


def find_links(text: str) -> Iterator[Span]:
    """Yield links that hold a user, a token or the like; all others are facts that an answer needs."""
    yield from (Span(*match.span(), "LINK") for match in _PERSONAL_LINK.finditer(text))


def find_phones(text: str) -> Iterator[Span]:
    """Yield phone numbers: as one writes them in the world or in one of a few countries, and in any way after words that announce one.

    Half of all numbers of ten digits could be called in America, so digits alone are none without such words, but for Chinese mobiles.
    """
    if not _ENOUGH_DIGITS.search(text):
        return
    for region in _REGIONS:
        for match in PhoneNumberMatcher(text, region, leniency=Leniency.STRICT_GROUPING):
            if not _BARE.fullmatch(match.raw_string) or _is_mobile(text, match.start, match.raw_string):
                yield Span(match.start, match.end, "PHONE")
    for announced in _ANNOUNCED.finditer(text):
        if not OTHER_NUMBER.search(announced["between"]) and not _is_date(announced["number"]):
            yield Span(*announced.span("number"), "PHONE")


def _is_mobile(text: str, start: int, number: str) -> bool:
    return _CHINESE_MOBILE.fullmatch(number) is not None and not is_other_number(text, start)


def _is_date(text: str) -> bool:
    return re.match(r"(?:19|20)\d\d[-. ]\d\d?[-. ]\d\d?\b", text) is not None
