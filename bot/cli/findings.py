"""What `kefu doctor` says about one thing, and how it is printed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import typer

from bot.errors import describe
from bot.redaction import Redactor
from dialogue.normalise import escape_control


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str  # settings, database, model, adapter, engine, disk, clock, telegram, delivery
    status: Status
    message: str
    remedy: str = ""  # what to do; "" when all is well


def ok(check: str, message: str) -> Finding:
    return Finding(check, Status.OK, message)


def warning(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, Status.WARNING, message, remedy)


def error(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, Status.ERROR, message, remedy)


def guarded(check: str, look: Callable[[], Sequence[Finding]]) -> Sequence[Finding]:
    """Run one check; whatever it raises becomes an error line, so that the others still run."""
    try:
        return look()
    except Exception as failure:  # noqa: BLE001 a broken check is itself a finding
        told = describe(failure)
        return [error(check, told.message, told.hint)]


def as_json(findings: Sequence[Finding], redact: Redactor) -> dict[str, Any]:
    """Return the report for machines."""
    lines = [{name: redact(value) for name, value in asdict(finding).items()} for finding in findings]
    return {"ok": not has_errors(findings), "findings": lines}


def has_errors(findings: Sequence[Finding]) -> bool:
    return any(finding.status is Status.ERROR for finding in findings)


def as_lines(findings: Sequence[Finding], redact: Redactor) -> Iterator[str]:
    """Yield the report for people, coloured where typer finds a terminal."""
    colors = {Status.OK: "green", Status.WARNING: "yellow", Status.ERROR: "red"}
    for finding in findings:
        status = typer.style(f"{finding.status:<8}", fg=colors[finding.status])
        yield f"{status}{finding.check:<10}{escape_control(redact(finding.message))}"
        if finding.remedy and finding.status is not Status.OK:
            yield f"{'':<18}→ {escape_control(redact(finding.remedy))}"
