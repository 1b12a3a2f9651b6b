"""Work beside the thread that serves."""

import threading

import pytest

from dialogue.engine.local.passing_thread import in_passing_thread
from tests.waiting import until


async def test_the_thread_ends_with_its_work() -> None:
    """What the work returns or raises arrives, and the thread that did it is gone."""
    threads: list[threading.Thread] = []

    def work(number: int, *, fails: bool = False) -> int:
        threads.append(threading.current_thread())
        if fails:
            raise LookupError("no such model")
        return number + 1

    assert await in_passing_thread(work, 4) == 5
    with pytest.raises(LookupError, match="no such model"):
        await in_passing_thread(work, 4, fails=True)
    assert threading.current_thread() not in threads
    await until(lambda: not any(thread.is_alive() for thread in threads))
