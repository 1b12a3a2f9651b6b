"""What may never change what a decoder says: the batch, the cache, the pieces of a prompt, an interruption. For every family."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from dialogue.engine.local import span_attention
from dialogue.engine.local.decoder_trial import check_alike, settle_attention
from dialogue.engine.local.scheduler import Sequence
from dialogue.engine.local.span_attention import over_spans
from dialogue.engine.local.varlen_attention import OverSlots
from dialogue.errors import EngineUnavailable
from tests.dialogue.engine.local.decoder_scene import (
    FAMILIES,
    GREEDY,
    Bench,
    alone_and_together,
    documented_varlen,
    generated,
    no_mask,
    prompt_of,
    tiny_weights,
)

PROMPTS = [prompt_of(length) for length in (1, 9, 21, 30)]
WARM = replace(GREEDY, temperature=0.8, top_p=0.9, top_k=20, repetition_penalty=1.2)


@pytest.fixture(scope="module", params=FAMILIES)
def weights(request: pytest.FixtureRequest) -> Any:
    return tiny_weights(request.param)


def test_greedy_is_what_transformers_generates(weights: Any) -> None:
    """In float32 the ids of several requests at once, read in pieces, are those of generate() one by one."""
    wanted = [generated(weights, prompt, 12) for prompt in PROMPTS]
    assert all(len(set(tokens)) > 3 for tokens in wanted[1:]), "this model says nothing that could be wrong"
    assert Bench(weights).run(*map(Sequence, map(list, PROMPTS))) == wanted


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "drawn"])
def test_a_batch_changes_no_reply(weights: Any, sampling: Any) -> None:
    """Among others a request gets the reply that it gets alone, whatever it is drawn with."""
    alone, together = alone_and_together(weights, PROMPTS, sampling)
    assert together == alone


def test_the_cache_changes_no_reply(weights: Any) -> None:
    """A request that goes on with a slot, or copies the beginning of another one, says what it says on an empty store."""
    bench = Bench(weights)
    first = Sequence(prompt_of(20), key="talk")
    bench.run(first)
    turns = [[*first.tokens, 5, 6, 7], [*prompt_of(20), 9, 9], [*prompt_of(11), 8]]
    later = [Sequence(list(turn), key=key) for turn, key in zip(turns, ("talk", "other", ""), strict=True)]
    replies = [bench.run(sequence)[0] for sequence in later]
    assert replies == [Bench(weights).run(Sequence(list(turn)))[0] for turn in turns]
    assert [sequence.cached for sequence in later] == [31, 20, 11]
    assert sum(len(step.copies) for step in bench.steps) == 2


def test_an_interruption_changes_no_reply(weights: Any) -> None:
    """Requests that are put back and go on later, with what others left of the store, say what they say undisturbed."""
    undisturbed = Bench(weights).run(*map(Sequence, map(list, PROMPTS)), sampling=WARM)
    bench = Bench(weights, places=150)

    def interrupt(number: int) -> None:
        if number in {3, 8, 9}:
            bench.interrupt()

    assert bench.run(*map(Sequence, map(list, PROMPTS)), sampling=WARM, before=interrupt) == undisturbed
    assert bench.scheduler.bounds.sequences == 1


def test_a_model_is_tried_before_it_is_served(weights: Any) -> None:
    """Every family passes the trial at the start."""
    check_alike(Bench(weights).model)


def test_a_model_with_another_attention_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says something else over slots than by itself is refused in words, before it answers anybody."""
    bench = Bench(tiny_weights("llama"))
    monkeypatch.setattr(span_attention, "mask_of", no_mask)
    with pytest.raises(EngineUnavailable, match="does not say over slots what it says by itself"):
        check_alike(bench.model)


def test_what_the_attention_does_not_know_is_refused() -> None:
    """An argument of a layer that changes attention and is not known here ends the trial with its name."""
    bench = Bench(tiny_weights("llama"))
    layer = bench.model.model.model.layers[0].self_attn
    forward = layer.forward
    layer.forward = partial(forward, s_aux=torch.zeros(4))
    with pytest.raises(EngineUnavailable, match="s_aux"):
        check_alike(bench.model)


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "gemma2", "gemma3"])
def test_all_requests_at_once_by_varlen(family: str) -> None:
    """With an attention that is handed all requests at once, as torch's for GPUs is, replies are the same."""
    weights = tiny_weights(family)
    sequences = [Sequence(list(prompt)) for prompt in PROMPTS]
    bench = Bench(weights, attention_over=OverSlots(documented_varlen))
    assert bench.run(*sequences) == Bench(weights).run(*map(Sequence, map(list, PROMPTS)))
    settle_attention(bench.model)
    assert bench.model.attention_over is not over_spans


def lying_varlen(query: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    """An attention that looks at nothing."""
    return torch.zeros_like(query)


def failing_varlen(*_: object, **__: object) -> torch.Tensor:
    """An attention that this device does not have."""
    raise NotImplementedError("no such kernel")


@pytest.mark.parametrize("varlen", [lying_varlen, failing_varlen])
def test_an_attention_that_does_not_work_is_not_used(varlen: Any) -> None:
    """Where the attention for all requests at once fails or is wrong, the one that works everywhere takes its place."""
    weights = tiny_weights("llama")
    bench = Bench(weights, attention_over=OverSlots(varlen))
    settle_attention(bench.model)
    assert bench.model.attention_over is over_spans
    assert bench.run(Sequence(list(PROMPTS[2]))) == [generated(weights, PROMPTS[2], 12)]
