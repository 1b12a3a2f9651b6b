"""A folder of transformers' files as one float32 GGUF file: configuration, tokenizer and chat template become its metadata.

For models that never were a GGUF file: those of pretraining, and those of the hub. `gguf_model` writes the others.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import safetensors

from dialogue.engine.model_files import TOKENIZER_NAME, describe_folder
from dialogue.gguf_tokenizer import COMPOSES, PRE_TOKENIZERS
from dialogue.tokenizer import CONFIG_NAME, SpecialTokens, read_json
from dialogue.tokenizer_document import END_OF_TURN_TOKENS, Document
from finetune.errors import FinetuneError
from finetune.training.gguf_model import Array, finish, gguf_weights, write_file

# what transformers calls a model → what llama.cpp calls it
ARCHITECTURES: Final[Mapping[str, str]] = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}


def export_gguf(folder: Path, target: Path) -> Path:
    """Write the model in `folder` to `target`, whole or not at all.

    Raises FinetuneError for an architecture, a rotation of positions or a tokenizer that llama.cpp would read otherwise.
    """
    config = read_json(folder / "config.json")
    architecture = ARCHITECTURES.get(str(config.get("model_type")))
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise FinetuneError(f"Models of the kind {config.get('model_type')!r} cannot be written as GGUF; known are {known}.")
    tokenizer = _tokenizer(folder, int(config["vocab_size"]))
    write_file(target, lambda path: _write(folder, config, architecture, tokenizer, path))
    return target


def _write(folder: Path, config: Mapping[str, Any], architecture: str, tokenizer: "_Tokenizer", path: Path) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(folder.parent.name if folder.name == "model" else folder.name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_sizes(writer, config)
    _add_tokenizer(writer, tokenizer, describe_folder("", folder).template)
    heads = {"attn_q": int(config["num_attention_heads"]), "attn_k": _kv_heads(config)}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], int(config["num_hidden_layers"]))
    for name, size in _sizes(folder):
        writer.add_tensor_info(_renamed(name, names), list(size), np.dtype(np.float32), 4 * math.prod(size))
    finish(writer, _tensors(folder, architecture, heads))


def _renamed(name: str, names: gguf.TensorNameMap) -> str:
    known = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if known is None:
        raise FinetuneError(f"The weight {name} has no place in a GGUF file.")
    return known


def _add_sizes(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(_kv_heads(config))
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_rope_freq_base(_rope_base(config))
    writer.add_rope_dimension_count(head)
    writer.add_vocab_size(int(config["vocab_size"]))


def _kv_heads(config: Mapping[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _rope_base(config: Mapping[str, Any]) -> float:
    """Return the base of the rotation's frequencies. Raises FinetuneError when they are stretched."""
    rope: Mapping[str, Any] = config.get("rope_parameters") or {
        **(config.get("rope_scaling") or {}),
        "rope_theta": config.get("rope_theta", 1e4),
    }
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise FinetuneError(f"The model's positions are stretched ({kind}); such models cannot be written as GGUF.")
    return float(rope["rope_theta"])


def _sizes(folder: Path) -> Iterator[tuple[str, Sequence[int]]]:
    for path in _weight_files(folder):
        with safetensors.safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                yield name, file.get_slice(name).get_shape()


def _tensors(folder: Path, architecture: str, heads: Mapping[str, int]) -> Iterator[Array]:
    """Yield the weights in the order of `_sizes`, each as llama.cpp has it."""
    for path in _weight_files(folder):
        with safetensors.safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                yield from gguf_weights({name: file.get_tensor(name).float().numpy()}, architecture, heads).values()


def _weight_files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise FinetuneError(f"{folder} holds no *.safetensors file.")
    return found


@dataclass(frozen=True, slots=True)
class _Tokenizer:
    """What a GGUF file says about a byte-level BPE."""

    pre: str
    pieces: list[str]
    types: list[gguf.TokenType]
    merges: list[str]
    special: dict[str, int]  # bos, eos, pad, eot → id


def _tokenizer(folder: Path, vocabulary: int) -> _Tokenizer:
    document = read_json(folder / TOKENIZER_NAME)
    if document.get("model", {}).get("type") != "BPE":
        raise FinetuneError(f"The tokenizer in {folder} is no byte-level BPE, so it cannot be written as GGUF.")
    ids: dict[str, int] = dict(document["model"]["vocab"])
    kinds: dict[str, gguf.TokenType] = {}
    for token in document["added_tokens"]:
        ids[token["content"]] = token["id"]
        kinds[token["content"]] = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
    by_id = {number: piece for piece, number in ids.items()}
    # sizes are often rounded up: the rest are rows that no token uses
    pieces = [by_id.get(number, f"[PAD{number}]") for number in range(vocabulary)]
    types = [kinds.get(piece, gguf.TokenType.NORMAL) if n in by_id else gguf.TokenType.UNUSED for n, piece in enumerate(pieces)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]]
    special = SpecialTokens.from_config(read_json(folder / CONFIG_NAME))
    named = {"bos": special.bos, "eos": special.eos, "pad": special.pad, "eot": special.eos if special.eos in END_OF_TURN_TOKENS else None}
    return _Tokenizer(pre_word(document), pieces, types, merges, {key: ids[token] for key, token in named.items() if token in ids})


def pre_word(document: Document) -> str:
    """Return the word by which llama.cpp knows the way in which a tokenizer cuts text into words. Raises FinetuneError."""
    parts = document.get("pre_tokenizer") or {}
    steps = [_compared(step) for step in parts.get("pretokenizers", [parts])]
    composes = (document.get("normalizer") or {}).get("type") == "NFC"
    for word, known in PRE_TOKENIZERS.items():
        if steps == [_compared(step) for step in known] and composes == (word in COMPOSES):
            return word
    raise FinetuneError("The tokenizer cuts text into words in a way that is not known to llama.cpp, so its ids would be wrong there.")


def _compared(step: Document) -> Document:
    """Return a step without what changes offsets alone."""
    return {key: value for key, value in step.items() if key != "trim_offsets"}


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: _Tokenizer, template: str) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer.pre)
    writer.add_token_list(tokenizer.pieces)
    writer.add_token_types(tokenizer.types)
    writer.add_token_merges(tokenizer.merges)
    add = {"bos": writer.add_bos_token_id, "eos": writer.add_eos_token_id, "pad": writer.add_pad_token_id, "eot": writer.add_eot_token_id}
    for key, number in tokenizer.special.items():
        add[key](number)
    writer.add_add_bos_token(False)
    if template:
        writer.add_chat_template(template)
