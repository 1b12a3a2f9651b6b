"""Text files that people send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.channels.base import DeliveryRefused, DeliveryRetry, FileRefused
from bot.channels.telegram.files import decode, read_text_file
from dialogue.messages import FileRef
from tests.virtual_time import run_virtually


class Files:
    """A Bot API that holds one file; `errors` come first."""

    def __init__(self, content: bytes = b"", *errors: Exception) -> None:
        self.content = content
        self.errors = list(errors)
        self.calls = 0

    async def download(self, file_id: str, max_bytes: int) -> bytes:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.content[: max_bytes + 1]


def read(api: Files, size: int = 0, *, max_chars: int = 100) -> str:
    return run_virtually(read_text_file(api, FileRef("f", "a.txt", size), max_bytes=1000, max_chars=max_chars))  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_usual_encodings_are_read(encoding: str) -> None:
    """Text of Windows and of Chinese Windows comes out as it was written."""
    assert read(Files("退货政策：七天".encode(encoding))) == "退货政策：七天"


def test_a_big_file_is_refused_before_it_is_fetched() -> None:
    """The size that Telegram tells is enough to say no."""
    api = Files()
    with pytest.raises(FileRefused) as refused:
        read(api, size=1001)
    assert (refused.value.reason, api.calls) == ("file_too_big", 0)


@pytest.mark.parametrize("content", [b"\x00\x01\x02", b"\xff\xfe\xfa", b"PK\x03\x04\x00\x00\xff\xff\xff"])
def test_what_is_no_text_is_refused(content: bytes) -> None:
    """A picture with the wrong name does not become a prompt."""
    with pytest.raises(FileRefused) as refused:
        read(Files(content))
    assert refused.value.reason == "file_unreadable"


def test_long_text_is_cut_and_cleaned() -> None:
    """A file is bounded and cleaned like a message."""
    assert read(Files(b"a\x1bb" + b"c" * 200), max_chars=10) == "ab" + "c" * 8


def test_a_bad_moment_is_waited_for() -> None:
    """A network that fails twice does not lose the file; one that fails three times does, with words."""
    assert read(Files(b"text", DeliveryRetry("no network"), DeliveryRetry("busy", 3.0))) == "text"
    with pytest.raises(FileRefused):
        read(Files(b"text", *(DeliveryRefused("gone") for _ in range(3))))


@given(st.binary(max_size=200))
def test_decoding_gives_text_or_nothing(content: bytes) -> None:
    """Any bytes are read or refused, and no NUL gets through."""
    text = decode(content)
    assert text is None or "\0" not in text
