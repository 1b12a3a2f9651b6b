"""Models that llama.cpp loads in milliseconds: one of random weights, and one that tells stories.

Random: token 0 ends a turn, token N reads "tN". Story teller: its layers do nothing, so that each token has one successor; a
prompt ends with the sign of a story, which is then told over and over, its characters cut across the tokens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from dialogue.engine.adapters import BaseModelFacts
from dialogue.engine.lora_gguf import TENSORS
from dialogue.engine.lora_pairs import Projection

Matrix = npt.NDArray[np.float32]
Weights = Mapping[tuple[int, Projection], Matrix]

WIDTH, FEED_FORWARD, HEADS, KV_HEADS, LAYERS, VOCABULARY = 64, 96, 4, 2, 2, 256
HEAD = WIDTH // HEADS
CONTEXT = 2048
SHAPES: dict[Projection, tuple[int, int]] = {
    "q_proj": (WIDTH, WIDTH),
    "k_proj": (KV_HEADS * HEAD, WIDTH),
    "v_proj": (KV_HEADS * HEAD, WIDTH),
    "o_proj": (WIDTH, WIDTH),
    "gate_proj": (FEED_FORWARD, WIDTH),
    "up_proj": (FEED_FORWARD, WIDTH),
    "down_proj": (WIDTH, FEED_FORWARD),
}


@dataclass(frozen=True, slots=True)
class TinyModel:
    """Random weights; rows of q and k are in the order of transformers."""

    architecture: str  # llama or qwen2
    linear: Weights
    embedding: Matrix  # (vocabulary, WIDTH)
    output: Matrix  # (vocabulary, WIDTH)
    pieces: Sequence[bytes]  # what each token reads; empty = a control token

    def facts(self, sha256: str) -> BaseModelFacts:
        """Return what an adapter for this model must fit."""
        return BaseModelFacts(self.architecture, sha256, LAYERS, HEADS, KV_HEADS, SHAPES)


def tiny_model(architecture: str = "llama", seed: int = 0) -> TinyModel:
    """Return a random model whose attention matters for what it says."""
    generator = np.random.default_rng(seed)

    def matrix(*shape: int) -> Matrix:
        return (generator.standard_normal(shape) * 2 / math.sqrt(shape[-1])).astype(np.float32)

    linear = {(layer, name): matrix(*shape) for layer in range(LAYERS) for name, shape in SHAPES.items()}
    pieces = [b""] + [f"t{index}".encode() for index in range(1, VOCABULARY)]
    return TinyModel(architecture, linear, matrix(VOCABULARY, WIDTH), matrix(VOCABULARY, WIDTH), pieces)


STORIES = 8
MULTIBYTE = "你好，世界 🙂 naïve Ελλάδα привет 再见"


def story_teller() -> TinyModel:
    """Return a model that continues the sign of story n with that story."""
    pieces = [b"", *(bytes([value]) for value in range(256)), *([b""] * STORIES)]
    successor: dict[int, int] = {}
    for number in range(STORIES):
        text = MULTIBYTE.encode() if number == 0 else "".join(f" {number}{word}" for word in range(10, 40)).encode()
        first = len(pieces)
        pieces += [text[start : start + 4] for start in range(0, len(text), 4)]
        successor |= {index: index + 1 for index in range(first, len(pieces) - 1)}
        successor |= {257 + number: first, len(pieces) - 1: first}
    assert len(set(pieces) - {b""}) == len([piece for piece in pieces if piece]), "a vocabulary has no token twice"
    embedding = np.random.default_rng(1).standard_normal((len(pieces), WIDTH)).astype(np.float32)
    output = np.zeros_like(embedding)
    for token, following in successor.items():
        output[following] += 4 * embedding[token] / np.linalg.norm(embedding[token])
    linear = {(layer, name): np.zeros(shape, np.float32) for layer in range(LAYERS) for name, shape in SHAPES.items()}
    return TinyModel("llama", linear, embedding, output, pieces)


def story_prompt(text: str, number: int | None = None) -> tuple[int, ...]:
    """Return the ids of a text followed by the sign of story `number`, or of one that depends on the text."""
    data = text.encode()
    return (*(1 + value for value in data), 257 + (1 + sum(data) % (STORIES - 1) if number is None else number))


def write_tiny_gguf(model: TinyModel, path: Path, updates: Weights | None = None) -> Path:
    """Write the model as float32 GGUF; `updates` are added to the weights of transformers' order first."""
    writer = gguf.GGUFWriter(path, model.architecture)
    _write_header(writer, model.pieces)
    writer.add_tensor("token_embd.weight", model.embedding)
    writer.add_tensor("output.weight", model.output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(WIDTH, np.float32))
        for name in SHAPES:
            weight = model.linear[layer, name] + (0 if updates is None else updates.get((layer, name), 0))
            writer.add_tensor(f"blk.{layer}.{TENSORS[name]}.weight", _in_gguf_order(model.architecture, name, weight))
            if model.architecture == "qwen2" and name in {"q_proj", "k_proj", "v_proj"}:
                writer.add_tensor(f"blk.{layer}.{TENSORS[name]}.bias", np.zeros(SHAPES[name][0], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_header(writer: gguf.GGUFWriter, pieces: Sequence[bytes]) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD)
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([byte_level(piece) if piece else f"<control {index}>" for index, piece in enumerate(pieces)])
    writer.add_token_types([gguf.TokenType.NORMAL if piece else gguf.TokenType.CONTROL for piece in pieces])
    writer.add_token_merges(["t 1"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


def byte_level(piece: bytes) -> str:
    """Write bytes as GPT-2's vocabulary does: printable ones as themselves, the others as characters from 256 on, in their order."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [value for value in range(256) if value not in printable]
    return "".join(chr(value if value in printable else 256 + others.index(value)) for value in piece)


def _in_gguf_order(architecture: str, name: Projection, weight: Matrix) -> Matrix:
    """Llama-type models keep row i and row i + half of each head side by side in q and k; written row by row, not as the product does."""
    if architecture != "llama" or name not in {"q_proj", "k_proj"}:
        return weight.astype(np.float32)
    result = np.empty_like(weight, dtype=np.float32)
    half = HEAD // 2
    for start in range(0, weight.shape[0], HEAD):
        for index in range(half):
            result[start + 2 * index] = weight[start + index]
            result[start + 2 * index + 1] = weight[start + half + index]
    return result
