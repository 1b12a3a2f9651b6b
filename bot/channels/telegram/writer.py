"""Collects text and its formatting while a document is read from front to back."""

from bot.channels.telegram.clean import clean
from bot.channels.telegram.spans import RichText, Span, nestable


class Writer:
    """Text that grows at its end."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._spans: list[Span] = []
        self._open: list[tuple[str, int]] = []
        self.length = 0

    def write(self, text: str) -> None:
        text = clean(text)
        self._pieces.append(text)
        self.length += len(text)

    def begin(self, kind: str) -> None:
        self._open.append((kind, self.length))

    def end(self, kind: str) -> None:
        """End the innermost of a kind. It counts only if it was the outermost too: no kind nests in itself."""
        position = max(index for index, (name, _) in enumerate(self._open) if name == kind)
        _, start = self._open.pop(position)
        if all(name != kind for name, _ in self._open):
            self.mark(kind, start)

    def mark(self, kind: str, start: int, *, url: str = "", language: str = "") -> None:
        """Format what was written from `start` on."""
        if start < self.length:
            self._spans.append(Span(kind, start, self.length, url, language))

    def since(self, start: int) -> str:
        """Return what was written from `start` on."""
        pieces: list[str] = []
        length = self.length
        while length > start:
            pieces.append(self._pieces[-1 - len(pieces)])
            length -= len(pieces[-1])
        return "".join(reversed(pieces))

    def result(self) -> RichText:
        return RichText("".join(self._pieces), tuple(nestable(self._spans)))
