"""Words that belong to one person and one place, and the watch that reports each of them where it does not belong.

p  said in private       n  a note of /remember       m  a name of /name       f  the name on the platform
g  said in a group: its members have read it

In private, a person's own p, n, m and f may stand; in a group what its members read anyway, g and f; in the file of an
export whatever is one's own, and what one's own group has read. In logs nothing may stand.
"""

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.channels.telegram.fake_server import FakeTelegram
from dialogue import document
from dialogue.byte_chat import read_chat
from dialogue.messages import Role

IN_GROUP = 10  # members
FIRST_USER, FIRST_GROUP = 10_001, -4001
KINDS = "pnmfg"
_CANARY = re.compile(rf"canary(\d{{4}})([{KINDS}])")


def canary(person: int, kind: str) -> str:
    """Return the word of a person; `person` counts from 0."""
    return f"canary{person:04d}{kind}"


def found(text: str) -> Iterator[tuple[int, str]]:
    """Yield person and kind of every canary in a text."""
    return ((int(person), kind) for person, kind in _CANARY.findall(text))


@dataclass(frozen=True)
class Place:
    """Where text stands: a private chat, or a group, or the file that a person was sent."""

    person: int | None = None
    group: int | None = None

    def may_hold(self, person: int, kind: str) -> bool:
        is_fellow = kind in "gf" and self.group == person // IN_GROUP
        is_own = self.person == person and (kind != "g" or self.group is not None)
        return is_fellow or is_own


def private(person: int) -> Place:
    return Place(person=person)


def group(number: int) -> Place:
    return Place(group=number)


def file_of(person: int) -> Place:
    return Place(person=person, group=person // IN_GROUP)


def place_of_chat(chat: int) -> Place:
    return private(chat - FIRST_USER) if chat > 0 else group(FIRST_GROUP - chat)


@dataclass
class Watch:
    """Counts what it has looked at, and keeps every canary that stood where it does not belong."""

    looked: Counter[str] = field(default_factory=Counter)
    own: Counter[str] = field(default_factory=Counter)  # canaries that stood where they belong: so the watch is not blind
    leaks: list[str] = field(default_factory=list)

    def look(self, where: str, place: Place, text: str) -> None:
        """Look at one text."""
        self.looked[where] += 1
        for person, kind in found(text):
            if place.may_hold(person, kind):
                self.own[f"{where} {kind}"] += 1
            else:
                self.leaks.append(f"{where} of {place}: {canary(person, kind)}")

    def prompt(self, ids: Sequence[int]) -> None:
        """Look at a prompt. It belongs to whoever's words it ends with."""
        chat = read_chat(ids)
        asked = list(found([message.content for message in chat if message.role is Role.USER][-1]))
        place = Place() if not asked else private(asked[-1][0]) if asked[-1][1] == "p" else group(asked[-1][0] // IN_GROUP)
        self.look("prompt", place, "\n".join(message.content for message in chat))

    def screens(self, telegram: FakeTelegram) -> None:
        """Look at every text that the bot ever showed, and at every file that it sent."""
        for chat in telegram.state.chats:
            for shown in telegram.screen(chat):
                if shown.is_bot:
                    self.look("reply", place_of_chat(chat), "\n".join(shown.texts))
                if shown.is_bot and shown.is_document:
                    place = file_of(chat - FIRST_USER) if chat > 0 else place_of_chat(chat)
                    self.look("export", place, opened(json.loads(telegram.file(shown.file_id))))
        for draft in telegram.drafts():
            self.look("draft", place_of_chat(draft.chat_id), "\n".join(draft.texts))


class WatchedLog(io.StringIO):
    """A stderr that keeps nothing: whatever is logged, at debug too, may hold no canary."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def write(self, text: str) -> int:
        if text.strip():
            self._watch.look("log", Place(), text)
        return len(text)


def opened(export: dict[str, Any]) -> str:
    """Return all text of an export, also what stands in it as bytes: raw events, and the compressed documents of turns."""
    raw = [base64.b64decode(row.pop("raw")).decode() for row in export["inbox"]]
    packed = [base64.b64decode(row.pop("document")) for row in export["turn_documents"]]
    documents = [document.decode(data) for data in packed if data]
    texts = [section.text for one in documents for section in one.sections]
    prompts = [message.content for one in documents for message in read_chat(one.prompt)]
    return "\n".join([json.dumps(export, ensure_ascii=False), *raw, *texts, *prompts])
