"""What is measured: conversations whose prompts grow from turn to turn, as a chat's do. Pure but for the arm that answers.

The user's texts are fixed, the replies are what the arm says, cut at a fixed length and never shorter. Every round begins with
a system text of its own, so that no round finds the prompt of another one in a cache.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

Ids = tuple[int, ...]
Render = Callable[[Sequence[str]], Ids]  # [system, user, reply, user, …] -> prompt, ready for the next reply

USER_TEXTS = (
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
class Workload:
    """The size of a round."""

    users: int = 1  # conversations at the same time
    turns: int = len(USER_TEXTS)
    reply_tokens: int = 24


@dataclass(frozen=True, slots=True)
class Sample:
    """One generation, timed where its text arrives."""

    ttft_ms: float  # from asking to the first text
    total_ms: float  # from asking to the end
    tokens: int
    text: str
    prompt_tokens: int
    cached_tokens: int  # of the prompt, not computed again; -1 = unknown


@dataclass(frozen=True, slots=True)
class Round:
    """All turns of the conversations of one round, by turn and user."""

    turns: tuple[tuple[Sample, ...], ...]

    @property
    def tokens_per_s(self) -> float:
        """Tokens of all users over the time of all turns, prompts included."""
        seconds = sum(max(sample.total_ms for sample in turn) for turn in self.turns) / 1000
        return sum(sample.tokens for turn in self.turns for sample in turn) / seconds

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens a second of one stream once it has begun."""
        samples = [sample for turn in self.turns for sample in turn]
        return 1000 * sum(sample.tokens - 1 for sample in samples) / max(1e-6, sum(sample.total_ms - sample.ttft_ms for sample in samples))

    def ttft_ms(self, turn: int) -> float:
        """Milliseconds to the first text at a turn, counted from 1; the mean over the users."""
        samples = self.turns[turn - 1]
        return sum(sample.ttft_ms for sample in samples) / len(samples)


class Arm(Protocol):
    """Who answers."""

    async def answer(self, conversations: Sequence[str], prompts: Sequence[Ids], reply_tokens: int) -> list[Sample]:
        """Generate for all prompts at the same time; `conversations` are their names, equal from turn to turn."""
        ...


async def run_round(arm: Arm, render: Render, workload: Workload, name: str) -> Round:
    """Let an arm hold the conversations of one round. Rounds of the same name have the same texts, whoever answers."""
    conversations = [f"{name}-{user}" for user in range(workload.users)]
    texts = [[f"{conversation}: you are a friendly assistant of a shoe shop. Answer briefly."] for conversation in conversations]
    turns: list[tuple[Sample, ...]] = []
    for turn in range(workload.turns):
        for history in texts:
            history.append(USER_TEXTS[turn % len(USER_TEXTS)])
        samples = await arm.answer(conversations, [render(history) for history in texts], workload.reply_tokens)
        for history, sample in zip(texts, samples, strict=True):
            history.append(sample.text)
        turns.append(tuple(samples))
    return Round(tuple(turns))
