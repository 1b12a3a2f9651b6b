"""Help articles become sentences and list items, in plain words."""

from hypothesis import given
from hypothesis import strategies as st

from finetune.sources.passages import Unit, cut, plain_line, read_units, show

PAGE = """> Send what you **no longer** want back.

See [our form](https://shop.example/form){:class="usa-link"} or [the rules](/help/rules/). It
costs `nothing`.

{: .number-list}

1. Print the *label*.

1. Glue it
   on.
1. Send it by 4&nbsp;pm.

## After that

* Wait, e.g. a week.
| a | table |
"""


def test_words_stay_and_formatting_goes() -> None:
    """Links to other sites keep their address, steps their numbers; formatting, tables, headings and inner links' addresses go."""
    assert show(read_units(PAGE)) == (
        "Send what you no longer want back.\n"
        "See our form (https://shop.example/form) or the rules. It costs nothing.\n"
        "1. Print the label.\n"
        "2. Glue it on.\n"
        "3. Send it by 4 pm.\n"
        "- Wait, e.g. a week."
    )


def test_sentences_are_units() -> None:
    """A paragraph is cut into sentences; abbreviations end none, Chinese ones need no space."""
    assert [unit.text for unit in read_units("Use it, e.g. Now. It is 3.5 cm. “Stop” it!")] == [
        "Use it, e.g. Now.",
        "It is 3.5 cm.",
        "“Stop” it!",
    ]
    assert show(read_units("先登录。再点击“确定”！好了")) == "先登录。再点击“确定”！好了"


def test_what_is_said_twice_is_shown_once() -> None:
    """A page that repeats its summary as its first sentence does not say it twice."""
    assert show(read_units("> Plug it in.\n\nPlug it in. Then wait.")) == "Plug it in. Then wait."


def test_a_passage_is_cut_between_units() -> None:
    """What is too long ends with a whole sentence."""
    units = read_units("One is short. Two is a bit longer. Three is the last.")
    assert show(cut(units, 40)) == "One is short. Two is a bit longer."
    assert show(cut(units, 5)) == ""
    assert cut(units, 400) == units


def test_headings_lose_their_formatting() -> None:
    """A heading is one line of plain words."""
    assert plain_line("  The **new** [form](/x) ") == "The new form"


@given(st.text(alphabet="ab .!?\n*-1)[]()<>#|`_。", max_size=80), st.integers(0, 80))
def test_any_text_can_be_read_and_cut(markdown: str, limit: int) -> None:
    """Whatever the text, its units are not empty, and a cut passage has at most as many characters as it may."""
    units = read_units(markdown)
    assert all(isinstance(unit, Unit) and unit.text for unit in units)
    assert len(show(cut(units, limit))) <= limit
