"""The terminal channel for people: a prompt that edits and remembers lines, answers that appear as they are made.

While the prompt is open, prompt_toolkit owns the terminal and whatever is printed appears above it. While an answer is
made there is no prompt: what is typed then is not echoed, stays in the terminal's own buffer and is in the next prompt.
"""

import contextlib
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory
from prompt_toolkit.patch_stdout import patch_stdout
from rich import markup
from rich.console import Console
from rich.status import Status

from dialogue.normalise import escape_control

PROMPT = FormattedText([("bold ansigreen", "you> ")])
ANSWER = "[bold cyan]kefu>[/] "


class InteractiveScreen:
    """A person at a terminal."""

    def __init__(self, history_file: Path, *, greeting: str, is_ready: Callable[[], bool]) -> None:
        self._history_file = history_file
        self._greeting = greeting
        self._is_ready = is_ready
        self._session: PromptSession[str] | None = None
        self._console = Console(highlight=False)
        self._status: Status | None = None
        self._shown = ""  # of the answer that is being made
        self._silence = _Silence(sys.stdin)

    async def read_line(self) -> str | None:
        """Return what the person typed; None for Ctrl-D and for Ctrl-C."""
        session = self._session or self._open()
        self._silence.end()
        try:
            with patch_stdout(raw=True):
                return await session.prompt_async(PROMPT, handle_sigint=False)
        except (EOFError, KeyboardInterrupt):
            return None

    def wait(self, position: int = 0) -> None:
        words = "loading the model …" if not self._is_ready() else f"place {position} in the queue …" if position else "thinking …"
        self._silence.begin()
        if self._status is None:
            self._status = self._console.status(words)
            self._status.start()
        else:
            self._status.update(words)

    def write(self, text: str) -> None:
        self._stop_waiting()
        if not self._shown:
            self._console.print(ANSWER, end="")
        self._shown += text
        _put(text)

    def restart(self) -> None:
        if self._shown:
            _put("\n")
            self.note("the engine was lost; once more")
        self._shown = ""
        self.wait()

    def finish(self, text: str) -> None:
        missing = remainder(self._shown, text)
        if missing is None:  # what was shown is not what is stored: the stored text stands
            _put("\n")
            self._shown, missing = "", text
        if not self._shown:
            self.write(missing)
        else:
            _put(missing)
        _put("\n")
        self._shown = ""

    def owe(self, text: str) -> None:
        self._stop_waiting()
        self._console.print("[dim]I still owed you this answer:[/]")
        self._console.print(ANSWER, end="")
        _put(f"{text}\n")

    def note(self, text: str) -> None:
        self._stop_waiting()
        if self._shown:
            _put(" ")
        self._console.print(f"[dim]({markup.escape(escape_control(text))})[/]", end="" if self._shown else "\n", markup=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._stop_waiting()
        self._silence.end()

    def _open(self) -> PromptSession[str]:
        self._history_file.parent.mkdir(parents=True, exist_ok=True)
        self._history_file.touch(mode=0o600)
        self._session = PromptSession(history=FileHistory(str(self._history_file)))
        self._console.print(f"[dim]{markup.escape(escape_control(self._greeting, keep=chr(10)))}[/]", markup=True)
        return self._session

    def _stop_waiting(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def remainder(shown: str, final: str) -> str | None:
    """Return what is missing behind `shown` to make it `final`; None when `shown` is not the beginning of it."""
    if final.startswith(shown):
        return final[len(shown) :]
    return "" if shown.rstrip() == final else None


def _put(text: str) -> None:
    sys.stdout.write(escape_control(text, keep="\n\t"))
    sys.stdout.flush()


class _Silence:
    """Keeps the terminal from echoing what is typed; Ctrl-C still works."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._before: list[int | list[bytes | int]] | None = None

    def begin(self) -> None:
        if self._before is None:
            with contextlib.suppress(termios.error, OSError):  # no terminal after all: nothing echoes
                before, quiet = termios.tcgetattr(self._terminal), termios.tcgetattr(self._terminal)
                quiet[3] &= ~(termios.ECHO | termios.ICANON)
                termios.tcsetattr(self._terminal, termios.TCSANOW, quiet)
                self._before = before

    def end(self) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error, OSError):  # the terminal went away
                termios.tcsetattr(self._terminal, termios.TCSANOW, self._before)
            self._before = None
