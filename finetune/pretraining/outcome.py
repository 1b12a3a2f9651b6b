"""The manifest of a pretraining, and the model card that is made of it."""

import hashlib
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from finetune.config import Section
from finetune.errors import FinetuneError
from finetune.pretraining.config import PretrainRecipe
from finetune.pretraining.corpus import Corpus

MANIFEST_NAME: Final = "pretrain.json"


class CorpusManifest(Section):
    """What was trained on."""

    sha256: str  # of everything that was read, in order
    trained_items: int  # documents or pairs
    held_out_items: int
    left_out: int  # pairs that are longer than the model's positions
    trained_tokens: int  # that the loss counts in one epoch
    held_out_tokens: int


class PretrainManifest(Section):
    """Everything about one finished pretraining. Losses and entropies in nats per token."""

    kind: str = "pretrain"
    recipe: PretrainRecipe
    corpus: CorpusManifest
    vocabularies: tuple[int, ...]  # pieces of the one vocabulary, or of input and target
    weights: int
    trained_weights: int
    corpus_unigram_entropy: float
    held_out_unigram_entropy: float
    steps: int
    loss_before: float  # held out, before the first step
    held_out_loss: float  # the best, which the saved model has
    goal: float  # below it, the model has learned something: see `reached`
    train_loss: float | None  # of the last step
    trained_tokens_per_s: float
    seconds: float
    device: str
    versions: dict[str, str]
    created: str  # ISO 8601, UTC

    @property
    def reached(self) -> bool:
        """Whether a new model beats what no model without context could reach, or a continued one its base."""
        return self.held_out_loss < self.goal


def corpus_sha256(corpus: Corpus[Any]) -> str:
    """Return a hash of what is trained and what is held out."""
    return hashlib.sha256(repr((corpus.train, corpus.valid)).encode("utf-8", "surrogatepass")).hexdigest()


def write_manifest(run: Path, manifest: PretrainManifest) -> None:
    """Write the manifest, at once or not at all."""
    part = run / f"{MANIFEST_NAME}.part"
    part.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(run / MANIFEST_NAME)


def read_manifest(run: Path) -> PretrainManifest:
    """Return the manifest of a finished pretraining. Raises FinetuneError."""
    try:
        return PretrainManifest.model_validate_json((run / MANIFEST_NAME).read_bytes())
    except (OSError, ValidationError):
        raise FinetuneError(
            f"{run} is no finished pretraining.", hint="`kefu finetune pretrain … --resume` finishes one that was stopped."
        ) from None


def model_card(manifest: PretrainManifest) -> str:
    """Return the README.md of the model."""
    return "\n".join([*_front(manifest), "", *_training(manifest), "", *_limits(manifest), ""])


def _front(manifest: PretrainManifest) -> list[str]:
    recipe, corpus = manifest.recipe, manifest.corpus
    origin = f"It continues `{recipe.base}`." if recipe.base else "It was trained from random weights."
    return [
        f"# {recipe.name}",
        "",
        recipe.description or "A model made with `kefu finetune pretrain`.",
        "",
        f"{origin} {manifest.weights} weights; vocabulary of {' and '.join(map(str, manifest.vocabularies))} pieces.",
        "",
        "## Data",
        "",
        f"Licence: {recipe.corpus.licence}. {corpus.trained_items} documents or pairs trained, {corpus.held_out_items} held out,"
        f" {corpus.left_out} too long; {corpus.trained_tokens} trained tokens an epoch. sha256 `{corpus.sha256}`.",
    ]


def _training(manifest: PretrainManifest) -> list[str]:
    train = manifest.recipe.train
    return [
        "## Training",
        "",
        f"{manifest.trained_weights} weights trained; learning rate {train.learning_rate:g}, {train.schedule}; {manifest.steps} steps; seed"
        f" {manifest.recipe.seed}; {manifest.seconds:.0f} s on {manifest.device}.",
        "",
        "| nats per token | |",
        "|---|---|",
        f"| held-out loss before training | {manifest.loss_before:.4f} |",
        f"| held-out loss | {manifest.held_out_loss:.4f} |",
        f"| unigram entropy of the corpus | {manifest.corpus_unigram_entropy:.4f} |",
        f"| unigram entropy of the held-out part | {manifest.held_out_unigram_entropy:.4f} |",
    ]


def _limits(manifest: PretrainManifest) -> list[str]:
    limits = [
        "- It says what its corpus makes likely, not what is true.",
        "- Nothing was done against personal data or bad language in the corpus.",
    ]
    if manifest.recipe.decoder is not None:
        limits.append("- Its chat template is there, but it has seen no chat: tune it on dialogues with `kefu finetune train`.")
    return ["## Limits", "", *limits]
