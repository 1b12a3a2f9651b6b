"""`make proof`: run every proof at its promised size and write what came out to docs/proofs.md.

A proof is a test that takes its size from `tests.sizes.size` and reports with `record_proof`; the files that do so are run.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from dialogue.engine.bench.machine import hardware

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "proofs.md"
PACKAGES = ("xllamacpp", "sqlalchemy", "aiosqlite", "psycopg", "hypothesis")


def main() -> int:
    """Run the suite with KEFU_PROOF=1 (arguments go to pytest), write docs/proofs.md; return pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "proofs.jsonl"
        log.touch()
        environment = os.environ | {"KEFU_PROOF": "1", "KEFU_PROOF_LOG": str(log)}
        command = [sys.executable, "-m", "pytest", "-o", "timeout=5400", *(sys.argv[1:] or proofs())]
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    if code == 0:
        earlier = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
        TARGET.write_text(report(lines, earlier), encoding="utf-8")
        print(f"wrote {TARGET.relative_to(ROOT)}: {len(lines)} proofs")
    return code


def proofs() -> list[str]:
    """Return the test files that report a proof."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file) for file in files if "record_proof(" in file.read_text(encoding="utf-8")]


def report(lines: list[dict[str, object]], earlier: str) -> str:
    """Return docs/proofs.md for the recorded lines; what was proved earlier and not run now keeps its row."""
    rows = _rows(earlier)
    for line in lines:
        rows[str(line["name"])] = f"| {line['name']} | {line['size']} | {line['seed']} | {line['result']} | {datetime.now(UTC):%Y-%m-%d} |"
    return "\n".join(
        [
            "# Proofs",
            "",
            "Written by `make proof`, which runs these tests at the sizes that were promised.",
            "The default suite runs the same tests smaller.",
            "",
            "- hardware: {cpu}, {cores} cores, {memory_gib} GiB, {system}".format(**hardware()),
            f"- versions: Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES),
            "",
            "| proof | size | seed | result | date |",
            "|---|---|---|---|---|",
            *(rows[name] for name in sorted(rows)),
            "",
        ]
    )


def _rows(text: str) -> dict[str, str]:
    """Return the table rows of an earlier report by the name of the proof."""
    matches = (re.match(r"\| ([^|]+) \|.*\d{4}-\d\d-\d\d \|$", line) for line in text.splitlines())
    return {match[1]: match[0] for match in matches if match}


if __name__ == "__main__":
    raise SystemExit(main())
