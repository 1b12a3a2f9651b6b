"""Tiny random decoders of every family, and the engine's loop without thread and text: what it makes, token by token."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
import transformers

from dialogue.engine.base import SamplingParams
from dialogue.engine.local.decoder_model import DecoderModel
from dialogue.engine.local.kv_store import KvStore
from dialogue.engine.local.scheduler import Bounds, Scheduler, Step
from dialogue.engine.local.scheduler import Sequence as Running
from dialogue.engine.local.slot_table import SlotTable
from dialogue.engine.local.token_sampling import Draw, choose_tokens
from dialogue.engine.local.varlen_attention import AttentionOver

VOCABULARY: Final = 64
WINDOW: Final = 6  # of sliding attention: shorter than the prompts
GREEDY: Final = SamplingParams(max_tokens=12, temperature=0, repetition_penalty=1)

_SIZES: Final = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "head_dim": 8,
    "initializer_range": 0.3,  # big, so that what is said depends on what was read
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,  # else a random model repeats what it read last
}

_SLIDING: Final = ["sliding_attention", "full_attention"]
# By the name of a family; what is special about it must matter in so small a model.
FAMILIES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "llama": ("llama", {}),
    "llama with all heads": ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gemma": ("gemma", {"num_key_value_heads": 1}),
    "gemma2": ("gemma2", {"layer_types": _SLIDING, "sliding_window": WINDOW, "query_pre_attn_scalar": 5, "attn_logit_softcapping": 3.0}),
    "gemma3": ("gemma3_text", {"layer_types": _SLIDING, "sliding_window": WINDOW, "query_pre_attn_scalar": 5}),
    "mistral": ("mistral", {"sliding_window": WINDOW}),
}


def tiny_weights(family: str = "llama", device: str = "cpu", dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """Return a random model of a family, the same on every device."""
    kind, own = FAMILIES[family]
    torch.manual_seed(5)
    config = transformers.AutoConfig.for_model(kind, **_SIZES | dict(own) | settings)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().to(device, dtype)


def prompt_of(length: int) -> list[int]:
    """Return a prompt without control tokens; longer ones begin as shorter ones do."""
    return [3 + (7 * place + place * place) % (VOCABULARY - 3) for place in range(length)]


def generated(weights: Any, prompt: Sequence[int], count: int) -> list[int]:
    """Return what transformers itself generates, greedily."""
    weights.set_attn_implementation("eager")
    with torch.inference_mode():
        made = weights.generate(
            torch.tensor([list(prompt)], device=weights.device),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
            suppress_tokens=[2],
        )
    return made[0, len(prompt) :].tolist()


def noise(*shape: int) -> torch.Tensor:
    """Return random values, the same for the same shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def no_mask(*_: object) -> None:
    """In the place of `span_attention.mask_of`: let every token see every other one of its request."""


class Bench:
    """The engine's loop over one model."""

    def __init__(
        self,
        weights: Any,
        *,
        places: int = 400,
        attention_over: AttentionOver | None = None,
        graphs: bool = True,
        bounds: Bounds | None = None,
    ) -> None:
        self.model = DecoderModel(weights, KvStore(weights, places), attention_over, graphs=graphs)
        self.scheduler = Scheduler(SlotTable(places), bounds or Bounds(tokens=16, sequences=4))
        self.steps: list[Step] = []

    def run(
        self, *sequences: Running, count: int = 12, sampling: SamplingParams = GREEDY, before: Callable[[int], None] = lambda _: None
    ) -> list[list[int]]:
        """Make `count` tokens for each sequence, none of them an end token; `before` is called with the number of each step."""
        prompts = {sequence: len(sequence.tokens) for sequence in sequences}
        for sequence in sequences:
            sequence.room = sequence.room or len(sequence.tokens) + count
            self.scheduler.submit(sequence)
        number = 0
        while not self.scheduler.idle:
            before(number)
            self._step(prompts, count, sampling)
            number += 1
        return [sequence.tokens[prompts[sequence] :] for sequence in sequences]

    def interrupt(self) -> None:
        """Let the next step be computed in vain: memory ran out at its end."""
        step = self.scheduler.plan()
        self.model.copy(step)
        self.model.compute(step)
        self.scheduler.put_back(step)

    def _step(self, prompts: Mapping[Running, int], count: int, sampling: SamplingParams) -> None:
        step = self.scheduler.plan()
        self.steps.append(step)
        sampled = [chunk.sequence for chunk in step.chunks if chunk.samples]
        draws = [Draw(sampling, sequence.tokens[prompts[sequence] :], _point(len(sequence.tokens)), (2,)) for sequence in sampled]
        self.model.copy(step)
        tokens = choose_tokens(self.model.compute(step), draws).tolist()
        self.scheduler.commit(step)
        for sequence, token in zip(sampled, tokens, strict=True):
            sequence.tokens.append(token)
            if len(sequence.tokens) == prompts[sequence] + count:
                self.scheduler.end(sequence)


def alone_and_together(
    weights: Any, prompts: Sequence[Sequence[int]], sampling: SamplingParams = GREEDY
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the replies that each prompt gets by itself, and those that all of them get in one batch, read in other pieces."""
    alone = [Bench(weights).run(Running(list(prompt)), sampling=sampling)[0] for prompt in prompts]
    return alone, Bench(weights).run(*(Running(list(prompt)) for prompt in prompts), sampling=sampling)


def _point(place: int) -> float:
    """A number between 0 and 1 that looks random and depends on the place alone."""
    return (place * 0.6180339887) % 1.0


def documented_varlen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *lengths: Any, **how: Any) -> torch.Tensor:
    """What the documentation of `torch.nn.attention.varlen.varlen_attn` says, slowly; the causal end is that of the keys in use."""
    cu_seq_q, cu_seq_k, max_q, max_k = lengths
    left, right = how["window_size"]
    used, groups = how["seqused_k"].tolist(), query.shape[1] // key.shape[1]
    starts, ends = cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist()
    assert right == 0
    assert cu_seq_q.dtype == cu_seq_k.dtype == how["seqused_k"].dtype == torch.int32
    assert cu_seq_k.tolist() == sorted(cu_seq_k.tolist())
    assert all(filled <= room for filled, room in zip(used, cu_seq_k.diff().tolist(), strict=True))
    assert max_q == max(map(int, cu_seq_q.diff()))
    assert max_k >= max(used)
    parts = []
    for start, end, first, filled in zip(starts, ends, cu_seq_k.tolist(), used, strict=False):
        keys, values = (tensor[first : first + filled].repeat_interleave(groups, 1).transpose(0, 1) for tensor in (key, value))
        ahead = torch.arange(filled) - torch.arange(filled - (end - start), filled)[:, None]
        seen = (ahead <= 0) & ((ahead >= -left) if left >= 0 else torch.tensor(True))
        scores = (query[start:end].transpose(0, 1) @ keys.transpose(1, 2) * how["scale"]).masked_fill(~seen, -torch.inf)
        parts.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(parts)
