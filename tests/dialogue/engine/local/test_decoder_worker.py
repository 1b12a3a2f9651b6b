"""The thread of a decoder: memory that runs out, a device that fails, replies that nobody wants any more."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dialogue.config import EngineConfig
from dialogue.engine.base import (
    AdapterRef,
    FinishReason,
    GenerationEvent,
    GenerationFinished,
    GenerationRequest,
    SamplingParams,
    TextDelta,
)
from dialogue.engine.factory import local_spec
from dialogue.engine.local import decoder_worker
from dialogue.engine.local.decoder import DecoderEngine, build
from dialogue.engine.local.decoder_model import DecoderModel
from dialogue.engine.local.decoder_worker import DecoderWorker
from dialogue.engine.local.lora_layers import LoraLayers
from dialogue.engine.local.scheduler import Step
from dialogue.engine.local.token_sampling import Draw, choose_tokens
from dialogue.engine.local.uploads import ChosenTokens
from dialogue.engine.models import pull
from dialogue.errors import AdapterRejected, AdapterUnknown, DeadlineExceeded, EngineError, EngineUnavailable
from tests.dialogue.engine.adapter_folders import EVERY_PROJECTION, random_tensors, write_adapter
from tests.fakes.tiny_decoder import write_tiny_decoder
from tests.fakes.tiny_gguf import TinyModel, tiny_model
from tests.sizes import record_proof, size
from tests.waiting import until

GREEDY = SamplingParams(max_tokens=10, temperature=0, repetition_penalty=1, ignore_eos=True)
MODEL = tiny_model(seed=3)
WANT_OF_MEMORY = [torch.OutOfMemoryError("no memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
Compute = Callable[[DecoderModel, Step, ChosenTokens | None], torch.Tensor]
ComputeStep = Callable[[DecoderModel, Step], torch.Tensor]
Change = Callable[[ComputeStep, DecoderModel, Step], torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_decoder(MODEL, tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(params=["in turn", "overlapping"])
async def engine(folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncGenerator[DecoderEngine, None]:
    """An engine whose steps are launched after the last one's tokens are read, as on a CPU, or before, as on a GPU."""
    files = pull(str(folder), tmp_path)
    config = EngineConfig(cache_dir=tmp_path, context_tokens=256, slots=4, cache_ram_mib=1, threads=1)
    made = build(local_spec(config, files).arguments)
    await made.start()
    worker_of(made)._overlaps = request.param == "overlapping"
    yield made
    await made.close()


def worker_of(engine: DecoderEngine) -> DecoderWorker:
    """Return the engine's thread."""
    assert engine._worker is not None
    return engine._worker


def asking(number: int, **changes: Any) -> GenerationRequest:
    prompt = tuple(1 + (number * 31 + 7 * place) % 250 for place in range(5 + 20 * (number % 4)))
    return GenerationRequest(str(number), prompt, replace(GREEDY, **changes), deadline_s=60)


async def answer(engine: DecoderEngine, asked: GenerationRequest) -> str:
    """Return the whole reply; it must come to its end."""
    events = [event async for event in engine.generate(asked)]
    assert isinstance(events[-1], GenerationFinished)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def answers(engine: DecoderEngine, count: int = 6) -> list[str]:
    return await asyncio.gather(*(answer(engine, asking(number, temperature=number % 2, seed=number)) for number in range(count)))


@contextmanager
def computing(monkeypatch: pytest.MonkeyPatch, change: Change) -> Iterator[None]:
    """Let steps be computed by `change`, which is handed the real thing."""
    with monkeypatch.context() as patched:
        patched.setattr(DecoderModel, "compute", partial_method(change, DecoderModel.compute))
        yield


def partial_method(change: Change, real: Compute) -> Compute:
    return lambda model, step, before: change(lambda one, other: real(one, other, before), model, step)


@pytest.mark.parametrize("error", WANT_OF_MEMORY)
async def test_want_of_memory_changes_no_reply(engine: DecoderEngine, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """When big steps find no memory, smaller ones are made: every request is answered, and as it would have been."""
    undisturbed = await answers(engine)
    failures = 0

    def scarce(real: ComputeStep, model: DecoderModel, step: Step) -> torch.Tensor:
        nonlocal failures
        if step.token_count > 2:
            failures += 1
            raise error
        return real(model, step)

    with computing(monkeypatch, scarce):
        assert await answers(engine) == undisturbed
    assert failures
    assert engine.health().ready


async def test_a_request_that_never_fits_is_given_up(engine: DecoderEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When not even one token finds memory, the request ends with a sentence, and the engine lives on."""

    def never(real: ComputeStep, model: DecoderModel, step: Step) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory")

    with computing(monkeypatch, never), pytest.raises(EngineUnavailable, match="no memory"):
        await answer(engine, asking(0))
    assert await answer(engine, asking(0))


async def test_an_error_in_a_step_ends_its_requests_alone(engine: DecoderEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step cannot compute ends the requests in it with EngineUnavailable; the next ones are answered."""
    undisturbed = await answer(engine, asking(1))

    def broken(real: ComputeStep, model: DecoderModel, step: Step) -> torch.Tensor:
        raise ValueError("a bug")

    with computing(monkeypatch, broken), pytest.raises(EngineUnavailable, match="a bug"):
        await answer(engine, asking(1))
    assert await answer(engine, asking(1)) == undisturbed


async def test_an_error_of_the_device_is_the_end(engine: DecoderEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error of the device everybody is told, nothing is computed any more and the engine is not ready; a child ends there."""
    seen: list[Exception] = []
    monkeypatch.setattr(worker_of(engine), "_on_fatal", seen.append)

    def failed(real: ComputeStep, model: DecoderModel, step: Step) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with computing(monkeypatch, failed):
        results = await asyncio.gather(*(answer(engine, asking(number)) for number in range(6)), return_exceptions=True)
    assert all(isinstance(result, EngineUnavailable) for result in results)
    assert [type(error) for error in seen] == [torch.AcceleratorError]
    assert not engine.health().ready
    with pytest.raises(EngineUnavailable):
        await answer(engine, asking(0))


async def test_cancelled_requests_leave_no_slot_behind(engine: DecoderEngine) -> None:
    """Requests that are cancelled at any moment, waiting or running, leave nothing that runs, waits or is held."""
    count = size("decoder_cancels", small=60, proof=1000)
    for number in range(0, count, 6):
        reading = [asyncio.create_task(answer(engine, asking(each))) for each in range(number, number + 6)]
        for patience, task in enumerate(reading):
            for _ in range(3 * patience):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    assert (engine.health().running, engine.health().waiting) == (0, 0)
    assert not any(slot.busy for slot in worker_of(engine)._scheduler.table.slots)
    assert await answer(engine, asking(0))
    record_proof("decoder_cancels", seed=0, size=count, result="no slot left behind")


async def test_a_deadline_while_waiting(engine: DecoderEngine) -> None:
    """A request whose deadline passes before it gets a slot raises DeadlineExceeded; those that run are not touched."""
    running = [engine.generate(asking(number, max_tokens=60)) for number in range(4)]
    for stream in running:
        await anext(stream)
    with pytest.raises(DeadlineExceeded):
        await answer(engine, replace(asking(9), deadline_s=0.0))
    for stream in running:
        async with aclosing(stream):
            last: GenerationEvent | None = None
            async for event in stream:
                last = event
            assert isinstance(last, GenerationFinished)
            assert last.reason == FinishReason.LENGTH


async def test_tokens_that_the_model_does_not_know_are_refused(engine: DecoderEngine) -> None:
    """An id beyond the vocabulary, or no id at all, is refused before it reaches the model."""
    for prompt in ((), (1, 256), (-1,)):
        with pytest.raises(EngineError):
            await answer(engine, replace(asking(0), prompt=prompt))


def adapter_folder(model: TinyModel, folder: Path, sha256: str, seed: int) -> str:
    facts = model.facts(sha256)
    tensors = random_tensors(facts, EVERY_PROJECTION, 4, seed=seed)
    return str(write_adapter(folder / f"adapter-{seed}", facts, targets=EVERY_PROJECTION, rank=4, tensors=tensors))


async def test_a_request_keeps_the_adapter_that_it_began_with(engine: DecoderEngine, tmp_path: Path) -> None:
    """While adapters are loaded, replaced under the same name and taken away, a running request says what it says undisturbed."""
    sha256 = (await engine.start()).model_sha256
    first, second = (AdapterRef("release", adapter_folder(MODEL, tmp_path, sha256, seed)) for seed in (1, 2))
    asked = replace(asking(3, max_tokens=40), adapter="release")
    await engine.set_adapters([second])
    by_second = await answer(engine, asked)
    await engine.set_adapters([first])
    by_first = await answer(engine, asked)
    stream = engine.generate(asked)
    texts = [await anext(stream)]
    changes: list[list[AdapterRef]] = [[second], [second, replace(first, name="canary")], []]
    for refs in changes:
        await engine.set_adapters(refs)
        if refs:
            assert await answer(engine, asked) == by_second
    texts += [event async for event in stream]
    assert "".join(event.text for event in texts if isinstance(event, TextDelta)) == by_first != by_second
    with pytest.raises(AdapterUnknown):
        await answer(engine, asked)


@pytest.mark.parametrize("error", WANT_OF_MEMORY)
async def test_without_memory_for_a_copy_nothing_is_merged(
    engine: DecoderEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """When a merged copy of the layers finds no memory, the adapter is applied without one; when not even that, it is rejected."""
    sha256 = (await engine.start()).model_sha256
    ref = AdapterRef("release", adapter_folder(MODEL, tmp_path, sha256, 1))
    asked = replace(asking(3), adapter="release")
    await engine.set_adapters([ref])
    merged = await answer(engine, asked)
    await engine.set_adapters([])

    def no_memory(*_: object) -> None:
        raise error

    monkeypatch.setattr(LoraLayers, "_merge", no_memory)
    await engine.set_adapters([ref])
    assert await answer(engine, asked) == merged
    monkeypatch.setattr(LoraLayers, "prepare", no_memory)
    with pytest.raises(AdapterRejected, match="no memory"):
        await engine.set_adapters([])
    assert await answer(engine, asked) == merged


async def test_adapters_that_fail_leave_the_old_ones(engine: DecoderEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong while other adapters are prepared, requests find those that were there."""
    sha256 = (await engine.start()).model_sha256
    ref = AdapterRef("release", adapter_folder(MODEL, tmp_path, sha256, 1))
    await engine.set_adapters([ref])
    asked = replace(asking(3), adapter="release")
    before = await answer(engine, asked)

    def fails(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(LoraLayers, "prepare", fails)
    with pytest.raises(ValueError, match="a bug"):
        await engine.set_adapters([])
    assert await answer(engine, asked) == before


async def test_want_of_memory_after_the_draw_changes_no_reply(engine: DecoderEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When memory runs out while tokens are chosen, the step is computed again with the same random numbers."""
    undisturbed = await answers(engine)
    calls = itertools.count()

    def scarce(logits: torch.Tensor, draws: Sequence[Draw], before: torch.Tensor | None) -> torch.Tensor:
        if next(calls) in {1, 4}:
            raise MemoryError
        return choose_tokens(logits, draws, before)

    monkeypatch.setattr(decoder_worker, "choose_tokens", scarce)
    assert await answers(engine) == undisturbed


async def test_overlapping_steps_change_no_reply(engine: DecoderEngine) -> None:
    """Launched before or after the last tokens are read, with penalties, stop strings and seeds: the replies are the same."""

    async def varied() -> list[str]:
        kinds = [{"repetition_penalty": 1.3}, {"temperature": 0.8, "repetition_penalty": 1.2}, {"stop": ("e",)}, {"max_tokens": 1}, {}]
        return await asyncio.gather(*(answer(engine, asking(number, seed=number, **kinds[number % 5])) for number in range(15)))

    here = await varied()
    worker_of(engine)._overlaps = not worker_of(engine)._overlaps
    assert await varied() == here


async def test_figures_for_the_operator(engine: DecoderEngine) -> None:
    """Health tells batch, speed, hit rate and memory."""
    await answers(engine)
    await answers(engine)
    figures = engine.health().figures
    assert figures["batch"] == 0
    assert figures["tokens_per_second"] > 0
    assert 0.4 < figures["cache_hit_rate"] < 1
    assert figures["kv_bytes"] > 0


async def test_a_thread_that_ends_tells_everybody(engine: DecoderEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the scheduler itself fails, nobody waits for ever, and the engine is not ready."""

    def fails() -> Step:
        raise LookupError("a bug")

    monkeypatch.setattr(worker_of(engine), "_on_fatal", None)  # a child would end here
    monkeypatch.setattr(worker_of(engine)._scheduler, "plan", fails)
    with pytest.raises(EngineUnavailable, match="a bug"):
        await answer(engine, asking(0))
    await until(lambda: not engine.health().ready)


async def test_an_adapter_that_is_rejected_at_the_start(folder: Path, tmp_path: Path) -> None:
    """The start fails with it; without it the same engine starts."""
    config = EngineConfig(cache_dir=tmp_path, context_tokens=256, slots=1, cache_ram_mib=1, threads=1)
    engine = build(local_spec(config, pull(str(folder), tmp_path)).arguments)
    await engine.set_adapters([AdapterRef("bad", str(tmp_path / "nothing"))])
    with pytest.raises(AdapterRejected, match="adapter bad"):
        await engine.start()
    assert not engine.health().ready
    await engine.set_adapters([])
    await engine.start()
    assert await answer(engine, asking(0))
    await engine.close()
