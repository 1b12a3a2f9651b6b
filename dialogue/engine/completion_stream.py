"""What a streamed completion says, as engine events. Pure: parsed JSON in, events out."""

import json
from dataclasses import dataclass, field
from typing import Any

from dialogue.engine.base import FinishReason, GenerationFinished, TextDelta
from dialogue.engine.stops import StopFilter

REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
HALF_CHARACTER = "\ufffd"  # what a server shows for a character that was cut off


class StreamBroken(Exception):
    """The stream tells of an error, or says something that is no completion."""

    def __init__(self, words: str, status: int = 500) -> None:
        super().__init__(words)
        self.status = status  # as an HTTP status


@dataclass(slots=True)
class CompletionStream:
    """Collects the chunks of one completion. When a stop string is met, `ended` is set: the server need not go on."""

    prompt_tokens: int  # as sent; the server's own count replaces it
    stops: StopFilter  # servers swallow the beginning of a stop string that is not completed, or do not
    reason: FinishReason | None = None
    ended: bool = False  # [DONE] was seen
    chunks: int = 0  # with a choice in them: about a token each
    _usage: dict[str, Any] = field(default_factory=dict)
    _timings: dict[str, Any] = field(default_factory=dict)
    _held: str = ""  # replacement characters that may turn out to be the broken end

    def feed(self, data: str) -> TextDelta | None:
        """Take the data of one server-sent event; return the text in it, if there is some. Raises StreamBroken."""
        if data.strip() == "[DONE]":
            self.ended = True
            return None
        try:
            chunk = json.loads(data)
        except ValueError:
            raise StreamBroken("sent a chunk that is no JSON") from None
        if not isinstance(chunk, dict) or not isinstance(chunk.get("choices", []), list):
            raise StreamBroken("sent a chunk that is no completion")
        if error := chunk.get("error"):
            raise _told(error)
        self._usage = _object(chunk.get("usage")) or self._usage
        self._timings = _object(chunk.get("timings")) or self._timings
        choices = chunk.get("choices")
        return self._take(choices[0]) if choices else None

    def _take(self, choice: Any) -> TextDelta | None:
        if not isinstance(choice, dict) or not isinstance(choice.get("text", ""), str):
            raise StreamBroken("sent a chunk that is no completion")
        if (reason := choice.get("finish_reason")) is not None:
            if reason not in REASONS:
                raise StreamBroken(f"ended the generation itself ({str(reason)[:40]!a})")
            self.reason = REASONS[reason]
        self.chunks += 1
        text = self._held + choice.get("text", "")
        whole = text.rstrip(HALF_CHARACTER)
        self._held = text[len(whole) :]
        shown = self.stops.push(whole)
        if self.stops.stopped:
            self.reason, self.ended = FinishReason.STOP, True
        return TextDelta(shown) if shown else None

    def rest(self) -> TextDelta | None:
        """Return what was held back in vain, after the last chunk."""
        shown = self.stops.flush()
        return TextDelta(shown) if shown else None

    def finished(self, first_ms: float, total_ms: float) -> GenerationFinished:
        """Return the last event; the times are the client's, used where the server does not tell its own. Needs `reason`."""
        assert self.reason is not None  # noqa: S101 - the caller has looked
        details = _object(self._usage.get("prompt_tokens_details"))
        prompt_tokens = int(_number(self._usage.get("prompt_tokens"), self.prompt_tokens))
        return GenerationFinished(
            self.reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=int(_number(self._usage.get("completion_tokens"), _number(self._timings.get("predicted_n"), self.chunks))),
            cached_tokens=min(prompt_tokens, int(_number(details.get("cached_tokens"), _number(self._timings.get("cache_n"), 0)))),
            prompt_ms=_number(self._timings.get("prompt_ms"), first_ms),
            generation_ms=_number(self._timings.get("predicted_ms"), total_ms - first_ms),
        )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any, otherwise: float) -> float:
    """Return a count or a time that a server told, if it is one."""
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else otherwise


def _told(error: Any) -> StreamBroken:
    """Return what an error object in a stream tells."""
    told = error if isinstance(error, dict) else {"message": error}
    code = told.get("code")
    return StreamBroken(str(told.get("message", "error")), code if isinstance(code, int) and 400 <= code < 600 else 500)
