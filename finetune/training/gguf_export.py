"""A transformers' folder as a float32 GGUF file, for llama.cpp.

Done for Llama, Mistral, Qwen 2 and 3, and Gemma 1, 2 and 3, whose layouts were compared with transformers token by token. Whatever a
configuration asks for that is not written here is refused: a model that is nearly right is wrong.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors import safe_open

from dialogue.engine.model_files import describe_folder
from dialogue.tokenizer import read_json
from finetune.errors import FinetuneError
from finetune.training.gguf_model import Array, Layout, announce, finish, layout_of, write_file
from finetune.training.gguf_vocabulary import check_vocabulary, write_vocabulary

# transformers' name for a kind of model → GGUF's
ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
}
_TIED = "lm_head.weight"  # llama.cpp takes the embedding where there is no output layer


def export_gguf(folder: Path, target: Path) -> Path:
    """Write the model in `folder` as the GGUF file `target`, whole or not at all. Raises FinetuneError and ModelError."""
    config = read_json(folder / "config.json")
    kind = str(config.get("model_type", ""))
    if kind not in ARCHITECTURES:
        raise FinetuneError(f"Models of the kind {kind!a} cannot be written as GGUF; known are {', '.join(ARCHITECTURES)}.")
    _refuse_unwritten(config)
    write_file(target, lambda path: _write(folder, config, ARCHITECTURES[kind], path))
    return target


def _refuse_unwritten(config: Mapping[str, Any]) -> None:
    scaling = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kinds = {str(part.get("rope_type", "default")) for part in (scaling, *scaling.values()) if isinstance(part, dict)}
    if kinds - {"default"}:
        raise FinetuneError(f"The model stretches its positions ({', '.join(sorted(kinds))}), which is not written as GGUF here.")
    if config.get("mlp_bias") or (config["model_type"] in {"llama", "mistral"} and config.get("attention_bias")):
        raise FinetuneError("The model has biases that its kind does not have in llama.cpp.")


def _write(folder: Path, config: Mapping[str, Any], architecture: str, path: Path) -> None:
    files = describe_folder(str(folder), folder)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(files.name)
    _write_sizes(writer, config, architecture)
    write_vocabulary(writer, folder, int(config["vocab_size"]), files.template)
    layout = layout_of(architecture, int(config["num_attention_heads"]), _kv_heads(config))
    skipped = {_TIED} if _is_tied(config) else frozenset[str]()
    for name, value in _weights(folder, layout, skipped):
        announce(writer, name, value.shape)
    finish(writer, (value for _, value in _weights(folder, layout, skipped)))
    check_vocabulary(path, folder)


def _write_sizes(writer: gguf.GGUFWriter, config: Mapping[str, Any], architecture: str) -> None:
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(int(config["vocab_size"]))
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(_kv_heads(config))
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(_rope_base(config))
    if architecture in {"gemma2", "gemma3"}:
        _write_window(writer, config, architecture)


def _write_window(writer: gguf.GGUFWriter, config: Mapping[str, Any], architecture: str) -> None:
    writer.add_sliding_window(int(config["sliding_window"]))
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(float(config["attn_logit_softcapping"]))
        writer.add_final_logit_softcapping(float(config["final_logit_softcapping"]))


def _kv_heads(config: Mapping[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _rope_base(config: Mapping[str, Any]) -> float:
    parameters = config.get("rope_parameters") or {}
    whole = parameters.get("full_attention", parameters)
    return float(whole.get("rope_theta") or config.get("rope_theta") or 10_000.0)


def _is_tied(config: Mapping[str, Any]) -> bool:
    return bool(config.get("tie_word_embeddings", config["model_type"].startswith("gemma")))


def _weights(folder: Path, layout: Layout, skipped: frozenset[str] | set[str]) -> Iterator[tuple[str, Array]]:
    """Yield each weight as llama.cpp has it, one in memory at a time."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in sorted(tensors.keys()):
                if name not in skipped:
                    placed, value = layout.place(name, tensors.get_tensor(name).float().numpy())
                    yield placed, np.ascontiguousarray(value)
