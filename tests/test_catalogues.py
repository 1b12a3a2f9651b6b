"""Users hear the same things in every language."""

import ast
import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from string import Template
from typing import Final, NamedTuple

import pytest
import time_machine
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from bot.command_words import CATALOGUE as BOT
from dialogue.catalogue import Catalogue
from dialogue.words import CATALOGUE as DIALOGUE
from tests.catalogues import ROOT, compiled, sources

SPEAKERS: Final = {"bot.command_words": "bot", "dialogue.words": "dialogue"}  # who has `say`, and whose sentences it says
MENU_CHARACTERS = 256  # what Telegram takes as the description of a command


class Said(NamedTuple):
    """A sentence that the code says."""

    room: str
    key: str
    values: frozenset[str] | None  # names that are given; None = only known when it runs


def read(source: Path) -> Catalog:
    with source.open("rb") as file:
        return read_po(file)


def differences(one: Catalog, other: Catalog) -> Iterator[str]:
    """Yield one line for each sentence that two catalogues do not have alike."""
    ids = {message.id for message in one if message.id} | {message.id for message in other if message.id}
    for key in sorted(map(str, ids)):
        first, second = one.get(key), other.get(key)
        if first is None or second is None or not _is_said(first) or not _is_said(second):
            yield f"{key}: missing"
        elif sorted(Template(str(first.string)).get_identifiers()) != sorted(Template(str(second.string)).get_identifiers()):
            yield f"{key}: other values"


def _is_said(message: Message) -> bool:
    """Whether it gets into the compiled file: a guess marked "fuzzy" does not."""
    return bool(message.string) and not message.fuzzy


def said(code: str) -> Iterator[Said]:
    """Yield the sentences whose keys stand in a source file as they are."""
    nodes = list(ast.walk(ast.parse(code)))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module in SPEAKERS]
    rooms = {name.asname or name.name: SPEAKERS[str(node.module)] for node in imports for name in node.names if name.name == "say"}
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in rooms:
            names = [keyword.arg for keyword in node.keywords]
            values = None if None in names else frozenset(map(str, names))
            yield from (Said(rooms[node.func.id], key, values) for key in _keys(node.args[0]))


def _keys(argument: ast.expr) -> Iterator[str]:
    if isinstance(argument, ast.Constant):
        yield str(argument.value)
    elif isinstance(argument, ast.IfExp):
        yield from _keys(argument.body)
        yield from _keys(argument.orelse)


def mistakes(sentences: Mapping[str, Catalog], code: str) -> Iterator[str]:
    """Yield one line for each sentence that a source file says and no catalogue has, or whose values it does not give."""
    for room, key, values in said(code):
        message = sentences[room].get(key)
        if message is None:
            yield f"{key}: not in {room}"
        elif values is not None and not values.issuperset(Template(str(message.string)).get_identifiers()):
            yield f"{key}: values are missing"


def english() -> dict[str, Catalog]:
    return {source.stem: read(source) for source in sources() if source.parts[-3] == "en"}


@pytest.mark.parametrize("source", [source for source in sources() if source.parts[-3] != "en"], ids=lambda path: "/".join(path.parts[-4:]))
def test_languages_agree(source: Path) -> None:
    """Each sentence is there in each language, with the same values in it."""
    counterpart = Path(str(source).replace(f"/{source.parts[-3]}/", "/en/"))
    assert list(differences(read(counterpart), read(source))) == []


def test_a_missing_sentence_is_found() -> None:
    """The check above can fail."""
    one, other = Catalog(), Catalog()
    one.add("hello", "Hello $name")
    other.add("hello", "Hello")
    one.add("bye", "Bye")
    one.add("guess", "Guess")
    other.add("guess", "Devine", flags=["fuzzy"])
    assert list(differences(one, other)) == ["bye: missing", "guess: missing", "hello: other values"]


def _sentences(compiled_file: bytes) -> dict[str, str]:
    return {str(message.id): str(message.string) for message in read_mo(BytesIO(compiled_file)) if message.id}


@pytest.mark.parametrize("source", sources(), ids=lambda path: "/".join(path.parts[-4:]))
def test_compiled_catalogues_are_up_to_date(source: Path) -> None:
    """What is installed is what the sources say; `make catalogues` renews it."""
    assert _sentences(source.with_suffix(".mo").read_bytes()) == _sentences(compiled(source))


def test_compiling_is_repeatable() -> None:
    """Compiled files once had the time in them: they were out of date a minute later, and each compilation changed every file."""
    source = sources()[0]
    with time_machine.travel("2027-01-01"):
        early = compiled(source)
    with time_machine.travel("2028-01-01"):
        assert compiled(source) == early


@pytest.mark.parametrize("source", [source for source in sources() if source.parts[-3] == "zh_CN"], ids=lambda path: path.parts[-5])
def test_chinese_is_chinese(source: Path) -> None:
    """Every Chinese sentence has Chinese characters, and no English one has."""
    chinese = re.compile("[\u4e00-\u9fff]")
    counterpart = Path(str(source).replace("/zh_CN/", "/en/"))
    assert [message.id for message in read(source) if message.id and not chinese.search(str(message.string))] == []
    assert [message.id for message in read(counterpart) if message.id and chinese.search(str(message.string))] == []


def test_every_sentence_that_is_said_exists() -> None:
    """A key in the code that no catalogue has, or a value that is not given, would only be noticed by a user."""
    sentences = english()
    files = [path for room in ("bot", "dialogue") for path in sorted((ROOT / room).rglob("*.py"))]
    assert [(path.name, line) for path in files for line in mistakes(sentences, path.read_text("utf-8"))] == []


def test_a_mistake_in_the_code_is_found() -> None:
    """The check above can fail: the other room's sentence, the second key of two, a value left out."""
    code = """
from bot.command_words import say as tell
from dialogue.words import say
say("start", "en", name="Kefu")
tell("status_ready" if ready else "status_raedy", language)
tell("start", language, nmae="Kefu")
tell("start", language, **values)
"""
    assert list(mistakes(english(), code)) == ["start: not in dialogue", "status_raedy: not in bot", "start: values are missing"]


@pytest.mark.parametrize("source", [source for source in sources() if source.stem == "bot"], ids=lambda path: path.parts[-3])
def test_the_menu_fits(source: Path) -> None:
    """What stands beside a command in the menu is as short as Telegram wants it, and does not repeat the command."""
    menu = [str(message.string) for message in read(source) if str(message.id).startswith("menu_")]
    assert menu
    assert [text for text in menu if len(text) > MENU_CHARACTERS or "/" in text] == []


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


def _write_catalogue(package: Path, language: str, greeting: str) -> None:
    folder = package / "locale" / language / "LC_MESSAGES"
    folder.mkdir(parents=True)
    source = folder / "words.po"
    source.write_text(f'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\nmsgid "hello"\nmsgstr "{greeting}"\n', "utf-8")
    source.with_suffix(".mo").write_bytes(compiled(source))


def test_a_new_language_is_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever adds a folder adds a language; the very language of a user goes before its kin, and other folders do no harm."""
    package = tmp_path / "polyglot_words"
    greetings = {"en": "Hello $name", "de": "Grüß Gott, $name", "zh_CN": "您好，$name", "zh_TW": "您好，$name！"}
    for language, greeting in greetings.items():
        _write_catalogue(package, language, greeting)
    (package / "__init__.py").touch()
    (package / "locale" / "__pycache__").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    words = Catalogue("polyglot_words", "words")
    heard = {tag: words.choose(tag) for tag in ("de-AT", "zh-tw", "zh-Hans", "fr", "en-GB")}
    assert heard == {"de-AT": "de", "zh-tw": "zh_TW", "zh-Hans": "zh_CN", "fr": "en", "en-GB": "en"}
    assert words.say("hello", "de-AT", name="Ada") == "Grüß Gott, Ada"
