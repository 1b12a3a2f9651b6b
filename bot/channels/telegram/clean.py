"""Characters that Telegram drops or changes are taken out before anything is counted, so that nothing shifts afterwards."""

import re
import unicodedata
from typing import Final

TAB: Final = "    "

_LINE_BREAK: Final = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_WITH_RING: Final = re.compile("[A-Za-z]\u030a")  # Telegram drops the ring, but not the letters that have one
_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # one without its other half: no UTF-8 can hold it
_DROPPED: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u0333\u033f\u030a]")
_INVISIBLE: Final = re.compile("[\\s\u034f\u200b-\u200f\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]*")


def clean(text: str) -> str:
    """Return the text as Telegram can show it: no control characters but line breaks."""
    text = _LINE_BREAK.sub("\n", text).replace("\t", TAB)
    text = _WITH_RING.sub(lambda pair: unicodedata.normalize("NFC", pair[0]), text)
    return _DROPPED.sub("", _SURROGATE.sub("\ufffd", text))


def is_visible(text: str) -> bool:
    """Return whether there is anything to see: a message of blanks and invisible characters is none for Telegram."""
    return _INVISIBLE.fullmatch(text) is None
