"""What every arm is asked."""

from dataclasses import replace

import pytest

from dialogue.engine.bench.drive import hold
from dialogue.engine.bench.workload import (
    ADAPTERS,
    LONG_PREFILL,
    MULTI_TURN,
    SINGLE,
    USER_TEXTS,
    Case,
    Sizes,
    cases,
    context_tokens,
    conversations,
    follow_up,
    shortened,
    work_tokens,
)
from tests.dialogue.engine.bench.pieces import BYTES, Clock, Parrot, render

SIZES = Sizes(users=(1, 3), prompt_tokens=64, reply_tokens=16, turns=3, chat_users=2, chat_tokens=8, long_tokens=500, adapters=2)


def test_a_single_prompt_has_exactly_its_length() -> None:
    """However long the texts are, a prompt of n tokens has n tokens, and no two users begin alike."""
    asked = conversations(Case(SINGLE, 3), SIZES, BYTES, "round 1")
    assert [len(each.opening) for each in asked] == [64, 64, 64]
    assert len({each.opening[:8] for each in asked}) == 3
    longer = conversations(Case(SINGLE, 1), replace(SIZES, prompt_tokens=3000), BYTES, "round 1")
    assert len(longer[0].opening) == 3000


def test_every_arm_is_asked_the_same_and_every_round_something_else() -> None:
    """The same round gives the same prompts and pauses, another one other prompts."""
    for case in cases(SIZES):
        first = conversations(case, SIZES, BYTES, "round 1")
        assert first == conversations(case, SIZES, BYTES, "round 1")
        again = conversations(case, SIZES, BYTES, "round 2")
        assert not {each.opening[:8] for each in first} & {each.opening[:8] for each in again}


def test_a_case_for_each_number_of_users() -> None:
    """`single` is measured at every load, the other workloads once; what was not chosen is not measured."""
    assert [case.name for case in cases(SIZES)] == ["single-1", "single-3", "multi-turn-2", "long-prefill-2", "adapters-2"]
    assert [case.name for case in cases(replace(SIZES, workloads=(MULTI_TURN,)))] == ["multi-turn-2"]


def test_a_long_prompt_comes_while_others_are_answered() -> None:
    """The long prompt starts later than the chats beside it and is no chat."""
    *chats, long = conversations(Case(LONG_PREFILL, 2), SIZES, BYTES, "round 1")
    assert (long.kind, len(long.opening)) == ("long", 500)
    assert {each.kind for each in chats} == {"chat"}
    assert long.start_s > max(each.start_s for each in chats)


def test_each_user_of_adapters_has_one_of_his_own() -> None:
    """No two users share an adapter."""
    assert [each.adapter for each in conversations(Case(ADAPTERS, 2), SIZES, BYTES, "round 1")] == ["bench-0", "bench-1"]


async def test_prompts_grow() -> None:
    """Each turn's prompt is the last one, the reply, and what a template puts between; pauses lie before each turn."""
    clock = Clock()
    arm = Parrot(clock)
    asked = conversations(Case(MULTI_TURN, 1), SIZES, BYTES, "round 1")
    await hold(arm, asked, BYTES.encode, sleep=clock.sleep, clock=clock)
    first, second, third = (bytes(ask.prompt).decode() for ask in arm.asked)
    assert second == f"{first}fine|{USER_TEXTS[1]}|"
    assert third == f"{second}fine|{USER_TEXTS[2]}|"
    assert clock.slept == [asked[0].start_s, *asked[0].think_s]
    assert all(pause > 0 for pause in clock.slept)


async def test_no_prompt_outgrows_the_context() -> None:
    """A reply whose text is cut into more tokens than it was made of takes no more room than it had."""
    clock = Clock()
    arm = Parrot(clock)
    asked = conversations(Case(MULTI_TURN, 1), replace(SIZES, chat_tokens=2), BYTES, "round 1")
    await hold(arm, asked, BYTES.encode, sleep=clock.sleep, clock=clock)
    assert "|fi|" in bytes(arm.asked[1].prompt).decode()
    assert len(arm.asked[-1].prompt) + 2 == asked[0].longest


async def test_an_arm_that_stops_early_is_no_arm() -> None:
    """An answer of another length than was asked for ends the run: it would be the quickest."""
    clock = Clock()
    asked = conversations(Case(MULTI_TURN, 1), replace(SIZES, chat_tokens=9), BYTES, "round 1")
    with pytest.raises(ExceptionGroup) as raised:
        await hold(Parrot(clock, tokens=8), asked, BYTES.encode, sleep=clock.sleep, clock=clock)
    assert "8 tokens instead of 9" in str(raised.value.exceptions[0])


def test_a_follow_up_holds_nothing_of_the_reply() -> None:
    """What stands between two replies is the same whatever was replied."""
    assert bytes(follow_up(render, ["system", "hello"], "and now?")).decode() == "|and now?|"


def test_the_context_holds_every_prompt_and_reply() -> None:
    """A request of any case fits."""
    for case in cases(SIZES):
        longest = max(each.longest for each in conversations(case, SIZES, BYTES, "round 1"))
        assert context_tokens(case, SIZES, BYTES) > longest


@pytest.mark.parametrize(("share", "expected"), [(2.0, (16, 8)), (0.5, (8, 4)), (0.01, (4, 4))])
def test_a_slow_machine_gets_shorter_replies(share: float, expected: tuple[int, int]) -> None:
    """Replies shrink with the time that there is, down to a few tokens, and never grow."""
    sizes = shortened(SIZES, share)
    assert (sizes.reply_tokens, sizes.chat_tokens) == expected


def test_the_work_of_a_round() -> None:
    """All tokens of all replies: 1 and 3 users, 2 chats of 3 turns, 2 beside the long prompt, 2 with adapters."""
    assert work_tokens(SIZES) == 16 * (1 + 3) + 2 * 3 * 8 + 2 * 16 + 2 * 16
