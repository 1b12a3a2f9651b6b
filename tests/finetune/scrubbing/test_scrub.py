"""Personal data becomes typed placeholders, and nothing else does."""

from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finetune.cleaning.scrub import Scrubber
from finetune.cleaning.spans import PLACEHOLDER, Span, choose
from tests.sizes import record_proof, size

SCRUBBER = Scrubber()
PROPERTIES = size("scrub_properties", small=150, proof=20_000)

PERSONAL = [
    ("Write to ann.lee+shop@mail.example.org.", "Write to [EMAIL]."),
    ("Mail 李雷@例子.公司 please", "Mail [EMAIL] please"),
    ("Call +41 44 668 18 00 or (844) 875-6446.", "Call [PHONE] or [PHONE]."),
    ("They're not answering at 71-33-52-22", "They're not answering at [PHONE]"),
    ("我的手机是13812345678", "我的手机是[PHONE]"),
    ("My card is 4454 7945 1139 0933.", "My card is [CARD]."),
    ("What is the limit for 4454794511390933?", "What is the limit for [CARD]?"),
    ("IBAN GB33BUKB20201555555555, please", "IBAN [IBAN], please"),
    ("pay to DE89 3704 0044 0532 0130 00 today", "pay to [IBAN] today"),
    ("Login from 41.173.96.26 failed", "Login from [IP] failed"),
    ("from 2001:db8::8a2e:370:7334 on", "from [IP] on"),
    ("His social security number is 125-17-4954", "His social security number is [NATIONAL_ID]"),
    ("my driver's license number is F162823540116", "my driver's license number is [NATIONAL_ID]"),
    ("身份证号码：11010519491231002X", "身份证号码：[NATIONAL_ID]"),
    ("Codice RCCMNL83S18D969H", "Codice [NATIONAL_ID]"),
    ("DNI 54362315K", "DNI [NATIONAL_ID]"),
    ("Open https://shop.example/me?token=8f3a now", "Open [LINK] now"),
    ("It's https://ann@shop.example/orders", "It's [LINK]"),
    ("My name is Bekbolat Musliyevich.", "My name is [PERSON]."),
    ("Dear Mr. Fábio Barros, thank you", "Dear Mr. [PERSON], thank you"),
    ("Please ask Maria da Silva about it", "Please ask [PERSON] about it"),
    ("Best regards,\nXandor Quill", "Best regards,\n[PERSON]"),
    ("Angela Brown called. Later Brown wrote.", "[PERSON] called. Later [PERSON] wrote."),
    ("我叫王小明，我的订单没到", "我叫[PERSON]，我的订单没到"),
    ("请联系陈丽女士", "请联系[PERSON]女士"),
    ("Send it to 12 Old Church Road, Springfield, IL 62704 please", "Send it to [ADDRESS] please"),
    ("Ich wohne in der Lange Hauptstraße 12a.", "Ich wohne in der [ADDRESS]."),
    ("It is 12 rue de la Paix", "It is [ADDRESS]"),
    ("ul. Miła 53 is right", "[ADDRESS] is right"),
    ("PSC 0413, Box 8144\nAPO AA 42323", "[ADDRESS]"),
    ("地址是北京市东城区前门大街18号", "地址是[ADDRESS]"),
    ("my zip code is 75534-030", "my zip code is [ADDRESS]"),
]

HARMLESS = [
    "My order number is 12345678 and the ticket is 9456965186.",
    "Order 4454794511390933 has not come.",
    "The tracking number is 1Z999AA10123456784, reference 2025550143.",
    "订单号13812345678还没发货，编号 6502530000",
    "It costs $1,234.56 since 2024-01-02 10:11:12, or 9-17 on Mon-Fri.",
    "Go to https://www.login.gov/help/manage-your-account/overview/ and click on Sign in.",
    "See https://shop.example/search?q=red+shoes#top.",
    "Connect to 127.0.0.1 or ::1.",
    "We fly to San Diego and Santa Rosa on Friday in June.",
    "I work for Aunt Bertha Inc.",
    "Dear Customer, will you mark the box? May I ask why?",
    "It is five minutes down the road, 3 more blocks.",
    "Version 12.4.1 of build 20240102.",
    "我是老客户，什么时候发货？",
    "",
]


@pytest.mark.parametrize(("text", "clean"), PERSONAL)
def test_personal_data_is_replaced(text: str, clean: str) -> None:
    """Each kind of personal data becomes its placeholder, and the words around it stay."""
    assert SCRUBBER.scrub(text)[0] == clean


@pytest.mark.parametrize("text", HARMLESS)
def test_what_belongs_to_nobody_stays(text: str) -> None:
    """Order numbers, prices, dates, versions, places, companies and plain links are not touched."""
    assert SCRUBBER.scrub(text) == (text, Counter())


def test_replacements_are_counted_by_kind() -> None:
    """The counts say how many placeholders of each kind were put in."""
    text, counts = SCRUBBER.scrub("Ann Lee and Bob Ray: ann@x.org, bob@x.org")
    assert text == "[PERSON] and [PERSON]: [EMAIL], [EMAIL]"
    assert counts == {"PERSON": 2, "EMAIL": 2}


def test_the_surer_find_wins() -> None:
    """Where two finds overlap, the earlier one is taken, and none is taken that touches what is taken already."""
    sure, unsure, other = Span(0, 5, "EMAIL"), Span(3, 9, "PERSON"), Span(9, 12, "PHONE")
    assert choose([sure, unsure, other], []) == [sure, other]
    assert choose([sure, other], [Span(4, 6, "")]) == [other]


PIECES = st.sampled_from([text for text, _ in PERSONAL] + [clean for _, clean in PERSONAL] + HARMLESS)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=30), st.from_regex(r"[A-Z]?\d[\d .-]{3,18}", fullmatch=True)), max_size=5)


@settings(max_examples=PROPERTIES, deadline=None)
@given(parts=TEXTS, joint=st.sampled_from([" ", "\n", ", ", ""]))
def test_scrubbing_twice_changes_nothing_more(parts: list[str], joint: str) -> None:
    """A scrubbed text is scrubbed."""
    once, _ = SCRUBBER.scrub(joint.join(parts))
    assert SCRUBBER.scrub(once) == (once, Counter())


@settings(max_examples=PROPERTIES, deadline=None)
@given(parts=TEXTS)
def test_placeholders_are_never_broken(parts: list[str]) -> None:
    """Every placeholder of the text is still there afterwards, and the new ones are those that were counted."""
    text = " [PERSON] ".join(["", *parts, ""])
    before = Counter(PLACEHOLDER.findall(text))
    clean, counts = SCRUBBER.scrub(text)
    assert Counter(PLACEHOLDER.findall(clean)) == before + Counter({f"[{kind}]": count for kind, count in counts.items()})


@settings(max_examples=PROPERTIES, deadline=None)
@example(number=285_482_007_075_790, word="Order")  # passes the check of a French social security number
@given(number=st.integers(10_000, 10**16), word=st.sampled_from(["Order", "ticket", "invoice no.", "My tracking number is", "订单号"]))
def test_numbers_of_orders_stay(number: int, word: str) -> None:
    """Whatever check digits it happens to pass, a number that is announced as an order's is no card, no phone and no person's."""
    text = f"{word} {number}"
    assert SCRUBBER.scrub(text)[0] == text


@settings(max_examples=PROPERTIES, deadline=None)
@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_an_address_is_found_wherever_it_stands(before: str, after: str) -> None:
    """An e-mail address between spaces is gone, whatever stands around it."""
    clean, _ = SCRUBBER.scrub(f"{before} ann.lee@mail.example.org {after}")
    assert "ann.lee@mail.example.org" not in clean


def test_properties_are_recorded() -> None:
    """The number of examples of the properties above is written down."""
    record_proof("scrub_properties", seed="hypothesis", size=PROPERTIES, result="idempotent, placeholders whole, order numbers kept")
