"""Random models with whole tokenizers and templates, datasets of a few samples, and plans that train one with the other."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

from dialogue.messages import ChatMessage, Role
from dialogue.tokenizer import SpecialTokens
from dialogue.tokenizer_document import vocabulary
from finetune.config import Recipe, parse_recipe
from finetune.dataset import encode_splits, write_dataset
from finetune.manifest import DatasetManifest, SourceManifest
from finetune.samples import Kind, Sample
from finetune.training.plan import TrainingPlan
from tests.fakes.tiny_tokenizers import TinyTokenizer, sentence_piece, template_source, tiny_tokenizer

HIDDEN, HEADS, KV_HEADS, LAYERS, FEED_FORWARD = 32, 4, 2, 2, 48


def write_tiny(folder: Path, kind: str = "llama", *, tokenizer: str = "smollm", template: str = "chatml", **settings: Any) -> Path:
    """Write a random model of the kind `kind` (model_type of transformers) as transformers saves it."""
    tiny = _gemma() if tokenizer == "gemma" else tiny_tokenizer(tokenizer)
    document = json.loads(tiny.document)
    document["normalizer"] = {"type": "NFC"} if tokenizer == "qwen" else document["normalizer"]  # as the real one has it
    ids = [*vocabulary(document).values(), *(token["id"] for token in document["added_tokens"])]
    sizes = {
        "vocab_size": max(ids) + 1,
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": LAYERS,
        "intermediate_size": FEED_FORWARD,
        "max_position_embeddings": 512,
        "head_dim": HIDDEN // HEADS,
        "initializer_range": 0.3,  # big, so that what is said depends on what was read
    }
    torch.manual_seed(5)
    config = transformers.AutoConfig.for_model(kind, **sizes | settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tiny.special.to_config()), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template_source(template), encoding="utf-8")
    return folder


@cache
def _gemma() -> TinyTokenizer:
    """Return a tokenizer of Gemma's kind whose pieces all come from merges, as the real one's do."""
    control = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
    return sentence_piece(control, SpecialTokens(bos="<bos>", eos="<eos>", pad="<pad>", unk="<unk>"), prefix="never", words=("\n", "\n\n"))


def dialogue(number: int, turns: int = 2) -> Sample:
    """Return a short dialogue of a customer; the number stands in it."""
    said: list[ChatMessage] = []
    for turn in range(turns):
        said += [ChatMessage(Role.USER, f"hot {number} {turn}?"), ChatMessage(Role.ASSISTANT, f"the word is {number % 7}.")]
    return Sample(
        id=f"tiny:{number}",
        kind=Kind.DIALOGUE,
        skill="chat",
        language="en",
        group=f"tiny-{number}",
        source="tiny",
        turns=tuple(said),
    )


def write_tiny_dataset(folder: Path, train: int = 12, valid: int = 3) -> Path:
    """Write a dataset of short dialogues."""
    numbers = iter(range(train + valid))
    content = encode_splits({split: [dialogue(next(numbers)) for _ in range(size)] for split, size in (("train", train), ("valid", valid))})
    source = SourceManifest(name="tiny", licence="CC0-1.0", map="messages", origin="made for a test")
    manifest = DatasetManifest(
        version=content.version, name="tiny", created_at="2024-01-01T00:00:00+00:00", kefu="0", splits=content.splits, sources=(source,)
    )
    write_dataset(folder, content, manifest, ())
    return folder


def tiny_recipe(model: Path, **train: Any) -> Recipe:
    """Return a recipe that trains `model` for a few steps."""
    section: Mapping[str, Any] = {"row_tokens": 256, "rows_per_step": 2, "epochs": 2, "evaluate_every": 2, "learning_rate": 0.01} | train
    return parse_recipe({"name": "tiny", "model": str(model), "train": section}, "tiny.toml", model.parent)


def tiny_plan(place: Path, *, model: Path | None = None, resume: bool = False, **train: Any) -> TrainingPlan:
    """Return the plan of a run in `place`; model and dataset are written if they are not there."""
    model = model or place / "model"
    if not model.exists():
        write_tiny(model)
    if not (place / "data").exists():
        write_tiny_dataset(place / "data")
    return TrainingPlan(
        recipe=tiny_recipe(model, **train), dataset=place / "data", run=place / "run", cache_dir=place / "cache", resume=resume
    )


class Watched:
    """A display that keeps what it is shown."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.looks: list[tuple[int, float]] = []

    def step(self, done: int, total: int, loss: float, tokens_per_s: float) -> None:
        self.losses.append(loss)

    def held_out(self, done: int, loss: float) -> None:
        self.looks.append((done, loss))
