"""llama.cpp guesses how a reply goes on that repeats its conversation: fewer steps, the same reply."""

import json
from pathlib import Path
from typing import Any

import pytest

from dialogue.engine.base import GenerationRequest, SamplingParams
from dialogue.engine.llama_request import body
from dialogue.engine.llama_server import LlamaServer, ServerSettings
from tests.fakes.tiny_gguf import story_prompt, story_teller, write_tiny_gguf

GREEDY = SamplingParams(max_tokens=200, temperature=0, repetition_penalty=1, ignore_eos=True)
WARM = SamplingParams(max_tokens=200, temperature=1.0, top_k=0, top_p=1, repetition_penalty=1, ignore_eos=True, seed=5)


def completed(path: Path, prompt: tuple[int, ...], sampling: SamplingParams, *, speculation: bool) -> tuple[str, dict[str, Any]]:
    """Return a reply, and what llama.cpp says of the time that it took."""
    chunks: list[dict[str, Any]] = []

    def take(data: str) -> bool:
        if data.strip() != "[DONE]":
            chunks.append(json.loads(data))
        return False

    server = LlamaServer(ServerSettings(path, context_tokens=512, slots=1, threads=1, cache_ram_mib=0, speculation=speculation))
    try:
        server.complete(body(GenerationRequest("r", prompt, sampling), 0, sampling.max_tokens, []), take)
    finally:
        server.close()
    timings: dict[str, Any] = next(chunk["timings"] for chunk in reversed(chunks) if "timings" in chunk)
    return "".join(choice["text"] for chunk in chunks for choice in chunk.get("choices", ())), timings


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "drawn"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_guess_changes_no_reply(tmp_path: Path, number: int, sampling: SamplingParams) -> None:
    """A story that is told again and again is guessed for the most part, and says what it says without guesses."""
    path = write_tiny_gguf(story_teller(), tmp_path / "story.gguf")
    plain, _ = completed(path, story_prompt("once", number), sampling, speculation=False)
    guessed, timings = completed(path, story_prompt("once", number), sampling, speculation=True)
    assert guessed == plain
    assert timings["draft_n_accepted"] > sampling.max_tokens / 3
    assert timings["predicted_n"] == sampling.max_tokens


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "drawn"])
def test_a_wrong_guess_is_thrown_away(tmp_path: Path, sampling: SamplingParams) -> None:
    """A prompt that tells the beginning of the story with another end leaves no trace of that end in the reply."""
    story = story_teller()
    first = story.pieces.index(b" 110")
    prompt = (*range(first, first + 9), 7, 8, 9, 10, *story_prompt("so?", 1))
    path = write_tiny_gguf(story, tmp_path / "story.gguf")
    plain, without = completed(path, prompt, sampling, speculation=False)
    guessed, timings = completed(path, prompt, sampling, speculation=True)
    assert guessed == plain
    assert "draft_n" not in without
    assert timings["draft_n"] > timings["draft_n_accepted"]
