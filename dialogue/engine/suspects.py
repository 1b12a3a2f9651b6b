"""Which request killed the engine? Pure bookkeeping over request ids.

At a death every request that ran is a suspect. A suspect runs alone when it is tried again: if the engine dies once
more, it was the one, and it is condemned; if it finishes, it is cleared. A request is therefore never condemned for what
another one did beside it. (A death from outside in the middle of such a lonely run is indistinguishable, and counts.)
"""

from collections import OrderedDict
from collections.abc import Iterable

FATAL_DEATHS = 2
REMEMBERED = 4096  # suspects that never came back are forgotten, the oldest first


class Suspects:
    """Deaths of the engine by the requests that ran."""

    def __init__(self) -> None:
        self._deaths: OrderedDict[str, int] = OrderedDict()

    def must_run_alone(self, request_id: str) -> bool:
        """Tell whether the engine once died while this request ran."""
        return request_id in self._deaths

    def is_condemned(self, request_id: str) -> bool:
        """Tell whether this request may never run again."""
        return self._deaths.get(request_id, 0) >= FATAL_DEATHS

    def died(self, running: Iterable[str]) -> None:
        """The engine died while these ran."""
        for request_id in running:
            self._deaths[request_id] = self._deaths.pop(request_id, 0) + 1
        while len(self._deaths) > REMEMBERED:
            self._deaths.popitem(last=False)

    def finished(self, request_id: str) -> None:
        """This request came to its end and the engine lives: it is innocent."""
        self._deaths.pop(request_id, None)
