"""The thread of a decoder on a GPU: steps launched ahead, requests that nobody wants any more, memory that runs out for real."""

import asyncio
import random

import pytest
import torch

from dialogue.engine.local.decoder_model import DecoderModel
from dialogue.engine.local.kv_store import KvStore
from tests.dialogue.engine.local.decoder_scene import prompt_of, tiny_weights
from tests.gpu.worker_scene import begin, request, text, texts, working
from tests.sizes import record_proof, size

KINDS = ({"repetition_penalty": 1.3}, {"temperature": 0.8, "repetition_penalty": 1.2}, {"stop": (chr(0x4E00 + 9),)}, {"max_tokens": 1}, {})
WIDE_VOCABULARY = 60_000
ROOM_BYTES = 12 << 20  # left to steps; torch takes 20 MiB from the device for the logits of sixteen requests, and 2 MiB for those of four


def test_steps_launched_ahead_change_no_reply(device: str) -> None:
    """With penalties, stop strings and seeds: the replies are those of steps that wait for the tokens before."""
    weights = tiny_weights("llama", device)
    asked = [request(number, prompt_of(3 + 5 * (number % 7)), **KINDS[number % len(KINDS)]) for number in range(30)]
    with working(weights, overlaps=False) as worker:
        in_turn = texts(worker, asked)
    with working(weights, overlaps=True) as worker:
        assert texts(worker, asked) == in_turn


def test_cancelled_requests_leave_no_slot_behind(device: str) -> None:
    """After cancels at random moments every slot is idle, and the next request is answered as ever."""
    count, dice = size("gpu_cancels", small=200, proof=1000), random.Random(7)
    weights = tiny_weights("llama", device)
    with working(weights) as worker:
        wanted = texts(worker, [request(0, prompt_of(9))])

        async def cancel_at_random() -> None:
            waiting: set[asyncio.Future[None]] = set()
            for number in range(count):
                reply = begin(worker, request(number, prompt_of(dice.randrange(1, 40)), max_tokens=40))
                asyncio.get_running_loop().call_later(dice.uniform(0, 0.02), reply.give_up)
                waiting.add(reply.done)
                if number % 12 == 0:
                    await asyncio.wait(waiting)
                    waiting.clear()
            await asyncio.wait(waiting | {begin(worker, request(count, (5,))).done})

        asyncio.run(cancel_at_random())
        assert worker.running == 0
        assert not any(slot.busy for slot in worker._scheduler.table.slots)
        assert texts(worker, [request(0, prompt_of(9))]) == wanted
    record_proof("cancels on a GPU", seed=7, size=count, result=f"{count} cancels on {device}: no slot left behind")


def test_real_want_of_memory_changes_no_reply(cuda: str) -> None:
    """When the device has no memory for a big step, smaller ones are made: every request is answered, as it would have been."""
    weights = tiny_weights("llama", cuda, vocab_size=WIDE_VOCABULARY)
    asked = [request(number, prompt_of(5 + number)) for number in range(16)]
    with working(weights, graphs=False) as worker:
        wanted = texts(worker, asked)
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        try:
            torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + ROOM_BYTES) / total)
            assert texts(worker, asked) == wanted
            assert worker.figures["memory_shortages"] > 0
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("overlaps", [False, True])
def test_bfloat16_answers_with_everything_on(cuda: str, overlaps: bool) -> None:
    """Flash attention, recorded steps and steps launched ahead together: asked twice alone, a request gets the same reply."""
    weights = tiny_weights("qwen3", cuda, torch.bfloat16, head_dim=64)
    assert DecoderModel(weights, KvStore(weights, 10)).graphs is not None
    with working(weights, overlaps=overlaps) as worker:
        first = texts(worker, [request(1, prompt_of(20))])
        assert texts(worker, [request(1, prompt_of(20))]) == first
        assert len(first[0]) == 12
        crowd = texts(worker, [request(number, prompt_of(4 + number)) for number in range(40)])
        assert [len(each) for each in crowd] == [12] * 40


def test_a_reply_is_read_while_others_are_made(device: str) -> None:
    """Requests join and leave while steps are under way; each gets all its tokens."""
    weights = tiny_weights("llama", device)
    with working(weights) as worker:

        async def one_after_the_other() -> list[str]:
            replies = []
            for number in range(20):
                replies.append(begin(worker, request(number, prompt_of(3 + number), max_tokens=5 + number)))
                await asyncio.sleep(0.001)
            return [await text(reply) for reply in replies]

        assert [len(said) for said in asyncio.run(one_after_the_other())] == [5 + number for number in range(20)]
