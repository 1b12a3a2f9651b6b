"""Adapters on the default model: llama.cpp says what PEFT says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import httpx2
import numpy as np
import pytest

from dialogue.engine.lora_gguf import ServedFiles, prepare_adapter, read_base_facts
from dialogue.engine.model_files import ModelFiles
from tests.dialogue.engine.adapter_folders import EVERY_PROJECTION, random_tensors, write_adapter
from tests.fakes.llama_server import RunningServer, llama_server
from tests.model_fixtures import default_model
from tests.sizes import record_proof, size

PROMPTS = {
    "hello": (1, 4093, 198, 19556, 28, 638, 359, 346, 47, 2, 198, 1, 520, 9531, 198),
    "count": (1, 4093, 198, 26633, 429, 216, 33, 288, 216, 34, 32, 2, 198, 1, 520, 9531, 198),
    "poem": (1, 4093, 198, 19161, 253, 1890, 11394, 563, 260, 2955, 30, 2, 198, 1, 520, 9531, 198),
}


@pytest.fixture(scope="module")
def model() -> ModelFiles:
    """The default model, pulled once."""
    return default_model()


def greedy(server: RunningServer, prompt: Sequence[int], tokens: int, lora: Sequence[dict[str, float]]) -> list[int]:
    """Return the ids of a greedy continuation."""
    body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "cache_prompt": False, "return_tokens": True, "lora": lora}
    headers = {"Authorization": f"Bearer {server.api_key}", "Connection": "close"}
    return httpx2.post(f"{server.url}/completion", json=body, headers=headers, timeout=120).raise_for_status().json()["tokens"]


def test_scale_zero_is_the_base(model: ModelFiles, tmp_path: Path) -> None:
    """On the default model an adapter at scale 0 changes no token, at scale 1 it does."""
    facts = read_base_facts(model.path, model.sha256, tmp_path)
    tensors = random_tensors(facts, EVERY_PROJECTION, 8, seed=7, strength=0.1)
    folder = write_adapter(tmp_path / "adapter", facts, targets=EVERY_PROJECTION, rank=8, tensors=tensors)
    lora = prepare_adapter(folder, ServedFiles(model.path, model.sha256), tmp_path)
    tokens = size("lora_default_model_tokens", small=6, proof=100)
    with llama_server(model.path) as server:
        plain = [greedy(server, prompt, tokens, []) for prompt in PROMPTS.values()]
    with llama_server(model.path, [lora]) as server:
        off = [greedy(server, prompt, tokens, [{"id": 0, "scale": 0.0}]) for prompt in PROMPTS.values()]
        on = [greedy(server, prompt, tokens, [{"id": 0, "scale": 1.0}]) for prompt in PROMPTS.values()]
    assert off == plain
    assert on != plain


@pytest.mark.filterwarnings("ignore")  # of torch, transformers and peft
def test_the_same_tokens_as_peft(model: ModelFiles, tmp_path: Path) -> None:
    """An adapter saved by PEFT, converted, gives in llama.cpp the tokens that it gives in PEFT (float32, where torch is installed)."""
    torch: Any = pytest.importorskip("torch")
    transformers: Any = pytest.importorskip("transformers")
    peft: Any = pytest.importorskip("peft")
    torch.manual_seed(11)
    base = transformers.AutoModelForCausalLM.from_pretrained(model.path.parent, gguf_file=model.path.name, dtype=torch.float32)
    config = peft.LoraConfig(
        r=8, lora_alpha=0.5, use_rslora=True, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
    )
    adapted = peft.get_peft_model(base, config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    lora = prepare_adapter(tmp_path / "adapter", ServedFiles(model.path, model.sha256), tmp_path, allow_unpinned=True)
    tokens = size("lora_peft_tokens", small=24, proof=40)
    theirs = [_generate(torch, adapted, prompt, tokens) for prompt in PROMPTS.values()]
    with adapted.disable_adapter():
        plain = [_generate(torch, adapted, prompt, tokens) for prompt in PROMPTS.values()]
    with llama_server(dequantised(model.path, tmp_path / "float32.gguf"), [lora]) as server:
        ours = [greedy(server, prompt, tokens, [{"id": 0, "scale": 1.0}]) for prompt in PROMPTS.values()]
        ours_plain = [greedy(server, prompt, tokens, [{"id": 0, "scale": 0.0}]) for prompt in PROMPTS.values()]
    (tmp_path / "float32.gguf").unlink()
    assert ours_plain == plain
    assert ours == theirs
    assert theirs != plain
    record_proof("lora_peft_tokens", seed=11, size=tokens, result=f"{sum(map(len, ours))} of {sum(map(len, theirs))} greedy tokens equal")


def _generate(torch: Any, model: Any, prompt: Sequence[int], tokens: int) -> list[int]:
    """Return the ids of a greedy continuation, without the end of turn, as llama.cpp returns them."""
    ids = torch.tensor([prompt])
    with torch.no_grad():
        whole = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens)
    return whole[0, len(prompt) :].tolist()


def dequantised(source: Path, target: Path) -> Path:
    """Write a GGUF model with every weight as float32: llama.cpp then computes what transformers computes."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
