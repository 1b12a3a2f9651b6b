"""Numbers that a state gives to a person: social security, identity card, tax, passport, driver's licence."""

import re
from collections.abc import Callable, Iterator
from typing import Final

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

from finetune.cleaning.other_numbers import is_other_number
from finetune.cleaning.spans import Span


def _shaped(shape: str, is_valid: Callable[[str], bool]) -> tuple[re.Pattern[str], Callable[[str], bool]]:
    return re.compile(rf"(?<![\w-])(?:{shape})(?![\w-])", re.IGNORECASE), is_valid


# Shapes that hardly anything else has. Of plain order numbers with nine digits, one in ten passes the check of some country, so
# numbers without a shape of their own need the word before them.
_TELLING: Final = (
    _shaped(r"\d{3}-\d{2}-\d{4}", ssn.is_valid),
    _shaped(r"\d{17}[\dX]", ric.is_valid),
    _shaped(r"[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z]", codicefiscale.is_valid),
    _shaped(r"\d{8}-?[A-Z]", dni.is_valid),
    _shaped(r"[XYZ]-?\d{7}-?[A-Z]", nie.is_valid),
    _shaped(r"\d{6}[-+A]\d{3}\w", hetu.is_valid),
    _shaped(r"[12](?: ?\d\d){2} ?\d[\dAB](?: ?\d{3}){2} ?\d\d", nir.is_valid),
    _shaped(r"\d{3}\.\d{3}\.\d{3}-\d{2}", cpf.is_valid),
    _shaped(r"[A-Z]{4}\d{6}[HM][A-Z]{5}\w\d", curp.is_valid),
    _shaped(r"(?:\d\d)?\d{6}[-+]\d{4}", personnummer.is_valid),
    _shaped(r"\d{6}-\d{7}", rrn.is_valid),
    _shaped(r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", nn.is_valid),
    _shaped(r"\d{3} \d{3} \d{4}", nhs.is_valid),
    _shaped(r"\d{4} \d{4} \d{4}", aadhaar.is_valid),
    _shaped(r"\d{3}-\d{3}-\d{3}", sin.is_valid),
    _shaped(r"\d{2} \d{3} \d{3} \d{3}", idnr.is_valid),
)
_WORDS: Final = (
    r"(?:ssn|social security|social insurance|national insurance|nhs|passport|driv(?:er'?s?'?|ers|ing) licen[cs]e|(?:identity|id) card"
    r"|(?:national|government) id|tax(?:payer)? id|cpf|bsn|pesel|aadhaar|steuer-?id|dni|nie)"
)
_CHINESE_WORDS: Final = r"(?:身份证|护照|驾驶证|驾照|社保)(?:号码?|编号)?"
_VALUE: Final = r"(?P<id>(?<![A-Z0-9])[A-Z]{0,3}\d[A-Z0-9]*(?:[ -]?\d[A-Z0-9]*)*(?![A-Z0-9-]))"
_ANNOUNCED: Final = re.compile(
    rf"(?:\b{_WORDS}\b(?: ?(?:number|no\.?|nr\.?|#))?|{_CHINESE_WORDS})(?:\s*(?:is|was|to|[:：=是为,-])){{0,2}}\s*{_VALUE}", re.IGNORECASE
)
_FEWEST_DIGITS: Final = 5
_ENOUGH_DIGITS: Final = re.compile(rf"(?:\d\D{{0,3}}){{{_FEWEST_DIGITS}}}")


def find_national_ids(text: str) -> Iterator[Span]:
    """Yield ids that have the shape and the check digits of one, or that are announced as one; mere digits may be an order's."""
    if not _ENOUGH_DIGITS.search(text):
        return
    for shape, is_valid in _TELLING:
        for match in shape.finditer(text):
            if is_valid(match.group()) and not (match.group().isdigit() and is_other_number(text, match.start())):
                yield Span(*match.span(), "NATIONAL_ID")
    for match in _ANNOUNCED.finditer(text):
        if sum(character.isdigit() for character in match["id"]) >= _FEWEST_DIGITS:
            yield Span(*match.span("id"), "NATIONAL_ID")
