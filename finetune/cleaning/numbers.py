"""Numbers that name one person, known by their check digits: cards, accounts, national ids; and addresses of machines."""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Final

from stdnum import iban, luhn
from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.mx import curp
from stdnum.se import personnummer
from stdnum.us import ssn

from finetune.cleaning.spans import Span

_CARD: Final = re.compile(r"(?<![\w-])\d(?:[ -]?\d){11,18}(?![\w-])")
_IBAN: Final = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){10,30}(?!\w)", re.IGNORECASE)
_IP: Final = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?![\w:]|\.\d)", re.IGNORECASE)

_ID: Final = re.compile(r"(?<![\w-])[A-Z0-9](?:[ .+-]?[A-Z0-9]){7,20}(?![\w-])", re.IGNORECASE)

# Shapes that hardly anything else has. An order number of nine digits passes the check of some country one time in ten, so numbers
# without a shape of their own need the word before them.
_TELLING: Final[tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...]] = (
    (re.compile(r"\d{3}-\d{2}-\d{4}"), ssn.is_valid),
    (re.compile(r"\d{17}[\dX]", re.IGNORECASE), ric.is_valid),
    (re.compile(r"[A-Z]{6}\w{10}", re.IGNORECASE), codicefiscale.is_valid),
    (re.compile(r"\d{8}-?[A-Z]", re.IGNORECASE), dni.is_valid),
    (re.compile(r"[XYZ]-?\d{7}-?[A-Z]", re.IGNORECASE), nie.is_valid),
    (re.compile(r"\d{6}[-+A]\d{3}\w", re.IGNORECASE), hetu.is_valid),
    (re.compile(r"[12](?: ?\d){4}(?: ?\w){2}(?: ?\d){8}"), nir.is_valid),
    (re.compile(r"\d{3}\.\d{3}\.\d{3}-\d{2}"), cpf.is_valid),
    (re.compile(r"[A-Z]{4}\d{6}[HM][A-Z]{5}\w\d", re.IGNORECASE), curp.is_valid),
    (re.compile(r"(?:\d\d)?\d{6}[-+]\d{4}"), personnummer.is_valid),
    (re.compile(r"\d{6}-\d{7}"), rrn.is_valid),
    (re.compile(r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"), nn.is_valid),
    (re.compile(r"\d{3} \d{3} \d{4}"), nhs.is_valid),
    (re.compile(r"\d{4} \d{4} \d{4}"), aadhaar.is_valid),
    (re.compile(r"\d{3}-\d{3}-\d{3}"), sin.is_valid),
    (re.compile(r"\d{2} \d{3} \d{3} \d{3}"), idnr.is_valid),
)
_ANNOUNCED: Final = re.compile(
    r"(?:\b(?:ssn|social security|national insurance|nhs|passport|driver'?s?'? licen[cs]e|identity card|id card|national id|tax(?:payer)? id"
    r"|cpf|bsn|pesel|aadhaar|steuer-?id|dni|nie|permis de conduire)\b[ ]?(?:number|no\.?|nr\.?|#)?|(?:身份证|护照|驾驶证|驾照|社保)(?:号码?|编号)?)"
    r"(?:\s*(?:is|are|was|:|：|=|是|为|-|to|,)?){0,3}\s*((?<![A-Z0-9])(?=[A-Z]*[ -]?\d)[A-Z0-9](?:[ -]?[A-Z0-9]){5,19}(?![A-Z0-9-]))",
    re.IGNORECASE,
)


def find_cards(text: str) -> Iterator[Span]:
    """Yield payment cards."""
    for match in _CARD.finditer(text):
        if luhn.is_valid(re.sub(r"\D", "", match.group())):
            yield Span(*match.span(), "CARD")


def find_ibans(text: str) -> Iterator[Span]:
    """Yield bank accounts."""
    for match in _IBAN.finditer(text):
        if iban.is_valid(match.group(), check_country=False):
            yield Span(*match.span(), "IBAN")


def find_national_ids(text: str) -> Iterator[Span]:
    """Yield numbers that a state gives to a person: by shape and check digits, or after words that announce one."""
    for match in _ID.finditer(text):
        if any(pattern.fullmatch(match.group()) and is_valid(match.group()) for pattern, is_valid in _TELLING):
            yield Span(*match.span(), "NATIONAL_ID")
    for match in _ANNOUNCED.finditer(text):
        yield Span(*match.span(1), "NATIONAL_ID")


def find_ips(text: str) -> Iterator[Span]:
    """Yield the addresses of machines."""
    for match in _IP.finditer(text):
        try:
            ipaddress.ip_address(match.group())
        except ValueError:
            continue
        yield Span(*match.span(), "IP")
