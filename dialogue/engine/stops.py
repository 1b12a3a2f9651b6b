"""Stop strings over a stream of text: nothing of a stop string is ever shown, however the text is cut into pieces."""

from collections.abc import Sequence


class StopFilter:
    """Holds back the end of a text as long as it may turn out to begin a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped = False  # a stop string was met: everything after it is dropped

    def push(self, piece: str) -> str:
        """Take some more text; return what can be shown now."""
        if self.stopped:
            return ""
        text = self._held + piece
        cut = min((at for at in map(text.find, self._stops) if at >= 0), default=None)
        if cut is not None:
            self.stopped, self._held = True, ""
            return text[:cut]
        kept = self._possible_start(text)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def flush(self) -> str:
        """End of the text: return what was held back in vain."""
        rest, self._held = self._held, ""
        return rest

    def _possible_start(self, text: str) -> int:
        """Return the length of the longest end of `text` with which a stop string begins."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        return next((n for n in range(min(longest, len(text)), 0, -1) if any(stop.startswith(text[-n:]) for stop in self._stops)), 0)
