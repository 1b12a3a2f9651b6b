"""The folder of a finished training run, and its manifest.

plan.json                     what was asked for
checkpoints/                  to go on from
metrics.jsonl                 what was measured on the way
learning_curve.png
adapter/                      adapter_config.json, adapter_model.safetensors, README.md: what is served
run.json                      the manifest; written last, so that a run with one is finished
"""

from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from finetune.config import Recipe, Section
from finetune.errors import FinetuneError

MANIFEST_NAME: Final = "run.json"


class BaseManifest(Section):
    """The model that the adapter belongs to."""

    reference: str
    name: str
    architecture: str
    sha256: str  # of what is served
    forms: dict[str, str]  # further forms of the same weights → sha256: "dequantised folder", "float32 GGUF"
    tokenizer_sha256: str
    template_sha256: str


class DataManifest(Section):
    """What was trained on."""

    path: str
    name: str
    version: str
    sources: tuple[dict[str, str], ...]  # name, licence, origin
    samples: int
    rows: int
    packs: int
    fill_rate: float
    trained_tokens: int  # of one epoch
    left_out: dict[str, int]  # reason → samples


class ResultManifest(Section):
    """What came out. Losses in nats per trained token."""

    steps: int
    held_out_loss: float | None
    base_held_out_loss: float | None
    train_loss: float | None
    trained_weights: int
    trained_tokens_per_s: float
    seconds: float
    device: str


class RunManifest(Section):
    """Everything about one finished run."""

    kind: str = "lora"
    base: BaseManifest
    data: DataManifest
    recipe: Recipe
    result: ResultManifest
    versions: dict[str, str]
    created: str  # ISO 8601, UTC

    def metadata(self) -> dict[str, str]:
        """Return what goes into the header of the adapter's weights, for whoever loads it."""
        return {
            "base_model_sha256": self.base.sha256,
            "base_model_forms": ",".join(self.base.forms.values()),
            "tokenizer_sha256": self.base.tokenizer_sha256,
            "template_sha256": self.base.template_sha256,
            "dataset_version": self.data.version,
        }


def write_manifest(run: Path, manifest: RunManifest) -> None:
    """Write the manifest, at once or not at all."""
    part = run / f"{MANIFEST_NAME}.part"
    part.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(run / MANIFEST_NAME)


def read_run(run: Path) -> RunManifest:
    """Return the manifest of a finished run. Raises FinetuneError."""
    path = run / MANIFEST_NAME
    if not path.is_file():
        raise FinetuneError(f"{run} is no finished training run.", hint="`kefu finetune train … --resume` finishes one that was stopped.")
    try:
        return RunManifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise FinetuneError(f"{path} cannot be read: {_first(error)}", hint="Train again: it is of another version.") from error


def _first(error: Any) -> str:
    return str(error).splitlines()[0]
