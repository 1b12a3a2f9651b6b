"""Work with torch beside the thread that serves, without slowing it down afterwards.

Every thread that has computed with torch on a CPU keeps a team of OpenMP threads for as long as it lives. With more such threads
than cores, OpenMP lets all of them sleep at each barrier instead of waiting a moment: a step of the default model on two cores then takes
half as long again. asyncio's own threads live on, so what loads and merges models runs in one that ends.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_passing_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Return what `work` returns, from a thread that ends with it."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="passing")
    try:
        return await asyncio.wrap_future(thread.submit(work, *arguments, **named))
    finally:
        thread.shutdown(wait=False)
