"""The prompt files and how they are filled in."""

from importlib.resources import files
from string import Template

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.skills.texts import as_data, paragraphs, prompt_lines

PROMPTS = sorted(path.name for path in files("dialogue.skills").joinpath("prompts").iterdir())


@pytest.mark.parametrize("name", sorted({name.split(".")[0] for name in PROMPTS}))
def test_every_prompt_is_there_in_both_languages(name: str) -> None:
    """Each prompt has an English and a Chinese text with the same values in it."""
    texts = {
        language: files("dialogue.skills").joinpath("prompts", f"{name}.{language}.txt").read_text(encoding="utf-8")
        for language in ("en", "zh")
    }
    values = {language: sorted(set(Template(text).get_identifiers())) for language, text in texts.items()}
    assert values["en"] == values["zh"]
    assert all(text.strip() for text in texts.values())


@given(st.text(alphabet="`a\n", max_size=60))
def test_data_cannot_leave_its_fence(text: str) -> None:
    """No text holds the fence that stands around it."""
    fence = as_data(text).split("\n", maxsplit=1)[0]
    assert set(fence) == {"`"}
    assert fence not in text
    assert as_data(text) == f"{fence}\n{text}\n{fence}"


def test_lines_without_a_value_are_left_out() -> None:
    """A line stands once for each of its values, and not at all for none."""
    assert prompt_lines("profile", "en", {"name": ["Ada"], "note": ["$name", "b"]}) == (
        "About the user you talk to:\n- Name: Ada\n- Note: $name\n- Note: b"
    )


def test_paragraphs() -> None:
    """Empty parts leave no gap."""
    assert paragraphs([" a ", "", "  ", "b\n"]) == "a\n\nb"
