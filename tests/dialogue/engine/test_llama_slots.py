"""Promises of the slots: a conversation finds its KV, and no adapter meets what another one computed."""

import random
from dataclasses import dataclass, field
from unittest.mock import Mock

import pytest

from dialogue.engine import llama_slots
from dialogue.engine.llama_slots import PROMPT_SIMILARITY, SlotTable
from tests.sizes import record_proof, size

Ids = tuple[int, ...]


def ids(conversation: int, length: int) -> Ids:
    """A prompt of which the first 20 ids are the same in every conversation."""
    return (*range(20), *(1000 * conversation + number for number in range(length - 20)))


def serve(table: SlotTable, key: str, prompt: Ids, adapter: str | None = None, generated: int | None = 5) -> int:
    seat = table.take(key, adapter, prompt)
    table.release(seat, generated)
    return seat.index


def test_a_conversation_keeps_its_slot() -> None:
    """Turn after turn goes to the same slot, whoever else comes in between."""
    table = SlotTable(3)
    first = serve(table, "a", ids(1, 50))
    others = {serve(table, "b", ids(2, 50)), serve(table, "c", ids(3, 50))}
    assert len({first, *others}) == 3
    assert serve(table, "a", ids(1, 70)) == first


def test_the_slot_that_was_idle_longest_goes() -> None:
    """Without a slot left, the conversation that was quiet the longest loses its own."""
    table = SlotTable(3)
    slots = [serve(table, key, ids(number, 50)) for number, key in enumerate("abc")]
    serve(table, "a", ids(0, 60))
    assert serve(table, "d", ids(4, 50)) == slots[1]


def test_requests_without_a_key_share_nothing() -> None:
    """An empty key is nobody's conversation."""
    table = SlotTable(2)
    assert serve(table, "", ids(1, 50)) != serve(table, "", ids(1, 60))


def test_a_busy_slot_is_not_taken() -> None:
    """The same conversation twice at once runs in two slots."""
    table = SlotTable(2)
    first, second = table.take("a", None, ids(1, 50)), table.take("a", None, ids(1, 50))
    assert first.index != second.index
    assert table.running == 2
    table.release(first, 1)
    assert table.running == 1


def test_an_adapter_has_slots_of_its_own() -> None:
    """A conversation that changes its adapter does not go on in its old slot."""
    table = SlotTable(2, cached_adapter="new")
    assert serve(table, "a", ids(1, 50), "new") != serve(table, "a", ids(1, 60), None)


@pytest.mark.parametrize(
    ("prompt", "adapter", "generated", "erase"),
    [
        (ids(1, 110), "old", 20, False),  # the next turn
        (ids(1, 100), "old", 20, False),  # the same once more
        (ids(1, 200), "old", 20, True),  # too much is new: the server would save the slot and look for another state
        (ids(1, 110), "old", 200, True),  # it keeps less than half of the slot: the same
        (ids(1, 110), "old", None, True),  # nobody knows what it holds
        (ids(2, 110), "old", 20, True),  # another conversation
        (ids(1, 110), "new", 20, True),  # another adapter
        (ids(1, 110), None, 20, True),
    ],
)
def test_a_foreign_state_is_erased(prompt: Ids, adapter: str | None, generated: int | None, erase: bool) -> None:
    """What another adapter computed goes on as it is, or is erased."""
    table = SlotTable(1, cached_adapter="new")
    serve(table, "a", ids(1, 100), "old", generated)
    assert table.take("a", adapter, prompt).erase == erase


def test_the_cached_adapter_is_never_erased() -> None:
    """What the cached adapter computed may be saved."""
    table = SlotTable(1, cached_adapter="new")
    serve(table, "a", ids(1, 100), "new")
    assert not table.take("b", None, ids(2, 100)).erase


@dataclass
class FakeServer:
    """What llama.cpp's server does with slots and its RAM cache, and which adapter computed each state."""

    slots: dict[int, tuple[Ids, str | None]] = field(default_factory=dict)
    loras: dict[int, str | None] = field(default_factory=dict)
    cache: list[tuple[Ids, str | None]] = field(default_factory=list)

    def run(self, index: int, adapter: str | None, prompt: Ids, generated: Ids) -> str | None:
        """Serve a request; return whose state it went on with ("" = of nobody)."""
        tokens, origin = self.slots.get(index, ((), ""))
        if tokens:
            like = common(tokens, prompt) / len(prompt)
            kept = common(tokens, prompt) / len(tokens) if like > PROMPT_SIMILARITY else 0.0
            if kept < 0.5:
                self.cache.append((tokens, origin))
                best = max(self.cache, key=lambda entry: common(entry[0], prompt))
                if common(best[0], prompt) > common(tokens, prompt):
                    tokens, origin = best
        if self.loras.get(index, "") != adapter:
            tokens, origin = (), ""
        self.loras[index] = adapter
        used = origin if common(tokens, prompt) else ""
        self.slots[index] = ((*prompt, *generated), adapter)
        return used


def common(left: Ids, right: Ids) -> int:
    """Return how many ids both begin with."""
    return next((at for at, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), min(len(left), len(right)))


def strangers(steps: int, seed: int) -> int:
    """Play a random traffic of several adapters; return how often a request went on with another adapter's state."""
    dice = random.Random(seed)
    table, server = SlotTable(dice.choice([1, 2, 4]), cached_adapter="new"), FakeServer()
    history = {number: ids(number, 40) for number in range(6)}
    wrong = 0
    for _ in range(steps):
        conversation, adapter = dice.randrange(6), dice.choice(["new", "old", None])
        if dice.random() < 0.2:
            history[conversation] = ids(conversation, dice.randrange(30, 300))
        history[conversation] += tuple(dice.choices(range(10**6), k=dice.choice([3, 10, 100])))
        seat = table.take(str(conversation), adapter, history[conversation])
        if seat.erase:
            server.slots[seat.index] = ((), "")
        reply = tuple(dice.choices(range(10**6), k=dice.choice([2, 30, 400])))
        wrong += server.run(seat.index, adapter, history[conversation], reply) not in {"", adapter}
        history[conversation] += reply
        table.release(seat, dice.choice([len(reply), None]))
    return wrong


def test_no_adapter_meets_a_strangers_state() -> None:
    """Over random traffic no request goes on with what another adapter computed."""
    steps = size("adapter_states", small=400, proof=20_000)
    assert strangers(steps, seed=5) == 0
    record_proof("adapter_states", seed=5, size=steps, result="0 requests on another adapter's state")


def test_without_erasing_they_would_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: slots that are never erased."""
    monkeypatch.setattr(llama_slots.SlotTable, "_must_erase", Mock(return_value=False))
    assert strangers(400, seed=5) > 0
