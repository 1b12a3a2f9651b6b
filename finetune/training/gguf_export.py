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
    """Raise FinetuneError for what llama.cpp does otherwise for models of this kind, or this module does not write."""
    kind = str(config["model_type"])
    if stretched := {str(part.get("rope_type", "default")) for part in _rope_parts(config)} - {"default"}:
        raise FinetuneError(f"The model stretches its positions ({', '.join(sorted(stretched))}), which is not written as GGUF here.")
    faults = {
        "biases": config.get("mlp_bias") or (kind in {"llama", "mistral", "qwen3"} and config.get("attention_bias")),
        "a sliding window": kind.startswith("qwen") and config.get("use_sliding_window"),
        "a scale of attention": config.get("query_pre_attn_scalar", _head(config)) != _head(config),
        "an order of its layers": kind in _PERIODS and not _alternates(config, _PERIODS[kind]),
        "positions within the window": kind == "gemma3_text" and _rope_base(config, "sliding_attention") != _GEMMA3_WINDOW_BASE,
    }
    for what, found in faults.items():
        if found:
            raise FinetuneError(f"The model has {what} that its kind does not have in llama.cpp.")


_PERIODS = {"gemma2": 2, "gemma3_text": 6}  # every n-th layer sees everything, the others a window
_GEMMA3_WINDOW_BASE = 10_000.0


def _alternates(config: Mapping[str, Any], period: int) -> bool:
    layers = config.get("layer_types") or ()
    return all((layer == "full_attention") == ((number + 1) % period == 0) for number, layer in enumerate(layers))


def _rope_parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rules of positions: one for all layers, or one for each kind of layer."""
    scaling = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    return [scaling, *(part for part in scaling.values() if isinstance(part, dict))]


def _write(folder: Path, config: Mapping[str, Any], architecture: str, path: Path) -> None:
    files = describe_folder(str(folder), folder)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(files.name)
    _write_sizes(writer, config, architecture)
    write_vocabulary(writer, folder, int(config["vocab_size"]), files.template)
    layout = layout_of(architecture, int(config["num_hidden_layers"]), int(config["num_attention_heads"]), _kv_heads(config))
    skipped = {_TIED} if _is_tied(config) else frozenset[str]()
    for name, value in _weights(folder, layout, skipped):
        announce(writer, name, value.shape)
    finish(writer, (value for _, value in _weights(folder, layout, skipped)))
    check_vocabulary(path, folder)


def _write_sizes(writer: gguf.GGUFWriter, config: Mapping[str, Any], architecture: str) -> None:
    head = _head(config)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(int(config["vocab_size"]))
    writer.add_context_length(_context(config))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(int(config["num_attention_heads"]))
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


def _head(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _context(config: Mapping[str, Any]) -> int:
    """Return the context in tokens; for a Mistral with a window no more than that, for llama.cpp lets it see everything."""
    window = config.get("sliding_window") if config["model_type"] == "mistral" else None
    return min(int(config["max_position_embeddings"]), int(window or config["max_position_embeddings"]))


def _rope_base(config: Mapping[str, Any], layers: str = "full_attention") -> float:
    parameters = config.get("rope_parameters") or {}
    chosen = parameters.get(layers, parameters)
    return float(chosen.get("rope_theta") or config.get("rope_theta") or 10_000.0)


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
