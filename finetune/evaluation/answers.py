"""From samples to answers, by the engine that serves: greedy, the same prompts for every contender.

The prompt of a sample is that of the chat. The base model has never seen what is asked of it, so where a suite says so it is shown
two examples before the question; adapters are not.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from dialogue.config import DialogueConfig
from dialogue.engine.base import Engine, FinishReason, GenerationFinished, GenerationRequest, SamplingParams, TextDelta
from dialogue.errors import EngineUnavailable
from finetune.evaluation.builtin import example_turns
from finetune.evaluation.facts import find_facts
from finetune.rendering import RowRenderer, Unrenderable, build_renderer
from finetune.samples import Kind, Sample

DEADLINE_S: Final = 3600.0  # nobody waits at a chat for these

OnAnswer = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt to be answered."""

    sample: Sample
    prompt: tuple[int, ...]
    max_tokens: int
    decoder_prompt: tuple[int, ...] = ()  # encoder–decoders only: what the answer begins with


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine said. Times are milliseconds."""

    text: str
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    finished: bool  # False = the limit of tokens ended it
    prompt_ms: float
    generation_ms: float


class Prompts(Protocol):
    """What makes the prompts of one model, as the chat makes them."""

    @property
    def penalty(self) -> float:
        """What serving gives the engine as repetition penalty."""
        ...

    def question(self, sample: Sample, *, examples: bool = False) -> Question:
        """Return the question of a sample, with `examples` shown before it. Raises Unrenderable."""
        ...


@dataclass(frozen=True, slots=True)
class PromptMaker:
    """Implements `Prompts` for a decoder with the recipe's settings."""

    renderer: RowRenderer
    config: DialogueConfig
    max_reply_tokens: int

    @property
    def penalty(self) -> float:
        return self.config.repetition_penalty

    def question(self, sample: Sample, *, examples: bool = False) -> Question:
        """Return the question of a sample. Raises Unrenderable."""
        shown = replace(sample, turns=(*example_turns(sample.language), *sample.turns)) if examples else sample
        prompt = self._renderer_for(sample).prompt(shown)
        return Question(sample, prompt.ids, min(self.max_reply_tokens, prompt.reply_tokens))

    def _renderer_for(self, sample: Sample) -> RowRenderer:
        """Return the renderer of this sample's owner: some samples bring the owner's instructions along."""
        if "instructions" not in sample.extra:
            return self.renderer
        config = replace(self.config, instructions=sample.extra["instructions"])
        return build_renderer(self.renderer.template, self.renderer.tokenizer, config, self.renderer.builder.limits.context)


def telling_part(sample: Sample) -> Sample:
    """Cut a dialogue after its reply with the most facts: the last one is often a farewell, which every model gets right."""
    if sample.kind is not Kind.DIALOGUE or len(sample.turns) < 4:
        return sample
    ends = range(2, len(sample.turns) + 1, 2)
    best = max(ends, key=lambda end: (len(find_facts(sample.turns[end - 1].content)), len(sample.turns[end - 1].content)))
    return sample if best == len(sample.turns) else replace(sample, turns=sample.turns[:best], passages=(), answer_passage=0)


def make_questions(maker: Prompts, samples: Sequence[Sample]) -> tuple[list[Question], Counter[str]]:
    """Return the questions of the samples that can be rendered, and how many cannot, by the reason."""
    questions: list[Question] = []
    unrendered: Counter[str] = Counter()
    for sample in samples:
        try:
            questions.append(maker.question(sample))
        except Unrenderable as reason:
            unrendered[str(reason)] += 1
    return questions, unrendered


def greedy(max_tokens: int, repetition_penalty: float) -> SamplingParams:
    """Return the sampling of an evaluation: as served, but always the likeliest token."""
    return SamplingParams(max_tokens=max_tokens, temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=repetition_penalty)


async def ask_all(
    engine: Engine, questions: Sequence[Question], adapter: str | None, *, penalty: float, at_once: int, on_answer: OnAnswer
) -> list[Answer]:
    """Return the answers in the order of the questions, `at_once` asked at the same time. Raises EngineError."""
    free = asyncio.Semaphore(at_once)

    async def one(number: int, question: Question) -> Answer:
        async with free:
            answer = await ask(engine, question, adapter, penalty=penalty, request_id=f"{adapter}-{number}")
            on_answer()
            return answer

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number, question)) for number, question in enumerate(questions)]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def ask(engine: Engine, question: Question, adapter: str | None, *, penalty: float, request_id: str) -> Answer:
    """Return one answer. Raises EngineError."""
    request = GenerationRequest(
        request_id,
        question.prompt,
        greedy(question.max_tokens, penalty),
        adapter=adapter,
        fair_key=request_id,
        deadline_s=DEADLINE_S,
        decoder_prompt=question.decoder_prompt,
    )
    text: list[str] = []
    async for event in engine.generate(request):
        if isinstance(event, TextDelta):
            text.append(event.text)
        elif isinstance(event, GenerationFinished):
            return _answer("".join(text), event)
    raise EngineUnavailable("the engine ended an answer without a word")


def _answer(text: str, end: GenerationFinished) -> Answer:
    finished = end.reason is FinishReason.STOP
    return Answer(text.strip(), end.prompt_tokens, end.cached_tokens, end.completion_tokens, finished, end.prompt_ms, end.generation_ms)
