"""Recorded steps say what ordinary ones say. Where a GPU would replay, a stand-in computes the same again from the same places."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from dialogue.engine.local.decode_graphs import SIZES, Recording
from dialogue.engine.local.decoder_trial import settle_attention
from dialogue.engine.local.kv_store import SPARE_PLACES
from dialogue.engine.local.lora_layers import LoadedAdapter
from dialogue.engine.local.scheduler import Bounds, Sequence
from dialogue.engine.local.span_attention import over_spans
from dialogue.engine.local.varlen_attention import OverSlots
from tests.dialogue.engine.local.adapter_scene import facts_of, made
from tests.dialogue.engine.local.decoder_scene import Bench, documented_varlen, prompt_of, tiny_weights

PROMPTS = [prompt_of(length) for length in (9, 21, 30)]


class Recorder:
    """Counts what is recorded and replayed."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, compute: Callable[[], torch.Tensor]) -> Recording:
        self.recorded += 1
        logits = compute()

        def replay() -> None:
            self.replayed += 1
            logits.copy_(compute())

        return Recording(replay, logits)


def recording(weights: Any, record: Callable[[Callable[[], torch.Tensor]], Recording], **terms: Any) -> Bench:
    """Return a bench whose steps are recorded."""
    bench = Bench(weights, attention_over=OverSlots(documented_varlen), **terms)
    bench.model.use_graphs(record)
    return bench


def sequences(owners: tuple[int, ...] = (0, 0, 0)) -> list[Sequence]:
    return [Sequence(list(prompt), adapter=owner) for prompt, owner in zip(PROMPTS, owners, strict=True)]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma", "gemma3"])
def test_recorded_steps_change_no_reply(family: str) -> None:
    """Three requests in a step that was recorded for four get the replies that they get otherwise; each size is recorded once."""
    weights, recorder = tiny_weights(family), Recorder()
    wanted = Bench(weights).run(*sequences())
    assert recording(weights, recorder).run(*sequences()) == wanted
    assert recorder.recorded <= 3 < recorder.replayed


def test_rows_that_fill_up_touch_nobody_s_place() -> None:
    """What lies in no slot that was used stays as it was, and no size leaves more rows to fill up than there are spare places."""
    bench = recording(tiny_weights(), Recorder())
    for tensor in (*bench.model.store.keys, *bench.model.store.values):
        tensor.fill_(7.0)
    bench.run(*sequences())
    used = {place for slot in bench.scheduler.table.slots for place in range(slot.start, slot.start + slot.size)}
    others = sorted(set(range(bench.model.store.places)) - used)
    assert all((tensor[others] == 7.0).all() for tensor in (*bench.model.store.keys, *bench.model.store.values))
    assert all(after - before <= SPARE_PLACES for before, after in pairwise(SIZES))


@pytest.fixture(scope="module")
def weights() -> Any:
    return tiny_weights()


def test_more_requests_than_spare_places(weights: Any) -> None:
    """The sizes beyond the number of spare places are recorded and filled up like the small ones."""
    prompts, recorder = [prompt_of(2 + number % 5) for number in range(SPARE_PLACES + 3)], Recorder()

    def replies(bench: Bench) -> list[list[int]]:
        return bench.run(*(Sequence(list(prompt)) for prompt in prompts), count=4)

    terms = {"places": 12 * len(prompts), "bounds": Bounds(tokens=400, sequences=len(prompts))}
    wanted = replies(Bench(weights, **terms))
    assert replies(recording(weights, recorder, **terms)) == wanted
    assert recorder.replayed


def test_a_single_token_of_a_prompt_goes_the_ordinary_way(weights: Any) -> None:
    """Where there is room for one token of a prompt beside those who generate, nobody gets the token of another one."""
    prompts, count, recorder = [prompt_of(30)[first:] for first in range(5)], 60, Recorder()

    def begun() -> list[Sequence]:
        return [Sequence(list(prompt)) for prompt in prompts]

    bench = recording(weights, recorder, bounds=Bounds(tokens=4, sequences=4))
    assert bench.run(*begun(), count=count) == Bench(weights).run(*begun(), count=count)
    # The fifth request has read its prompt in the slot of the first one, before those who generated.
    fifth = [step.chunks[0] for step in bench.steps if step.token_count == len(step.chunks) == 4]
    assert any(chunk.start + chunk.count < len(chunk.sequence.tokens) - count for chunk in fifth)
    assert recorder.replayed


@pytest.fixture(scope="module")
def adapters(weights: Any, tmp_path_factory: pytest.TempPathFactory) -> list[LoadedAdapter]:
    facts = facts_of(weights)
    return [made(tmp_path_factory.mktemp("adapter"), facts, number) for number in (1, 2, 3)]


def adapted(bench: Bench, adapters: list[LoadedAdapter], owners: tuple[int, ...]) -> list[list[int]]:
    """Return the replies with the first adapter merged and the others beside it."""
    bench.model.install(bench.model.lora.prepare(adapters[0], adapters[1:]))
    return bench.run(*sequences(owners))


@pytest.mark.parametrize("owners", [(0, 0, 0), (1, 1, 1), (2, 3, 0), (1, 2, 0)], ids=["base", "merged", "beside", "mixed"])
def test_recorded_steps_with_adapters(weights: Any, adapters: list[LoadedAdapter], owners: tuple[int, ...]) -> None:
    """The merged adapter, several side by side, or none: as without recordings. A mix of merged and not is computed in the ordinary way."""
    recorder = Recorder()

    assert adapted(Bench(weights), adapters, owners) == adapted(recording(weights, recorder), adapters, owners)
    assert recorder.replayed


def test_other_adapters_are_recorded_anew(weights: Any, adapters: list[LoadedAdapter]) -> None:
    """After a change of adapters nobody hears the former one; what was recorded of the base model stays."""
    recorder = Recorder()
    bench = recording(weights, recorder)
    lora = bench.model.lora
    bench.model.install(lora.prepare(adapters[0], []))
    first = bench.run(*sequences((1, 1, 1)))
    assert first == bench.run(*sequences((1, 1, 1)))
    bench.run(*sequences())
    before = recorder.recorded
    bench.model.install(lora.prepare(adapters[1], []))
    again = bench.run(*sequences((2, 2, 2)))
    assert recorder.recorded > before
    before = recorder.recorded
    bench.run(*sequences())
    assert recorder.recorded == before
    plain = Bench(weights)
    plain.model.install(plain.model.lora.prepare(adapters[1], []))
    assert again == plain.run(*sequences((2, 2, 2))) != first


@pytest.mark.parametrize("owners", [(0, 0, 0), (1, 1, 1), (2, 3, 2)], ids=["base", "merged", "beside"])
def test_without_memory_for_a_recording(weights: Any, adapters: list[LoadedAdapter], owners: tuple[int, ...]) -> None:
    """A size that finds no memory, at its end, is computed in the ordinary way with its own adapters, and not tried at each step."""
    tries = []

    def scarce(compute: Callable[[], torch.Tensor]) -> Recording:
        tries.append(compute())
        raise torch.OutOfMemoryError("no memory")

    assert adapted(recording(weights, scarce), adapters, owners) == adapted(Bench(weights), adapters, owners)
    assert 1 <= len(tries) <= 3


def broken(compute: Callable[[], torch.Tensor]) -> Recording:
    """A device that records nothing."""
    raise RuntimeError("operation not permitted when stream is capturing")


def lying(compute: Callable[[], torch.Tensor]) -> Recording:
    """A device that replays nothing."""
    return Recording(lambda: None, compute())


@pytest.mark.parametrize("record", [broken, lying])
def test_recordings_that_do_not_work_are_not_used(weights: Any, record: Callable[[Callable[[], torch.Tensor]], Recording]) -> None:
    """A device that cannot record, or replays something else, is found out before the model is served; its attention stays."""
    model = recording(weights, record).model
    settle_attention(model)
    assert model.graphs is None
    assert model.attention_over is not over_spans


def test_recordings_that_work_are_kept(weights: Any) -> None:
    """The trial before a model is served goes through recorded steps, with rows that fill up."""
    recorder = Recorder()
    model = recording(weights, recorder).model
    settle_attention(model)
    assert model.graphs is not None
    assert recorder.replayed


def test_a_soft_cap_goes_without_recordings() -> None:
    """Attention that is computed request by request cannot be recorded: the trial finds that out."""
    model = recording(tiny_weights("gemma2"), Recorder()).model
    settle_attention(model)
    assert model.graphs is None
