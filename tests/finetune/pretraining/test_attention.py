"""The built models attend as the definition says, each kind of attention with its masks."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.pretraining.config import DecoderSection, EncoderDecoderSection
from finetune.pretraining.models import PAD_ID, build_decoder, build_encoder_decoder
from tests.finetune.pretraining.attention import (
    Array,
    Call,
    Mask,
    attend,
    causal,
    join_heads,
    project,
    randomise,
    recorded,
    rotate,
    split_heads,
)
from tests.sizes import record_proof, size

VOCABULARY = 300
ROPE_BASE = 10_000.0
TOLERANCE = 3e-5  # of the largest value: models compute in float32
SHAPES = size("attention_shapes", small=12, proof=500)

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=3)
seeds = st.integers(0, 2**16)
kinds = st.sampled_from(["sdpa", "eager"])
many_shapes = settings(max_examples=SHAPES, deadline=None, derandomize=True)


@many_shapes
@given(
    kv_heads=st.integers(1, 2),
    groups=st.integers(1, 2),
    half=st.integers(1, 4),
    lengths=lengths,
    left=st.booleans(),
    kind=kinds,
    seed=seeds,
)
def test_decoder(*, kv_heads: int, groups: int, half: int, lengths: list[int], left: bool, kind: str, seed: int) -> None:
    """A decoder's attention is causal, sees no padding on either side, turns by position and shares keys among heads."""
    heads = kv_heads * groups
    sizes = DecoderSection(vocabulary=VOCABULARY, layers=2, d_model=width(heads, half), heads=heads, kv_heads=kv_heads, feed_forward=8)
    model = decoder(sizes, kind, seed)
    ids, tokens = padded(lengths, seed, left=left)
    positions = np.maximum(np.cumsum(tokens, axis=1) - 1, 0)
    given_mask = torch.tensor(tokens).long()
    calls = recorded(
        attentions(model), lambda: model(input_ids=ids, attention_mask=given_mask, position_ids=torch.tensor(positions), use_cache=False)
    )
    mask = causal(ids.shape[1])[None] & tokens[:, None, :]
    for layer, call in zip(attentions(model), calls, strict=True):
        assert_attends(call, llama_attention(layer, call, positions, mask, sizes), tokens)


@many_shapes
@given(lengths, kinds, seeds)
def test_packed_rows(lengths: list[int], kind: str, seed: int) -> None:
    """In a pack no row sees another one, though no mask is given: positions that begin again say where rows do."""
    sizes = DecoderSection(vocabulary=VOCABULARY, layers=2, d_model=16, heads=4, kv_heads=2, feed_forward=8)
    model = decoder(sizes, kind, seed)
    positions = np.concatenate([np.arange(length) for length in lengths])[None]
    rows = np.repeat(np.arange(len(lengths)), lengths)
    ids = random_ids((1, rows.size), seed)
    calls = recorded(attentions(model), lambda: model(input_ids=ids, position_ids=torch.tensor(positions), use_cache=False))
    mask = causal(rows.size)[None] & (rows[:, None] == rows[None, :])[None]
    for layer, call in zip(attentions(model), calls, strict=True):
        assert_attends(call, llama_attention(layer, call, positions, mask, sizes), np.ones_like(positions, dtype=bool))


@many_shapes
@given(heads=st.integers(1, 4), half=st.integers(1, 3), lengths=lengths, longest_target=st.integers(1, 9), kind=kinds, seed=seeds)
def test_encoder_decoder(*, heads: int, half: int, lengths: list[int], longest_target: int, kind: str, seed: int) -> None:
    """The encoder sees every token and no padding; the decoder sees what it has said, and of the source every token."""
    sizes = EncoderDecoderSection(
        input_vocabulary=VOCABULARY, target_vocabulary=VOCABULARY + 7, layers=2, d_model=width(heads, half), heads=heads, feed_forward=8
    )
    model: Any = build_encoder_decoder(sizes, (VOCABULARY, VOCABULARY + 7), seed).eval()
    model.set_attn_implementation(kind)
    randomise(model, seed)
    ids, tokens = padded(lengths, seed, left=False)
    target_ids, target_tokens = padded([1 + (length + seed) % longest_target for length in lengths], seed + 1, left=False)
    encoder = [layer.self_attn for layer in model.model.encoder.layers]
    own = [layer.self_attn for layer in model.model.decoder.layers]
    cross = [layer.encoder_attn for layer in model.model.decoder.layers]
    calls = recorded(
        [*encoder, *own, *cross],
        lambda: model(
            input_ids=ids,
            attention_mask=torch.tensor(tokens).long(),
            decoder_input_ids=target_ids,
            decoder_attention_mask=torch.tensor(target_tokens).long(),
            use_cache=False,
        ),
    )
    seen = {"source": tokens[:, None, :] | np.zeros((1, ids.shape[1], 1), bool)}
    seen["own"] = causal(target_ids.shape[1])[None] & target_tokens[:, None, :]
    seen["cross"] = tokens[:, None, :] | np.zeros((1, target_ids.shape[1], 1), bool)
    plan = [(encoder, "source", tokens), (own, "own", target_tokens), (cross, "cross", target_tokens)]
    expected = [(layer, seen[what], rows) for layers, what, rows in plan for layer in layers]
    for (layer, mask, rows), call in zip(expected, calls, strict=True):
        assert_attends(call, marian_attention(layer, call, mask, heads), rows)


@pytest.mark.parametrize("fault", ["no causal mask", "no scale", "no rotation"])
def test_the_comparison_can_fail(fault: str) -> None:
    """A reference that forgets the causal mask, the scale or the rotation differs from the model."""
    sizes = DecoderSection(vocabulary=VOCABULARY, layers=1, d_model=16, heads=2, feed_forward=8)
    model = decoder(sizes, "sdpa", 1)
    ids, positions = random_ids((1, 6), 1), np.arange(6)[None]
    (call,) = recorded(attentions(model), lambda: model(input_ids=ids, use_cache=False))
    mask = np.ones((1, 6, 6), bool) if fault == "no causal mask" else causal(6)[None]
    wrong_positions = np.zeros_like(positions) if fault == "no rotation" else positions
    layer = attentions(model)[0]
    if fault == "no scale":
        layer.q_proj.weight.data *= np.sqrt(8)
    with pytest.raises(AssertionError):
        assert_attends(call, llama_attention(layer, call, wrong_positions, mask, sizes), np.ones((1, 6), bool))


def test_proof_of_attention() -> None:
    """The three comparisons above ran over this many shapes."""
    record_proof("attention_shapes", seed="derandomised", size=SHAPES, result=f"3 × {SHAPES} shapes within {TOLERANCE:g} of float64")


def width(heads: int, half: int) -> int:
    """Return a d_model whose heads have an even number of values, and that is not below the smallest."""
    return 2 * heads * max(half, -(-4 // heads))


def decoder(sizes: DecoderSection, kind: str, seed: int) -> Any:
    model = build_decoder(sizes, VOCABULARY, seed).eval()
    model.set_attn_implementation(kind)
    randomise(model, seed)
    return model


def attentions(model: Any) -> list[Any]:
    return [layer.self_attn for layer in model.model.layers]


def llama_attention(layer: Any, call: Call, positions: npt.NDArray[np.int64], mask: Mask, sizes: DecoderSection) -> Array:
    kv_heads = sizes.kv_heads or sizes.heads
    q, k, v = (
        split_heads(project(part, call.queries), heads)
        for part, heads in ((layer.q_proj, sizes.heads), (layer.k_proj, kv_heads), (layer.v_proj, kv_heads))
    )
    q, k = rotate(q, positions, ROPE_BASE), rotate(k, positions, ROPE_BASE)
    k, v = (np.repeat(each, sizes.heads // kv_heads, axis=1) for each in (k, v))
    return project(layer.o_proj, join_heads(attend(q, k, v, mask)))


def marian_attention(layer: Any, call: Call, mask: Mask, heads: int) -> Array:
    q = split_heads(project(layer.q_proj, call.queries), heads)
    k, v = (split_heads(project(part, call.keys), heads) for part in (layer.k_proj, layer.v_proj))
    return project(layer.out_proj, join_heads(attend(q, k, v, mask)))


def assert_attends(call: Call, expected: Array, rows: Mask) -> None:
    """Compare at the places that hold a token; what a model says at padding does not matter."""
    wanted = expected[rows]
    assert np.abs(call.output[rows] - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def random_ids(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randint(PAD_ID + 1, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def padded(lengths: list[int], seed: int, *, left: bool) -> tuple[torch.Tensor, Mask]:
    """Return random ids (B, longest) with padding on one side, and where the tokens are."""
    longest = max(lengths)
    places = np.arange(longest)[None]
    counts = np.array(lengths)[:, None]
    tokens = places >= longest - counts if left else places < counts
    return random_ids(tokens.shape, seed).where(torch.tensor(tokens), torch.tensor(PAD_ID)), tokens
