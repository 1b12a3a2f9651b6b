"""What can go wrong in storage.

    StorageError
    ├── DatabaseUrlInvalid      configuration: the URL cannot be used (exit code 78)
    ├── DatabaseUnavailable     it cannot be reached or opened
    ├── DatabaseBusy            another process owns the SQLite file; names it (exit code 75)
    ├── SchemaMismatch          migrations are missing, or the schema is newer than this program
    ├── ClaimLost               the fence: another worker or a person took the conversation; nothing was written
    ├── NotFound                no such row for this owner
    └── BackupFailed            the backup or its integrity check failed; no file was replaced

Driver errors are translated once, in `storage.database`. Nobody else reads driver messages.
"""


class StorageError(Exception):
    """Base of all errors of this package. `str(error)` is a sentence for the operator."""


class DatabaseUrlInvalid(StorageError):
    """The database URL cannot be used."""


class DatabaseUnavailable(StorageError):
    """The database cannot be reached or opened."""


class DatabaseBusy(StorageError):
    """Another process owns the SQLite file."""


class SchemaMismatch(StorageError):
    """Migrations are missing, or the schema is newer than this program."""


class ClaimLost(StorageError):
    """Another worker or a person took the conversation. The whole unit was rolled back."""


class NotFound(StorageError):
    """There is no such row for this owner."""


class BackupFailed(StorageError):
    """The backup or its integrity check failed; no existing file was replaced."""
