"""Frames between a hosted engine and its supervisor: four bytes of length, then JSON in UTF-8. Never pickle.

To the child:    start, generate, cancel, adapters, ping, close
To the parent:   ready | failed, begun, event, end, adapters, pong
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dialogue import errors
from dialogue.engine.base import (
    AdapterRef,
    FinishReason,
    GenerationEvent,
    GenerationFinished,
    GenerationRequest,
    QueuePosition,
    SamplingParams,
    TextDelta,
)

MAX_FRAME_BYTES = 8 << 20  # a prompt of a million ids fits

Frame = dict[str, Any]

_KNOWN_ERRORS: dict[str, type[errors.DialogueError]] = {
    kind.__name__: kind
    for kind in (
        errors.EngineUnavailable,
        errors.DeadlineExceeded,
        errors.RequestTooLong,
        errors.RequestPoisoned,
        errors.AdapterUnknown,
        errors.AdapterRejected,
    )
}


class WireError(Exception):
    """Bytes that are no frame, or a frame that cannot be made."""


def pack(frame: Frame) -> bytes:
    """Return the bytes of one frame. Raises WireError: too big, or text with half a character in it."""
    try:
        body = json.dumps(frame, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise WireError(f"not to be sent: {error}") from error
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return len(body).to_bytes(4, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """Return the next frame, or None when the other side is gone. Raises WireError."""
    try:
        length = int.from_bytes(await reader.readexactly(4), "big")
        if length > MAX_FRAME_BYTES:
            raise WireError(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
        frame = json.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except ValueError as error:
        raise WireError(f"not a frame: {error}") from error
    if not isinstance(frame, dict) or not isinstance(frame.get("op"), str):
        raise WireError("not a frame: no op")
    return frame


def plain(value: Any) -> Frame:
    """Return the fields of a dataclass, not copied (`asdict` would walk through every id of a prompt)."""
    return {item.name: getattr(value, item.name) for item in fields(value)}


def request_to_plain(request: GenerationRequest) -> Frame:
    return plain(request) | {"sampling": plain(request.sampling)}


def request_from_plain(value: Mapping[str, Any]) -> GenerationRequest:
    sampling: Frame = {**value["sampling"], "stop": tuple(value["sampling"]["stop"])}
    arguments: Frame = {
        **value,
        "prompt": tuple(value["prompt"]),
        "decoder_prompt": tuple(value["decoder_prompt"]),
        "sampling": SamplingParams(**sampling),
    }
    return GenerationRequest(**arguments)


def adapter_from_plain(value: Mapping[str, Any]) -> AdapterRef:
    return AdapterRef(**value)


def event_to_plain(event: GenerationEvent) -> Frame:
    match event:
        case TextDelta(text):
            return {"text": text}
        case QueuePosition(position):
            return {"position": position}
        case GenerationFinished():
            return {"finished": plain(event)}


def event_from_plain(value: Mapping[str, Any]) -> GenerationEvent:
    if "text" in value:
        return TextDelta(value["text"])
    if "position" in value:
        return QueuePosition(value["position"])
    return finished_from_plain(value["finished"])


def finished_from_plain(value: Mapping[str, Any]) -> GenerationFinished:
    arguments: Frame = {**value, "reason": FinishReason(value["reason"])}
    return GenerationFinished(**arguments)


def error_to_plain(error: BaseException) -> Frame:
    """Describe an error; one that is no DialogueError keeps its type's name in the words."""
    if isinstance(error, errors.EngineOverloaded):
        return {"kind": "EngineOverloaded", "message": str(error), "retry_after_s": error.retry_after_s}
    if type(error).__name__ in _KNOWN_ERRORS:
        return {"kind": type(error).__name__, "message": str(error)}
    return {"kind": "EngineUnavailable", "message": f"{type(error).__name__}: {error}"}


def error_from_plain(value: Mapping[str, Any]) -> errors.DialogueError:
    if value["kind"] == "EngineOverloaded":
        return errors.EngineOverloaded(value["message"], value["retry_after_s"])
    return _KNOWN_ERRORS.get(value["kind"], errors.EngineUnavailable)(value["message"])
