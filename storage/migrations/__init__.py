"""Alembic migrations: `env` is its entry, `versions` holds one file for each step. `storage.schema` runs them."""
