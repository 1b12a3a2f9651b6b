"""How the program ends: exit codes, and the one place where an exception becomes a sentence for the operator.

    CliError            a command cannot go on; carries message, remedy and exit code
    ChannelRefused      a platform does not let this bot in: its token is wrong or revoked (exit code 78)
    SettingsError       a setting is wrong; names file or variable, key and what is allowed (exit code 78)

Errors of `storage` and `dialogue` are mapped by `describe`. Everything else is a defect of this program and says so.
"""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from bot.channels.base import ChannelRefused
from dialogue.errors import ConfigurationInvalid, DialogueError, EngineError, ModelDownloadFailed, ModelError, ModelReferenceInvalid
from storage.errors import ClaimLost, DatabaseBusy, DatabaseUnavailable, DatabaseUrlInvalid, SchemaMismatch, StorageError


class ExitCode(IntEnum):
    """What a script may rely on. 75 and 78 are the numbers of sysexits.h."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    TEMPORARY = 75  # the same command may succeed later: a busy file, no network, a full disk
    CONFIGURATION = 78  # somebody must change a setting first; a service manager should not restart
    INTERRUPTED = 130  # Ctrl-C


class CliError(Exception):
    """A command cannot go on. `str(error)` is a sentence for the operator, `hint` what to do about it."""

    def __init__(self, message: str, *, hint: str = "", code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


class SettingsError(Exception):
    """A setting is wrong.

    `where` names the file or the environment variable, `key` the setting as `section.name` ("" when the whole source is
    meant), `allowed` what may stand there. No secret value is ever part of the message.
    """

    def __init__(self, where: str, key: str, problem: str, allowed: str = "") -> None:
        super().__init__(": ".join(part for part in (where, key, problem) if part))
        self.where = where
        self.key = key
        self.problem = problem
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Failure:
    """What the operator is told, and how the program ends."""

    message: str
    hint: str
    code: ExitCode
    expected: bool = True  # False = a defect of this program: the traceback is worth showing


_RULES: tuple[tuple[type[Exception], ExitCode, str], ...] = (  # the first that fits
    (
        DatabaseUrlInvalid,
        ExitCode.CONFIGURATION,
        "Allowed: sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME in DATABASE_URL or [storage] url.",
    ),
    (DatabaseBusy, ExitCode.TEMPORARY, ""),
    (DatabaseUnavailable, ExitCode.TEMPORARY, "Run `kefu doctor`: it checks the database and says what is missing."),
    (SchemaMismatch, ExitCode.CONFIGURATION, "Run `kefu db upgrade` with the newest Kefu that used this database."),
    (ClaimLost, ExitCode.TEMPORARY, ""),
    (StorageError, ExitCode.FAILURE, ""),
    (ModelReferenceInvalid, ExitCode.CONFIGURATION, "Allowed: pypi:NAME==VERSION, hf:OWNER/NAME[:FILE] or a path, in [model] reference."),
    (ModelDownloadFailed, ExitCode.TEMPORARY, "Run the command again: what has arrived is kept where it can be."),
    (ModelError, ExitCode.FAILURE, "Run `kefu models pull` to fetch the model again."),
    (EngineError, ExitCode.TEMPORARY, "Run `kefu doctor --deep`: it starts the engine and says what is wrong."),
    (ConfigurationInvalid, ExitCode.CONFIGURATION, ""),
    (DialogueError, ExitCode.FAILURE, ""),
)

_SYSTEM_RULES: dict[int, tuple[ExitCode, str]] = {
    errno.EADDRINUSE: (
        ExitCode.TEMPORARY,
        "Another program has this port: stop it, or choose another one with [http] port or [telegram] webhook_port.",
    ),
    errno.ENOSPC: (ExitCode.TEMPORARY, "The disk is full: free some space, or move [paths] data_dir and cache_dir."),
    errno.EACCES: (ExitCode.FAILURE, "Run as the user that owns this path, or change its permissions."),
    errno.EROFS: (ExitCode.FAILURE, "Choose a writable folder with [paths] data_dir and cache_dir."),
}


def describe(error: BaseException) -> Failure:
    """Map an exception to what the operator is told. Of an exception group, the first expected error speaks for all."""
    failures = [_describe_one(leaf) for leaf in leaves(error)]
    return next((failure for failure in failures if failure.expected), failures[0])


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group, however deep they lie; of any other exception, itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def _describe_one(error: BaseException) -> Failure:
    match error:
        case KeyboardInterrupt():
            return Failure("Interrupted.", "", ExitCode.INTERRUPTED)
        case CliError():
            return Failure(str(error), error.hint, error.code)
        case SettingsError():
            return Failure(str(error), f"Allowed: {error.allowed}." if error.allowed else "", ExitCode.CONFIGURATION)
        case ChannelRefused():
            return Failure(str(error), error.hint, ExitCode.CONFIGURATION)
        case _:
            return _describe_other(error)


def _describe_other(error: BaseException) -> Failure:
    for kind, code, hint in _RULES:
        if isinstance(error, kind):
            return Failure(str(error), getattr(error, "hint", "") or hint, code)
    if isinstance(error, OSError) and error.errno is not None:
        return _describe_system(error)
    return Failure(
        f"Kefu has a defect here: {type(error).__name__}: {error}",
        "Run the command again with --debug and report what it prints.",
        ExitCode.FAILURE,
        expected=False,
    )


def _describe_system(error: OSError) -> Failure:
    code, hint = _SYSTEM_RULES.get(error.errno or 0, (ExitCode.FAILURE, ""))
    path = f"{error.filename}: " if error.filename else ""
    return Failure(f"{path}{error.strerror or error}", hint, code)
