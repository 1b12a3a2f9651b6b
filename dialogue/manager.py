"""The dialogue manager: from the messages of a claimed conversation to a stream of reply events (steps 4 to 9).

`respond` is the way of one turn, one line for each step. It knows no platform, no SQL and no model: those are ports.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from dialogue.answer import Answer, excused, of_command, refused, said, silence, unread
from dialogue.config import DialogueConfig
from dialogue.context import TurnContext, find_committed, load_context, register
from dialogue.draft import Drafter
from dialogue.errors import RequestTooLong, TaskUnsupported
from dialogue.generation import Generation
from dialogue.messages import Abilities, IncomingMessage, ReplyCommitted, ReplyEvent
from dialogue.ports import AdapterChoice, NoRetriever, Retriever, ServedModel, SkillModel, Time, base_model
from dialogue.router import CommandContext, CommandRoute, Router, SkillRoute
from dialogue.skills.base import PromptPlan, Refusal, SkillInput
from storage.database import Database
from storage.ids import new_id
from storage.records import Claim, NewTurn, OutboxRecord, Owner, TurnRecord
from storage.unit_of_work import UnitOfWork

_TOKENS_OF_A_TURN: Final = 8  # fewer has no turn: how many turns a window of so many tokens can hold at most


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn on its way."""

    claim: Claim
    inbox_ids: tuple[str, ...]
    context: TurnContext
    stop: asyncio.Event
    abilities: Abilities


class DialogueManager:
    """Answers turns. One for each process; turns of different conversations run side by side."""

    def __init__(
        self,
        database: Database,
        model: ServedModel,
        router: Router,
        config: DialogueConfig,
        *,
        skill_models: Mapping[str, SkillModel] | None = None,  # for skills that have a model of their own
        retriever: Retriever | None = None,
        adapter_for: AdapterChoice = base_model,
        time: Time | None = None,
    ) -> None:
        self._database = database
        self._router = router
        self._most_turns = config.history_tokens // _TOKENS_OF_A_TURN + 1
        self._retriever = retriever or NoRetriever()
        self._time = time or Time()
        models: dict[str, SkillModel] = {**dict.fromkeys(router.skills, model), **(skill_models or {})}
        self._drafter = Drafter(models, config, adapter_for, self._time)

    async def respond(
        self,
        claim: Claim,
        messages: Sequence[IncomingMessage],
        inbox_ids: Sequence[str],
        *,
        turn_id: str | None = None,  # of an outbox row that was reserved for this turn
        stop: asyncio.Event | None = None,
        abilities: Abilities | None = None,  # None = nothing but text
    ) -> AsyncGenerator[ReplyEvent, None]:
        """Answer a burst of one person (see `router.split_bursts`): previews, then exactly one ReplyCommitted.

        Closing the generator cancels what is being made and commits nothing. Setting `stop` ends the reply as far as it is and
        commits that. Raises ClaimLost, and other StorageErrors, when nothing was committed: nothing that was shown is final then.
        """
        context = await load_context(self._database, claim, messages, turn_id or new_id(), most_turns=self._most_turns)
        turn = _Turn(claim, tuple(inbox_ids), context, stop or asyncio.Event(), abilities or Abilities())
        if context.committed is not None:
            yield ReplyCommitted(context.committed[0], _id_of(context.committed[1]))
            return
        if context.conversation.owner is Owner.HUMAN:
            yield await self._record(turn, silence())
            return
        if context.text.strip() == "" and (key := _what_is_missing(context)):
            yield await self._record(turn, unread(key, context.language))
            return
        route = self._router.route(context.text, context.conversation.skill)
        if isinstance(route, CommandRoute):
            yield await self._record(turn, await _run_command(route, turn))
            return
        plan = await self._plan(route, context)
        if isinstance(plan, Refusal):
            yield await self._record(turn, refused(plan.text, route))
            return
        try:
            draft = await self._drafter.draft(route, plan, context, turn.stop)
        except (RequestTooLong, TaskUnsupported) as error:
            yield await self._record(turn, excused(error, route, context.language))
            return
        generation = Generation(draft.model.engine, draft.request, turn.stop, self._time)
        async with aclosing(generation.events()) as events:
            async for event in events:
                yield event
        yield await self._record(turn, said(draft, generation.outcome))

    async def _plan(self, route: SkillRoute, context: TurnContext) -> PromptPlan | Refusal:
        passages = await self._retriever.retrieve(route.argument, language=context.language) if route.skill.retrieves else ()
        return route.skill.plan(
            SkillInput(
                text=route.argument,
                language=context.language,
                quoted_text=context.quoted_text,
                profile=context.profile,
                history=context.history,
                summary=context.conversation.summary,
                conversation_is_private=context.conversation.is_private,
                passages=tuple(passages),
            )
        )

    async def _record(self, turn: _Turn, answer: Answer) -> ReplyCommitted:
        """Step 9: turn, reply, answered items and the command's effect in one transaction; the effect once for each turn id."""
        context = turn.context
        new = NewTurn(
            id=context.turn_id,
            user_id=context.user_id,
            skill=answer.skill,
            status=answer.status,
            user_text=context.text,
            reply_text=answer.text or "",
            inbox_ids=turn.inbox_ids,
            engine=answer.engine,
            adapter=answer.adapter,
            prompt_tokens=answer.timings.prompt_tokens,
            completion_tokens=answer.timings.completion_tokens,
            document=answer.document,
            in_history=answer.in_history,
            window_start=answer.window_start,
            summary=answer.summary,
            sticky_skill=answer.sticky_skill,
            extras=answer.extras.encode(),
        )

        async def commit(work: UnitOfWork) -> tuple[TurnRecord, OutboxRecord | None]:
            is_new = answer.effect is not None and await find_committed(work, new.id) is None
            await register(work, context.messages[-1])
            owner_epoch = context.conversation.owner_epoch
            done = await work.turns.commit(turn.claim, new, reply=answer.text, reply_to=context.reply_to, owner_epoch=owner_epoch)
            if answer.effect is not None and is_new:
                await answer.effect(work)
            return done

        record, row = await self._database.write(commit)
        return ReplyCommitted(record, _id_of(row), answer.timings)


def _what_is_missing(context: TurnContext) -> str:
    """Return the key of what is said to messages without a word; "" when there is something to work with all the same."""
    if any(message.file is not None for message in context.messages):
        return "file_hint"
    is_readable = context.quoted_text and not any(message.is_unreadable for message in context.messages)
    return "" if is_readable else "cannot_read"


async def _run_command(route: CommandRoute, turn: _Turn) -> Answer:
    context = turn.context
    given = CommandContext(
        argument=route.argument,
        language=context.language,
        user_id=context.user_id,
        conversation=context.conversation,
        messages=context.messages,
        profile=context.profile,
        abilities=turn.abilities,
    )
    return of_command(await route.command.run(given))


def _id_of(row: OutboxRecord | None) -> str | None:
    return None if row is None else row.id
