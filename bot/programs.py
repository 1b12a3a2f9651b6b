"""The three ways to run the program: chat in this terminal, ask one question, serve every configured channel."""

import getpass
import os
import sys
from collections.abc import Sequence
from functools import partial

import structlog

from bot.app import App, RunOptions
from bot.channels.ask import AskResult
from bot.channels.base import Channel
from bot.channels.terminal import Screen, TerminalChannel
from bot.channels.terminal_pipe import PipeScreen
from bot.errors import ExitCode
from bot.serving import open_model
from bot.settings import Settings
from dialogue.engine.models import ModelFiles

LEAVE_S = 1.0  # who leaves a chat does not wait for what is still being made

log = structlog.get_logger(__name__)


async def chat(settings: Settings, files: ModelFiles | None, *, fresh: bool = False) -> ExitCode:
    """Talk to the person or program at this terminal; `fresh` begins a new conversation. Raises what keeps it from starting."""
    user = current_user()
    app = App(settings, partial(open_model, settings, files), user=user)
    terminal = TerminalChannel(_screen(settings, app), user=user, max_chars=settings.limits.message_chars, fresh=fresh)
    is_person = not isinstance(terminal.screen, PipeScreen)
    on_interrupt = terminal.stop_answer if is_person else None
    return await app.run([terminal], RunOptions("kefu chat", patience_s=LEAVE_S, on_interrupt=on_interrupt))


async def ask(settings: Settings, files: ModelFiles | None, text: str) -> AskResult:
    """Answer one question. Raises what keeps the answer from being made."""
    app = App(settings, partial(open_model, settings, files), user=current_user())
    answers: list[AskResult] = []

    async def main(running: App) -> None:
        answers.append(await running.ask(text))

    await app.run([], RunOptions("kefu ask", patience_s=LEAVE_S, main=main))
    if not answers:
        raise KeyboardInterrupt
    return answers[0]


async def serve(settings: Settings, files: ModelFiles | None) -> ExitCode:
    """Serve every configured channel until stopped. Raises what keeps a part from running."""
    channels = configured_channels(settings)
    if not channels:
        log.warning("app.no_channels", remedy="set TELEGRAM_BOT_TOKEN, or use `kefu chat`; health pages and control socket are served")
    app = App(settings, partial(open_model, settings, files), user=current_user())
    return await app.run(channels, RunOptions("kefu run", http=True, patience_s=settings.limits.stop_timeout_s))


def configured_channels(settings: Settings) -> Sequence[Channel]:  # noqa: ARG001 - the first platform comes with its own settings
    """Return the channels that these settings ask for."""
    return ()


def current_user() -> str:
    """Return who runs this process; the number where the system knows no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _screen(settings: Settings, app: App) -> Screen:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return PipeScreen(sys.stdin.fileno(), sys.stdout, sys.stderr)
    from bot.channels.terminal_screen import InteractiveScreen  # noqa: PLC0415 - prompt_toolkit is for people only: `kefu ask` starts without it

    return InteractiveScreen(settings.data_dir / "terminal_history", greeting=_greeting(settings), is_ready=app.ready.is_set)


def _greeting(settings: Settings) -> str:
    kept = settings.database_file or "the database"
    return (
        f"{settings.dialogue.assistant_name}, with {settings.model.reference}. What we say is kept in {kept}.\n"
        "/help shows what I can do, Ctrl-C stops an answer, Ctrl-D leaves."
    )
