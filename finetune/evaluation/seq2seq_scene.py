"""An encoder–decoder as an evaluation needs it: its prompts, the check of its adapters, the engine that serves it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from dialogue.config import EngineConfig
from dialogue.engine.base import Engine
from dialogue.engine.factory import build_engine
from dialogue.engine.local.seq2seq_adapter import load_seq2seq_adapter, seq2seq_facts
from dialogue.engine.local.seq2seq_model import load_weights
from dialogue.engine.model_files import ModelFiles
from finetune.config import Recipe
from finetune.evaluation.answers import Question
from finetune.samples import Sample
from finetune.training.seq2seq_examples import PairRenderer
from finetune.training.seq2seq_train import Seq2SeqBase, build_pair_renderer

_SIDE_TOKENS: Final = 1024  # of a text or its reply; pairs of training may be shorter
_START_S: Final = 600.0  # a big model from a slow disk


@dataclass(frozen=True, slots=True)
class TaskPrompts:
    """Implements `Prompts` for an encoder–decoder."""

    renderer: PairRenderer
    max_reply_tokens: int
    penalty: float = 1.0  # as served: what a text says twice its translation says twice

    def question(self, sample: Sample, *, examples: bool = False) -> Question:  # noqa: ARG002 - such a model takes no examples
        """Return the question of a sample. Raises Unrenderable."""
        prompt = self.renderer.prompt(sample)
        return Question(sample, prompt.ids, min(self.max_reply_tokens, prompt.reply_tokens), prompt.decoder_ids)


def task_prompts(base: Seq2SeqBase, recipe: Recipe, max_reply_tokens: int) -> TaskPrompts:
    """Return what makes the prompts of a model."""
    return TaskPrompts(build_pair_renderer(base.codec, recipe, _side_tokens(recipe)), max_reply_tokens)


def load_float(base: Seq2SeqBase) -> Any:
    """Return the model in float32, on the CPU. Raises EngineUnavailable."""
    return load_weights(base.files.path, torch.device("cpu"), torch.float32)


def fits_seq2seq(base: Seq2SeqBase, model: Any) -> Callable[[Path], str]:
    """Return the engine's own check for adapters of a loaded model; see `contenders.Check`."""
    facts = seq2seq_facts(base.files.architecture, base.files.sha256, base.codec.sha256, base.codec.layout_sha256)
    return lambda folder: load_seq2seq_adapter(folder, model, facts).sha256


def build_seq2seq_engine(config: EngineConfig, files: ModelFiles, recipe: Recipe, *, slots: int) -> Engine:
    """Return the engine that serves, not yet started: within the owner's cache and threads, its size as given."""
    context = min(files.context_tokens, 2 * _side_tokens(recipe))
    return build_engine(replace(config, kind="seq2seq", context_tokens=context, slots=slots, start_timeout_s=_START_S, remote=None), files)


def engine_name() -> str:
    """Return what the engine of this machine is called in a verdict; it computes in float32 on a CPU alone."""
    return f"seq2seq, {'bfloat16' if torch.cuda.is_available() else 'float32'}"


def _side_tokens(recipe: Recipe) -> int:
    return max(_SIDE_TOKENS, recipe.train.row_tokens)
