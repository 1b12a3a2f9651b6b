"""Where somebody lives: a street with its number, and what follows it up to the postcode. By the shapes of a few countries."""

import re
from collections.abc import Iterator
from typing import Final

from finetune.cleaning.spans import Span

_NUMBER: Final = r"\d{1,5}[A-Za-z]?(?:[-/]\d{1,4}[A-Za-z]?)?"
_NAME: Final = r"[^\W\d_a-z][\w'’.-]*"
_ENGLISH: Final = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Way|Highway|Hwy|Parkway|Pkwy"
    r"|Crescent|Cres|Close|Row|Circle|Trail|Mews|Squares|Streets|Junction|Mall|Walk|Alley|Plaza)"
)
_LONG_SUFFIXES: Final = r"(?:stra(?:ß|ss)e|gasse|straat|gracht|gatan|vägen|veien|vegen)"
_SUFFIXES: Final = rf"(?:{_LONG_SUFFIXES}|str\.|weg|platz|allee|damm|ring|laan|plein|gata|gate|vej|gade|katu|tie)"
_UNIT: Final = r"(?:[ ,]*\n?[ ,]*(?:[Aa]pt|Apartment|[Ss]uite|Ste|Unit|Flat|Floor|Room|No|#)\.? ?#?\w{1,6})"
_NO_STREET: Final = "(?:minute|mile|block|door|meter|metre|lane|hour|day|more|other)"
_STREETS: Final = (
    rf"{_NUMBER},? (?:{_NAME},? ){{0,4}}{_ENGLISH}\b\.?",  # 12 Old Church Road
    rf"{_NUMBER} (?!{_NO_STREET}s? )\w+ (?:street|avenue|road|boulevard)\b",  # 12 main street
    rf"\b(?:{_NAME} )?(?:{_NAME}{_SUFFIXES}|\w+{_LONG_SUFFIXES}) {_NUMBER}\b",  # Lange Hauptstraße 12a
    rf"{_NUMBER},? (?:rue|[Aa]venue|boulevard|place|chemin|quai|allée|impasse) (?:[\w'’-]+ ){{0,3}}{_NAME}",  # 12 rue de la Paix
    rf"\b(?:[Cc]alle|[Cc]/|Avenida|Paseo|Plaza|Via|Viale|Piazza|Corso|Rua|Rue) (?:[\w'’.-]+ ){{0,3}}{_NAME},? (?:n[.º°]? ?)?{_NUMBER}\b",
    rf"\b(?:ul|al|pl|ulica)\.? (?:{_NAME} ){{0,2}}{_NAME} {_NUMBER}\b",  # ul. Miła 53
    rf"{_NAME} (?:{_NAME} )?(?:u\.|utca|út|útja|tér|krt\.) {_NUMBER}\.?",  # Király u. 15.
    rf"{_NAME} (?:{_NAME} )?{_NUMBER}(?={_UNIT})",  # Quadra 104, Suite 845
    r"\b(?:P\.? ?O\.? ?Box|Postfach|PSC \d+,? Box|(?:Unit|CMR) \d+,? Box) \d+(?:\n(?:APO|DPO|FPO) A[AEP] \d{5})?",
    rf"\b(?:the )?corner of {_NAME}(?: {_NAME}| \d+)* and {_NAME}(?: {_NAME}| \d+)*",
)
# What may follow a street: ", Springfield, IL 62704", or further lines of which the last holds a postcode.
_TAIL: Final = (
    rf"(?:{_UNIT}{{0,2}}(?:,? ?\n? ?{_NAME}(?: {_NAME}){{0,2}})?,? [A-Z]{{2}},? \d{{5}}(?:-\d{{4}})?\b"
    rf"|{_UNIT}{{0,2}}(?:,?\s*\n[^\n\d]{{0,40}}){{0,4}}\b\d{{3,6}}(?:[ -]\d{{2,4}})?\b(?=\W*(?:\n|$))|{_UNIT}{{1,2}}|)"
)
_ADDRESS: Final = re.compile(rf"(?<![\w.-])(?:\d{{1,5}} )?(?:{'|'.join(_STREETS)}){_TAIL}")
_HAN: Final = "(?![是在址的到去于为])[\u4e00-\u9fff]"
_CHINESE: Final = re.compile(
    rf"(?:(?:{_HAN}){{2,8}}?(?:省|自治区))?(?:(?:{_HAN}){{2,6}}?[市州])?(?:(?:{_HAN}){{1,6}}?[区县])?(?:{_HAN}){{1,8}}?(?:路|街|大道|巷|弄|胡同)"
    r"[甲乙]?\d{1,5}(?:[-－]\d+)?(?:号|弄)(?:院|楼)?(?:[\dA-Za-z一二三四五六七八九十]+(?:号楼|栋|幢|座|单元|楼|层|室|号))*"
)
_PLACE: Final = r"(?P<place>(?=[^\n.;!?，。；！？]{0,40}\d)[^\W_][^\n.;!?，。；！？]{4,70})"
_ANNOUNCED: Final = re.compile(
    r"(?:\baddress(?:(?i: is|:| to| with|\? it is)\s+|\s*\n)|\b(?:lives?|living|resides?) (?:at|on|in) |(?:地址|住址|住在)[是为]?[:：]?\s?"
    rf"|\b(?:[Tt]axi|[Mm]e|[Dd]eliver(?:y|ed)?|[Ss]hip(?:ped)?) (?:to|at) (?=\d+ [A-Z])){_PLACE}"
)
_POSTCODE: Final = re.compile(
    r"\b(?i:zip|zip ?code|post(?:al)? ?code|plz|邮编|邮政编码)(?i:\s*(?:is|:|：|是|为|to|number|code))*\s*"
    r"(?P<code>(?=\w* ?\d)[A-Z0-9]{2,5}[ -]?[A-Z0-9]{2,5})\b"
)


def find_addresses(text: str) -> Iterator[Span]:
    """Yield postal addresses and postcodes."""
    yield from (Span(*match.span(), "ADDRESS") for match in _ADDRESS.finditer(text))
    yield from (Span(*match.span(), "ADDRESS") for match in _CHINESE.finditer(text))
    yield from (Span(*match.span("place"), "ADDRESS") for match in _ANNOUNCED.finditer(text))
    yield from (Span(*match.span("code"), "ADDRESS") for match in _POSTCODE.finditer(text))
