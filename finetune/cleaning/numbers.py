"""Numbers that belong to one person or machine, known by their check digits: payment cards, bank accounts, IP addresses."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from stdnum import iban, luhn

from finetune.cleaning.other_numbers import is_other_number
from finetune.cleaning.spans import Span

_CARD: Final = re.compile(r"(?<![\w+-])[1-9](?:[ -]?\d){11,18}(?![\w-])")
_CARD_WORD: Final = re.compile(r"\b(?:card|credit|debit|visa|mastercard|amex|maestro|discover)\b|卡", re.IGNORECASE)
_CARD_GROUPS: Final = re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{5}")
# Issuers and lengths (ISO/IEC 7812): American Express, Visa, Mastercard, Discover, JCB, Diners, UnionPay.
_ISSUED: Final = re.compile(
    r"3[47]\d{13}|4\d{12}(?:\d{3})?|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|6(?:011|5\d\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|62\d{14,17}"
)
_NEAR: Final = 60  # characters before a number in which a word says what it is
_IBAN: Final = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){10,30}(?!\w)", re.IGNORECASE)
_IP: Final = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?![\w:]|\.\d)", re.IGNORECASE)


def find_cards(text: str) -> Iterator[Span]:
    """Yield payment cards.

    One number in ten passes the check digit, so it also needs the shape of an issuer, groups as on a card, or the word before it.
    """
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        announced = _CARD_WORD.search(text, max(0, match.start() - _NEAR), match.start())
        looks_like = (_ISSUED.fullmatch(digits) or _CARD_GROUPS.fullmatch(match.group())) and not is_other_number(text, match.start())
        if luhn.is_valid(digits) and (announced or looks_like):
            yield Span(*match.span(), "CARD")


def find_ibans(text: str) -> Iterator[Span]:
    """Yield bank accounts."""
    for match in _IBAN.finditer(text):
        end = next((end for end in range(match.end(), match.start(), -1) if _is_iban(text[match.start() : end])), None)
        if end is not None:
            yield Span(match.start(), end, "IBAN")


def _is_iban(text: str) -> bool:
    return text[-1].isalnum() and iban.is_valid(text, check_country=False)


def find_ips(text: str) -> Iterator[Span]:
    """Yield the addresses of machines; not those that are the same on every machine."""
    for match in _IP.finditer(text):
        try:
            address = ipaddress.ip_address(match.group())
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified):
            yield Span(*match.span(), "IP")
