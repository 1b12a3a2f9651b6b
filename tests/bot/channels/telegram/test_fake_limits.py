"""The limits of the fake Telegram, and its faults."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.channels.telegram.fake_faults import Fault, FaultKind, Faults
from bot.channels.telegram.fake_limits import Limiter, Limits

CHAT, GROUP = 1001, -4001


def test_a_burst_passes_and_then_one_a_second() -> None:
    """After a burst a chat takes one message a second; other chats do not notice."""
    limiter = Limiter(Limits(chat_burst=3))
    assert [limiter.retry_after("sendmessage", CHAT, 0.0) for _ in range(4)] == [0, 0, 0, 1]
    assert limiter.retry_after("sendmessage", CHAT + 1, 0.0) == 0
    assert limiter.retry_after("sendmessage", CHAT, 1.0) == 0


def test_a_group_takes_twenty_a_minute() -> None:
    """The twenty-first message of a minute in a group waits for the minute to end."""
    limiter = Limiter(Limits())
    assert [limiter.retry_after("sendmessage", GROUP, 2.0 * number) for number in range(20)] == [0] * 20
    assert limiter.retry_after("sendmessage", GROUP, 40.0) == 20


def test_the_bot_takes_thirty_a_second() -> None:
    """The thirty-first message of a second is refused, whoever it is for."""
    limiter = Limiter(Limits())
    assert [limiter.retry_after("sendmessage", CHAT + number, 0.0) for number in range(31)] == [0] * 30 + [1]


def test_calls_inside_the_window_are_violations_and_extend_it() -> None:
    """Who calls inside of `retry_after` is written down and waits longer; calls under way when it was told are not held against it."""
    limiter = Limiter(Limits(chat_burst=1, penalty_s=2.0))
    limiter.punish(CHAT, 5, 0.0)
    assert limiter.retry_after("editmessagetext", CHAT, 0.1) == 5
    assert limiter.violations == []
    assert limiter.retry_after("editmessagetext", CHAT, 4.0) == 3
    assert [violation.too_early_s for violation in limiter.violations] == [1.0]
    assert limiter.retry_after("editmessagetext", CHAT, 7.0) == 0


def test_drafts_have_windows_of_their_own() -> None:
    """A refused draft does not delay the message that follows."""
    limiter = Limiter(Limits())
    limiter.punish(CHAT, 5, 0.0, is_draft=True)
    assert limiter.retry_after("sendmessage", CHAT, 1.0) == 0
    assert limiter.retry_after("sendmessagedraft", CHAT, 1.0, is_draft=True) == 5


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from([CHAT, GROUP, 7, 8]), st.floats(0, 3)), max_size=60))
def test_who_waits_as_told_never_violates(calls: list[tuple[int, float]]) -> None:
    """A bot that waits as long as it was told passes the next time, unless others used up the common limit, and never violates."""
    limiter, now = Limiter(Limits()), 0.0
    for chat, pause_s in calls:
        now += pause_s
        while wait_s := limiter.retry_after("sendmessage", chat, now):
            now += wait_s
    assert limiter.violations == []


def test_no_limits() -> None:
    """Lifted limits let everything pass."""
    limiter = Limiter(Limits.none())
    assert not any(limiter.retry_after("sendmessage", GROUP, 0.0) for _ in range(1000))


def test_scripted_faults_come_first_and_in_order() -> None:
    """Scripted faults hit the next calls of their method, then chance decides."""
    faults = Faults({FaultKind.LOST: 1.0}, methods=["sendMessage"])
    faults.script("sendMessage", None, FaultKind.SLOW, Fault(FaultKind.BUSY, 30))
    kinds = [fault and fault.kind for fault in (faults.next("sendmessage") for _ in range(4))]
    assert kinds == [None, FaultKind.SLOW, FaultKind.BUSY, FaultKind.LOST]
    assert faults.next("getme") is None


def test_the_same_seed_gives_the_same_faults() -> None:
    """Random faults depend on the seed alone, and come at about the rates that were asked for."""
    first, second = (Faults({FaultKind.LOST: 0.05, FaultKind.ERROR: 0.05}, seed=7) for _ in range(2))
    drawn = [first.next("sendmessage") for _ in range(2000)]
    assert drawn == [second.next("sendmessage") for _ in range(2000)]
    assert 140 < len(first.injected) < 260
