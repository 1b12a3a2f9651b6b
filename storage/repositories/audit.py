"""The audit log: append-only, each line holds the hash of the one before it."""

import hashlib
import json
from typing import Any

from sqlalchemy import Row, insert, select, text

from storage.models import audit
from storage.records import AuditRecord
from storage.repositories.base import Repository

_PAGE = 1000
_HASHED = ("at", "actor", "action", "subject", "detail", "previous_hash")
# Two writers must not chain to the same line. The number is this table's own, nothing else uses it.
_LOCK_CHAIN = text("SELECT pg_advisory_xact_lock(7236718201)")


def audit_record(row: Row[Any]) -> AuditRecord:
    """Return the frozen record of a row of `audit`."""
    return AuditRecord(row.id, row.at, row.actor, row.action, row.subject, row.detail, row.previous_hash, row.hash)


class AuditRepository(Repository):
    """Rows of `audit`. Nothing here changes or deletes a line."""

    async def append(self, actor: str, action: str, subject: str, detail: str) -> AuditRecord:
        """Write one line and return it."""
        if self._context.is_postgres:
            await self._run(_LOCK_CHAIN)
        previous = await self._scalar(select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)) or ""
        values = {
            "at": await self._now(),
            "actor": actor,
            "action": action,
            "subject": subject,
            "detail": detail,
            "previous_hash": previous,
        }
        statement = insert(audit).values(**values, hash=_line_hash(values)).returning(audit)
        return audit_record((await self._run(statement)).one())

    async def verify(self) -> int | None:
        """Return the id of the first line whose text or link does not fit its hash; None when all fit.

        It cannot see that the newest lines were cut off: compare the newest hash with a copy kept elsewhere for that.
        """
        await self._context.take_time()
        previous, last_id = "", 0
        while page := await self._page(last_id):
            for line in page:
                if line.previous_hash != previous or line.hash != _hash_of(line):
                    return line.id
                previous, last_id = line.hash, line.id
        return None

    async def list(self, limit: int = 50, before: int | None = None) -> tuple[AuditRecord, ...]:
        """Return the newest lines, newest first; with `before`, those with a smaller id."""
        statement = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(audit.c.id < before)
        return tuple(audit_record(row) for row in await self._all(statement))

    async def of(self, subject: str, action: str) -> tuple[AuditRecord, ...]:
        """Return the lines that say that this was done to this subject, oldest first."""
        rows = await self._all(select(audit).where(audit.c.subject == subject, audit.c.action == action).order_by(audit.c.id))
        return tuple(audit_record(row) for row in rows)

    async def _page(self, after: int) -> tuple[AuditRecord, ...]:
        rows = await self._all(select(audit).where(audit.c.id > after).order_by(audit.c.id).limit(_PAGE))
        return tuple(audit_record(row) for row in rows)


def _hash_of(line: AuditRecord) -> str:
    return _line_hash({name: getattr(line, name) for name in _HASHED})


def _line_hash(values: dict[str, Any]) -> str:
    line = json.dumps([values[name] for name in _HASHED], ensure_ascii=False)
    return hashlib.sha256(line.encode()).hexdigest()
