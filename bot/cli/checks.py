"""What `kefu doctor` looks at. Each check returns its findings; none of them changes anything."""

import importlib.util
import shutil
import sqlite3
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.cli.data import operate
from bot.cli.findings import Finding, error, ok, warning
from bot.model_files import NO_FILES, cached_model
from bot.settings import LoadedSettings, Settings
from dialogue.engine.download import file_sha256
from dialogue.engine.models import parse_reference
from storage import schema
from storage.errors import DatabaseBusy
from storage.lockfile import read_holder
from storage.sqlite import version_warning
from storage.url import SqliteTarget, parse_url

LOW_BYTES, EMPTY_BYTES = 1 << 30, 100 << 20  # free disk space that is worth a warning, and an error
SANE_YEARS = range(2026, 2100)
DRIFT_MS = 5_000  # between this machine and the database; leases last 30 s
BACKLOG_MS = 12 * 3_600_000  # half of what Telegram keeps


def check_settings(loaded: LoadedSettings) -> Sequence[Finding]:
    """Tell which sources were read, and whether a file with secrets can be read by others."""
    sources = [*map(str, loaded.files), *loaded.variables]
    findings = [ok("settings", f"read from {', '.join(sources)}" if sources else "all defaults: no file and no variable is set")]
    secrets = loaded.settings.secrets()
    exposed = [path for path in loaded.files if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH) and _holds_any(path, secrets)]
    return findings + [warning("settings", f"{path} holds a secret and can be read by others", f"chmod 600 {path}") for path in exposed]


def _holds_any(path: Path, secrets: Sequence[str]) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return any(secret in text for secret in secrets)


def check_database(settings: Settings) -> Sequence[Finding]:
    """Open the database, compare its schema, say which version it is."""
    file = settings.database_file
    if file is not None and not file.exists():
        return [ok("database", f"{file} does not exist yet; the first start makes it (SQLite {sqlite3.sqlite_version})")]
    try:
        facts = schema.look(settings.storage_config())
    except DatabaseBusy:
        return _check_busy(file)
    target = parse_url(settings.database_url)
    where = str(target.path) if isinstance(target, SqliteTarget) else target.label
    needed = schema.head()
    if facts.revision != needed:
        return [error("database", f"{where} has schema {facts.revision or 'none'}, this Kefu needs {needed}", "Run `kefu db upgrade`.")]
    return [ok("database", f"{where}, {facts.dialect} {facts.version}, schema {facts.revision}"), *_check_sqlite_version(facts)]


def _check_busy(file: Path | None) -> Sequence[Finding]:
    holder = read_holder(file) if file is not None else None
    who = f"process {holder.pid} ({holder.command})" if holder else "another process"
    return [ok("database", f"{file} is in use by {who}, which checked its schema")]


def _check_sqlite_version(facts: schema.DatabaseFacts) -> Sequence[Finding]:
    note = version_warning() if facts.dialect == "sqlite" else None
    return [ok("database", note)] if note else []  # nothing to mend: Kefu writes over one connection


def check_delivery(settings: Settings) -> Sequence[Finding]:
    """Tell what was put aside, refused or left unknown, and whether the clocks agree."""
    if settings.database_file is not None and not settings.database_file.exists():
        return []
    before = time.time_ns() // 1_000_000
    status: dict[str, Any] = operate(settings, "status")
    after = time.time_ns() // 1_000_000
    return [*_check_queues(status), *_check_drift(status["now"], before, after)]


def _check_queues(status: dict[str, Any]) -> Sequence[Finding]:
    findings = [*_check_rows(status["outbox"]), *_check_quarantine(status["quarantined"]), *_check_backlog(status["oldest_pending_ms"])]
    findings = findings or [ok("delivery", f"nothing failed, nothing is unknown; {_many(status['pending'], 'message')} waiting")]
    return [*findings, *_check_orphans(status["orphans"])]


def _check_rows(rows: dict[str, int]) -> Sequence[Finding]:
    bad = {"unknown": "sent, and nobody said whether it arrived", "failed": "refused for good"}
    remedy = "`kefu outbox list --state {}` shows why and what is tried again by itself; else `kefu outbox retry ID` or `drop ID`."
    return [
        warning("delivery", f"{_many(rows[state], 'message')} {state}: {what}", remedy.format(state))
        for state, what in bad.items()
        if rows.get(state)
    ]


def _check_quarantine(count: int) -> Sequence[Finding]:
    if not count:
        return []
    remedy = "The log of `kefu run` says why, in its lines worker.quarantined."
    return [warning("delivery", f"{_many(count, 'event')} set aside: no answer could be made", remedy)]


def _check_backlog(oldest_ms: int) -> Sequence[Finding]:
    if oldest_ms <= BACKLOG_MS:
        return []
    remedy = "Start `kefu run`, or find out what holds it up: Telegram keeps messages for 24 hours only."
    return [warning("delivery", f"the oldest unanswered message waits for {oldest_ms // 3_600_000} hours", remedy)]


def _check_orphans(count: int) -> Sequence[Finding]:
    """Nothing mends them: the platform never said which message they are. So they are told, and are no warning for ever."""
    words = f"{_many(count, 'placeholder')} may stand without words, left by kills and lost responses: `kefu outbox list --orphans`"
    return [ok("delivery", words)] if count else []


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _check_drift(database_ms: int, before: int, after: int) -> Sequence[Finding]:
    drift = max(before - database_ms, database_ms - after, 0)
    if drift > DRIFT_MS:
        return [warning("clock", f"this machine and the database differ by {drift / 1000:.1f} s", "Synchronise both with NTP.")]
    return []


def check_clock(year: int) -> Sequence[Finding]:
    """Tell whether the system's clock can be right."""
    if year not in SANE_YEARS:
        return [error("clock", f"the system says it is the year {year}", "Set the clock: ids, leases and certificates depend on it.")]
    return [ok("clock", f"the year is {year}")]


def check_model(settings: Settings) -> Sequence[Finding]:
    """Find the model and compute its hash again."""
    if settings.engine.kind in NO_FILES | {"remote"}:
        return [ok("model", f"the engine {settings.engine.kind} loads no model here")]
    files = cached_model(settings)
    if files is None:
        return [
            warning("model", f"{settings.model.reference} is not here yet", "The first start fetches it; `kefu models pull` does it now.")
        ]
    if file_sha256(files.path) != files.sha256:
        is_own = parse_reference(settings.model.reference).kind == "path"
        remedy = (
            f"Bring {files.path} back from where it came from." if is_own else f"Delete {files.path.parent} and run `kefu models pull`."
        )
        return [error("model", f"{files.path} was changed since it was verified", remedy)]
    return [ok("model", f"{files.reference}, sha256 {files.sha256[:16]}… verified, {files.path.stat().st_size / 1e6:.0f} MB")]


def check_engine(settings: Settings) -> Sequence[Finding]:
    """Tell whether the engine's library is installed."""
    if settings.engine.kind in {"auto", "llamacpp"} and importlib.util.find_spec("xllamacpp") is None:
        return [error("engine", "xllamacpp is not installed", "Install Kefu again: pip install --force-reinstall kefu")]
    return [ok("engine", f"{settings.engine.kind} is installed; `kefu doctor --deep` starts it")]


def check_disk(settings: Settings) -> Sequence[Finding]:
    """Tell how much space is left where data and models lie."""
    return [_check_folder(folder) for folder in dict.fromkeys((settings.data_dir, settings.cache_dir))]


def _check_folder(folder: Path) -> Finding:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    message = f"{free / 1e9:.1f} GB free for {folder}"
    if free < EMPTY_BYTES:
        return error("disk", message, "Free some space: writes fail soon.")
    return warning("disk", message, "Free some space.") if free < LOW_BYTES else ok("disk", message)
