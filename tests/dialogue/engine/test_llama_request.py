"""Promises of a request to llama.cpp: every sampling parameter said, nothing left to the server's taste."""

import asyncio
import json

import pytest

from dialogue.engine.base import FinishReason, GenerationFinished, GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.llama_request import RANDOM_SEED, SHOW_EVERY_S, Generation, body, sampling
from dialogue.errors import DeadlineExceeded, EngineError, EngineUnavailable, RequestTooLong


def request(**params: object) -> GenerationRequest:
    return GenerationRequest("r", (1, 2, 3), SamplingParams(**params))  # pyrefly: ignore[bad-argument-type]


def chunk(text: str = "", reason: str | None = None, **more: object) -> str:
    return json.dumps({"choices": [{"text": text, "finish_reason": reason}], **more})


FINAL = chunk(
    reason="stop",
    usage={"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
    timings={"cache_n": 1, "prompt_ms": 5.0, "predicted_ms": 7.0, "predicted_n": 2},
)


def test_sampling_is_said_one_by_one() -> None:
    """Each parameter has its word; what Kefu does not have is off."""
    words = sampling(SamplingParams(temperature=0.5, top_p=0.8, top_k=0, repetition_penalty=1.2, seed=9, ignore_eos=True))
    assert (words["temperature"], words["top_p"], words["top_k"], words["repeat_penalty"], words["seed"]) == (0.5, 0.8, 0, 1.2, 9)
    assert words["ignore_eos"] is True
    assert (
        words["min_p"]
        == words["xtc_probability"]
        == words["dry_multiplier"]
        == words["presence_penalty"]
        == words["frequency_penalty"]
        == 0
    )
    assert words["samplers"] == ["penalties", "top_k", "top_p", "temperature"]


def test_temperature_0_is_greedy() -> None:
    """At temperature 0 nothing but the likeliest token is looked at."""
    words = sampling(SamplingParams(temperature=0, top_k=40, top_p=0.5))
    assert (words["temperature"], words["top_k"], words["top_p"]) == (0, 1, 1.0)


@pytest.mark.parametrize("seed", [0, 1, RANDOM_SEED, 2**32, 2**63, -1])
def test_no_seed_means_chance(seed: int) -> None:
    """No seed becomes the one that llama.cpp replaces by a random one."""
    assert 0 <= sampling(SamplingParams(seed=seed))["seed"] < RANDOM_SEED


def test_the_body() -> None:
    """Ids, slot, limit and adapters as they are; the server's own prompt cache on, stop strings not its business."""
    sent = json.loads(body(request(stop=("END",)), 2, 7, [{"id": 0, "scale": 1.0}]))
    assert (sent["prompt"], sent["id_slot"], sent["n_predict"], sent["lora"]) == ([1, 2, 3], 2, 7, [{"id": 0, "scale": 1.0}])
    assert sent["cache_prompt"]
    assert sent["stream"]
    assert "stop" not in sent


async def events(generation: Generation, *chunks: str) -> list[object]:
    """Feed chunks from another thread, as the server does; return what comes out, an error last."""

    def feed() -> None:
        for each in chunks:
            if generation.on_chunk(each):
                break
        generation.on_end()

    await asyncio.to_thread(feed)
    seen: list[object] = []
    try:
        while not isinstance(seen[-1] if seen else None, GenerationFinished):
            seen.append(await asyncio.wait_for(generation.next(), 5))
    except EngineError as error:
        seen.append(error)
    return seen


async def test_a_whole_generation() -> None:
    """Text, then the last event with the server's own counts."""
    generation = Generation(request())
    seen = await events(generation, chunk(), chunk("Hel"), chunk("lo"), FINAL)
    assert seen[:2] == [TextDelta("Hel"), TextDelta("lo")]
    assert seen[2] == GenerationFinished(FinishReason.STOP, 3, 2, cached_tokens=1, prompt_ms=5.0, generation_ms=7.0)
    assert generation.generated == 2


async def test_texts_of_a_moment_are_joined() -> None:
    """The first text goes out at once; what follows within a moment goes out together, and nothing is kept at the end."""
    now = [100.0]
    generation = Generation(request(), clock=lambda: now[0])
    for text in "abcdef":
        generation.on_chunk(chunk(text))
        now[0] += 0.4 * SHOW_EVERY_S
    generation.on_chunk(FINAL)
    seen = [await generation.next() for _ in range(4)]
    assert seen[:3] == [TextDelta("a"), TextDelta("bcd"), TextDelta("ef")]
    assert isinstance(seen[3], GenerationFinished)


async def test_a_stop_string() -> None:
    """A stop string ends the generation at once; how far the server got is then not known."""
    generation = Generation(request(stop=("END",)))
    assert not generation.on_chunk(chunk("abE"))
    assert generation.on_chunk(chunk("NDef", timings={"predicted_n": 4}))
    assert await generation.next() == TextDelta("ab")
    finished = await generation.next()
    assert isinstance(finished, GenerationFinished)
    assert (finished.reason, finished.completion_tokens) == (FinishReason.STOP, 4)
    assert generation.generated is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 400, "message": "request (9 tokens) exceeds the available context size (8 tokens)"}, RequestTooLong),
        ({"code": 400, "message": "Prompt contains invalid tokens"}, EngineError),
        ({"code": 500, "message": "decode() failed"}, EngineUnavailable),
    ],
)
async def test_errors_of_the_server(error: dict[str, object], kind: type[EngineError]) -> None:
    """What the server refuses becomes an error of its kind."""
    seen = await events(Generation(request()), json.dumps({"error": error}))
    assert type(seen[-1]) is kind


async def test_a_server_that_gives_up() -> None:
    """A generation without a last chunk ends in EngineUnavailable."""
    assert isinstance((await events(Generation(request()), chunk("x")))[-1], EngineUnavailable)


async def test_nobody_listens() -> None:
    """After a cancel or a failure the next chunk tells the server to stop."""
    cancelled, failed = Generation(request()), Generation(request())
    cancelled.cancel()
    failed.fail(DeadlineExceeded("late"))
    assert cancelled.on_chunk(chunk("x"))
    assert failed.on_chunk(chunk("x"))
    with pytest.raises(DeadlineExceeded):
        await failed.next()
