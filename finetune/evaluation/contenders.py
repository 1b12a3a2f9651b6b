"""Who is compared: the candidate, the adapter that answers customers now, and the base model alone."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dialogue.engine.adapters import load_adapter
from dialogue.engine.base import AdapterRef
from dialogue.engine.lora_gguf import ServedFiles, served_facts
from dialogue.engine.model_files import ModelFiles
from dialogue.errors import AdapterRejected
from finetune.errors import FinetuneError


class Place(StrEnum):
    """The part that a model has in the comparison."""

    CANDIDATE = "candidate"
    INCUMBENT = "incumbent"
    BASE = "base"


@dataclass(frozen=True, slots=True)
class Contender:
    """One model of the comparison."""

    place: Place
    folder: Path | None = None  # of its adapter; None = the base model alone
    sha256: str = ""  # of the adapter's two files

    @property
    def adapter(self) -> str | None:
        """What the engine calls its adapter."""
        return None if self.folder is None else self.place.value

    @property
    def reference(self) -> AdapterRef | None:
        """How the engine is told of its adapter."""
        return None if self.folder is None else AdapterRef(self.place.value, str(self.folder))


Check = Callable[[Path], str]  # the hash of an adapter that fits the base; raises AdapterRejected for any other


def line_up(candidate: Path, incumbent: Path | None, check: Check, model: str) -> tuple[Contender, ...]:
    """Return the contenders, each adapter checked as serving checks it; `model` is what people call the base. Raises FinetuneError."""
    found = [_checked(Place.CANDIDATE, candidate, check, f"It has to fit {model}, and be as training wrote it.")]
    if incumbent is not None:
        found.append(_checked(Place.INCUMBENT, incumbent, check, "Name another with --incumbent."))
    return (*found, Contender(Place.BASE))


def fits_gguf(model: ModelFiles, cache_dir: Path) -> Check:
    """Return the check of llama.cpp for adapters of `model`, a GGUF file."""
    served = ServedFiles(model.path, model.sha256, model.tokenizer_sha256, model.template_sha256)
    return lambda folder: load_adapter(folder, served_facts(served, cache_dir)).sha256


def _checked(place: Place, folder: Path, check: Check, hint: str) -> Contender:
    try:
        return Contender(place, folder, check(folder))
    except AdapterRejected as error:
        raise FinetuneError(f"The {place} {folder} cannot be evaluated: {error}", hint=hint) from error
