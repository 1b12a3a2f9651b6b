"""What the dialogue says to users."""

import pytest

from dialogue.words import assistant_language, say


def test_values_are_not_expanded_again() -> None:
    """What a user wrote may look like a placeholder; it stays what it is."""
    assert say("remembered", "en", note="$note $$ ${limit}") == "I will remember: $note $$ ${limit}"


@pytest.mark.parametrize(
    ("tag", "language"), [("zh", "zh"), ("zh-Hans", "zh"), ("ZH_cn", "zh"), ("en", "en"), ("de-AT", "en"), ("zha", "en"), ("", "en")]
)
def test_the_assistants_languages(tag: str, language: str) -> None:
    """Chinese users of every kind hear Chinese, everybody else English."""
    assert assistant_language(tag) == language
