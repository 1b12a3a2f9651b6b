"""Users hear the same things in every language."""

import re
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from bot.command_words import CATALOGUE as BOT
from dialogue.catalogue import Catalogue
from dialogue.words import CATALOGUE as DIALOGUE
from tests.catalogues import ROOT, compiled, sources

SAID = re.compile(r"""\bsay(?:_command)?\(\s*"([a-z_]+)\"""")


def read(source: Path) -> Catalog:
    with source.open("rb") as file:
        return read_po(file)


def differences(one: Catalog, other: Catalog) -> Iterator[str]:
    """Yield one line for each sentence that two catalogues do not have alike."""
    ids = {message.id for message in one if message.id} | {message.id for message in other if message.id}
    for key in sorted(map(str, ids)):
        first, second = one.get(key), other.get(key)
        if first is None or second is None or not first.string or not second.string:
            yield f"{key}: missing"
        elif sorted(Template(str(first.string)).get_identifiers()) != sorted(Template(str(second.string)).get_identifiers()):
            yield f"{key}: other values"


@pytest.mark.parametrize("source", [source for source in sources() if source.parts[-3] != "en"], ids=lambda path: "/".join(path.parts[-4:]))
def test_languages_agree(source: Path) -> None:
    """Each sentence is there in each language, with the same values in it."""
    english = Path(str(source).replace(f"/{source.parts[-3]}/", "/en/"))
    assert list(differences(read(english), read(source))) == []


def test_a_missing_sentence_is_found() -> None:
    """The check above can fail."""
    one, other = Catalog(), Catalog()
    one.add("hello", "Hello $name")
    other.add("hello", "Hello")
    one.add("bye", "Bye")
    assert list(differences(one, other)) == ["bye: missing", "hello: other values"]


@pytest.mark.parametrize("source", sources(), ids=lambda path: "/".join(path.parts[-4:]))
def test_compiled_catalogues_are_up_to_date(source: Path) -> None:
    """What is installed is what the sources say; `make catalogues` renews it."""
    assert source.with_suffix(".mo").read_bytes() == compiled(source)


@pytest.mark.parametrize("source", [source for source in sources() if source.parts[-3] == "zh_CN"], ids=lambda path: path.parts[-5])
def test_chinese_is_chinese(source: Path) -> None:
    """Every Chinese sentence has Chinese characters, and no English one has."""
    chinese = re.compile("[\u4e00-\u9fff]")
    english = Path(str(source).replace("/zh_CN/", "/en/"))
    assert [message.id for message in read(source) if message.id and not chinese.search(str(message.string))] == []
    assert [message.id for message in read(english) if message.id and chinese.search(str(message.string))] == []


def test_every_sentence_that_is_said_exists() -> None:
    """A key in the code that no catalogue has would only be noticed by a user."""
    known = {str(message.id) for source in sources() for message in read(source)}
    used = {key for room in ("bot", "dialogue") for path in (ROOT / room).rglob("*.py") for key in SAID.findall(path.read_text("utf-8"))}
    assert used - known == set()


@pytest.mark.parametrize("catalogue", [BOT, DIALOGUE])
def test_an_unknown_sentence_is_a_mistake(catalogue: Catalogue) -> None:
    """A key without a sentence does not reach a user."""
    with pytest.raises(KeyError, match="nonsense"):
        catalogue.say("nonsense", "en")


@pytest.mark.parametrize(
    ("tag", "language"),
    [("zh", "zh_CN"), ("zh-hans", "zh_CN"), ("ZH_tw", "zh_CN"), ("en-GB", "en"), ("de", "en"), ("", "en"), ("zha", "en")],
)
def test_users_are_spoken_to_in_their_language(tag: str, language: str) -> None:
    """Whoever has no catalogue hears English."""
    assert DIALOGUE.choose(tag) == language
