"""Which kind of run a plan asks for. The one place that knows them all."""

from collections.abc import Callable

from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import PUBLIC_SOURCES
from finetune.training.callbacks import Display
from finetune.training.fit import Outcome
from finetune.training.plan import TrainingPlan
from finetune.training.seq2seq_train import train_seq2seq
from finetune.training.train import train


def run_plan(
    plan: TrainingPlan,
    display: Display,
    *,
    sources: ModelSources = PUBLIC_SOURCES,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Train what the recipe's architecture says; see there for what is raised."""
    run = train_seq2seq if plan.recipe.train.architecture == "seq2seq" else train
    return run(plan, display, sources=sources, tell=tell)
