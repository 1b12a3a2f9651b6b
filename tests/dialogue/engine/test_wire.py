"""Frames between a hosted engine and its supervisor."""

import asyncio
from importlib import metadata
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue import errors
from dialogue.engine import wire
from dialogue.engine.base import AdapterRef, FinishReason, GenerationFinished, GenerationRequest, QueuePosition, SamplingParams, TextDelta
from dialogue.engine.spec import ENTRY_POINTS, find_builder


async def through(*chunks: bytes) -> wire.Frame | None:
    """Read one frame from bytes that arrive in these pieces, then end."""
    reader = asyncio.StreamReader()
    for chunk in chunks:
        reader.feed_data(chunk)
    reader.feed_eof()
    return await wire.read_frame(reader)


async def carried(frame: wire.Frame) -> wire.Frame:
    arrived = await through(wire.pack({"op": "x", **frame}))
    assert arrived is not None
    del arrived["op"]
    return arrived


texts = st.text(st.characters(exclude_categories=["Cs"]))
requests = st.builds(
    GenerationRequest,
    request_id=texts,
    prompt=st.lists(st.integers(0, 2**31)).map(tuple),
    sampling=st.builds(SamplingParams, stop=st.lists(texts).map(tuple), seed=st.integers(0, 2**63)),
    adapter=st.none() | texts,
    cache_key=texts,
    deadline_s=st.floats(0, 1e6),
)
events = st.one_of(
    st.builds(TextDelta, texts),
    st.builds(QueuePosition, st.integers(1, 99)),
    st.builds(GenerationFinished, st.sampled_from(FinishReason), st.integers(0, 99), st.integers(0, 99), prompt_ms=st.floats(0, 1e9)),
)


@given(requests)
def test_requests_arrive_equal(request: GenerationRequest) -> None:
    """A request is the same on the other side."""
    assert wire.request_from_plain(asyncio.run(carried(wire.request_to_plain(request)))) == request


@given(events)
def test_events_arrive_equal(event: TextDelta | QueuePosition | GenerationFinished) -> None:
    """An event is the same on the other side."""
    assert wire.event_from_plain(asyncio.run(carried(wire.event_to_plain(event)))) == event


async def test_adapters_arrive_equal() -> None:
    """An adapter is the same on the other side."""
    adapter = AdapterRef("release", "/somewhere", 0.5)
    assert wire.adapter_from_plain(await carried(wire.plain(adapter))) == adapter


@pytest.mark.parametrize(
    "error",
    [
        errors.EngineUnavailable("why"),
        errors.DeadlineExceeded("why"),
        errors.RequestTooLong("why"),
        errors.RequestPoisoned("why"),
        errors.AdapterUnknown("why"),
        errors.AdapterRejected("why"),
        errors.EngineOverloaded("why", 7.5),
    ],
)
async def test_errors_keep_their_type(error: errors.DialogueError) -> None:
    """A typed error is the same on the other side."""
    arrived = wire.error_from_plain(await carried(wire.error_to_plain(error)))
    assert type(arrived) is type(error)
    assert str(arrived) == "why"
    assert getattr(arrived, "retry_after_s", None) == getattr(error, "retry_after_s", None)


def test_unknown_errors_become_unavailable() -> None:
    """An error that is none of ours names its type, and no type of the sender's choice is made."""
    arrived = wire.error_from_plain(wire.error_to_plain(KeyError("x")))
    assert type(arrived) is errors.EngineUnavailable
    assert str(arrived) == "KeyError: 'x'"
    assert type(wire.error_from_plain({"kind": "SystemExit", "message": ""})) is errors.EngineUnavailable


async def test_cut_anywhere() -> None:
    """A frame may arrive byte by byte; one that never becomes whole is the end."""
    data = wire.pack({"op": "event", "text": "你好"})
    assert await through(*(data[at : at + 1] for at in range(len(data)))) == {"op": "event", "text": "你好"}
    for length in range(len(data)):
        assert await through(data[:length]) is None


@pytest.mark.parametrize(
    "data",
    [
        (wire.MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x01{",
        b"\x00\x00\x00\x01\xff",
        b'\x00\x00\x00\x08{"op":1}',
    ],
)
async def test_broken_frames(data: bytes) -> None:
    """Bytes that are no frame are refused, a too long one before it is read."""
    with pytest.raises(wire.WireError):
        await through(data)


@pytest.mark.parametrize("frame", [{"text": "\ud83d"}, {"number": float("nan")}, {"text": "x" * (wire.MAX_FRAME_BYTES + 1)}])
def test_what_cannot_be_sent(frame: wire.Frame) -> None:
    """Half a character, a number that JSON does not know and too much text are refused by the sender."""
    with pytest.raises(wire.WireError):
        wire.pack({"op": "event", **frame})


def test_builders_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package may bring an engine of its own through the entry points."""
    entry = EntryPoint("theirs", "dialogue.engine.scripted:build", ENTRY_POINTS)

    def entry_points(group: str, name: str) -> list[EntryPoint]:
        return [entry] if (group, name) == (ENTRY_POINTS, "theirs") else []

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    assert find_builder("theirs") is find_builder("scripted")


def test_only_listed_builders() -> None:
    """A spec cannot name code: only kinds on the list and entry points of one group."""
    assert find_builder("scripted").__module__ == "dialogue.engine.scripted"
    with pytest.raises(LookupError, match=ENTRY_POINTS):
        find_builder("os:system")
