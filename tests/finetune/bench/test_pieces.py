"""The parts of the bench: rows, steps, what a model needs."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune.bench.flops import Weights, count_weights, matrix_rate, model_flops
from finetune.bench.meter import Counted, Meter, Size, peak_memory_mib
from finetune.bench.own_arm import packs_per_step
from finetune.bench.work import TRL_BATCH
from finetune.bench.workload import spread_over
from finetune.config import LoraSection
from finetune.rendering import Row
from finetune.training.base_model import load_weights
from finetune.training.lora import attach
from tests.finetune.training.tiny import FEED_FORWARD, HIDDEN, KV_HEADS, LAYERS, write_tiny


def row(length: int, trained: int) -> Row:
    return Row(tuple(range(length)), (False,) * (length - trained) + (True,) * trained)


@given(st.integers(1, 30), st.integers(1, 80), st.one_of(st.none(), st.integers(1, 40)), st.integers(0, 5))
def test_all_rows_are_seen_equally_often(count: int, needed: int, most: int | None, seed: int) -> None:
    """So many rows come as are needed, of no more different ones than allowed, none seen two times more often than another."""
    rows = [row(number + 1, 1) for number in range(count)]
    chosen = spread_over(rows, needed, most, seed)
    assert len(chosen) == needed
    assert len(set(chosen)) == min(count, needed, needed if most is None else most)
    times = [chosen.count(each) for each in set(chosen)]
    assert max(times) - min(times) <= 1
    assert chosen == spread_over(rows, needed, most, seed)


@given(st.integers(1, 200), st.integers(1, 8), st.data())
def test_packed_arms_take_no_more_steps(rows: int, at_once: int, data: st.DataObject) -> None:
    """However rows are packed, there are no more steps than TRL's default batches, and each step is whole forward passes."""
    packs = data.draw(st.integers(1, rows))
    per_step = packs_per_step(packs, rows, at_once)
    assert per_step % at_once == 0
    assert 1 <= -(-packs // per_step) <= -(-rows // TRL_BATCH)


def test_batches_are_joined_to_their_steps() -> None:
    """A batch that is made ahead of its step still counts for that step; the last step may have fewer batches."""
    times = iter((0.0, 5.0, 7.0))
    meter = Meter(lambda: next(times))
    for trained in (1, 2, 3):
        meter.batch(Size(trained, 10, 20))
    meter.step(2.5)
    meter.step(2.0)
    first, last = meter.steps(2)
    assert (first.seconds, first.loss, first.trained, first.tokens, first.places) == (5.0, 2.5, 3, 20, 40)
    assert (last.seconds, last.loss, last.trained, last.tokens, last.places) == (2.0, 2.0, 3, 10, 20)


def test_a_collator_is_counted() -> None:
    """A counted collator returns what it returned before, and the meter knows of it."""
    meter = Meter(lambda: 0.0)

    def measure(examples: Sequence[int], batch: int) -> Size:
        return Size(1, len(examples), batch)

    assert Counted(sum, measure, meter)([1, 2]) == 3
    meter.step(1.0)
    assert meter.steps(1)[0].tokens == 2


def test_the_operations_of_a_model() -> None:
    """Frozen weights cost 4 operations a token, LoRA 6, the output layer 4 a trained token, causal attention 6·T²·width a layer."""
    weights = Weights(body=100, head=1000, lora=10, layers=3, attention_width=8)
    assert model_flops([row(5, 2)], weights) == 5 * (400 + 60) + 2 * 4000 + 6 * 25 * 8 * 3


@pytest.fixture
def adapted(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    """A tiny model with LoRA of rank 2."""
    return attach(load_weights(write_tiny(tmp_path_factory.mktemp("model"))), LoraSection(r=2))


def test_the_weights_of_a_model_are_counted(adapted: torch.nn.Module) -> None:
    """Each linear layer is counted once: attention and feed-forward as frozen, the adapter as trained, the output layer apart."""
    weights = count_weights(adapted)
    attention = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * (HIDDEN * KV_HEADS // 4)
    assert weights.body == LAYERS * (attention + 3 * HIDDEN * FEED_FORWARD)
    assert weights.lora == sum(weight.numel() for name, weight in adapted.named_parameters() if "lora_" in name)
    assert (weights.layers, weights.attention_width) == (LAYERS, HIDDEN)


def test_the_machine_is_measured() -> None:
    """A matrix product has a rate, and this process holds memory."""
    assert matrix_rate(torch.device("cpu"), seconds=0.0001) > 0
    assert peak_memory_mib() > 1
