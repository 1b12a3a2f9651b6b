"""Models of random weights, built from sizes.

A decoder is a Llama, because every engine loads one. An encoder–decoder is a Marian: the Transformer of "Attention Is All You
Need" (Vaswani and others 2017), with vocabularies of its own for each side. Its positions are sines, which are no weights: both
sides hold one table of the longer length. Each side's own limit stands in its tokenizer, that of targets also in the settings
of generation.
"""

import math
from collections.abc import Callable
from typing import Final, TypeVar

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, MarianConfig, MarianMTModel

from finetune.pretraining.config import CONTROL_TOKENS, DecoderSection, EncoderDecoderSection

Model = TypeVar("Model", bound=torch.nn.Module)

END_OF_TEXT_ID, _, END_OF_TURN_ID, PAD_ID = range(len(CONTROL_TOKENS))  # a trained vocabulary begins with them
_ROPE_BASE: Final = 10_000.0


def build_decoder(section: DecoderSection, vocabulary: int, seed: int) -> LlamaForCausalLM:
    """Return a Llama with `vocabulary` pieces; the same seed gives the same weights."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=section.d_model,
        intermediate_size=section.feed_forward,
        num_hidden_layers=section.layers,
        num_attention_heads=section.heads,
        num_key_value_heads=section.kv_heads or section.heads,
        max_position_embeddings=section.positions,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_BASE},
        attention_dropout=section.dropout,
        initializer_range=_spread(section.d_model),
        tie_word_embeddings=section.tie_embeddings,
        bos_token_id=None,
        eos_token_id=END_OF_TURN_ID,
        pad_token_id=PAD_ID,
    )
    model = _seeded(lambda: LlamaForCausalLM(config), seed)
    model.generation_config = GenerationConfig(eos_token_id=[END_OF_TURN_ID, END_OF_TEXT_ID], pad_token_id=PAD_ID)
    return model


def build_encoder_decoder(section: EncoderDecoderSection, vocabularies: tuple[int, int], seed: int) -> MarianMTModel:
    """Return a Marian with (input, target) `vocabularies`; the same seed gives the same weights."""
    config = MarianConfig(
        vocab_size=vocabularies[0],
        decoder_vocab_size=vocabularies[1],
        share_encoder_decoder_embeddings=section.target_vocabulary is None,
        d_model=section.d_model,
        encoder_layers=section.layers,
        decoder_layers=section.layers,
        encoder_attention_heads=section.heads,
        decoder_attention_heads=section.heads,
        encoder_ffn_dim=section.feed_forward,
        decoder_ffn_dim=section.feed_forward,
        max_position_embeddings=max(section.input_positions, section.target_positions),
        dropout=section.dropout,
        attention_dropout=section.dropout,
        activation_function="relu",
        scale_embedding=True,
        init_std=_spread(section.d_model),
        pad_token_id=PAD_ID,
        decoder_start_token_id=PAD_ID,
        eos_token_id=END_OF_TEXT_ID,
        forced_eos_token_id=None,
    )
    model = _seeded(lambda: MarianMTModel(config), seed)
    model.generation_config = GenerationConfig(
        eos_token_id=END_OF_TEXT_ID, pad_token_id=PAD_ID, decoder_start_token_id=PAD_ID, max_length=section.target_positions
    )
    return model


def _spread(d_model: int) -> float:
    """Return the standard deviation of new weights, which narrow models need larger than the usual 0.02.

    Source: SmallInit, √(2 / 5d), in "Transformers without Tears" (Nguyen and Salazar 2019).
    """
    return math.sqrt(2 / (5 * d_model))


def _seeded(build: Callable[[], Model], seed: int) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
