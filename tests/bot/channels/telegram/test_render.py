"""What people see of the model's answers on Telegram: nothing is lost, whatever the model writes."""

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_snapshot import snapshot

from bot.channels.telegram.fake_text import validate
from bot.channels.telegram.keeping import keeps_all
from bot.channels.telegram.markdown_parser import make_parser
from bot.channels.telegram.render import Entity, Part, plain, preview, render
from bot.channels.telegram.utf16 import utf16_length
from tests.sizes import record_proof, size

DATA = Path(__file__).parents[3] / "data"
NAUGHTY: list[str] = json.loads((DATA / "blns.json").read_text(encoding="utf-8"))
DIALOGUES: list[list[str]] = json.loads((DATA / "crosswoz_dialogues.json").read_text(encoding="utf-8"))
FRAGMENTS = (
    *("**", "*", "_", "__", "`", "``", "```", "```py\n", "~~", "[", "](", ")", "![", "> ", "- ", "1. ", "+ ", "# ", "---", "|", "\\"),
    *("\n", "\n\n", " ", "    ", "\t", "\r\n", "\x00", "\u202e", "\ud800", "\u3000", "\u200b", "\u200d", "\u0301", "a\u030a"),
    *("\n|a|b|\n|-|-|\n", "http://shop.example/a_b", "javascript:x", "mailto:a@b.example", "tg://user?id=1", '"title"', "[^1]: ", "[1]: "),
    *("$", "$$", "\\[", "\\]", "\\(", "\\)", "&amp;", "&#1;", "&lt;b&gt;", "<b>", "<http://shop.example>", "2*3*4", "snake_case_name"),
    *("你好", "。", "**注意：**", "😀", "👨‍👩‍👧", "🇩🇪", "e\u0301", "word", "Ω", "€", "[x] "),
)
SPOKEN = {"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Sc", "So"}
EXAMPLES = size("render_fuzz", small=400, proof=20_000)

LONG = st.lists(st.sampled_from(FRAGMENTS), max_size=300).map("".join)
WRITTEN = st.one_of(LONG, st.lists(st.sampled_from([*FRAGMENTS, *NAUGHTY]), max_size=20).map("".join), st.text(max_size=200))
LIMITS = st.sampled_from([2, 20, 100, 4096])


def covered(part: Part) -> list[tuple[str, str, str]]:
    """Return for each entity its kind, the text it covers, and its address or language."""
    units = part.text.encode("utf-16-le")
    return [
        (entity.type, units[2 * entity.offset : 2 * (entity.offset + entity.length)].decode("utf-16-le"), entity.url or entity.language)
        for entity in part.entities
    ]


def words(text: str) -> str:
    """Return the characters that are no markup for sure: letters without their accents, digits, currencies, emoji."""
    return "".join(character for character in unicodedata.normalize("NFD", text) if unicodedata.category(character)[:2] in SPOKEN)


def contains(shown: Iterable[str], wanted: Iterable[str]) -> bool:
    rest = iter(shown)
    return all(character in rest for character in wanted)


def with_hidden(part: Part) -> str:
    """Return the text with the addresses behind their links, and the languages in front of their code."""
    units = [part.text.encode("utf-16-le")[index : index + 2] for index in range(0, len(part.text.encode("utf-16-le")), 2)]
    inserts = [(entity.offset + entity.length, entity.url) for entity in part.entities]
    inserts += [(entity.offset, entity.language) for entity in part.entities]
    for place, insert in sorted(inserts, key=lambda pair: pair[0], reverse=True):
        units.insert(place, insert.encode("utf-16-le"))
    return b"".join(units).decode("utf-16-le")


def require_deliverable(part: Part, limit: int = 4096) -> None:
    validate(part.text, [entity.as_json() for entity in part.entities], limit=limit, strict=True)
    begins_with_code = any(entity.type == "pre" and entity.offset == 0 for entity in part.entities)
    assert part.text == (part.text.rstrip() if begins_with_code else part.text.strip())
    assert not any(unicodedata.category(character) == "Cc" and character != "\n" for character in part.text)


def prove(check: Callable[[str, int], None], result: str) -> None:
    """Try a property on many texts that models could write, or people want them to."""
    settings(max_examples=EXAMPLES, deadline=None)(given(WRITTEN, LIMITS)(check))()
    record_proof("render_fuzz", seed="hypothesis", size=EXAMPLES, result=result)


def test_telegram_takes_every_part_as_it_is() -> None:
    """Every part, formatted, plain or a preview, is one that Telegram neither refuses nor changes."""

    def check(written: str, limit: int) -> None:
        for part in (*render(written, limit=limit), *plain(written, limit=limit), preview(written, limit=limit)):
            require_deliverable(part, limit)

    prove(check, "telegram takes every part as it is")


def test_no_character_is_lost() -> None:
    """Every letter, digit, currency sign and emoji of the answer is in the parts, in order, or in the address of a link there."""

    def check(written: str, limit: int) -> None:
        literal = written.replace("&", "＆")  # entities may be shown as what they stand for
        dropped = words(literal.replace("\ud800", ""))
        assert contains(words("".join(map(with_hidden, render(literal, limit=limit)))), dropped)

    prove(check, "no character is lost")


def test_nothing_is_lost_without_the_formatting() -> None:
    """Written out, as when Telegram refuses the formatting, parts fit and hold everything; instead of a single one the original fits."""

    def check(written: str, limit: int) -> None:
        literal = written.replace("&", "＆")
        parts = render(literal, limit=limit)
        texts = [part.written_out() for part in parts]
        assert contains(words("".join(texts)), words(literal.replace("\ud800", "")))
        if len(parts) > 1 or len(plain(literal, limit=limit)) > 1:
            assert all(utf16_length(text) <= limit for text in texts)

    prove(check, "nothing is lost without the formatting")


def test_the_same_text_gives_the_same_parts() -> None:
    """Rendering twice gives equal parts."""

    def check(written: str, limit: int) -> None:
        assert render(written, limit=limit) == render(written, limit=limit)

    prove(check, "the same text gives the same parts")


def test_plain_parts_hold_everything_that_was_written() -> None:
    """Without formatting the parts are the text itself, markup and all, but for blanks and what Telegram cannot show."""

    def check(written: str, limit: int) -> None:
        shown = unicodedata.normalize("NFD", "".join(part.text for part in plain(written, limit=limit)))
        assert contains(
            shown, (character for character in unicodedata.normalize("NFD", written) if unicodedata.category(character)[0] in "LNPS")
        )

    prove(check, "plain parts hold everything that was written")


@pytest.mark.parametrize("shown", ["one three", "three two one", "one two thre", ""])
def test_a_loss_is_noticed(shown: str) -> None:
    """A word that is missing, a different order and a letter less are each reported as a loss."""
    assert keeps_all("**one** two three", "one (new) two three")
    assert not keeps_all("**one** two three", shown)


@pytest.mark.parametrize("written", ["**b** " * 4000, "&amp;copy **b**"])
def test_what_cannot_be_rendered_without_loss_is_shown_as_it_was_written(written: str) -> None:
    """A text that is too long for the parser, or that would read differently afterwards, keeps its markup."""
    assert render(written) == plain(written)


@pytest.mark.parametrize("written", [*NAUGHTY, *(line for dialogue in DIALOGUES[:40] for line in dialogue)])
def test_naughty_strings_and_dialogues_survive(written: str) -> None:
    """Each naughty string and each line of a real dialogue is delivered whole."""
    parts = render(written)
    for part in parts:
        require_deliverable(part)
    assert contains(words("".join(map(with_hidden, parts))), words(written) if "&" not in written else "")


@pytest.mark.parametrize(
    "written", ["", " \n\t ", "\u200b", "\x00", "\ud800", "***", "```", "> ", "-", "[]()", "****", "&nbsp;", "<!---->"]
)
def test_nothing_to_say_is_still_one_message(written: str) -> None:
    """What is empty, blank or nothing but markup gives exactly one part with a visible text."""
    for part in (*render(written), preview(written)):
        require_deliverable(part)
    assert len(render(written)) == 1


def test_an_answer_in_english() -> None:
    """Heading, list, link, table and code get the formatting that Telegram has for them."""
    (part,) = render(
        "## Your order\n\nThank you, **Anna**! It is *on its way*; see [the tracking page](https://shop.example/t?id=7).\n\n"
        "1. Open the app\n2. Choose `Orders`\n   - then *Returns*\n\n| Item | Price |\n|---|---:|\n| Tea | 3 € |\n| Big cup | 10 € |\n\n"
        "```python\ndef total():\n    return 13\n```\n\n> We reply within a day.\n"
    )
    assert part.text == snapshot("""\
Your order

Thank you, Anna! It is on its way; see the tracking page.

1. Open the app
2. Choose Orders
  • then Returns

Item    | Price
--------+------
Tea     | 3 €
Big cup | 10 €

def total():
    return 13

We reply within a day.\
""")
    assert covered(part) == snapshot(
        [
            ("bold", "Your order", ""),
            ("bold", "Anna", ""),
            ("italic", "on its way", ""),
            ("text_link", "the tracking page", "https://shop.example/t?id=7"),
            ("code", "Orders", ""),
            ("italic", "Returns", ""),
            (
                "pre",
                """\
Item    | Price
--------+------
Tea     | 3 €
Big cup | 10 €\
""",
                "",
            ),
            (
                "pre",
                """\
def total():
    return 13\
""",
                "python",
            ),
            ("blockquote", "We reply within a day.", ""),
        ]
    )


def test_an_answer_in_chinese() -> None:
    """Bold counts beside Chinese punctuation, and columns are as wide as Chinese characters are."""
    (part,) = render(
        "### 订单信息\n**注意：**请在*三天*内付款。\n\n- 运费：**5 元**\n- 查看[物流](https://shop.example/物流)\n\n"
        "| 商品 | 价格 |\n|:--|--:|\n| 绿茶 | 30 元 |\n| 大号杯子 | 8 元 |\n\n```sql\nSELECT 1;\n```"
    )
    assert part.text == snapshot("""\
订单信息
注意：请在*三天*内付款。

• 运费：5 元
• 查看物流

商品     | 价格
---------+------
绿茶     | 30 元
大号杯子 | 8 元

SELECT 1;\
""")
    assert covered(part) == snapshot(
        [
            ("bold", "订单信息", ""),
            ("bold", "注意：", ""),
            ("bold", "5 元", ""),
            ("text_link", "物流", "https://shop.example/物流"),
            (
                "pre",
                """\
商品     | 价格
---------+------
绿茶     | 30 元
大号杯子 | 8 元\
""",
                "",
            ),
            ("pre", "SELECT 1;", "sql"),
        ]
    )


@pytest.mark.parametrize(
    "literal",
    [
        "2*3*4 = 24, 2**8 = 256, 长*宽*高",
        "snake_case_name and C:\\new\\path",
        r"\(x_1 + y_2\) and \[\frac{a}{b}\] and $a_1 * b_1$",
        "$$\n- a\n+ b\n$$",
        "a[0](x) and f(x)[1]",
        "<b>bold</b> <br> <script>alert(1)</script>",
        "See [1].\n\n[1]: https://shop.example/terms",
        "A note.[^1]\n\n[^1]: The note.",
        "Title\n=====",
        "~about~ #hashtag 1) one",
    ],
)
def test_what_could_be_meant_literally_stays(literal: str) -> None:
    """Products, paths, formulas, indices, HTML, notes and definitions of links are shown as they were written."""
    assert render(literal) == (Part(literal),)


@pytest.mark.parametrize(
    ("written", "shown", "urls"),
    [
        ("[shop](https://shop.example)", "shop", ["https://shop.example"]),
        ("[chat](tg://resolve?domain=shop)", "chat", ["tg://resolve?domain=shop"]),
        ("[write](mailto:a@shop.example)", "write (mailto:a@shop.example)", []),
        ("[click](javascript:alert(1))", "click (javascript:alert(1))", []),
        ("[here](http://localhost:80/x)", "here (http://localhost:80/x)", []),
        ("[here](https://u:p@shop.example/)", "here (https://u:p@shop.example/)", []),
        ("[help](/help)", "help (/help)", []),
        ("[](https://shop.example)", "https://shop.example", []),
        ("<https://shop.example>", "https://shop.example", []),
        ('[shop](https://shop.example "the best")', 'shop "the best"', ["https://shop.example"]),
        ("![a cat](https://shop.example/cat.png)", "a cat", ["https://shop.example/cat.png"]),
        ("![](https://shop.example/cat.png)", "https://shop.example/cat.png", []),
        ("[![cat](https://a.example/c.png)](https://b.example)", "cat (https://a.example/c.png)", ["https://b.example"]),
    ],
)
def test_links_are_those_that_telegram_takes(written: str, shown: str, urls: Sequence[str]) -> None:
    """Addresses that Telegram takes become links; all others stand in the text."""
    (part,) = render(written)
    assert (part.text, [entity.url for entity in part.entities if entity.type == "text_link"]) == (shown, urls)


def test_more_links_than_a_message_can_have_stand_in_the_text() -> None:
    """Of 150 links none is dropped: their addresses are written out."""
    parts = render("".join(f"[a{number}](http://s.example/{number}) " for number in range(150)))
    assert "a149 (http://s.example/149)" in parts[-1].text


def test_more_styles_than_a_message_can_have_lose_the_style_alone() -> None:
    """Of 300 bold words all are shown, and 100 of them bold."""
    (part,) = render("**b** a " * 300)
    assert part.text == ("b a " * 300).strip()
    assert len(part.entities) == 100


@pytest.mark.parametrize("dense", [1, 15])
def test_parts_leave_room_for_their_addresses(dense: int) -> None:
    """Parts that are full of text and links end earlier, so that each can be sent with its addresses written out."""
    parts = render(("[word](https://shop.example/a-page) " + "other words. " * dense) * (400 // dense))
    assert len(parts) > 1
    assert all(any(entity.url for entity in part.entities) for part in parts)
    assert all("word (https://shop.example/a-page) other" in part.written_out() and len(part.written_out()) <= 4096 for part in parts)


def test_code_that_is_written_out_names_its_language() -> None:
    """What stood only in the formatting of code comes before it, also behind characters of two units."""
    (part,) = render("😀\n\n```python\nx = 1\n```\n\nSee [here](https://shop.example).")
    assert part.written_out() == "😀\n\npython\nx = 1\n\nSee here (https://shop.example)."


def test_rows_with_more_cells_than_the_head_are_shown_as_written() -> None:
    """A table that Markdown would cut is monospace text as it was written."""
    table = "| a | b |\n|---|---|\n| 1 | 2 | 3 |"
    assert render(table) == (Part(table, (Entity("pre", 0, len(table)),)),)


@pytest.mark.parametrize(("columns", "row"), [(500, "|a|"), (500, "a"), (60, "a"), (2, "|a|b|"), (1, "|a|b|")])
def test_a_table_has_no_more_cells_than_were_written(columns: int, row: str) -> None:
    """Short rows below a wide head are read as they stand, not filled up to its width, which took a second for every preview."""
    table = "|" + "h|" * columns + "\n|" + "-|" * columns + f"\n{row}" * 800
    tokens = make_parser().parse(table)
    assert [token.type for token in tokens].count("tr_open") == 801
    assert [token.type for token in tokens].count("inline") <= columns + 800 * max(1, row.count("|") - 1)


@pytest.mark.parametrize("head", ["|" + "h|" * 40, "|" + "head " * 30 + "|b|"])
def test_a_table_does_not_drown_in_blanks(head: str) -> None:
    """Columns that would be nearly empty are not aligned: the table is shown as it was written."""
    table = f"{head}\n|" + "-|" * (head.count("|") - 1) + "\n|a|b|" * 500
    assert "".join(part.text for part in render(table)).replace("\n", "") == table.replace("\n", "")


def test_long_answers_are_cut_between_paragraphs() -> None:
    """Paragraphs stay whole if they fit."""
    paragraphs = [f"Paragraph {number}. " + "Some words. " * 20 for number in range(10)]
    parts = render("\n\n".join(paragraphs), limit=600)
    assert [part.text for part in parts] == [
        "\n\n".join(paragraphs[index : index + 2]).replace(" \n", "\n").strip() for index in range(0, 10, 2)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aaaa bbbb\ncccc dddd", ["aaaa bbbb", "cccc dddd"]),
        ("Aaa b. Ccc dd ee", ["Aaa b.", "Ccc dd ee"]),
        ("你好。我们在这里等你呀", ["你好。", "我们在这里等你呀"]),
        ("aaaa bbbbbbbb", ["aaaa", "bbbbbbbb"]),
        ("abcdefghijklmno", ["abcdefghij", "klmno"]),
        ("12345678" + "👨‍👩‍👧", ["12345678", "👨‍👩‍👧"]),
        ("123456789e\u0301x", ["123456789", "e\u0301x"]),
        ("1234567" + "🇩🇪", ["1234567", "🇩🇪"]),
        ("😀" * 6, ["😀" * 5, "😀"]),
    ],
)
def test_borders_are_lines_then_sentences_then_words(text: str, expected: list[str]) -> None:
    """A part ends at the best border within ten units, and in the middle of a word only between whole characters."""
    assert [part.text for part in plain(text, limit=10)] == expected


def test_code_over_several_messages_is_code_in_each() -> None:
    """Each part of a long block of code is code in the same language, and keeps its indentation."""
    lines = [f"    line_{number} = {number}" for number in range(100)]
    parts = render("```python\nif True:\n" + "\n".join(lines) + "\n```", limit=500)
    assert len(parts) > 3
    assert {(kind, language) for part in parts for kind, _, language in covered(part)} == {("pre", "python")}
    assert "\n".join(part.text for part in parts) == "\n".join(["if True:", *lines])


def test_a_block_of_code_that_fits_is_not_cut() -> None:
    """Rather a shorter message than half a block of code."""
    code = "x = 1\n\n" * 20
    parts = render("Words. " * 40 + f"\n\n```\n{code}```", limit=400)
    assert covered(parts[-1]) == [("pre", code.strip(), "")]


@pytest.mark.parametrize(
    ("written", "shown", "formatting"),
    [
        ("Open **the ap", "Open the ap", [("bold", "the ap", "")]),
        ("Open **", "Open", []),
        ("Use `git sta", "Use git sta", [("code", "git sta", "")]),
        ("```py\nx **", "x **", [("pre", "x **", "py")]),
        ("See [the sh", "See [the sh", []),
        ("**a** and `b` and **c", "a and b and c", [("bold", "a", ""), ("code", "b", ""), ("bold", "c", "")]),
    ],
)
def test_previews_close_what_is_still_open(written: str, shown: str, formatting: list[tuple[str, str, str]]) -> None:
    """An answer that breaks off in the middle of bold or code looks as it will when it is finished."""
    part = preview(written)
    assert (part.text, covered(part)) == (shown, formatting)


def test_long_previews_show_the_end() -> None:
    """Of a text that is too long the last words are shown, behind an ellipsis."""
    part = preview("first **word** " + "middle " * 1000 + "*last*")
    assert part.text.startswith("…")
    assert len(part.text) == 4096
    assert covered(part) == [("italic", "last", "")]


@pytest.mark.parametrize("before", ["words\n\n" * 5000, "**" + "more " * 6000 + "\n\n", "```\ncode\n```\n\n" * 2000])
def test_previews_read_the_end_of_a_long_text_alone(before: str) -> None:
    """However much was written before, a preview costs what one message costs, and shows the same."""
    end = "A *new* paragraph.\n\n" * 409 + "The end."
    part = preview(before + end)
    assert part == preview("other\n\n" * 5000 + end)
    assert part.text.startswith("…")
    assert covered(part)[-1] == ("italic", "new", "")


def test_previews_of_long_code_are_code() -> None:
    """Code that began long before the end that is shown is code in the same language."""
    part = preview("Look:\n\n~~~py\n" + "value = 1\n\n" * 2000 + "last = 2")
    assert [(kind, language) for kind, _, language in covered(part)] == [("pre", "py")]
    assert part.text.endswith("value = 1\n\nlast = 2")


HOSTILE = (
    "[",
    "](",
    "![",
    "[a](",
    "*",
    "*a **b ",
    "_a",
    "`",
    "`a``b",
    "> ",
    "- ",
    "* - ",
    "|",
    "|a|\n|-|\n",
    "\\",
    "<",
    "~~",
    "$",
    "[[]",
    "\u0301",
    "\u200d",
)


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("length", [2000, 20_000, 100_000])
def test_hostile_nesting_is_delivered(piece: str, length: int) -> None:
    """However deeply somebody nests, there is an answer, and Telegram takes it."""
    written = (piece * length)[:length]
    for part in (*render(written), preview(written)):
        require_deliverable(part)
