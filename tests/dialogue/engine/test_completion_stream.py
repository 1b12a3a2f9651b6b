"""The stream of a completion: however the network cuts it, the same text comes out."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.base import FinishReason
from dialogue.engine.completion_stream import CompletionStream, StreamBroken
from dialogue.engine.stops import StopFilter

LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])


async def read(pieces: list[bytes]) -> tuple[str, CompletionStream]:
    """Run pieces of an answer through the parser of the HTTP library and ours."""

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    request = httpx2.Request("POST", "http://host")
    response = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body(), request=request)
    completion, text = CompletionStream(1, StopFilter(())), ""
    async for event in httpx2.EventSource(response):
        if delta := completion.feed(event.data):
            text += delta.text
    return text, completion


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), min_size=1)), LINE_ENDS, st.data())
def test_any_cut_gives_the_same_text(texts: list[str], line_end: str, data: st.DataObject) -> None:
    """Chunks cut at any byte, with any line ends and comments between, say the same."""
    chunks = [json.dumps({"choices": [{"text": text}]}, ensure_ascii=False) for text in texts]
    chunks += [json.dumps({"choices": [{"text": "", "finish_reason": "length"}]}), "[DONE]"]
    whole = "".join(f": ping{line_end}data: {chunk}{line_end * 2}" for chunk in chunks).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    text, completion = asyncio.run(read(pieces))
    assert text == "".join(texts)
    assert (completion.reason, completion.ended) == (FinishReason.LENGTH, True)


KEYS = st.sampled_from(["choices", "text", "error", "usage", "timings", "finish_reason", "message", "code", "prompt_tokens", "cache_n"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.dictionaries(KEYS, st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))))
def test_any_json_is_taken_or_reported(chunk: object) -> None:
    """Whatever JSON a server sends, it is taken or reported as broken; nothing else happens."""
    completion = CompletionStream(1, StopFilter(()))
    with suppress(StreamBroken):
        completion.feed(json.dumps(chunk))
        completion.reason = FinishReason.STOP
        finished = completion.finished(1.0, 2.0)
        assert 0 <= finished.cached_tokens <= finished.prompt_tokens


def test_a_stop_string_ends_the_stream() -> None:
    """A stop string across two chunks ends the stream at once, and is not shown."""
    completion = CompletionStream(1, StopFilter(("END",)))
    deltas = [completion.feed(json.dumps({"choices": [{"text": text}]})) for text in ("one E", "ND two")]
    assert [delta.text if delta else None for delta in deltas] == ["one ", None]
    assert (completion.ended, completion.reason, completion.rest()) == (True, FinishReason.STOP, None)


def test_a_stop_string_that_has_only_begun_is_shown() -> None:
    """What looked like the beginning of a stop string is shown when the text ends there."""
    completion = CompletionStream(1, StopFilter(("END",)))
    completion.feed(json.dumps({"choices": [{"text": "the EN", "finish_reason": "length"}]}))
    rest = completion.rest()
    assert rest is not None
    assert rest.text == "EN"


def test_no_usage() -> None:
    """Without the server's counts, the chunks are counted."""
    completion = CompletionStream(7, StopFilter(()))
    for text in ("a", "b"):
        completion.feed(json.dumps({"choices": [{"text": text, "finish_reason": "stop"}]}))
    finished = completion.finished(10.0, 30.0)
    assert (finished.prompt_tokens, finished.completion_tokens, finished.prompt_ms, finished.generation_ms) == (7, 2, 10.0, 20.0)


@pytest.mark.parametrize("data", ["", "{", "7", '"text"', '{"choices": 1}', '{"choices": ["x"]}'])
def test_what_is_no_completion(data: str) -> None:
    """Data that is no completion is reported."""
    with pytest.raises(StreamBroken):
        CompletionStream(1, StopFilter(())).feed(data)
