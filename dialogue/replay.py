"""A turn once more: what its answer was made of, in words, and the same request to an engine again."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Final

from dialogue.document import TurnDocument, decode
from dialogue.engine.base import Engine, GenerationEvent, GenerationRequest
from dialogue.prompt import Section
from storage.ids import new_id

DEADLINE_S: Final = 600.0  # nobody waits in a chat for a replay


def load(data: bytes) -> TurnDocument:
    """Return the stored document of a turn. Raises DocumentInvalid."""
    return decode(data)


def describe(document: TurnDocument, to_text: Callable[[Sequence[int]], str] | None = None) -> tuple[Section, ...]:
    """Return the parts of a document as text, in the order of the prompt. `to_text` also shows the prompt as the model saw it."""
    made_by = {
        "turn": document.turn_id,
        "skill": document.skill,
        "engine": document.engine,
        "model": document.model,
        "adapter": document.adapter or "none",
        **{f"{name} sha256": value for name, value in asdict(document.hashes).items() if value},
    }
    parts = [Section("made by", _lines(made_by)), Section("sampling", _lines(asdict(document.sampling)))]
    parts += [Section(f"prompt: {section.name}", section.text) for section in document.sections]
    parts += [Section(f"passage: {passage.source}", passage.text) for passage in document.passages]
    if to_text is not None:
        parts.append(Section("prompt as the model saw it", to_text(document.prompt)))
    parts.append(Section("prompt ids", " ".join(map(str, document.prompt))))
    parts.append(Section("timings", _lines({**asdict(document.timings), "attempts": document.attempts, "ended by": document.reason})))
    return tuple(parts)


def _lines(values: Mapping[str, object]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in values.items())


async def regenerate(document: TurnDocument, engine: Engine) -> AsyncGenerator[GenerationEvent, None]:
    """Send the same prompt, sampling, seed and adapter to `engine` and stream what comes. Raises EngineError.

    The same text comes only from the same files on the same kind of hardware, and where other requests in the batch do
    not change the arithmetic: what is promised is the same request.
    """
    request = GenerationRequest(
        request_id=f"replay-{new_id()}",  # a new one: a replay is not a retry of the turn
        prompt=document.prompt,
        sampling=document.sampling,
        adapter=document.adapter,
        deadline_s=DEADLINE_S,
        decoder_prompt=document.decoder_prompt,
    )
    async with aclosing(engine.generate(request)) as events:
        async for event in events:
            yield event
