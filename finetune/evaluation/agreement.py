"""Train = serve: whether the engines say what the training process would say, word for word.

The training process (torch, float32) answers prompts greedily, token by token, and so does each engine. In float32 both must agree
for every prompt; where weights are quantised they need not, and it is told how often they do and where they part.

Engines hand out text, not ids, so texts are compared: two answers are the same when their texts are, blanks at either end left out.
Ids that decode to one text are not told apart, and where two answers part is found by decoding ours piece by piece.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, Protocol

import torch

from dialogue.engine.base import Engine
from dialogue.tokenizer import Tokenizer
from finetune.evaluation.answers import Answer, Question, ask

TIE: Final = 1e-3  # logits: below this the two likeliest tokens are equally likely, and rounding decides between them

OnStep = Callable[[], None]
Decode = Callable[[Sequence[int]], str]  # tokens of an answer → its text, control tokens left out


@dataclass(frozen=True, slots=True)
class Spoken:
    """What the training process said."""

    ids: tuple[int, ...]  # without the token that ends the turn
    gaps: tuple[float, ...]  # logit of each token above the next likeliest; that of the end of the turn included, if it came


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where an engine first said something else."""

    sample: str
    token: int  # 0 = the first token of the answer
    gap: float  # how sure the training process was there, in logits
    expected: str
    said: str

    @property
    def is_tie(self) -> bool:
        """Whether two tokens were equally likely."""
        return self.gap < TIE


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one engine compares with the training process."""

    engine: str
    exact: bool  # whether it has the same weights, so that it must agree
    prompts: int
    tokens: int  # of the training process
    matched_tokens: int  # before the first divergence of each prompt
    divergences: tuple[Divergence, ...]

    @property
    def same(self) -> int:
        """Prompts with the same answer."""
        return self.prompts - len(self.divergences)

    @property
    def holds(self) -> bool:
        """Whether it agrees as it must: everywhere but at ties, if the weights are the same."""
        return not self.exact or all(divergence.is_tie for divergence in self.divergences)


class Speaker(Protocol):
    """Answers greedily with a model of the training process."""

    def speak(self, question: Question) -> Spoken:
        """Return the likeliest tokens up to the end of the answer or the limit of the question."""
        ...


class GreedySpeaker:
    """Implements `Speaker` for decoders."""

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        self._model = model.eval()
        self._ends = tokenizer.eos_ids

    def speak(self, question: Question) -> Spoken:
        """Return the likeliest tokens up to the end of the turn or the limit of the question."""
        ids: list[int] = []
        gaps: list[float] = []
        fed, past = list(question.prompt), None
        with torch.inference_mode():
            while len(ids) < question.max_tokens:
                out = self._model(input_ids=torch.tensor([fed]), past_key_values=past, use_cache=True)
                best = torch.topk(out.logits[0, -1].float(), 2)
                gaps.append(float(best.values[0] - best.values[1]))
                token = int(best.indices[0])
                if token in self._ends:
                    break
                ids.append(token)
                fed, past = [token], out.past_key_values
        return Spoken(tuple(ids), tuple(gaps))


def compare(name: str, spoken: Sequence[tuple[Question, Spoken]], answers: Sequence[Answer], decode: Decode, *, exact: bool) -> Agreement:
    """Return the agreement of an engine's answers with what the training process said."""
    divergences: list[Divergence] = []
    matched = 0
    for (question, ours), theirs in zip(spoken, answers, strict=True):
        expected = decode(ours.ids).strip()
        if theirs.text == expected:
            matched += len(ours.ids)
            continue
        at = _parting(ours.ids, theirs.text, decode)
        matched += at
        divergences.append(Divergence(question.sample.id, at, ours.gaps[min(at, len(ours.gaps) - 1)], expected, theirs.text))
    return Agreement(name, exact, len(answers), sum(len(ours.ids) for _, ours in spoken), matched, tuple(divergences))


async def ask_engine(engine: Engine, questions: Sequence[Question], adapter: str | None, on_step: OnStep) -> list[Answer]:
    """Return the engine's answers, one at a time: together with others a sum may be taken in another order. Raises EngineError."""
    answers: list[Answer] = []
    for number, question in enumerate(questions):
        answers.append(await ask(engine, question, adapter, penalty=1.0, request_id=f"agree-{number}"))
        on_step()
    return answers


def _parting(ids: Sequence[int], said: str, decode: Decode) -> int:
    """Return how many tokens of `ids` the text `said` begins with."""
    pieces = [decode(ids[:end]).lstrip() for end in range(1, len(ids) + 1)]
    return sum(1 for _ in takewhile(said.startswith, pieces))
