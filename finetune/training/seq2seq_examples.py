"""From samples to pairs for an encoder–decoder: the prompt by the way of the chat, and the reply to learn.

    sample ─► Skill.plan ─► TaskPromptBuilder ─► ids of the encoder, beginning of the reply;  answer ─► ids of the reply

Nothing is packed: an encoder would let one text see another. Pairs of like length share a bucket, so that little is padding.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from dialogue.errors import RequestTooLong, TaskUnsupported
from dialogue.prompt import Prompt
from dialogue.skills.base import PromptPlan, Refusal, Skill
from dialogue.task_prompt import TaskPromptBuilder
from finetune.rendering import Unrenderable, skill_input
from finetune.samples import Sample


@dataclass(frozen=True, slots=True)
class Pair:
    """What an encoder–decoder is trained on."""

    source: tuple[int, ...]  # for the encoder
    beginning: tuple[int, ...]  # what the reply begins with; given, not learned
    reply: tuple[int, ...]  # to learn, the end token included

    @property
    def tokens(self) -> int:
        """Tokens of both sides."""
        return len(self.source) + len(self.beginning) + len(self.reply) - 1

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss counts."""
        return len(self.reply)


Bucket = tuple[Pair, ...]  # pairs that are computed at once


@dataclass(frozen=True, slots=True)
class PairExamples:
    """The pairs of some samples."""

    buckets: tuple[Bucket, ...]
    left_out: dict[str, int] = field(default_factory=dict)  # reason → samples without a pair

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(pair for bucket in self.buckets for pair in bucket)

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss counts in one epoch."""
        return sum(pair.trained_tokens for pair in self.pairs)

    @property
    def fill_rate(self) -> float:
        """Share of what is computed that is no padding; 1 when there is nothing."""
        padded = sum(len(bucket) * _width(bucket) for bucket in self.buckets)
        return sum(pair.tokens for pair in self.pairs) / padded if padded else 1.0


@dataclass(frozen=True, slots=True)
class PairRenderer:
    """Renders samples for one model. Its parts are those of the chat."""

    skills: Mapping[str, Skill]
    builder: TaskPromptBuilder
    encode_reply: Callable[[str], tuple[int, ...]]
    longest: int  # tokens of one pair, at most

    def prompt(self, sample: Sample) -> Prompt:
        """Return the prompt that the chat would make for a sample. Raises Unrenderable when that would lose something."""
        try:
            prompt = self.builder.build(self._plan(sample))
        except RequestTooLong:
            raise Unrenderable("too long") from None
        except TaskUnsupported:
            raise Unrenderable("a language or task that the model does not know") from None
        if prompt.left_out:
            raise Unrenderable("too long")
        return prompt

    def pair(self, sample: Sample) -> Pair:
        """Return the pair of a sample. Raises Unrenderable."""
        prompt = self.prompt(sample)
        pair = Pair(prompt.ids, prompt.decoder_ids, self.encode_reply(sample.answer))
        if len(pair.reply) > prompt.reply_tokens or pair.tokens > self.longest:
            raise Unrenderable("too long")
        return pair

    def _plan(self, sample: Sample) -> PromptPlan:
        skill = self.skills.get(sample.skill)
        plan = Refusal("") if skill is None else skill.plan(skill_input(sample))
        if isinstance(plan, Refusal) or plan.fields is None:
            raise Unrenderable("no task for an encoder–decoder")
        return plan


def render_pairs(samples: Iterable[Sample], renderer: PairRenderer, bucket_tokens: int) -> PairExamples:
    """Return the pairs of samples in buckets of at most `bucket_tokens` tokens, padding included."""
    pairs: list[Pair] = []
    left_out: Counter[str] = Counter()
    for sample in samples:
        try:
            pairs.append(renderer.pair(sample))
        except Unrenderable as reason:
            left_out[str(reason)] += 1
    return PairExamples(tuple(bucketed(pairs, bucket_tokens)), dict(left_out))


def bucketed(pairs: Iterable[Pair], bucket_tokens: int) -> Sequence[Bucket]:
    """Put pairs of like length together, as many as stay within `bucket_tokens`; beginnings of one length only."""
    buckets: list[Bucket] = []
    ordered = sorted(pairs, key=lambda pair: (len(pair.beginning), pair.tokens, pair.source, pair.reply))
    for _, group in groupby(ordered, key=lambda pair: len(pair.beginning)):
        bucket: Bucket = ()
        for pair in group:
            if bucket and (len(bucket) + 1) * _width((*bucket, pair)) > bucket_tokens:
                buckets.append(bucket)
                bucket = ()
            bucket = (*bucket, pair)
        buckets.append(bucket)
    return buckets


def _width(bucket: Bucket) -> int:
    """Return the tokens of one padded pair of a bucket."""
    return max(len(pair.source) for pair in bucket) + max(len(pair.beginning) + len(pair.reply) - 1 for pair in bucket)
