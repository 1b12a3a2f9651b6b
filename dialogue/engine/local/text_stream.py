"""Token ids as they come ─► text that never ends inside a character."""

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]  # ids -> text; pieces of a character become U+FFFD or nothing

BROKEN = "\ufffd"


class TextStream:
    """Decodes one reply token by token.

    Each time a short window is decoded with and without its new tokens, and the difference is the new text: tokenizers treat
    the first token of a text in their own way, so single tokens cannot be decoded. The window begins at a token after which
    the text was whole.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._start = 0  # of the window
        self._read = 0  # tokens whose text was handed out

    def push(self, token: int) -> str:
        """Take one more token; return the text that is whole now."""
        self._ids.append(token)
        before, now = self._window()
        if len(now) <= len(before) or now.endswith(BROKEN):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def flush(self) -> str:
        """End of the reply: return what is whole of the rest."""
        before, now = self._window()
        return now[len(before) :].rstrip(BROKEN)

    def _window(self) -> tuple[str, str]:
        return self._decode(self._ids[self._start : self._read]), self._decode(self._ids[self._start :])
