"""Step 7: from a skill's plan to the request for the engine, with everything that has to be known about it afterwards."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

import structlog

from dialogue.config import DialogueConfig
from dialogue.context import TurnContext
from dialogue.engine.base import GenerationRequest, SamplingParams
from dialogue.errors import RequestTooLong
from dialogue.generation import Generation
from dialogue.ports import AdapterChoice, PromptMaker, SkillModel, Time
from dialogue.prompt import Context, Prompt
from dialogue.router import SkillRoute
from dialogue.skills.base import PromptPlan, SamplingChange
from dialogue.skills.summarize import transcript
from dialogue.skills.texts import as_data, paragraphs, prompt_text
from storage.records import TurnRecord

log = structlog.get_logger(__name__)

_SEED_BITS: Final = 31  # what every engine takes as a seed
_SUMMARY_TOKENS: Final = 192


@dataclass(frozen=True, slots=True)
class Draft:
    """A request, and what it was made of."""

    request: GenerationRequest
    prompt: Prompt
    model: SkillModel
    route: SkillRoute
    language: str
    summary: str | None = None  # new rolling summary of the conversation


class Drafter:
    """Makes drafts; knows the models, and which one a skill uses."""

    def __init__(self, models: Mapping[str, SkillModel], config: DialogueConfig, adapter_for: AdapterChoice, time: Time) -> None:
        self._models = models
        self._builders: dict[str, PromptMaker] = {skill: model.prompt_builder(config) for skill, model in models.items()}
        self._config = config
        self._adapter_for = adapter_for
        self._time = time

    async def draft(self, route: SkillRoute, plan: PromptPlan, context: TurnContext, stop: asyncio.Event) -> Draft:
        """Return what is sent to the engine. Raises RequestTooLong and TaskUnsupported.

        When old turns leave the window and the owner wants it, they are summarised first; that this fails never fails the turn.
        """
        skill = route.skill.name
        builder = self._builders[skill]
        given = Context(context.history, context.conversation.summary, self._time.today())
        prompt, summary = builder.build(plan, given), None
        if prompt.dropped and self._config.rolling_summary:
            summary = await self._summarise(route, plan_summary(given.summary, prompt.dropped, context.language), context, stop)
        if summary:
            kept = replace(given, turns=given.turns[len(prompt.dropped) :], summary=summary)
            again = builder.build(plan, kept)
            prompt = replace(again, window_start=again.window_start or prompt.window_start)
        return Draft(self._request(route, plan, prompt, context), prompt, self._models[skill], route, context.language, summary)

    async def _summarise(self, route: SkillRoute, plan: PromptPlan, context: TurnContext, stop: asyncio.Event) -> str | None:
        """Return what was generated, None when that did not come to its end."""
        try:
            prompt = self._builders[route.skill.name].build(plan)
        except RequestTooLong as error:
            log.warning("summary.failed", turn_id=context.turn_id, reason=str(error))
            return None
        request = self._request(route, plan, prompt, context)
        request = replace(request, request_id=f"{context.turn_id}-summary", adapter=None)
        generation = Generation(self._models[route.skill.name].engine, request, stop, self._time)
        async with aclosing(generation.events()) as events:
            async for _ in events:
                pass
        outcome = generation.outcome
        return outcome.text or None if outcome.finished is not None else None

    def _request(self, route: SkillRoute, plan: PromptPlan, prompt: Prompt, context: TurnContext) -> GenerationRequest:
        config, skill = self._config, route.skill.name
        wished = plan.sampling.temperature
        sampling = SamplingParams(
            max_tokens=prompt.reply_tokens,
            temperature=config.temperature if wished is None else wished,
            top_p=config.top_p,
            top_k=config.top_k,
            repetition_penalty=config.repetition_penalty,
            seed=secrets.randbits(_SEED_BITS) if config.seed is None else config.seed,
        )
        return GenerationRequest(
            request_id=context.turn_id,
            prompt=prompt.ids,
            sampling=self._models[skill].adapt(sampling),
            adapter=self._adapter_for(context.conversation.id, skill),
            # Only what the next turn continues is worth keeping.
            cache_key=f"{context.conversation.id}:{skill}" if plan.history else "",
            fair_key=context.user_id,
            deadline_s=config.deadline_s,
            decoder_prompt=prompt.decoder_ids,
        )


def plan_summary(before: str, leaving: Sequence[TurnRecord], language: str) -> PromptPlan:
    """Return the plan of a prompt that puts the summary so far and the leaving turns into one new summary."""
    return PromptPlan(
        system=prompt_text("rolling_summary", language),
        user_text=as_data(paragraphs([before, transcript(leaving, language)])),
        language=language,
        history=False,
        sampling=SamplingChange(temperature=0.0, max_tokens=_SUMMARY_TOKENS),
    )
