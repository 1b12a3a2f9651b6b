"""A crowd of made-up people at a fake Telegram: each of them does something, waits for the answer and pauses.

The crowd sees what people see, never the program: what stands in a chat, and when it came. It notes every message that it
wrote, so that somebody who knows the database can say afterwards what became of it (`bot.simulation_check`).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bot.channels.telegram.fake_chats import Message
from bot.channels.telegram.fake_lines import COMMANDS, GROUP_LINES, LINES, NAMES
from bot.channels.telegram.fake_people import FIRST_USER, People
from bot.channels.telegram.reply_stream import PLACEHOLDER, STOP_DATA

FIRST_GROUP: Final = -4001
PEOPLE_IN_GROUP: Final = 4
PATIENCE_S: Final = 300.0  # longer than a turn may take with every repetition; who waited so long goes on
PRESS_PATIENCE_S: Final = 5.0  # nobody looks at a button for longer, and what it says may get lost

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the crowd."""

    chat: int
    message_id: int
    at: float
    needs_answer: bool = True  # a /stop that ended an answer gets none of its own


@dataclass(slots=True)
class Figures:
    """What the crowd has seen so far; seconds."""

    sent: int = 0
    answered: int = 0
    reactions_s: list[float] = field(default_factory=list)  # until the first draft, placeholder or text
    answers_s: list[float] = field(default_factory=list)  # until the final text


class Person:
    """One of the crowd. `lines` are said in order, and nothing else is done; without them everything that people do is tried."""

    def __init__(self, crowd: "Crowd", number: int, chance: random.Random) -> None:
        name, self.language = NAMES[number % len(NAMES)]
        self.name = name if number < len(NAMES) else f"{name} {number // len(NAMES) + 1}"
        self.user = FIRST_USER + number
        self.group = FIRST_GROUP - number // PEOPLE_IN_GROUP
        self.figures = Figures()
        self.doing = ""
        self.state = "reads"
        self.waits_since: float | None = None
        self._crowd = crowd
        self._telegram = crowd.telegram
        self._chance = chance
        self._next_line = number
        self._open = 0  # messages since the last answer
        self._telegram.state.user(self.user).first_name = self.name

    async def live(self, until: float) -> None:
        """Do one thing after the other until that time, and wait for the last answer."""
        mean_s = 60 / self._crowd.rate
        at = self._now() + self._chance.uniform(0, min(mean_s, 5))
        while at < until:
            self.state = "pauses"
            await self._crowd.sleep(max(0.0, at - self._now()))
            await self._act()
            at = max(self._now(), at + self._chance.expovariate(1 / mean_s))
        self.state = "left"

    async def _act(self) -> None:
        if self._crowd.lines:
            await self._ask("says", self._line())
            return
        acts, weights = zip(*_ACTS.items(), strict=True)
        await self._chance.choices(acts, weights)[0](self)

    async def _say_something(self) -> None:
        await self._ask("says", self._line())

    async def _command(self) -> None:
        command = self._chance.choice(COMMANDS[self.language])
        await self._ask(command.split()[0], command)

    async def _burst(self) -> None:
        self._say(self._line())
        await self._ask("says two things", self._line())

    async def _correct(self) -> None:
        said = self._say("helo")
        self._telegram.edit(said.message_id, self._line(), chat=said.chat)
        await self._wait("edits", said)

    async def _photo(self) -> None:
        await self._wait("sends a photo", self._note(self._telegram.send_file("photo", chat=self.user, language_code=self.language)))

    async def _forward(self) -> None:
        await self._wait("forwards", self._note(self._telegram.forward(self._line(), chat=self.user, language_code=self.language)))

    async def _group(self) -> None:
        line = f"@{self._telegram.state.bot.username} {self._chance.choice(GROUP_LINES[self.language])}"
        said = self._note(self._telegram.say(line, chat=self.group, user=self.user, language_code=self.language))
        await self._wait("asks in a group", said)

    async def _stop(self) -> None:
        said = self._say(self._line())
        self._begin("stops", said)
        await self._until(lambda: self._reaction(said) is not None)
        if self._final(said) is None and not self._telegram.stop_draft(chat=self.user):
            self._say("/stop", needs_answer=False)
        await self._wait("stops", said)

    async def _rate(self) -> None:
        """Press a face under the newest answer that has some; without one, say something."""
        faces = [data for shown in self._telegram.screen(self.user) for data in shown.button_data if data.startswith("rate:")]
        if not faces:
            await self._say_something()
            return
        face = self._chance.choice(faces[-2:])
        self.doing = "👍" if face.startswith("rate:1:") else "👎"
        self.state = "presses"
        query = self._telegram.press(face, chat=self.user).query_id
        await self._until(lambda: self._telegram.answer_to(query) is not None, PRESS_PATIENCE_S)

    async def _ask(self, doing: str, text: str) -> None:
        await self._wait(doing, self._say(text))

    def _say(self, text: str, *, needs_answer: bool = True) -> Said:
        return self._note(self._telegram.say(text, chat=self.user, language_code=self.language), needs_answer=needs_answer)

    def _note(self, message: Message, *, needs_answer: bool = True) -> Said:
        said = Said(message.chat.chat_id, message.message_id, self._now(), needs_answer)
        self._crowd.said.append(said)
        self.figures.sent += 1
        self._open += 1
        return said

    def _begin(self, doing: str, said: Said) -> None:
        self.doing, self.state, self.waits_since = doing, "waits", said.at

    async def _wait(self, doing: str, said: Said) -> None:
        """Wait for the first sign of an answer, then for its final text."""
        self._begin(doing, said)
        if await self._until(lambda: self._reaction(said) is not None):
            self.state = "reads"
            self.figures.reactions_s.append(self._now() - said.at)
        if await self._until(lambda: self._final(said) is not None):
            self.figures.answered += self._open  # a burst is answered as one
            self.figures.answers_s.append(self._now() - said.at)
        self._open, self.waits_since = 0, None

    async def _until(self, happened: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
        """Wait until something can be seen; return whether it was before the patience ended."""
        try:
            async with asyncio.timeout(patience_s):
                while not happened():
                    await self._crowd.changed()
        except TimeoutError:
            return False
        return True

    def _reaction(self, said: Said) -> object | None:
        drafts = self._telegram.state.chats[said.chat].drafts.values()
        return next(iter(drafts), None) or next(iter(self._replies(said)), None)

    def _final(self, said: Said) -> Message | None:
        """Return the newest answer if it is finished."""
        replies = self._replies(said)
        return replies[-1] if replies and _is_finished(replies[-1]) else None

    def _replies(self, said: Said) -> list[Message]:
        """Return what the bot has written to this message: in private whatever came after it, in a group what names it."""
        later = (message for number, message in self._telegram.state.chats[said.chat].messages.items() if number > said.message_id)
        written = [message for message in later if message.sender.is_bot and not message.is_deleted]
        return written if said.chat > 0 else [message for message in written if message.reply_to == said.message_id]

    def _line(self) -> str:
        lines = self._crowd.lines or LINES[self.language]
        self._next_line += 1
        return lines[(self._next_line - 1) % len(lines)]

    def _now(self) -> float:
        return self._telegram.state.now()


_ACTS: Final[dict[Callable[[Person], Awaitable[None]], int]] = {
    Person._say_something: 40,
    Person._command: 12,
    Person._rate: 12,
    Person._group: 10,
    Person._burst: 6,
    Person._correct: 6,
    Person._stop: 6,
    Person._photo: 4,
    Person._forward: 4,
}


class Crowd:
    """All of them. `rate` is how often one person does something, a minute, as long as answers come in time."""

    def __init__(
        self,
        telegram: People,
        changed: Callable[[], Awaitable[None]],
        *,
        people: int,
        rate: float,
        lines: Sequence[str] = (),
        seed: int = 0,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.telegram = telegram
        self.changed = changed
        self.rate = rate
        self.lines = tuple(lines)
        self.sleep = sleep
        self.said: list[Said] = []
        self.people = [Person(self, number, random.Random(f"{seed} {number}")) for number in range(people)]  # noqa: S311 - not for secrets

    async def chat(self, seconds: float) -> None:
        """Let everybody do things for so long; return when the last of them has an answer."""
        until = self.telegram.state.now() + seconds
        async with asyncio.TaskGroup() as group:
            for person in self.people:
                group.create_task(person.live(until))


def _is_finished(message: Message) -> bool:
    data = [button.get("callback_data") for row in message.buttons for button in row]
    return message.text not in {"", PLACEHOLDER} and STOP_DATA not in data
