"""When the program ends: the first SIGINT or SIGTERM asks, the second one insists."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from bot.errors import ExitCode

log = structlog.get_logger(__name__)


class Stopping:
    """What everybody who waits for the end looks at."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.forced = asyncio.Event()
        self.code = ExitCode.OK

    def ask(self, code: ExitCode = ExitCode.OK) -> None:
        """Let running answers finish, then end with `code`. Asking again insists."""
        if self.asked.is_set():
            self.forced.set()
        else:
            self.code = code
        self.asked.set()

    @contextmanager
    def signals(self, on_interrupt: Callable[[], bool] | None = None) -> Iterator[None]:
        """Handle SIGINT and SIGTERM while the block runs. `on_interrupt` sees Ctrl-C first; True = it was meant for that."""
        loop = asyncio.get_running_loop()

        def interrupted() -> None:
            if on_interrupt is None or not on_interrupt():
                self._signalled("SIGINT", ExitCode.OK if on_interrupt is not None else ExitCode.INTERRUPTED)

        loop.add_signal_handler(signal.SIGINT, interrupted)
        loop.add_signal_handler(signal.SIGTERM, self._signalled, "SIGTERM", ExitCode.OK)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            loop.remove_signal_handler(signal.SIGTERM)

    def _signalled(self, name: str, code: ExitCode) -> None:
        log.info("app.signal", signal=name, insists=self.asked.is_set())
        self.ask(code)
