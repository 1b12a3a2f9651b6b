"""Runs `kefu` in a folder of its own, with nothing of this machine's settings."""

import contextlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import structlog

from bot.cli.main import run as run_program

KEFU = Path(sys.executable).with_name("kefu")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Program:
    """One installation: its own home, data and working folder."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "LD_LIBRARY_PATH"}}
        home = {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder / "config")}
        paths = {"KEFU_PATHS__DATA_DIR": str(self.data_dir), "KEFU_PATHS__CACHE_DIR": str(self.folder / "cache")}
        return {**kept, **home, **paths, "PYTHONUTF8": "1", "COLUMNS": "200", **self.variables}

    def call(self, *arguments: str, variables: Mapping[str, str] | None = None) -> Ended:
        """Run inside this process, which is quick; everything but the interpreter's own start and end is the real thing."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, {**self.environment, **(variables or {})}, clear=True),
            mock.patch("sys.stdin", io.StringIO()),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            kept_logging(),
        ):
            code = run_program(arguments)
        return Ended(code, stdout.getvalue(), stderr.getvalue())

    def spawn(self, *arguments: str, text: str = "", variables: Mapping[str, str] | None = None) -> Ended:
        """Run the installed program as a process of its own; `text` is its standard input."""
        ended = subprocess.run(
            [KEFU, *arguments],
            cwd=self.folder,
            env={**self.environment, **(variables or {})},
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)


def make_program(folder: Path, **variables: str) -> Program:
    """Return a fresh installation below `folder`."""
    place = folder / "place"
    place.mkdir()
    return Program(place, variables)


@contextlib.contextmanager
def kept_logging() -> Iterator[None]:
    """Put the logging of this process back afterwards."""
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    levels = {name: logging.getLogger(name).level for name in list(root.manager.loggerDict)}
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:], root.level = handlers, level
        for name, old in levels.items():
            logging.getLogger(name).setLevel(old)
        structlog.configure(**config)
