"""`make bench-storage`: `kefu bench storage` with the PostgreSQL server of the tests, made durable, beside SQLite."""

import os
import subprocess
import sys
from pathlib import Path

from tests.postgres_server import running_server


def main() -> int:
    """Start the server, run the bench with this program's arguments, return its exit code."""
    with running_server(durable=True) as url:
        kefu = str(Path(sys.executable).with_name("kefu"))
        environment = os.environ | {"DATABASE_URL": url}
        return subprocess.run([kefu, "bench", "storage", *sys.argv[1:]], env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
