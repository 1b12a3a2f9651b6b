"""Text files that people send: fetched within limits, decoded, cleaned like everything that people write."""

import asyncio
import codecs
from typing import Final

from bot.channels.base import DeliveryError, DeliveryRetry, FileRefused
from bot.channels.telegram.api import TelegramApi
from dialogue.messages import FileRef
from dialogue.normalise import clean_text

ATTEMPTS: Final = 3
PAUSE_S: Final = 1.0
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


async def read_text_file(api: TelegramApi, file: FileRef, *, max_bytes: int, max_chars: int) -> str:
    """Return the text of a file, at most `max_chars` characters. Raises FileRefused."""
    if file.size > max_bytes:
        raise FileRefused(f"{file.size} bytes", "file_too_big", limit=f"{max_bytes // 1000} kB")
    text = decode(await _download(api, file, max_bytes))
    if text is None:
        raise FileRefused("no text", "file_unreadable")
    return clean_text(text, max_chars).text


async def _download(api: TelegramApi, file: FileRef, max_bytes: int) -> bytes:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await api.download(file.ref, max_bytes)
        except DeliveryError as error:
            if attempt == ATTEMPTS:
                raise FileRefused(str(error), "file_unreadable") from None
            await asyncio.sleep((error.after_s if isinstance(error, DeliveryRetry) else None) or PAUSE_S * attempt)
    raise FileRefused("never tried", "file_unreadable")


def decode(content: bytes) -> str | None:
    """Return `content` as text: by its byte order mark, as UTF-8, or as GB 18030, in which Chinese Windows writes. None = no text."""
    marked = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)
    for encoding in (marked,) if marked else ("utf-8", "gb18030"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return None if "\0" in text else text
    return None
