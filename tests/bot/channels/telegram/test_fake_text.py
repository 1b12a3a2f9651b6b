"""Which text and entities the fake Telegram takes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.channels.telegram.fake_markup import parsed
from bot.channels.telegram.fake_text import TextRefused, shown_as, utf16_length, validate
from tests.sizes import record_proof, size

KINDS = ["bold", "italic", "underline", "spoiler", "code", "pre", "blockquote", "text_link"]


def entity(kind: str, offset: int, length: int, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "offset": offset, "length": length, **fields}


def refusal(text: str, *entities: dict[str, Any]) -> str:
    with pytest.raises(TextRefused) as refused:
        validate(text, entities)
    return refused.value.description


def test_length_counts_utf16_units() -> None:
    """4,096 UTF-16 units pass and one more does not, also if they are half as many characters."""
    validate("😀" * 2048)
    assert refusal("😀" * 2048 + "x") == "message is too long"


def test_empty_texts_have_two_names() -> None:
    """No text and nothing but blanks are refused, each in its own words."""
    assert refusal("") == "message text is empty"
    assert refusal(" \n ") == "text must be non-empty"


@pytest.mark.parametrize(
    ("wrong", "description"),
    [
        (entity("bold", 0, 9), "entity beginning at UTF-16 offset 0 ends after the end of the text at UTF-16 offset 9"),
        (entity("bold", 9, 1), "entity begins after the end of the text at UTF-16 offset 9"),
        (entity("bold", 1, 1), "entity begins in a middle of a UTF-16 symbol at byte offset 4"),
        (entity("bold", 0, 1), "entity beginning at UTF-16 offset 0 ends in a middle of a UTF-16 symbol at byte offset 4"),
        (entity("bold", -1, 1), "receive an entity with incorrect offset -1"),
        (entity("blink", 0, 2), "can't parse MessageEntity: Unsupported type specified"),
        (entity("text_link", 0, 2), "can't parse MessageEntity: Can't find field \"url\""),
        ({"type": "bold"}, "can't parse MessageEntity: Can't find field \"offset\""),
    ],
)
def test_wrong_entities_are_refused(wrong: dict[str, Any], description: str) -> None:
    """An entity outside of the text, inside of a surrogate pair, of an unknown kind or without its fields is refused."""
    assert refusal("😀ab", wrong) == description


def test_no_more_than_a_hundred_entities_are_kept() -> None:
    """Entities behind the hundredth are ignored without an error; only `strict` complains."""
    entities = [entity("bold", 2 * number, 1) for number in range(101)]
    _, kept = shown_as("a " * 101, entities)
    assert len(kept) == 100
    with pytest.raises(TextRefused):
        validate("a " * 100 + "a", entities, strict=True)


def test_very_large_entities_are_refused() -> None:
    """Entities of more than about 9,500 bytes are refused together."""
    links = [entity("text_link", 2 * number, 1, url="https://example.org/" + "x" * 90) for number in range(90)]
    assert refusal("a " * 90, *links) == "ENTITIES_TOO_LONG"


def test_code_stands_alone() -> None:
    """Bold inside of code is dropped without an error, code inside of a quote is kept, and `strict` tells the difference."""
    quote, code = entity("blockquote", 0, 5), entity("code", 1, 3)
    assert shown_as("abcde", [quote, code])[1] == [quote, code]
    assert shown_as("abcde", [entity("bold", 2, 1), code])[1] == [code]
    with pytest.raises(TextRefused, match="1 entities would be dropped"):
        validate("abcde", [entity("bold", 2, 1), code], strict=True)


def test_text_is_cleaned_and_trimmed() -> None:
    """Control characters become blanks, carriage returns and bidi marks vanish, both ends are trimmed and entities move along."""
    text, entities = shown_as(" a\tb\r\u202ec \n", [entity("bold", 2, 4)])
    assert (text, entities) == ("a bc", [entity("bold", 1, 2)])


@pytest.mark.parametrize(
    ("mode", "source", "text", "entities"),
    [
        ("HTML", "<b>a &lt; b</b>", "a < b", [entity("bold", 0, 5)]),
        ("html", '<pre><code class="language-py">x</code></pre>', "x", [entity("pre", 0, 1, language="py")]),
        ("HTML", '<a href="http://x.org">😀</a>!', "😀!", [entity("text_link", 0, 2, url="http://x.org")]),
        ("MarkdownV2", "*a* \\_ `c`", "a _ c", [entity("bold", 0, 1), entity("code", 4, 1)]),
        ("MarkdownV2", "[l](http://x.org) ||s||", "l s", [entity("text_link", 0, 1, url="http://x.org"), entity("spoiler", 2, 1)]),
        ("MarkdownV2", "```py\nx\n```", "x\n", [entity("pre", 0, 2, language="py")]),
        ("MarkdownV2", ">q *b*\nrest", "q b\nrest", [entity("bold", 2, 1), entity("blockquote", 0, 3)]),
    ],
)
def test_parse_modes(mode: str, source: str, text: str, entities: list[dict[str, Any]]) -> None:
    """HTML and MarkdownV2 become text and entities."""
    assert parsed(source, mode) == (text, entities)


@pytest.mark.parametrize(
    ("mode", "source", "problem"),
    [
        ("HTML", "<b>a", 'Can\'t find end tag corresponding to start tag "b"'),
        ("HTML", "<b>a</i>", 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"'),
        ("HTML", "a<blink>", 'Unsupported start tag "blink" at byte offset 1'),
        ("MarkdownV2", "a.", "Character '.' is reserved and must be escaped with the preceding '\\'"),
        ("MarkdownV2", "*a", "Can't find end of Bold entity at byte offset 0"),
    ],
)
def test_broken_marks_are_refused(mode: str, source: str, problem: str) -> None:
    """Marks that do not end, or that are not escaped, are refused."""
    with pytest.raises(TextRefused) as refused:
        parsed(source, mode)
    assert refused.value.description == f"can't parse entities: {problem}"


def test_whatever_comes_is_shown_or_refused() -> None:
    """Any text with any entities is refused, or shown so that showing it again changes nothing."""
    examples = size("fake_text", small=300, proof=20_000)
    number = st.integers(-1, 12)
    drawn = st.lists(st.builds(entity, st.sampled_from(KINDS), number, number, url=st.just("http://x.org")), max_size=6)

    @given(st.text(max_size=12), drawn)
    def check(text: str, entities: list[dict[str, Any]]) -> None:
        try:
            shown, kept = shown_as(text, entities)
        except TextRefused:
            return
        assert shown_as(shown, kept) == (shown, kept)
        assert all(0 <= one["offset"] < one["offset"] + one["length"] <= utf16_length(shown) for one in kept)

    _with_examples(check, examples)
    record_proof("fake_text", seed="hypothesis", size=examples, result="shown twice is shown the same")


def _with_examples(check: Any, examples: int) -> None:
    from hypothesis import settings

    settings(max_examples=examples, deadline=None, derandomize=True)(check)()
