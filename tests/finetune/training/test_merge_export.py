"""Whole models and GGUF files: what torch computes with an adapter is what the merged model and llama.cpp compute."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import httpx2
import numpy as np
import pytest
import torch

from dialogue.engine.model_files import describe_folder
from finetune.errors import FinetuneError
from finetune.training.base_model import load_base, load_weights
from finetune.training.export import export_adapter, export_model
from finetune.training.gguf_export import ARCHITECTURES, export_gguf
from finetune.training.gguf_model import write_float_gguf
from finetune.training.lora import attach_trained
from finetune.training.merge import merge, merge_gguf
from finetune.training.plan import TrainingPlan
from finetune.training.train import begin, train
from tests.fakes.llama_server import llama_server
from tests.finetune.training.tiny import Watched, tiny_plan, write_tiny
from tests.sizes import record_proof, size

PROMPTS = ((10, 40, 60, 9, 33), (100, 200, 50), tuple(range(20, 60)))
SETTINGS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": None},
    "qwen2": {"tokenizer": "qwen", "template": "qwen25"},
    "qwen3": {"tokenizer": "qwen", "template": "qwen3"},
    "gemma": {"tokenizer": "gemma", "template": "gemma2"},
    "gemma2": {"tokenizer": "gemma", "template": "gemma2", "query_pre_attn_scalar": 8},
    "gemma3_text": {"tokenizer": "gemma", "template": "gemma3", "query_pre_attn_scalar": 8},
}


def theirs(model: Any, tokens: int = 16) -> list[list[int]]:
    """Return greedy continuations of torch."""
    result: list[list[int]] = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            whole = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=tokens,
                eos_token_id=None,
                pad_token_id=0,
            )
        result.append(whole[0, len(prompt) :].tolist())
    return result


def ours(path: Path, loras: Sequence[Path] = (), tokens: int = 16) -> list[list[int]]:
    """Return greedy continuations of llama.cpp."""
    with llama_server(path, loras) as server:
        headers = {"Authorization": f"Bearer {server.api_key}", "Connection": "close"}
        body = {"n_predict": tokens, "temperature": 0, "return_tokens": True, "cache_prompt": False, "ignore_eos": True}
        return [
            httpx2.post(f"{server.url}/completion", json={"prompt": prompt, **body}, headers=headers, timeout=120)
            .raise_for_status()
            .json()["tokens"]
            for prompt in PROMPTS
        ]


@pytest.fixture(scope="module", params=["gguf", "folder"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainingPlan:
    """A finished run, on a GGUF file and on a folder."""
    place = tmp_path_factory.mktemp(request.param)
    model = write_tiny(place / "model")
    if request.param == "gguf":
        model = export_gguf(model, place / "model.gguf")
    plan = tiny_plan(place, model=model)
    begin(plan)
    train(plan, Watched())
    return plan


@pytest.fixture(scope="module")
def adapted(finished: TrainingPlan) -> Any:
    """The run's base with its adapter, in torch."""
    return attach_trained(load_base(finished.recipe.model, finished.cache_dir).model, finished.adapter).eval()


def test_merged_is_unmerged(finished: TrainingPlan, adapted: Any, tmp_path: Path) -> None:
    """The merged folder is a whole model with the adapter's logits, and the next run's base."""
    folder = merge(finished.run, tmp_path / "merged", finished.cache_dir)
    base = load_base(str(folder), tmp_path)
    assert describe_folder("", folder).template == base.files.template != ""
    ids = torch.tensor([PROMPTS[2]])
    with torch.no_grad():
        torch.testing.assert_close(base.model.eval()(input_ids=ids).logits, adapted(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(FinetuneError, match="is there already"):
        merge(finished.run, folder, finished.cache_dir)


def test_llama_cpp_says_the_same(finished: TrainingPlan, adapted: Any, tmp_path: Path) -> None:
    """Greedy tokens of llama.cpp, with the GGUF adapter on the float32 base and with the merged GGUF file, are those of torch."""
    base = finished.recipe.model
    path = export_model(base, tmp_path / "base.gguf", finished.cache_dir)
    lora = export_adapter(finished.run, tmp_path / "lora.gguf", finished.cache_dir)
    whole = merge_gguf(finished.run, tmp_path / "whole.gguf", finished.cache_dir)
    wanted = theirs(adapted)
    assert ours(path, [lora]) == wanted
    assert ours(whole) == wanted
    assert theirs(load_base(base, tmp_path / "cache").model) != wanted


@pytest.mark.parametrize("kind", sorted(SETTINGS) if size("gguf_kinds", small=0, proof=1) else ["gemma2", "llama", "qwen3"])
def test_every_kind_in_llama_cpp(kind: str, tmp_path: Path) -> None:
    """A random model of each kind, written as GGUF, gives in llama.cpp the greedy tokens that it gives in torch."""
    folder = write_tiny(tmp_path / "model", kind, **SETTINGS[kind])
    path = export_gguf(folder, tmp_path / "model.gguf")
    wanted = theirs(load_weights(folder).eval())
    assert ours(path) == wanted
    record_proof(f"gguf_{kind}", seed=5, size=sum(map(len, wanted)), result="greedy tokens of llama.cpp equal torch's")


def test_every_kind_is_tested() -> None:
    """No kind is offered that was not compared."""
    assert SETTINGS.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "phi3"}, "kind 'phi3' cannot be written"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4}}, "stretches its positions"),
        ({"mlp_bias": True}, "biases"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "sliding window"),
        ({"model_type": "gemma2", "query_pre_attn_scalar": 256}, "scale of attention"),
        ({"model_type": "gemma2", "layer_types": ["full_attention", "sliding_attention"]}, "order of its layers"),
        (
            {
                "model_type": "gemma3_text",
                "rope_parameters": {"sliding_attention": {"rope_theta": 5.0}, "full_attention": {"rope_theta": 1e6}},
            },
            "positions within the window",
        ),
    ],
)
def test_what_is_not_written_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """A configuration that llama.cpp would run otherwise is refused, and no file is left."""
    folder = write_tiny(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(FinetuneError, match=reason):
        export_gguf(folder, tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pre_tokenizer": {"type": "Whitespace"}}, "rules that GGUF has no name for"),
        ({"normalizer": {"type": "Lowercase"}}, "gives other ids"),
        ({"model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"}}, "WordLevel cannot be written"),
    ],
)
def test_a_tokenizer_that_cannot_be_written_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """A tokenizer whose rules GGUF has no word for is refused: its ids would be wrong, and nobody would see it."""
    folder = write_tiny(tmp_path / "model")
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FinetuneError, match=reason):
        export_gguf(folder, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_float_copy_keeps_metadata(tmp_path: Path) -> None:
    """The float32 form of a GGUF file has its metadata, tokenizer and template, and the same bytes each time."""
    source = export_gguf(write_tiny(tmp_path / "model"), tmp_path / "source.gguf")
    copies = [write_float_gguf(source, {}, tmp_path / name).read_bytes() for name in ("one.gguf", "two.gguf")]
    assert copies[0] == copies[1]
    fields = [
        {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items() if not name.startswith("GGUF.")}
        for path in (source, tmp_path / "one.gguf")
    ]
    assert fields[0] == fields[1]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    """Weights that the GGUF file has no place for are refused."""
    source = export_gguf(write_tiny(tmp_path / "model"), tmp_path / "source.gguf")
    for name in ("model.layers.0.self_attn.q_norm.weight", "transformer.nothing.weight"):
        with pytest.raises(FinetuneError, match=r"another model|no place"):
            write_float_gguf(source, {name: np.ones(8, np.float32)}, tmp_path / "target.gguf")
