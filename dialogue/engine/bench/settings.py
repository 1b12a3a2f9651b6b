"""What an arm's process is told at its start: plain values that cross the border as JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from dialogue.byte_chat import ByteTokenizer
from dialogue.config import EngineConfig
from dialogue.engine.base import AdapterRef
from dialogue.engine.bench.samples import Sample
from dialogue.engine.bench.workload import Conversation
from dialogue.engine.model_files import ModelFiles
from dialogue.engine.models import load_tokenizer


@dataclass(frozen=True, slots=True)
class ArmSettings:
    """One arm, and the same terms for all of them."""

    builder: str  # a key of child.BUILDERS
    engine: EngineConfig  # threads, slots, context; kind matters to the arms that are engines
    files: ModelFiles | None = None  # None = an engine that needs none; ids are bytes then
    adapters: tuple[AdapterRef, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)  # of this arm alone


class ByteCodec(ByteTokenizer):
    """Ids as bytes, for engines without a model."""

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:  # noqa: ARG002 - bytes alone have no special ones
        return bytes(token % 256 for token in ids).decode("utf-8", errors="replace")


def load_codec(files: ModelFiles | None) -> Any:
    """Return what turns text into ids and back: `encode` and `decode`. Raises ModelError."""
    return ByteCodec() if files is None else load_tokenizer(files)


SETTINGS = TypeAdapter(ArmSettings)
CONVERSATIONS = TypeAdapter(tuple[Conversation, ...])
SAMPLES = TypeAdapter(tuple[Sample, ...])
