"""Finished training runs of a tiny random model, whose adapters nobody trained."""

from dataclasses import replace
from pathlib import Path

import torch

from dialogue.config import DialogueConfig, EngineConfig, ProgramConfig
from finetune.config import Recipe
from finetune.dataset import encode_splits, write_dataset
from finetune.evaluation.command import Request
from finetune.manifest import DatasetManifest
from finetune.training.base_model import find_base, load_weights
from finetune.training.lora import attach, write_adapter
from finetune.training.run_folder import BaseManifest, DataManifest, ResultManifest, RunManifest, write_manifest
from storage.config import StorageConfig
from tests.finetune.evaluation.scene import shop
from tests.finetune.training.tiny import write_tiny

CONTEXT = 4096


def write_shop(folder: Path, count: int = 8) -> Path:
    """Write a dataset whose splits are the samples of the shop."""
    samples = [each for each in shop(count) if "suite" not in each.extra and each.skill == "support"]
    content = encode_splits({"train": samples, "test": samples})
    manifest = DatasetManifest(
        version=content.version, name="shop", created_at="2024-01-01T00:00:00+00:00", kefu="0", splits=content.splits
    )
    write_dataset(folder, content, manifest, ())
    return folder


def tiny_program(place: Path) -> ProgramConfig:
    """Return the settings of a program whose files all lie in `place`."""
    return ProgramConfig(
        dialogue=DialogueConfig(),
        engine=EngineConfig(cache_dir=place / "cache", threads=1),
        storage=StorageConfig(f"sqlite:///{place / 'kefu.db'}"),
        data_dir=place / "data",
        index_url="",
        hub_url="",
    )


def write_run(place: Path, name: str, spread: float) -> Path:
    """Write a run whose adapter has random weights: B with this standard deviation, 0 = no effect, as before training."""
    model = place / "model"
    if not model.exists():
        write_tiny(model, max_position_embeddings=CONTEXT)
        write_shop(place / "dataset")
    base = find_base(str(model), place / "cache")
    recipe = Recipe.model_validate(
        {"name": name, "model": str(model), "train": {"row_tokens": CONTEXT}, "evaluate": {"max_reply_tokens": 8, "bootstrap": 100}}
    )
    torch.manual_seed(3)
    adapted = attach(load_weights(base.folder), recipe.train.lora)
    with torch.no_grad():
        for key, weight in adapted.named_parameters():
            if "lora_B" in key and spread:
                weight.normal_(std=spread)
    manifest = RunManifest(
        base=BaseManifest(
            reference=str(model),
            name="tiny",
            architecture="llama",
            sha256=base.files.sha256,
            forms={},
            tokenizer_sha256=base.tokenizer.sha256,
            template_sha256=base.template.sha256,
        ),
        data=DataManifest(
            path=str(place / "dataset"),
            name="shop",
            version="",
            sources=(),
            samples=0,
            rows=0,
            packs=0,
            fill_rate=1.0,
            trained_tokens=0,
            left_out={},
        ),
        recipe=recipe,
        result=ResultManifest(
            steps=0,
            held_out_loss=None,
            base_held_out_loss=None,
            train_loss=None,
            trained_weights=0,
            trained_tokens_per_s=0.0,
            seconds=0.0,
            device="cpu",
        ),
        versions={},
        created="2024-01-01T00:00:00+00:00",
    )
    run = place / name
    write_adapter(adapted, run / "adapter", str(model), manifest.metadata())
    write_manifest(run, manifest)
    return run


def request(run: Path, **changes: object) -> Request:
    """Return the request of an evaluation of losses and citations alone."""
    plain = Request(run, None, None, against_base=False, suites=("support_loss", "grounded"), samples=None, register=False)
    return replace(plain, **changes)  # type: ignore[arg-type]
