"""The document of a turn: what its answer was made of, kept so that it can be read and generated again.

Opaque to storage, which only keeps, erases and expires it: compressed JSON with the prompt's ids, its sections as text,
sampling, seed, hashes and timings.
"""

import json
import sys
import zlib
from array import array
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from dialogue.engine.base import SamplingParams
from dialogue.errors import DocumentInvalid
from dialogue.messages import ReplyTimings
from dialogue.prompt import Section
from dialogue.skills.base import Passage

VERSION: Final = 1
MAX_BYTES: Final = 8 << 20  # of the JSON; a million tokens with their text stay below
_ID_TYPE: Final = "I"  # four bytes


@dataclass(frozen=True, slots=True)
class Hashes:
    """Which files made the prompt and the answer; equal hashes mean that the same request can be made again. "" = unknown."""

    model: str = ""
    tokenizer: str = ""
    template: str = ""


@dataclass(frozen=True, slots=True)
class TurnDocument:
    """Everything about one generation."""

    turn_id: str
    skill: str
    prompt: tuple[int, ...]  # token ids; of the encoder, where there is one
    sampling: SamplingParams  # the seed included
    engine: str = ""
    model: str = ""
    adapter: str | None = None
    hashes: Hashes = Hashes()
    sections: tuple[Section, ...] = ()  # () also when there was no room for them
    passages: tuple[Passage, ...] = ()
    timings: ReplyTimings = field(default_factory=ReplyTimings)
    attempts: int = 1  # generations that were begun for this turn
    reason: str = ""  # why it ended: a FinishReason, "stopped" or the name of an error
    decoder_prompt: tuple[int, ...] = ()  # encoder–decoders only: ids that the reply began with
    version: int = field(default=VERSION)


def encode(document: TurnDocument, limit: int = MAX_BYTES) -> bytes:
    """Return the document as compressed bytes. Beyond `limit` bytes of JSON the texts are left out, and then everything: b""."""
    for version in (document, replace(document, sections=(), passages=())):
        plain = json.dumps(_plain(version), ensure_ascii=False).encode("utf-8", "replace")
        if len(plain) <= limit:
            return zlib.compress(plain)
    return b""


def decode(data: bytes, limit: int = MAX_BYTES) -> TurnDocument:
    """Return the document. Raises DocumentInvalid when it is none, is too big or comes from a newer version."""
    value = _read(data, limit)
    if value.get("version") != VERSION:
        raise DocumentInvalid(f"The document has version {value.get('version')!r}; this program reads version {VERSION}.")
    try:
        sampling = value["sampling"]
        return TurnDocument(
            **value
            | {
                "prompt": _unpack(value["prompt"]),
                "decoder_prompt": tuple(value.get("decoder_prompt", ())),  # older documents have none
                "sampling": SamplingParams(**sampling | {"stop": tuple(sampling["stop"])}),
                "hashes": Hashes(**value["hashes"]),
                "sections": tuple(Section(**section) for section in value["sections"]),
                "passages": tuple(Passage(**passage) for passage in value["passages"]),
                "timings": ReplyTimings(**value["timings"]),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DocumentInvalid(f"The document lacks something or holds too much: {error}") from error


def _read(data: bytes, limit: int) -> dict[str, Any]:
    if not data:
        raise DocumentInvalid("The document is gone: it was erased, has expired, or the turn had none.")
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(data, limit)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise DocumentInvalid(f"The document is broken, or has more than {limit} bytes.")
        value = json.loads(plain)
    except (zlib.error, ValueError) as error:
        raise DocumentInvalid(f"The document cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DocumentInvalid("The document cannot be read: it is no object.")
    return value


def _plain(document: TurnDocument) -> dict[str, Any]:
    # Field by field: `asdict` alone would copy every id of the prompt.
    return asdict(replace(document, prompt=())) | {"prompt": _pack(document.prompt)}


def _pack(ids: tuple[int, ...]) -> str:
    return b64encode(_little_endian(array(_ID_TYPE, ids)).tobytes()).decode("ascii")


def _unpack(text: str) -> tuple[int, ...]:
    ids = array(_ID_TYPE)
    ids.frombytes(b64decode(text, validate=True))
    return tuple(_little_endian(ids))


def _little_endian(ids: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        ids.byteswap()
    return ids
