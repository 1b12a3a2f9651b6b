"""`kefu bench bot --load`: many open conversations, and more messages than can be answered.

Acceptance is the time from a message to its acknowledgement, which comes only after the commit. The overload is on an engine whose
speed is known (so many slots, so long for an answer), as it is in life: there the engine is the bottleneck, not the bot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bot.channels.telegram.bench import Bench, bench_arm, own_arm
from bot.command_words import say as say_command
from dialogue.words import say

Report = Callable[[str], None]

FIRST_CHAT: Final = 1_000_000
CAPACITY_MESSAGES: Final = 2000
TOKEN_S: Final = 0.02  # an answer of about six tokens takes an eighth of a second
SLOTS: Final = 8
WORKERS: Final = 16
QUEUE_S: Final = 10.0  # [limits] queue_s of the overloaded arm
WINDOW_S: Final = 5.0
OVERLOAD: Final = 3.0
NORMAL: Final = 1.5  # times the latency before: normal again


@dataclass(frozen=True, slots=True)
class LoadSize:
    """How much."""

    conversations: int = 5000
    seconds: float = 60.0  # of each load


def run_load(size: LoadSize, seed: int, report: Report) -> dict[str, Any]:
    """Return what many conversations and an overload did to the bot. Raises RuntimeError when it ends."""
    return {"open_conversations": _open_conversations(size, seed, report), "overload": _overload(size, seed, report)}


def refusals() -> list[str]:
    """Return the sentences that tell people that they have to come back."""
    return [
        say_command("overloaded_wait", "en"),
        *(say("overloaded", "en", seconds=seconds) for seconds in range(1, 121)),
        say("deadline", "en"),
    ]


def _open_conversations(size: LoadSize, seed: int, report: Report) -> dict[str, Any]:
    with bench_arm(own_arm(), seed=seed) as bench:
        bench.load(count=size.conversations, chats=size.conversations, first_chat=FIRST_CHAT, patience_s=600)
        capacity = _capacity(bench)
        report(
            f"capacity {capacity:.0f} updates/s; {size.conversations} conversations are open; half of it arrives for {size.seconds:.0f} s"
        )
        rate = capacity / 2
        result = bench.load(
            count=int(rate * size.seconds), chats=size.conversations, first_chat=FIRST_CHAT, rate=rate, seed=seed, patience_s=600
        )
        rss_mib = bench.rss_mib()
    report(f"acceptance p99 {result['acknowledged_ms']['p99']:.0f} ms, final p99 {result['final_ms']['p99']:.0f} ms, {rss_mib:.0f} MiB")
    return {"conversations": size.conversations, "capacity_per_s": round(capacity, 1), "rss_mib": round(rss_mib), **_rounded(result)}


def _capacity(bench: Bench) -> float:
    return CAPACITY_MESSAGES / bench.load(count=CAPACITY_MESSAGES, patience_s=600)["seconds"]


def _overload(size: LoadSize, seed: int, report: Report) -> dict[str, Any]:
    command = own_arm(token_delay_s=TOKEN_S, slots=SLOTS, workers=WORKERS, queue_s=QUEUE_S)
    place = {"chats": size.conversations, "first_chat": FIRST_CHAT, "refusals": refusals(), "patience_s": 600.0}
    with bench_arm(command, seed=seed) as bench:
        peak = 300 / bench.load(count=300)["seconds"]
        before = bench.load(count=int(peak / 2 * 15), rate=peak / 2, seed=seed, **place)
        report(f"the engine answers {peak:.1f} messages/s; three times that arrives for {size.seconds:.0f} s")
        rate = OVERLOAD * peak
        flood = bench.load(count=int(rate * size.seconds), rate=rate, seed=seed + 1, window_s=WINDOW_S, **place)
        goodput = _steady(flood["answers_per_window"], flood["writing_s"]) / peak
        after = bench.load(count=int(peak / 2 * 40), rate=peak / 2, seed=seed + 2, window_s=WINDOW_S, **place)
    limit_ms = NORMAL * before["final_ms"]["p99"]
    normal_s = next((WINDOW_S * number for number, late in enumerate(after["final_ms_per_window"]) if late <= limit_ms), float("inf"))
    drained_s = flood["seconds"] - flood["writing_s"]
    report(
        f"goodput {goodput:.0%} of the peak; {flood['answered']} answered, {flood['told']} told so, {flood['silent']} in silence; "
        f"empty {drained_s:.1f} s after the flood, new messages as quick as before {normal_s:.0f} s after that"
    )
    return {
        "peak_per_s": round(peak, 1),
        "offered_per_s": round(rate, 1),
        "queue_s": QUEUE_S,
        "goodput_of_peak": round(goodput, 3),
        "drained_s": round(drained_s, 1),
        "normal_after_s": normal_s,
        "flood": _rounded(flood),
        "before": _rounded(before),
        "after": _rounded(after),
    }


def _steady(windows: list[int], writing_s: float) -> float:
    """Return the answers a second while the flood lasted, without its first stretch, in which the queue fills."""
    whole = windows[1 : int(writing_s / WINDOW_S)]
    return sum(whole) / (WINDOW_S * len(whole)) if whole else 0.0


def _rounded(result: dict[str, Any]) -> dict[str, Any]:
    kept = {name: result[name] for name in ("written", "answered", "told", "silent")}
    times = {name: {key: round(value, 1) for key, value in result[name].items()} for name in ("acknowledged_ms", "first_ms", "final_ms")}
    return kept | times
