"""Every exception becomes a sentence and an exit code."""

import errno
import inspect
from types import ModuleType

import pytest

import dialogue.errors
import storage.errors
from bot.errors import CliError, SettingsError, describe
from bot.redaction import Redactor
from dialogue.errors import EngineOverloaded, ModelDownloadFailed, ModelReferenceInvalid
from dialogue.normalise import escape_control
from storage.errors import DatabaseBusy, DatabaseUrlInvalid, SchemaMismatch

TOKEN = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw_"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DatabaseUrlInvalid("bad"), 78),
        (SettingsError("kefu.toml", "[http] port", "is not allowed"), 78),
        (SchemaMismatch("old"), 78),
        (ModelReferenceInvalid("bad"), 78),
        (DatabaseBusy("held by 7"), 75),
        (ModelDownloadFailed("no network"), 75),
        (EngineOverloaded("full", 3.0), 75),
        (OSError(errno.EADDRINUSE, "Address already in use"), 75),
        (OSError(errno.ENOSPC, "No space left on device"), 75),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1),
        (CliError("no"), 1),
        (KeyboardInterrupt(), 130),
        (ValueError("surprise"), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    """Configuration ends with 78, what may pass with 75, Ctrl-C with 130, everything else with 1."""
    assert describe(error).code == code


@pytest.mark.parametrize("module", [storage.errors, dialogue.errors])
def test_every_error_of_the_rooms_is_expected(module: ModuleType) -> None:
    """No error that a room declares is shown as a defect of the program."""
    kinds = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, Exception)]
    assert kinds
    for kind in kinds:
        error = kind("sentence", 1.0) if kind is EngineOverloaded else kind("sentence")
        assert describe(error).expected, kind
        assert describe(error).message == "sentence"


def test_only_a_defect_is_called_one() -> None:
    """An exception that nobody declared says that it is a defect, and how to get the traceback."""
    failure = describe(RuntimeError("surprise"))
    assert not failure.expected
    assert "--debug" in failure.hint


def test_a_group_speaks_with_one_voice() -> None:
    """Of an exception group the operator hears the expected error, however deep it lies."""
    group = BaseExceptionGroup("tasks", [RuntimeError("x"), BaseExceptionGroup("inner", [DatabaseBusy("held by 7")])])
    assert describe(group).message == "held by 7"


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://api.telegram.org/bot{TOKEN}/getMe",
        f"https://api.telegram.org/file/bot{TOKEN}/photos/1.jpg",
        f"token={TOKEN.replace(':', '%3A')}",
        "Authorization: Bearer s3cretvalue",
        "{'authorization': 'Bearer s3cretvalue'}",
        "[(b'Authorization', b'Basic s3cretvalue')]",
        "postgresql://kefu:s3cretvalue@db/kefu",
        "http://x/?api_key=s3cretvalue&a=1",
        "the key is known-s3cretvalue",
        "the key is known%2Ds3cretvalue/quoted",
    ],
)
def test_secrets_are_taken_out(text: str) -> None:
    """Known secrets, bot tokens, authorisation headers and credentials in URLs never survive, and twice is as good as once."""
    redact = Redactor(["known-s3cretvalue", "known/s3cretvalue", "known%2Ds3cretvalue/quoted"])
    clean = redact(text)
    assert "***" in clean
    assert "s3cretvalue" not in clean
    assert TOKEN[12:] not in clean
    assert redact(clean) == clean


@pytest.mark.parametrize("text", ["The 30 days end at 12:30.", "see https://example.org/a@b", "chat 123456789 said: fine", "basic facts"])
def test_ordinary_text_is_left_alone(text: str) -> None:
    """What only looks a little like a secret stays as it is."""
    assert Redactor(["abc"])(text) == text


def test_control_characters_become_visible() -> None:
    """Escape sequences, bidirectional marks and forged lines are shown, letters of every script stay."""
    assert escape_control("a\x1b[31mb\r\n\u202ec\x9b") == "a\\x1b[31mb\\x0d\\x0a\\u202ec\\x9b"
    assert escape_control("客服 ok 👩\u200d🔧 می\u200cخواهم") == "客服 ok 👩\u200d🔧 می\u200cخواهم"
    assert escape_control("a\nb\tc\x07", keep="\n\t") == "a\nb\tc\\x07"
