"""Numbers that stay, because the word before them says what they are: an order, a ticket, a code."""

import re
from typing import Final

OTHER_NUMBER: Final = re.compile(
    r"\b(?:order|ticket|case|ref(?:erence)?|invoice|account|tracking|booking|confirmation|id|codes?|pin|card|policy|number of)\b"
    r"|订单|单号|编号|号码牌|验证码",
    re.IGNORECASE,
)
_ORDER: Final = re.compile(r"\b(?:order|ticket|case|ref(?:erence)?|invoice|tracking|booking|confirmation)\b|订单|单号|编号", re.IGNORECASE)
_NEAR: Final = 25  # characters between the word and its number


def is_other_number(text: str, start: int) -> bool:
    """Whether the words right before `start` announce the number of a thing, not of a person."""
    return _ORDER.search(text, max(0, start - _NEAR), start) is not None
