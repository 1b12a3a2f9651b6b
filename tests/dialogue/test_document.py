"""The document of a turn keeps everything, and reading one is safe."""

import json
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.document import Hashes, TurnDocument, decode, encode
from dialogue.engine.base import SamplingParams
from dialogue.errors import DocumentInvalid
from dialogue.messages import ReplyTimings
from dialogue.prompt import Section
from dialogue.skills.base import Passage

DOCUMENT = TurnDocument(
    turn_id="t",
    skill="support",
    prompt=(1, 2, 4_294_967_295, 0),
    sampling=SamplingParams(stop=("a", "b"), seed=2**31 - 1),
    engine="puppet",
    model="puppet-1",
    adapter="release",
    hashes=Hashes("m", "t", "c"),
    sections=(Section("system", "你好\n"), Section("message", "hi")),
    passages=(Passage("text", "source", "title"),),
    timings=ReplyTimings(1.5, 2.5, 3.5, 4, 5, 6),
    attempts=2,
    reason="stop",
)
TEXT = st.text(max_size=200)


def test_what_goes_in_comes_out() -> None:
    """Every field survives."""
    assert decode(encode(DOCUMENT)) == DOCUMENT


@given(st.lists(st.integers(0, 2**32 - 1)), st.lists(st.tuples(TEXT, TEXT)), TEXT)
def test_any_document_survives(prompt: list[int], sections: list[tuple[str, str]], reason: str) -> None:
    """Whatever ids and texts a turn has, they come back; only lone surrogates, which are no text, become question marks."""
    document = replace(DOCUMENT, prompt=tuple(prompt), sections=tuple(Section(*section) for section in sections), reason=reason)
    assert decode(encode(document)) == document


def test_a_document_beyond_the_limit_loses_its_texts_first() -> None:
    """The ids are worth more than the texts, which can be read from them."""
    big = replace(DOCUMENT, sections=(Section("system", "x" * 100_000),))
    assert decode(encode(big, limit=5000)) == replace(big, sections=(), passages=())
    assert encode(big, limit=100) == b""


def test_lone_surrogates_do_not_break_it() -> None:
    """Half a character from a broken platform is kept as a question mark."""
    broken = replace(DOCUMENT, sections=(Section("message", "a\ud800b"),))
    assert decode(encode(broken)).sections[0].text == "a?b"


def mangled(**changes: object) -> bytes:
    value = json.loads(zlib.decompress(encode(DOCUMENT)))
    return zlib.compress(json.dumps(value | changes).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zlib",
        zlib.compress(b"no json"),
        zlib.compress(b"[]"),
        zlib.compress(b"{}"),
        zlib.compress(b"x" * (9 << 20)),
        encode(DOCUMENT)[:-3],
        mangled(version=2),
        mangled(prompt="no base64!"),
        mangled(prompt="AAA="),
        mangled(sampling={}),
        mangled(sections=[{"name": "x"}]),
        mangled(sections=3),
        mangled(surprise=1),
        mangled(hashes=None),
    ],
)
def test_what_is_no_document_is_refused(data: bytes) -> None:
    """Broken, cut, oversized, newer or foreign bytes end in a sentence."""
    with pytest.raises(DocumentInvalid, match=r"^The document"):
        decode(data)


def test_a_bomb_is_not_unpacked() -> None:
    """A small input that unpacks to gigabytes is refused at the limit."""
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    with pytest.raises(DocumentInvalid, match="more than"):
        decode(bomb, limit=1 << 20)
