"""What `kefu doctor` finds, check by check."""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import pytest
from pydantic import SecretStr

from bot.cli import checks
from bot.cli.findings import Finding, Status, as_json, as_lines, error, guarded, has_errors, ok, warning
from bot.cli.telegram_check import check_telegram
from bot.redaction import Redactor
from bot.settings import LoadedSettings, Settings
from bot.settings_sections import EngineSection, ModelSection, PathsSection, StorageSection, TelegramSection
from dialogue.engine.models import pull
from storage import schema
from storage.lockfile import FileLock
from tests.fakes.tiny_gguf import tiny_model, write_tiny_gguf


def settings_in(folder: Path, **sections: object) -> Settings:
    return Settings(paths=PathsSection(data_dir=folder / "data", cache_dir=folder / "cache"), **sections)


def statuses(findings: Sequence[Finding]) -> list[str]:
    return [finding.status.value for finding in findings]


def test_a_new_installation_is_well(tmp_path: Path) -> None:
    """Before the first start nothing is an error: what is missing will be made."""
    settings = settings_in(tmp_path)
    assert statuses(checks.check_database(settings)) == ["ok"]
    assert checks.check_delivery(settings) == []
    assert not (tmp_path / "data").exists()


def test_the_database_is_looked_at(tmp_path: Path) -> None:
    """A migrated database is ok; one without tables, or of another version, is an error with its remedy."""
    settings = settings_in(tmp_path)
    schema.upgrade(settings.storage_config())
    assert checks.check_database(settings)[0].message.endswith(f"schema {schema.head()}")
    assert statuses(checks.check_delivery(settings)) == ["ok"]
    schema.downgrade(settings.storage_config(), "base")
    (finding,) = checks.check_database(settings)
    assert (finding.status, finding.remedy) == (Status.ERROR, "Run `kefu db upgrade`.")


def test_a_database_in_use_is_no_error(tmp_path: Path) -> None:
    """While another process owns the file, doctor says who it is."""
    settings = settings_in(tmp_path)
    schema.upgrade(settings.storage_config())
    lock = FileLock(tmp_path / "data" / "kefu.db", "kefu run")
    try:
        (finding,) = checks.check_database(settings)
    finally:
        lock.release()
    assert finding.status is Status.OK
    assert "(kefu run)" in finding.message


def test_an_unreachable_server_is_an_error(tmp_path: Path) -> None:
    """A PostgreSQL that does not answer is one error line, without the password."""
    settings = settings_in(tmp_path, storage=StorageSection(url=SecretStr("postgresql://u:geheimnis@127.0.0.1:1/x")))
    findings = guarded("database", lambda: checks.check_database(settings))
    assert statuses(findings) == ["error"]
    assert "geheimnis" not in f"{findings}"


def test_what_went_wrong_is_counted() -> None:
    """Messages that are unknown, refused or put aside each give a warning, and the command that shows them."""
    findings = delivery_findings(quarantined=2, outbox={"unknown": 1, "failed": 3, "ready": 9})
    assert [finding.message.partition(" ")[0] for finding in findings] == ["1", "3", "2"]
    assert statuses(findings) == ["warning"] * 3
    assert findings[0].message.startswith("1 message unknown")
    assert "`kefu outbox list --state unknown`" in findings[0].remedy
    assert "`kefu outbox list --state failed`" in findings[1].remedy


def test_orphans_are_told_and_are_no_warning() -> None:
    """Placeholders without words can be looked at, but nothing mends them: they do not make doctor complain for ever."""
    well, orphans = delivery_findings(orphans=4)
    assert (well.status, orphans.status) == (Status.OK, Status.OK)
    assert orphans.message.startswith("4 placeholders")
    assert "`kefu outbox list --orphans`" in orphans.message


@pytest.mark.parametrize(("hours", "status"), [(0, "ok"), (12, "ok"), (13, "warning")])
def test_a_long_backlog_is_noticed(hours: int, status: str) -> None:
    """Telegram keeps messages for 24 hours: half of that without an answer is a warning."""
    findings = delivery_findings(pending=1, oldest_pending_ms=hours * 3_600_000)
    assert statuses(findings) == [status]


def delivery_findings(**status: object) -> Sequence[Finding]:
    """Return what doctor says when the database says this."""
    quiet = {"now": 0, "pending": 0, "oldest_pending_ms": 0, "quarantined": 0, "outbox": dict[str, int](), "orphans": 0}
    with mock.patch("bot.cli.checks.operate", return_value=quiet | status), mock.patch("time.time_ns", return_value=0):
        return checks.check_delivery(Settings(storage=StorageSection(url=SecretStr("postgresql://u@h/x"))))


@pytest.mark.parametrize(("database_s", "count"), [(1000, 0), (1004, 0), (1010, 1), (980, 1)])
def test_clocks_that_differ_are_noticed(database_s: int, count: int) -> None:
    """A difference of more than five seconds between this machine and the database is a warning."""
    status = {"now": database_s * 1000, "pending": 0, "oldest_pending_ms": 0, "quarantined": 0, "outbox": dict[str, int](), "orphans": 0}
    with mock.patch("bot.cli.checks.operate", return_value=status), mock.patch("time.time_ns", return_value=1000 * 10**9):
        settings = Settings(storage=StorageSection(url=SecretStr("postgresql://u@h/x")))
        findings = checks.check_delivery(settings)
    assert len([finding for finding in findings if finding.check == "clock"]) == count


@pytest.mark.parametrize(("year", "status"), [(1970, "error"), (2026, "ok"), (2200, "error")])
def test_an_impossible_year_is_an_error(year: int, status: str) -> None:
    """A clock that was never set is noticed."""
    assert statuses(checks.check_clock(year)) == [status]


def test_the_model_is_verified(tmp_path: Path) -> None:
    """A missing model is a warning, a whole one is ok, a changed one an error, though its size and time are the same."""
    path = tmp_path / "tiny.gguf"
    settings = settings_in(tmp_path, model=ModelSection(reference=str(path)))
    assert statuses(checks.check_model(settings)) == ["warning"]
    write_tiny_gguf(tiny_model(), path)
    pull(str(path), settings.cache_dir)
    assert statuses(checks.check_model(settings)) == ["ok"]
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert statuses(checks.check_model(settings)) == ["error"]


@pytest.mark.parametrize(("free", "status"), [(50 << 20, "error"), (500 << 20, "warning"), (5 << 30, "ok")])
def test_little_space_is_noticed(tmp_path: Path, free: int, status: str) -> None:
    """Free space is looked up where the folders are, or will be."""
    with mock.patch("shutil.disk_usage", return_value=mock.Mock(free=free)):
        assert statuses(checks.check_disk(settings_in(tmp_path))) == [status, status]


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (None, "ok"),
        ("123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1", "ok"),
        ("AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1", "error"),
        ("123456789:AAHdq", "error"),
        ("123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1\n", "error"),
    ],
)
def test_the_shape_of_the_token(token: str | None, status: str) -> None:
    """A token that cannot be one is an error; no token is ever shown."""
    findings = check_telegram(Settings(telegram=TelegramSection(token=SecretStr(token) if token else None)))
    assert statuses(findings) == [status]
    assert not token or token not in f"{findings}"


@pytest.mark.parametrize(
    ("field", "url", "statuses_found"),
    [
        ("base_url", "https://bots.example.com", ["ok"]),
        ("base_url", "http://127.0.0.1:8081", ["ok"]),
        ("base_url", "http://localhost:8081", ["ok"]),
        ("base_url", "http://bots.example.com", ["ok", "warning"]),
        ("webhook_url", "https://bots.example.com/telegram", ["ok"]),
        ("webhook_url", "http://bots.example.com/telegram", ["ok", "warning"]),
    ],
)
def test_addresses_of_telegram_are_safe(field: str, url: str, statuses_found: list[str]) -> None:
    """The token does not cross a network in the clear, and Telegram is not asked to send to an address that it refuses."""
    section = TelegramSection.model_validate({"token": "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1", field: url})
    assert statuses(check_telegram(Settings(telegram=section))) == statuses_found


@pytest.mark.parametrize(
    ("name", "text", "mode", "count"),
    [
        ("kefu.toml", '[telegram]\ntoken = "1:geheim"\n', 0o644, 1),
        ("kefu.toml", '[telegram]\ntoken = "1:geheim"\n', 0o600, 0),
        ("kefu.toml", "[dialogue]\nhistory_tokens = 7\n", 0o644, 0),
        (".env", "TELEGRAM_BOT_TOKEN=1:geheim\n", 0o640, 1),
    ],
)
def test_an_exposed_secret_is_noticed(tmp_path: Path, name: str, text: str, mode: int, count: int) -> None:
    """A settings file that holds a secret and that others may read is a warning."""
    path = tmp_path / name
    path.write_text(text)
    path.chmod(mode)
    settings = Settings(telegram=TelegramSection(token=SecretStr("1:geheim")))
    assert statuses(checks.check_settings(LoadedSettings(settings, (path,), ()))) == ["ok", *["warning"] * count]


def test_a_missing_library_is_an_error() -> None:
    """Without its library the engine cannot start, and the check says how to get it."""
    with mock.patch("importlib.util.find_spec", return_value=None):
        assert statuses(checks.check_engine(Settings())) == ["error"]
        assert statuses(checks.check_engine(Settings(engine=EngineSection(kind="scripted")))) == ["ok"]


def test_a_broken_check_is_a_finding() -> None:
    """An exception in one check becomes an error line."""

    def broken() -> Sequence[Finding]:
        raise sqlite3.OperationalError("disk I/O error")

    assert statuses(guarded("database", broken)) == ["error"]


def test_the_report_is_for_people_and_for_machines() -> None:
    """People get a line for each finding, and a remedy below what is not ok; machines get JSON; nobody gets a secret."""
    findings = [ok("disk", "fine"), warning("model", "not here", "kefu models pull"), error("database", "geheimnis\x1b[2J", "mend it")]
    redact = Redactor(["geheimnis"])
    lines = list(as_lines(findings, redact))
    assert len(lines) == 5
    assert "\x1b[2J" not in "".join(lines)
    assert "geheimnis" not in f"{lines}{as_json(findings, redact)}"
    assert has_errors(findings)
    assert as_json(findings, redact)["ok"] is False
    assert [line["status"] for line in as_json(findings, redact)["findings"]] == ["ok", "warning", "error"]
