"""`kefu`: finds the command, and turns whatever goes wrong into a sentence and an exit code.

Commands are loaded when they are called, so that `kefu --help` needs none of the libraries behind them: `COMMANDS` says
where each one lives.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bot.cli.lazy import LazyCommand, LazyGroup, find_target
from bot.cli.session import LogLevel, Session
from bot.cli.version import print_version
from bot.errors import ExitCode, describe, leaves
from bot.redaction import Redactor
from dialogue.normalise import escape_control

_TALK, _LOOK, _CARE = "Talk", "See", "Care for"

COMMANDS: Mapping[str, LazyCommand] = {
    "chat": LazyCommand("bot.cli.chat:app", "Talk to the assistant in this terminal.", _TALK),
    "ask": LazyCommand("bot.cli.ask:app", "Ask one question, print the answer, exit.", _TALK),
    "run": LazyCommand("bot.cli.run:app", "Serve every configured channel until stopped.", _TALK),
    "doctor": LazyCommand("bot.cli.doctor:app", "Check settings, database, model, adapter, engine, disk, clock and Telegram.", _LOOK),
    "conversations": LazyCommand(
        "bot.cli.conversations:app", "Show conversations and their turns; take one over, answer as a person, give it back.", _LOOK
    ),
    "outbox": LazyCommand("bot.cli.outbox:app", "Show messages on their way, and deal with those that did not arrive for certain.", _LOOK),
    "replay": LazyCommand("bot.cli.replay:app", "Show what a turn was made of, and make it again.", _LOOK),
    "simulate": LazyCommand("bot.cli.simulate:app", "Let a scripted crowd chat with your settings and model, without an account.", _LOOK),
    "bench": LazyCommand("bot.cli.bench:app", "Measure the bot, the engine, the database or training on this machine.", _LOOK),
    "init": LazyCommand("bot.cli.init:app", "Write a kefu.toml that explains every setting.", _CARE),
    "models": LazyCommand("bot.cli.models:app", "Fetch and list models.", _CARE),
    "adapters": LazyCommand("bot.cli.adapters:app", "Show adapter releases, promote one, roll back.", _CARE),
    "db": LazyCommand("bot.cli.db:app", "Upgrade, back up and restore the database.", _CARE),
    "users": LazyCommand("bot.cli.users:app", "Export or erase what is remembered about a person.", _CARE),
    "finetune": LazyCommand("finetune.cli:app", "Train an adapter on your own conversations.", _CARE, needs="finetune"),
    "version": LazyCommand("bot.cli.version:app", "Print the version.", _LOOK),
}


class _Commands(LazyGroup):
    table = COMMANDS


app = typer.Typer(
    name="kefu",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `kefu chat`. The four options --config, --log-level, --log-json and --debug may also stand behind the command.",
)

_FLAGS = frozenset({"--log-json", "--debug"})
_OPTIONS = frozenset({"--config", "--log-level"})
_OWN_OPTIONS = frozenset({"finetune"})  # a program of its own: what stands behind it is not ours


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Read this file instead of ./kefu.toml and the one in your own folder.")] = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="How much to tell on stderr.")] = None,
    *,
    log_json: Annotated[bool, typer.Option("--log-json", help="One JSON object a line on stderr, for machines.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log everything; show tracebacks. Also KEFU_DEBUG=1.")] = False,
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version and exit.")] = False,  # noqa: ARG001 its callback does it
) -> None:
    """A self-hosted chat assistant: answers from its own model, remembers in SQL, loses nothing."""
    session = ctx.ensure_object(Session)
    session.config = config
    session.log_level = log_level
    session.log_json = log_json
    session.debug = debug
    session.program_config = lambda: find_target("bot.cli.mounted:program_config")(ctx)


def main() -> None:
    """The program `kefu`: run the command of `sys.argv` and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Never raises."""
    session = Session()
    try:
        return _invoke(hoist(arguments), session)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 the last fence: every mistake ends as a sentence
        if any(isinstance(leaf, BrokenPipeError) for leaf in leaves(error)):  # whoever read our output has gone, and wants no words
            _abandon_stdout()
            return ExitCode.FAILURE
        return _report(error, session)


def hoist(arguments: Sequence[str]) -> list[str]:
    """Move the options of `kefu` itself in front of the command, wherever they stand before `--`."""
    front: list[str] = []
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "--" or (word in _OWN_OPTIONS and not rest):
            return [*front, *rest, word, *queue]
        if word in _FLAGS or word.partition("=")[0] in _OPTIONS:
            front.append(word)
            if word in _OPTIONS and queue:
                front.append(queue.pop(0))
        else:
            rest.append(word)
    return front + rest


def _invoke(arguments: list[str], session: Session) -> int:
    try:
        typer.main.get_command(app).main(arguments, prog_name="kefu", obj=session)
    except SystemExit as end:
        code = end.code
    else:
        code = ExitCode.OK
    sys.stdout.flush()  # here, where a broken pipe or a full disk is still reported
    return code if isinstance(code, int) else ExitCode.OK if code is None else ExitCode.FAILURE


def _report(error: BaseException, session: Session) -> int:
    failure = describe(error)
    redact = Redactor(session.secrets)
    if session.debug:
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    with contextlib.suppress(OSError):  # stderr may be closed
        typer.secho(
            f"kefu: {escape_control(redact(failure.message))}", err=True, fg="red" if failure.code != ExitCode.INTERRUPTED else None
        )
        if failure.hint:
            typer.echo(failure.hint, err=True)
    try:
        sys.stdout.flush()
    except OSError:
        _abandon_stdout()
    return failure.code


def _abandon_stdout() -> None:
    """Let the interpreter's own flush at exit find a place to write to."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
