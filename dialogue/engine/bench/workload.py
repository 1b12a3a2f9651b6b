"""What every arm is asked, by plain values. Pure.

    single         each user one prompt of fixed length, all at once
    multi-turn     chats that grow; pauses between the turns, in which people read and write
    long-prefill   a long prompt comes while others are being answered
    adapters       as single, each user with an adapter of its own

User texts and lengths of replies are fixed; a growing prompt takes in what the arm itself has said, as a chat does. Every conversation
begins with a mark of its own, so that no cache knows it from another one or from the round before.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dialogue.engine.bench.samples import Ids

Encode = Callable[[str], Sequence[int]]
Render = Callable[[Sequence[str]], Ids]  # [system, user, reply, user, …] -> prompt, ready for the next reply

SINGLE: Final = "single"
MULTI_TURN: Final = "multi-turn"
LONG_PREFILL: Final = "long-prefill"
ADAPTERS: Final = "adapters"
WORKLOADS: Final = (SINGLE, MULTI_TURN, LONG_PREFILL, ADAPTERS)

LONG_START_S: Final = 0.25  # the chats beside it have begun
LONG_REPLY_TOKENS: Final = 16
FEWEST_TOKENS: Final = 4
ROOM_TOKENS: Final = 16

USER_TEXTS: Final = (
    "Hello! I ordered a pair of running shoes last week and they have not arrived yet. What can I do?",
    "The order number is 20451. Can you tell me when it left your warehouse?",
    "It should be a gift for my brother, whose birthday is on Saturday. Is there a faster way to send it?",
    "If it comes too late, may I return it, and who pays for the way back?",
    "He wears size 43. Would another colour of the same size be in the shop today?",
    "Please write me a short note that I can put into his birthday card.",
    "Thank you. And how do I change the address of my account, since I am moving next month?",
    "One last question: do you have a list of all your shops that are open on Sunday?",
)


@dataclass(frozen=True, slots=True)
class Language:
    """How the model's texts become ids."""

    encode: Encode
    render: Render


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is asked."""

    workloads: tuple[str, ...] = WORKLOADS
    users: tuple[int, ...] = (1, 4, 8, 16)  # of single
    prompt_tokens: int = 128  # of single, adapters and the chats beside a long prompt
    reply_tokens: int = 128
    turns: int = 8
    chat_users: int = 4  # of multi-turn and long-prefill
    chat_tokens: int = 64  # of a reply in multi-turn
    think_s: float = 2.0  # mean pause between two turns
    long_tokens: int = 2048
    adapters: int = 4
    seed: int = 17  # of the pauses


@dataclass(frozen=True, slots=True)
class Case:
    """One point of a workload."""

    workload: str
    users: int

    @property
    def name(self) -> str:
        """What the result calls it."""
        return f"{self.workload}-{self.users}"


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one user asks. The prompt of a turn is the last one, its reply, and the follow-up."""

    name: str
    opening: Ids
    reply_tokens: int
    follow_ups: tuple[Ids, ...] = ()
    start_s: float = 0.0  # since the run began
    think_s: tuple[float, ...] = ()  # before each follow-up
    adapter: str | None = None
    kind: str = "chat"

    @property
    def longest(self) -> int:
        """Tokens of the last prompt and its reply at most."""
        return len(self.opening) + sum(map(len, self.follow_ups)) + (1 + len(self.follow_ups)) * self.reply_tokens


def cases(sizes: Sizes) -> tuple[Case, ...]:
    """Return what is measured, in order."""
    counts = {SINGLE: sizes.users, MULTI_TURN: (sizes.chat_users,), LONG_PREFILL: (sizes.chat_users,), ADAPTERS: (sizes.adapters,)}
    return tuple(Case(workload, users) for workload in WORKLOADS if workload in sizes.workloads for users in counts[workload])


def conversations(case: Case, sizes: Sizes, language: Language, round_name: str) -> tuple[Conversation, ...]:
    """Return what the users of a case ask in one round, the same for every arm."""
    names = [f"{round_name} {case.name} {user}" for user in range(case.users)]
    if case.workload == MULTI_TURN:
        return tuple(_chat(name, sizes, language) for name in names)
    singles = tuple(_single(name, sizes.prompt_tokens, sizes.reply_tokens, language) for name in names)
    if case.workload == ADAPTERS:
        return tuple(replace(each, adapter=adapter_name(number)) for number, each in enumerate(singles))
    if case.workload == LONG_PREFILL:
        long = _single(f"{round_name} {case.name} long", sizes.long_tokens, LONG_REPLY_TOKENS, language)
        return (*singles, replace(long, kind="long", start_s=LONG_START_S))
    return singles


def trial(name: str, sizes: Sizes, language: Language) -> Conversation:
    """Return a single request that no round repeats, to warm up or to see how long an answer takes."""
    return _single(name, sizes.prompt_tokens, sizes.reply_tokens, language)


def adapter_name(number: int) -> str:
    """Return what the adapter of a user is called."""
    return f"bench-{number}"


def _single(name: str, prompt_tokens: int, reply_tokens: int, language: Language) -> Conversation:
    text = f"{_mark(name)} {' '.join(USER_TEXTS)} "
    once = tuple(language.encode(text))
    again = -(-prompt_tokens // len(once))
    return Conversation(name, (once * again)[:prompt_tokens], reply_tokens)


def _mark(name: str) -> str:
    """Return a beginning that no other conversation shares."""
    return f"{hashlib.blake2s(name.encode(), digest_size=6).hexdigest()}."


def _chat(name: str, sizes: Sizes, language: Language) -> Conversation:
    system = f"{_mark(name)} You are a friendly assistant of a shoe shop. Answer briefly."
    texts = [USER_TEXTS[turn % len(USER_TEXTS)] for turn in range(sizes.turns)]
    chance = random.Random(f"{sizes.seed} {name}")  # noqa: S311 - no secret
    pauses = [chance.expovariate(1 / sizes.think_s) if sizes.think_s else 0.0 for _ in texts]
    opening = [system, texts[0]]
    follow_ups = tuple(follow_up(language.render, opening, text) for text in texts[1:])
    return Conversation(name, language.render(opening), sizes.chat_tokens, follow_ups, pauses[0] / 2, tuple(pauses[1:]))


def follow_up(render: Render, before: Sequence[str], text: str) -> Ids:
    """Return the ids between the end of a reply and the beginning of the next one: what two different replies have in common there."""
    one, two = (render([*before, reply, text]) for reply in ("Yes", "12"))
    shared = 0
    while shared < min(len(one), len(two)) and one[-1 - shared] == two[-1 - shared]:
        shared += 1
    return one[len(one) - shared :]


def context_tokens(case: Case, sizes: Sizes, language: Language) -> int:
    """Return how long a request of this case may become, with a little room."""
    return ROOM_TOKENS + max(each.longest for each in conversations(case, sizes, language, "round 100"))


def work_tokens(sizes: Sizes) -> int:
    """Return how many tokens all replies of one round have together."""
    return sum(_case_tokens(case, sizes) for case in cases(sizes))


def _case_tokens(case: Case, sizes: Sizes) -> int:
    return case.users * (sizes.turns * sizes.chat_tokens if case.workload == MULTI_TURN else sizes.reply_tokens)


def shortened(sizes: Sizes, share: float) -> Sizes:
    """Return sizes with shorter replies, for a machine that has not the time; a share of 1 or more changes nothing."""
    if share >= 1:
        return sizes
    reply, chat = (max(FEWEST_TOKENS, int(share * tokens)) for tokens in (sizes.reply_tokens, sizes.chat_tokens))
    return replace(sizes, reply_tokens=reply, chat_tokens=chat)


def turns_of(conversation: Conversation) -> Iterator[tuple[int, float, Ids]]:
    """Yield number, pause before it, and what is added to the prompt, for each turn."""
    yield 1, conversation.start_s, conversation.opening
    for number, ids in enumerate(conversation.follow_ups):
        pause = conversation.think_s[number] if number < len(conversation.think_s) else 0.0
        yield number + 2, pause, ids
