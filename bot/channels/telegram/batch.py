"""The answer to getUpdates, cut into its updates without reading them.

One update that no JSON reader takes (nested too deeply, a number too long) must not hide the others, so the brackets are
counted and each update keeps exactly the bytes that came.
"""

import re
from typing import Final

from bot.channels.base import UnparsableEvent
from bot.channels.json_event import read_object

_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[][{},]', re.DOTALL)  # a string, also one that never ends, or a bracket
_RESULT: Final = re.compile(rb'"result"\s*:\s*\[')


def split_result(body: bytes) -> list[bytes]:
    """Return the raw bytes of each update. Raises UnparsableEvent when the body is no answer, or one that says no."""
    begin, cuts = _cut(body)
    envelope = read_object(body[:begin] + body[cuts[-1] :])
    if envelope.get("ok") is not True or envelope.get("result") != []:
        raise UnparsableEvent("no answer with a result")
    starts = [begin, *(cut + 1 for cut in cuts[:-1])]
    parts = [body[start:stop].strip() for start, stop in zip(starts, cuts, strict=True)]
    return [part for part in parts if part]


def _cut(body: bytes) -> tuple[int, list[int]]:
    """Return where the array of updates begins, and where each of them ends: at a comma, the last one at the bracket."""
    depth, begin = 0, -1
    cuts: list[int] = []
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if begin < 0 and depth == 1 and (opened := _RESULT.match(body, token.start())):
            begin = opened.end()
        elif mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
        if begin >= 0 and depth == 1 and mark == b"]":
            return begin, [*cuts, token.start()]
        if begin >= 0 and depth == 2 and mark == b",":
            cuts.append(token.start())
    raise UnparsableEvent("no complete array of updates")
