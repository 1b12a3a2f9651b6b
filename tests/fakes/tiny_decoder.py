"""The models of `tiny_gguf` as transformers saves them, tokenizer included."""

import json
from collections.abc import Sequence
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import decoders, models

from dialogue.engine.lora_pairs import ATTENTION
from tests.fakes.tiny_gguf import CONTEXT, FEED_FORWARD, HEADS, KV_HEADS, LAYERS, WIDTH, TinyModel, byte_level


def write_tiny_decoder(model: TinyModel, folder: Path) -> Path:
    """Write a model of the llama kind into `folder`."""
    config = transformers.LlamaConfig(
        vocab_size=len(model.pieces),
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        bos_token_id=0,
        eos_token_id=0,
    )
    weights = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        weights.model.embed_tokens.weight.copy_(torch.from_numpy(model.embedding))
        weights.lm_head.weight.copy_(torch.from_numpy(model.output))
        for (layer, name), matrix in model.linear.items():
            block = "self_attn" if name in ATTENTION else "mlp"
            getattr(getattr(weights.model.layers[layer], block), name).weight.copy_(torch.from_numpy(matrix))
    weights.save_pretrained(folder)
    _write_tokenizer(model.pieces, folder)
    return folder


def _write_tokenizer(pieces: Sequence[bytes], folder: Path) -> None:
    """Write one that cuts text into bytes; longer pieces are only ever read back."""
    names = [byte_level(piece) if piece else f"<control {index}>" for index, piece in enumerate(pieces)]
    tokenizer = tokenizers.Tokenizer(models.BPE({name: index for index, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([name for name, piece in zip(names, pieces, strict=True) if not piece])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": names[0], "eos_token": names[0]}), encoding="utf-8")
