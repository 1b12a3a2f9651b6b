"""The suites of encoder–decoders, which translate and summarise and do nothing else. Pure."""

from dataclasses import replace
from typing import Final

from finetune.config import EvaluateSection
from finetune.evaluation.suites import BY_NAME, TASK_LOSS, Suite
from finetune.samples import Kind, Sample


def _is_task(sample: Sample) -> bool:
    return sample.kind in {Kind.TRANSLATION, Kind.SUMMARY}


SEQ2SEQ_SUITES: Final[tuple[Suite, ...]] = (
    TASK_LOSS,
    BY_NAME["translation"],
    BY_NAME["summary"],
    replace(BY_NAME["language"], takes=_is_task),
    replace(BY_NAME["latency"], takes=_is_task),
)


def own_gate(section: EvaluateSection) -> EvaluateSection:
    """Return the section with the gate of an encoder–decoder where the recipe has left that of a decoder as it is by default."""
    default = EvaluateSection().main
    return section.model_copy(update={"main": (TASK_LOSS.name,)}) if section.main == default else section
