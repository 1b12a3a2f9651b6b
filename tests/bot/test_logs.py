"""Logs: fixed names, no secrets, no message texts."""

import ast
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from bot.logs import MESSAGE_FIELDS, configure_logging
from tests.bot.cli.program import kept_logging

ROOT = Path(__file__).parents[2]
TOKEN = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw_"
EVENT_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
LOGGER_NAMES = frozenset({"log", "logger", "_log", "_logger", "LOG", "_LOG"})


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Put the logging of this process back after each test."""
    with kept_logging():
        yield


def records(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_and_control_characters_stay_out(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """Neither our own fields, nor nested ones, nor exceptions, nor what libraries say can carry a secret or move the cursor."""
    configure_logging("info", as_json=as_json, secrets=["geheimnis"])
    log = structlog.get_logger("bot.test")
    log.info(
        "thing.happened",
        url="postgresql://u:geheimnis@h/x",
        deep={"a": [{"token": "abc-secret"}, "geheimnis"]},
        odd=ValueError("geheimnis"),
    )
    log.warning("thing.failed", name="\x1b]0;forged\x07\nsecond line")
    logging.getLogger("some.library").warning("GET https://api.telegram.org/bot%s/getMe Authorization: Bearer abc-secret", TOKEN)
    log.error("thing.crashed", exc_info=RuntimeError(f"geheimnis https://api.telegram.org/file/bot{TOKEN}/x \x1b[2J"))
    written = capsys.readouterr().err
    assert "***" in written
    for forbidden in ("geheimnis", "abc-secret", TOKEN[12:], "\x1b", "\x07"):
        assert forbidden not in written
    assert not any(line.startswith("second line") for line in written.splitlines())


def test_message_texts_appear_at_debug_only(capsys: pytest.CaptureFixture[str]) -> None:
    """A field that holds what people wrote is blanked at info and above, whoever logs it."""
    configure_logging("debug", as_json=True)
    log = structlog.get_logger("bot.test")
    for field in sorted(MESSAGE_FIELDS):
        log.info("thing.happened", **{field: "canary words"})
    assert "canary" not in capsys.readouterr().err
    log.debug("thing.happened", text="canary words")
    assert "canary" in capsys.readouterr().err


def test_every_record_has_an_event_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Our records keep their own name; those of libraries and warnings share one, and say the rest in a field."""
    configure_logging("info", as_json=True)
    structlog.get_logger("bot.test").info("turn.committed", turn_id="t1")
    logging.getLogger("dialogue.engine").warning("engine.restarted")
    logging.getLogger("some.library").warning("something %s", "odd")
    written = records(capsys.readouterr().err)
    assert [record["event"] for record in written] == ["turn.committed", "engine.restarted", "library.message"]
    assert written[2]["message"] == "something odd"
    assert {"timestamp", "level", "logger"} <= written[0].keys()


def test_talkative_libraries_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Requests and statements (with their parameters, and so message texts) are not logged even at debug."""
    configure_logging("debug", as_json=True)
    for name in ("httpx", "httpx2", "sqlalchemy.engine.Engine", "uvicorn.access", "aiosqlite"):
        logging.getLogger(name).info("INSERT INTO turns VALUES ('canary')")
        logging.getLogger(name).debug("canary")
    assert capsys.readouterr().err == ""


def test_a_broken_stderr_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody reads the logs any more, the program goes on."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    configure_logging("info")
    structlog.get_logger("bot.test").error("thing.failed")


def misuses(source: str) -> Iterator[str]:
    """Yield a sentence for each log call whose event is not a fixed name in snake_case or that carries message text at info or above."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS):
            continue
        owner = node.func.value
        name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
        if name not in LOGGER_NAMES:
            continue
        event = node.args[0] if node.args else None
        if not (isinstance(event, ast.Constant) and isinstance(event.value, str) and EVENT_NAME.fullmatch(event.value)):
            yield f"line {node.lineno}: the event is no fixed name in snake_case"
        if node.func.attr != "debug" and MESSAGE_FIELDS & {keyword.arg for keyword in node.keywords if keyword.arg}:
            yield f"line {node.lineno}: message text at {node.func.attr}"


def test_log_calls_keep_the_rules() -> None:
    """No log call of any room has a varying event name or message text at info or above."""
    found = [
        f"{path.relative_to(ROOT)} {misuse}"
        for room in ("bot", "dialogue", "finetune", "storage")
        for path in sorted((ROOT / room).rglob("*.py"))
        for misuse in misuses(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source", ['log.info("Turn committed")', "log.info(f'turn.{x}')", 'self._log.warning("turn.lost", text=t)', "log.error()"]
)
def test_the_check_can_fail(source: str) -> None:
    """A log call that breaks a rule is reported."""
    assert list(misuses(source))
