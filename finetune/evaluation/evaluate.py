"""The evaluation, in order: samples, losses, answers, times, scores, verdict.

    samples of the test split and the built-in ones ─► `selection`
        ─► losses of each contender ─► answers of each contender ─► a few questions once more, for the time they take
        ─► counts ─► scores and comparisons ─► verdict

Nothing here knows torch or llama.cpp: the meter of losses and the engine are handed in.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Generic

from dialogue.engine.base import Engine
from finetune.config import Recipe
from finetune.evaluation import scoring
from finetune.evaluation.answers import Answer, Prompts, Question, ask, ask_all, make_questions, telling_part
from finetune.evaluation.bootstrap import Counts
from finetune.evaluation.contenders import Contender, Place
from finetune.evaluation.loss_meter import LossMeter, R
from finetune.evaluation.scoring import SuiteResult
from finetune.evaluation.selection import chosen_suites, out_of_place, pick
from finetune.evaluation.suites import SUITES, Suite, choose
from finetune.evaluation.verdict import Provenance, Verdict, judge
from finetune.rendering import Unrenderable
from finetune.samples import Sample

TIMED_QUESTIONS: Final = 10
TIMED_TOKENS: Final = 32

OnProgress = Callable[[str, int, int], None]  # what is done, so many, of so many


@dataclass(frozen=True, slots=True)
class Material(Generic[R]):
    """What an evaluation works with. R is what a model of its kind is trained on."""

    recipe: Recipe
    samples: Sequence[Sample]  # of the test split, and the built-in ones
    contenders: Sequence[Contender]
    row: Callable[[Sample], R]  # as in training; raises Unrenderable
    prompts: Prompts
    suites: Sequence[Suite] = SUITES  # those that make sense for the kind of model
    slots: int = 4  # questions that the engine answers at the same time


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that came out."""

    verdict: Verdict
    results: tuple[SuiteResult, ...]
    questions: tuple[Question, ...]
    answers: Mapping[Place, Mapping[str, Answer]]  # by sample id


@dataclass(slots=True)
class StepCounter:
    """Tells how much of one part is done."""

    tell: OnProgress
    what: str
    total: int
    done: int = field(default=0)

    def step(self) -> None:
        """One more is done."""
        self.done += 1
        self.tell(self.what, self.done, self.total)


def turned(prompt: Sequence[int], by: int) -> tuple[int, ...]:
    """Return the tokens of a prompt, the first `by` of them at its end: as much work, but no beginning that a cache may hold.

    What a cache spares depends on who was asked before, and a short rest costs more per token than a long prompt.
    """
    by %= max(1, len(prompt))
    return (*prompt[by:], *prompt[:by])


class Evaluator(Generic[R]):
    """Runs the suites of one evaluation."""

    def __init__(self, material: Material[R], engine: Engine, meter: LossMeter[R], tell: OnProgress) -> None:
        """`engine` is started, and has the adapters of all contenders."""
        self._material = material
        self._engine = engine
        self._meter = meter
        self._tell = tell
        self._skipped: list[str] = []

    async def run(self, provenance: Provenance) -> Evaluation:
        """Return the evaluation. Raises EngineError, and FinetuneError for a suite that does not exist."""
        recipe = self._material.recipe
        wanted = (recipe.evaluate.suites, recipe.evaluate.main, self._material.suites)
        suites = chosen_suites(*wanted)
        if titles := out_of_place(*wanted):
            self._skipped.append(f"Made for another kind of model: {'; '.join(titles)}.")
        picked = pick(self._material.samples, recipe.evaluate.samples, recipe.seed)
        results = [result for suite in suites if suite.source == "losses" for result in await self._losses(suite, picked)]
        asked = [suite for suite in suites if suite.source == "answers"]
        questions = self._questions(asked, picked)
        answers = await self._answers(questions)
        results += [result for suite in asked for result in self._judged(suite, [q.sample for q in questions], answers)]
        results += [result for suite in suites if suite.source == "latency" for result in await self._times(suite, picked)]
        order = {suite.name: place for place, suite in enumerate(suites)}
        results.sort(key=lambda result: order[result.suite.name])
        return Evaluation(self._verdict(results, provenance), tuple(results), tuple(questions), answers)

    async def _losses(self, suite: Suite, picked: Sequence[Sample]) -> list[SuiteResult]:
        pairs: list[tuple[Sample, R]] = []
        for sample in choose(suite, picked):
            with suppress(Unrenderable):
                pairs.append((sample, self._material.row(sample)))
        if not self._has_samples(suite, len(pairs)):
            return []
        counter = StepCounter(self._tell, suite.title, len(pairs) * len(self._material.contenders))
        rows = [row for _, row in pairs]
        sheet = {(suite.headline.name, each.place): await self._measured(each, rows, counter) for each in self._material.contenders}
        return [SuiteResult(suite, tuple(sample for sample, _ in pairs), sheet)]

    async def _measured(self, contender: Contender, rows: Sequence[R], counter: StepCounter) -> Counts:
        sums: list[float] = []
        for loss in self._meter.measure(contender, rows):
            sums.append(loss)
            counter.step()
            await asyncio.sleep(0)  # computing keeps the event loop busy: here Ctrl-C and the engine's signs of life come through
        return Counts(tuple(sums), tuple(float(row.trained_tokens) for row in rows))

    def _questions(self, suites: Sequence[Suite], picked: Sequence[Sample]) -> list[Question]:
        """Return what is asked once for all suites that judge answers."""
        wanted = {sample.id for suite in suites for sample in choose(suite, picked)}
        samples = [telling_part(sample) for sample in picked if sample.id in wanted]
        questions, unrendered = make_questions(self._material.prompts, samples)
        self._skipped += [f"{count} samples have no prompt: {reason}." for reason, count in unrendered.items()]
        return questions

    async def _answers(self, questions: Sequence[Question]) -> dict[Place, dict[str, Answer]]:
        progress = StepCounter(self._tell, "Answers", len(questions) * len(self._material.contenders))
        found: dict[Place, dict[str, Answer]] = {}
        for contender in self._material.contenders:
            asked = [self._with_examples(question) for question in questions] if contender.place is Place.BASE else questions
            penalty, at_once = self._material.prompts.penalty, self._material.slots
            given = await ask_all(self._engine, asked, contender.adapter, penalty=penalty, at_once=at_once, on_answer=progress.step)
            found[contender.place] = {question.sample.id: answer for question, answer in zip(asked, given, strict=True)}
        return found

    def _with_examples(self, question: Question) -> Question:
        """Return the question with two examples before it, if its suites ask for something that the base model never saw."""
        if not any(suite.examples and suite.takes(question.sample) for suite in self._material.suites):
            return question
        try:
            return self._material.prompts.question(question.sample, examples=True)
        except Unrenderable:
            return question

    def _judged(self, suite: Suite, asked: Sequence[Sample], answers: Mapping[Place, Mapping[str, Answer]]) -> list[SuiteResult]:
        samples = choose(suite, asked)
        return [scoring.judge_answers(suite, samples, answers)] if self._has_samples(suite, len(samples)) else []

    async def _times(self, suite: Suite, picked: Sequence[Sample]) -> list[SuiteResult]:
        questions, _ = make_questions(self._material.prompts, choose(suite, picked)[:TIMED_QUESTIONS])
        if not self._has_samples(suite, len(questions)):
            return []
        progress = StepCounter(self._tell, suite.title, len(questions) * len(self._material.contenders))
        given: dict[Place, list[Answer]] = {contender.place: [] for contender in self._material.contenders}
        for number, question in enumerate(questions):
            turn = number % len(self._material.contenders)
            for contender in (*self._material.contenders[turn:], *self._material.contenders[:turn]):
                given[contender.place].append(await self._timed(contender, question, number))
                progress.step()
        return [scoring.judge_latency(suite, [question.sample for question in questions], given)]

    async def _timed(self, contender: Contender, question: Question, number: int) -> Answer:
        short = replace(question, prompt=turned(question.prompt, number + 1), max_tokens=min(question.max_tokens, TIMED_TOKENS))
        return await ask(self._engine, short, contender.adapter, penalty=1.0, request_id=f"timed-{contender.place}-{number}")

    def _has_samples(self, suite: Suite, count: int) -> bool:
        if not count:
            self._skipped.append(f"{suite.title}: there are no samples for it.")
        return count > 0

    def _verdict(self, results: Sequence[SuiteResult], provenance: Provenance) -> Verdict:
        section, seed = self._material.recipe.evaluate, self._material.recipe.seed
        compared = [each for result in results for each in scoring.comparisons(result, section, seed)]
        scored = [each for result in results for each in scoring.scores(result, section, seed)]
        return judge(compared, scored, section.main, self._skipped, provenance)
