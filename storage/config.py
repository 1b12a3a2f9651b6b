"""Frozen settings of the storage. Made by `bot.settings`, passed down as values."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """How the database is opened."""

    url: str = field(
        repr=False
    )  # may hold a password; sqlite:///path or postgresql://user:password@host/name; the async driver is chosen here, not by the user
    lease_s: float = 30.0  # a worker that is silent this long has lost its conversation
    max_attempts: int = 30  # an inbox item handed out this often without an answer is quarantined; a killed process counts, hence not 3
    document_days: int = 30  # how long the prompt of a turn is kept for `kefu replay`
    group_limit: int = 128  # most units of work that share one SQLite COMMIT
    pool_size: int = 5  # connections to PostgreSQL; readers of SQLite
