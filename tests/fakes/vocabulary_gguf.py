"""A GGUF model around a tiny tokenizer: the weights mean nothing, the vocabulary is all there."""

import json
from pathlib import Path

import gguf
import numpy as np

from dialogue.tokenizer_document import Document, vocabulary
from tests.fakes.tiny_tokenizers import BYTES, SPACE, TinyTokenizer

WIDTH = 32


def write_vocabulary_gguf(tiny: TinyTokenizer, path: Path, *, pre: str, template: str = "") -> Path:
    """Write a one-layer model with the tokenizer `tiny`, whose pre-tokenizer is named `pre`."""
    document = json.loads(tiny.document)
    added = {token["content"]: token for token in document["added_tokens"]}
    ids = vocabulary(document) | {text: token["id"] for text, token in added.items()}
    pieces = sorted(ids, key=lambda piece: ids[piece])
    writer = gguf.GGUFWriter(path, "llama")
    _write_architecture(writer)
    spm = document["model"]["byte_fallback"]
    writer.add_tokenizer_model("llama" if spm else "gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(pieces)
    writer.add_token_types([_type(piece, added, spm=spm) for piece in pieces])
    if spm:
        writer.add_token_scores(_scores(document, pieces))
        writer.add_add_space_prefix("Prepend" in json.dumps(document["normalizer"]))
    else:
        writer.add_token_merges([" ".join(merge) for merge in document["model"]["merges"]])
    writer.add_add_bos_token(value=False)
    for text, add in (
        (tiny.special.bos, writer.add_bos_token_id),
        (tiny.special.eos, writer.add_eos_token_id),
        (tiny.special.pad, writer.add_pad_token_id),
        (tiny.special.unk, writer.add_unk_token_id),
    ):
        if text is not None:
            add(ids[text])
    if template:
        writer.add_chat_template(template)
    _write_tensors(writer, len(pieces))
    return path


def _type(piece: str, added: Document, *, spm: bool) -> gguf.TokenType:
    if piece == "<unk>":
        return gguf.TokenType.UNKNOWN
    if spm and piece in BYTES:
        return gguf.TokenType.BYTE
    if piece in added:
        return gguf.TokenType.CONTROL if added[piece]["special"] else gguf.TokenType.USER_DEFINED
    return gguf.TokenType.NORMAL


def _scores(document: Document, pieces: list[str]) -> list[float]:
    """SentencePiece's scores: merged pieces in the order of their merges, then single characters."""
    rank = {left + right: float(-place) for place, (left, right) in reversed(list(enumerate(document["model"]["merges"])))}
    return [rank.get(piece, -1e5 - place if piece != SPACE else -1e4) for place, piece in enumerate(pieces)]


def _write_architecture(writer: gguf.GGUFWriter) -> None:
    writer.add_context_length(64)
    writer.add_block_count(1)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // 2)


def _write_tensors(writer: gguf.GGUFWriter, vocabulary_size: int) -> None:
    writer.add_tensor("token_embd.weight", np.zeros((vocabulary_size, WIDTH), np.float32))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((WIDTH, WIDTH), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
