"""Whose agreement is asked: one trained adapter, as the training process has it and as each engine does.

Kinds of models differ in this alone; `run_agreement` asks and compares.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dialogue.config import EngineConfig
from dialogue.engine.base import Engine
from dialogue.engine.model_sources import ModelSources
from finetune.evaluation.agreement import Decode, Speaker
from finetune.evaluation.answers import Prompts
from finetune.evaluation.contenders import Contender


@dataclass(frozen=True, slots=True)
class Terms:
    """How much is compared, and with what."""

    run: Path
    data: Path | None  # the dataset whose prompts are asked; None = the one that was trained on
    prompts: int
    tokens: int  # of one answer, at most
    engine: EngineConfig
    sources: ModelSources


@dataclass(frozen=True, slots=True)
class ServingForm:
    """One engine that can serve the adapter, by what people call it."""

    name: str
    exact: bool  # whether it has the same weights as the training process, so that it must agree
    build: Callable[[], Engine]


@dataclass(frozen=True, slots=True)
class Subject:
    """One trained adapter."""

    candidate: Contender
    prompts: Prompts
    decode: Decode
    forms: tuple[ServingForm, ...]
    open_speaker: Callable[[], Speaker]  # loads the model of the training process
