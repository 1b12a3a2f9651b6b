"""Holds the conversations of one run with an arm, in the arm's own process, and times every answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dialogue.engine.bench.samples import Answer, Arm, Ask, Ids, Sample
from dialogue.engine.bench.workload import Conversation, Encode, turns_of
from dialogue.errors import EngineUnavailable

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]


async def hold(
    arm: Arm, conversations: Sequence[Conversation], encode: Encode, *, sleep: Sleep = asyncio.sleep, clock: Clock = time.perf_counter
) -> list[Sample]:
    """Let all users talk at the same time. The first error ends the run."""
    desk = _Desk(arm, encode, sleep, clock, clock())
    async with asyncio.TaskGroup() as group:
        users = [group.create_task(desk.converse(each)) for each in conversations]
    return [sample for user in users for sample in user.result()]


@dataclass(frozen=True, slots=True)
class _Desk:
    arm: Arm
    encode: Encode
    sleep: Sleep
    clock: Clock
    began: float

    async def converse(self, conversation: Conversation) -> list[Sample]:
        """Hold one conversation to its end."""
        samples: list[Sample] = []
        prompt: Ids = ()
        for turn, pause_s, ids in turns_of(conversation):
            if pause_s:
                await self.sleep(pause_s)
            prompt = (*prompt, *ids)
            ask = Ask(conversation.name, turn, prompt, conversation.reply_tokens, conversation.adapter)
            asked = self.clock()
            answer = await self.arm.answer(ask)
            if answer.tokens != ask.reply_tokens:  # an arm that stops early would be the quickest
                raise EngineUnavailable(f"it answered with {answer.tokens} tokens instead of {ask.reply_tokens}")
            samples.append(_sample(ask, conversation.kind, answer, asked, self.began))
            # What comes back may be cut into more tokens than it was made of; prompts are as long for every arm.
            prompt = (*prompt, *self.encode(answer.text)[: answer.tokens])
        return samples


def _sample(ask: Ask, kind: str, answer: Answer, asked: float, began: float) -> Sample:
    return Sample(
        conversation=ask.conversation,
        kind=kind,
        turn=ask.turn,
        asked_ms=(asked - began) * 1000,
        arrivals_ms=tuple((arrived - asked) * 1000 for arrived in answer.arrivals),
        total_ms=(answer.ended - asked) * 1000,
        tokens=answer.tokens,
        prompt_tokens=len(ask.prompt),
        cached_tokens=answer.cached_tokens,
        text=answer.text,
    )
