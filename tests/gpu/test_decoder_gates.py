"""What may never change what a decoder says, on a GPU: in float32 token by token, in bfloat16 within rounding."""

from typing import Any, Final

import pytest
import torch

from dialogue.engine.bench.gpu.arms import random_adapter
from dialogue.engine.local.decoder_model import DecoderModel
from dialogue.engine.local.decoder_trial import TOLERANCE, check_alike, settle_attention
from dialogue.engine.local.kv_store import KvStore
from dialogue.engine.local.lora_layers import LoadedAdapter, LoraWeights
from dialogue.engine.local.scheduler import Bounds, Sequence
from dialogue.engine.local.varlen_attention import OverSlots
from tests.dialogue.engine.local.decoder_scene import FAMILIES, Bench, alone_and_together, generated, prompt_of, tiny_weights

PROMPTS: Final = [prompt_of(length) for length in (1, 9, 21, 30)]
CAPPED: Final = "gemma2"  # its attention has a soft cap, which FlashAttention does not know
FLASH_HEAD: Final = 64  # size of a head; FlashAttention wants multiples of eight, and these are usual


def sequences(owners: tuple[int, ...] = (0, 0, 0, 0)) -> list[Sequence]:
    return [Sequence(list(prompt), adapter=owner) for prompt, owner in zip(PROMPTS, owners, strict=True)]


@pytest.fixture(scope="module", params=FAMILIES)
def weights(request: pytest.FixtureRequest, device: str) -> Any:
    """A tiny model of each family, float32."""
    return tiny_weights(request.param, device)


def test_greedy_is_what_transformers_generates(weights: Any) -> None:
    """In float32 the ids of several requests at once, read in pieces, are those of generate() one by one."""
    wanted = [generated(weights, prompt, 12) for prompt in PROMPTS]
    assert Bench(weights).run(*sequences()) == wanted


def test_a_batch_changes_no_reply(weights: Any) -> None:
    """Among others a request gets the reply that it gets alone."""
    alone, together = alone_and_together(weights, PROMPTS)
    assert together == alone


def test_the_cache_changes_no_reply(weights: Any) -> None:
    """A conversation that goes on with what is cached says what it says without."""
    bench = Bench(weights)
    [first] = bench.run(Sequence(list(PROMPTS[2]), key="a"))
    longer = [*PROMPTS[2], *first, 5, 6, 7]
    assert bench.run(going_on := Sequence(list(longer), key="a")) == Bench(weights).run(Sequence(list(longer)))
    assert going_on.cached


def test_an_interruption_changes_no_reply(weights: Any) -> None:
    """A step that was computed in vain leaves no trace."""
    wanted = Bench(weights).run(*sequences())
    bench = Bench(weights)
    assert bench.run(*sequences(), before=lambda number: bench.interrupt() if number in {1, 4} else None) == wanted


def adapters(weights: Any) -> list[LoadedAdapter]:
    """Two random adapters on all linear parts, strong enough to change what is said."""
    model = Bench(weights).model
    return [random_adapter(model, number, rank=rank, strength=1.0) for number, rank in ((1, 4), (2, 8))]


def test_mixed_adapters_say_what_each_says_alone(weights: Any) -> None:
    """In one batch the base model and two adapters, one of them merged or none, say what each says alone, merged or not."""
    one, two = adapters(weights)

    def replies(merged: LoadedAdapter | None, others: list[LoadedAdapter], owners: tuple[int, ...]) -> list[list[int]]:
        bench = Bench(weights)
        bench.model.install(bench.model.lora.prepare(merged, others))
        return bench.run(*sequences(owners))

    alone = {owner: replies(None, [one, two], (owner,) * 4) for owner in (0, 1, 2)}
    assert replies(one, [], (1, 1, 1, 1)) == alone[1] != alone[0]
    for merged, others in ((None, [one, two]), (one, [two])):
        assert replies(merged, others, (0, 1, 2, 1)) == [alone[owner][place] for place, owner in enumerate((0, 1, 2, 1))]


@pytest.fixture(params=[family for family in FAMILIES if family != CAPPED])
def half(request: pytest.FixtureRequest, cuda: str) -> Any:
    """A small model in bfloat16, with heads as FlashAttention likes them."""
    return tiny_weights(request.param, cuda, torch.bfloat16, head_dim=FLASH_HEAD)


def test_flash_attention_and_recorded_steps_are_used(half: Any) -> None:
    """In bfloat16 a model is served with the fast ways; what is said over slots is what the model says by itself."""
    model = DecoderModel(half, KvStore(half, 400))
    settle_attention(model)
    assert isinstance(model.attention_over, OverSlots)
    assert model.graphs is not None
    check_alike(model)


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("adapted", ["base", "merged", "beside"])
def test_recorded_steps_say_what_ordinary_ones_say(half: Any, count: int, adapted: str) -> None:
    """The logits of a replayed step are those of the same step without recordings, within rounding, whoever adapts it."""
    one, two = adapters(half)
    owners = {"base": (0, 0, 0, 0), "merged": (1, 1, 1, 1), "beside": (1, 2, 0, 2)}[adapted][:count]
    logits = []
    for graphs in (True, False):
        bench = Bench(half, graphs=graphs)
        lora = bench.model.lora
        bench.model.install({"base": LoraWeights(), "merged": lora.prepare(one, []), "beside": lora.prepare(None, [one, two])}[adapted])
        logits.append(decoded(bench, owners))
        assert (bench.model.graphs is not None) == graphs
    difference = max(float((recorded - plain).abs().max() / plain.std()) for recorded, plain in zip(*logits, strict=True))
    assert difference < TOLERANCE[torch.bfloat16]


def decoded(bench: Bench, owners: tuple[int, ...]) -> list[torch.Tensor]:
    """Read a prompt for each owner at once, then feed all of them the same six tokens; return the logits of those steps."""
    bench.scheduler.bounds = Bounds(tokens=64, sequences=8)
    running = [Sequence([3 + number, *prompt_of(9)[1:]], adapter=owner, room=20) for number, owner in enumerate(owners)]
    for sequence in running:
        bench.scheduler.submit(sequence)
    found: list[torch.Tensor] = []
    while len(found) < 7:
        step = bench.scheduler.plan()
        assert len(step.chunks) == len(running)
        bench.model.copy(step)
        found.append(bench.model.compute(step).clone())
        bench.scheduler.commit(step)
        for sequence in running:
            sequence.tokens.append(5 + len(found))
    return found[1:]


def test_sizes_of_recorded_steps_need_no_more_spare_places_than_there_are(half: Any) -> None:
    """Steps of one to nine requests, most of them filled up, end without an error of the device."""
    bench = Bench(half, places=1000)
    for count in range(1, 10):
        bench.scheduler.bounds.sequences = count
        replies = bench.run(*(Sequence(prompt_of(5 + number)) for number in range(count)))
        assert [len(reply) for reply in replies] == [12] * count
    torch.cuda.synchronize()
