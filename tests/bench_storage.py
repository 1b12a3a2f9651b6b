"""`make bench-storage`: `kefu bench storage` with the PostgreSQL server of the tests beside SQLite."""

import subprocess
import sys
from pathlib import Path

from tests.postgres_server import running_server


def main() -> int:
    """Start the server, run the bench with this program's arguments, return its exit code."""
    with running_server() as url:
        kefu = str(Path(sys.executable).with_name("kefu"))
        return subprocess.run([kefu, "bench", "storage", "--postgres-url", url, *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
