"""Names of languages."""

import pytest

from dialogue.skills.languages import LANGUAGES, detect_language, find_language, language_name


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("en", "en"), ("German", "de"), ("DEUTSCH", "de"), ("德文", "de"), ("zh_CN", "zh"), ("zh-Hant", "zh-hant"), ("pt-BR", "pt"),
        ("日本語", "ja"), ("Klingon", None), ("", None), ("x", None), ("no", "no"), ("-", None),
    ],
)  # fmt: skip
def test_languages_are_found(name: str, code: str | None) -> None:
    """Codes, regional tags and names in English, Chinese and the language itself are known."""
    assert find_language(name) == code


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_name_means_two_languages(code: str) -> None:
    """Every name of a language leads back to it."""
    names = LANGUAGES[code]
    assert {find_language(name) for name in (code, names.en, names.zh, *names.aliases)} == {code}


def test_names_in_both_languages() -> None:
    """A language is called by its name in the speaker's language; an unknown tag stays as it is."""
    assert [language_name("de", "en"), language_name("de", "zh"), language_name("de-AT", "en"), language_name("xx", "en")] == [
        "German", "德语", "German", "xx",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "12345", "?!", " \n "])
def test_what_has_no_letters_has_no_language(text: str) -> None:
    """The detector guesses at anything; without letters it is not asked."""
    assert detect_language(text) is None
