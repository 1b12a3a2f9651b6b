"""Who is compared: the candidate, the adapter that answers customers now, and the base model alone."""

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


def line_up(candidate: Path, incumbent: Path | None, model: ModelFiles, cache_dir: Path) -> tuple[Contender, ...]:
    """Return the contenders, each adapter checked as serving checks it against `model`, a GGUF file. Raises FinetuneError."""
    found = [_checked(Place.CANDIDATE, candidate, model, cache_dir)]
    if incumbent is not None:
        found.append(_checked(Place.INCUMBENT, incumbent, model, cache_dir))
    return (*found, Contender(Place.BASE))


def _checked(place: Place, folder: Path, model: ModelFiles, cache_dir: Path) -> Contender:
    served = ServedFiles(model.path, model.sha256, model.tokenizer_sha256, model.template_sha256)
    try:
        adapter = load_adapter(folder, served_facts(served, cache_dir))
    except AdapterRejected as error:
        hint = (
            f"It has to fit {model.reference}, and be as training wrote it."
            if place is Place.CANDIDATE
            else "Name another with --incumbent."
        )
        raise FinetuneError(f"The {place} {folder} cannot be evaluated: {error}", hint=hint) from error
    return Contender(place, folder, adapter.sha256)
