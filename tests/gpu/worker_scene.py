"""The engine's thread with a tiny or a random model, and people who ask it: no files, no tokenizer."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from dialogue.engine.base import GenerationFinished, GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.local.decoder_model import DecoderModel
from dialogue.engine.local.decoder_reply import DecoderReply
from dialogue.engine.local.decoder_worker import DecoderWorker
from dialogue.engine.local.kv_store import KvStore
from dialogue.engine.local.scheduler import Bounds, Scheduler
from dialogue.engine.local.slot_table import SlotTable

GREEDY: Final = SamplingParams(max_tokens=12, temperature=0, repetition_penalty=1, ignore_eos=True)


@contextmanager
def working(
    weights: Any, *, places: int = 4000, sequences: int = 16, tokens: int = 64, overlaps: bool = True, graphs: bool = True
) -> Iterator[DecoderWorker]:
    """Give a running worker over a model."""
    model = DecoderModel(weights, KvStore(weights, places), graphs=graphs)
    worker = DecoderWorker(model, Scheduler(SlotTable(places), Bounds(tokens, sequences)), overlaps=overlaps)
    worker.start()
    try:
        yield worker
    finally:
        worker.close()


def request(number: int, prompt: Sequence[int], **changes: Any) -> GenerationRequest:
    """Return a request for twelve tokens, greedy unless `changes` say otherwise."""
    return GenerationRequest(str(number), tuple(prompt), replace(GREEDY, seed=number, **changes), deadline_s=60)


def begin(worker: DecoderWorker, asked: GenerationRequest, adapter: int = 0) -> DecoderReply:
    """Hand a request to the worker. In an event loop."""
    reply = DecoderReply(asked, adapter, asked.sampling.max_tokens, frozenset({2}), text_of)
    worker.submit(reply)
    return reply


async def text(reply: DecoderReply) -> str:
    """Return what a reply says, to its end."""
    said = ""
    while not isinstance(event := await reply.next(), GenerationFinished):
        said += event.text if isinstance(event, TextDelta) else ""
    await asyncio.wait({reply.done})
    return said


def texts(worker: DecoderWorker, asked: Sequence[GenerationRequest]) -> list[str]:
    """Return all replies; the requests come at once."""

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(text(begin(worker, each)) for each in asked))

    return asyncio.run(all_of_them())


def text_of(tokens: Sequence[int]) -> str:
    """A stand-in for a tokenizer: a character for each token."""
    return "".join(chr(0x4E00 + token) for token in tokens)
