"""Both languages say the same."""

from string import Template

import pytest

from dialogue.words import SENTENCES, assistant_language, say


@pytest.mark.parametrize("key", SENTENCES)
def test_each_sentence_has_both_languages(key: str) -> None:
    """Each sentence is there in English and Chinese, with the same values in it."""
    english, chinese = SENTENCES[key]
    assert sorted(Template(english).get_identifiers()) == sorted(Template(chinese).get_identifiers())
    assert not any("\u4e00" <= character <= "\u9fff" for character in english)
    assert any("\u4e00" <= character <= "\u9fff" for character in chinese)


def test_values_are_not_expanded_again() -> None:
    """What a user wrote may look like a placeholder; it stays what it is."""
    assert say("remembered", "en", note="$note $$ ${limit}") == "I will remember: $note $$ ${limit}"


@pytest.mark.parametrize(
    ("tag", "language"), [("zh", "zh"), ("zh-Hans", "zh"), ("ZH_cn", "zh"), ("en", "en"), ("de-AT", "en"), ("zha", "en"), ("", "en")]
)
def test_the_assistants_languages(tag: str, language: str) -> None:
    """Chinese users of every kind hear Chinese, everybody else English."""
    assert assistant_language(tag) == language
