"""Which slot of llama.cpp takes which request, so that a conversation finds its KV again. Pure bookkeeping.

Left to itself, llama.cpp gives a new conversation the slot of another one that begins alike, and forgets that one's turns
although other slots are empty. So every request names its slot here:

    its own slot, when the conversation still has one       nothing is copied, the old prefix is not computed again
    else a slot that was never used, else the one that was idle the longest

What the server then does with the chosen slot follows from two numbers. `like` is the part of the new prompt that the slot
already holds, `kept` the part of the slot's tokens that the new prompt keeps:

    like > PROMPT_SIMILARITY and kept >= 0.5    the slot goes on as it is
    otherwise                                   its state is saved in the RAM cache, and a better fitting one is restored

The server's RAM cache compares tokens and knows nothing of adapters: what adapter A computed would be restored for adapter B,
silently wrong. Therefore only one adapter, `cached_adapter`, may meet it. A slot that was computed with another one is
erased before anything could save it, unless the request certainly goes on with it as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

PROMPT_SIMILARITY = 0.8  # the server's slot_prompt_similarity
_MARGIN = 0.05  # on this side of the server's limits, for what is not known exactly


@dataclass(slots=True)
class Slot:
    """One slot, and what it computed last."""

    index: int
    busy: bool = False
    released: int = 0  # counts releases of all slots; 0 = never used
    key: str = ""
    adapter: str | None = None
    prompt: Sequence[int] = ()
    generated: int | None = 0  # tokens after the prompt; None = not known


@dataclass(frozen=True, slots=True)
class Seat:
    """A slot that was taken for a request."""

    index: int
    erase: bool  # the slot must be erased before the request starts


@dataclass(slots=True)
class SlotTable:
    """The slots of one server."""

    count: int
    cached_adapter: str | None = None  # whose states may lie in the RAM cache; None = the base model
    _slots: list[Slot] = field(init=False)
    _releases: int = 0

    def __post_init__(self) -> None:
        self._slots = [Slot(index) for index in range(self.count)]

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return sum(slot.busy for slot in self._slots)

    def take(self, key: str, adapter: str | None, prompt: Sequence[int]) -> Seat:
        """Take the best idle slot; there must be one."""
        idle = [slot for slot in self._slots if not slot.busy]
        own = [slot for slot in idle if key and slot.released and (slot.key, slot.adapter) == (key, adapter)]
        slot = min(own or idle, key=lambda each: each.released)
        seat = Seat(slot.index, self._must_erase(slot, adapter, prompt))
        slot.busy, slot.key, slot.adapter, slot.prompt, slot.generated = True, key, adapter, prompt, None
        return seat

    def release(self, seat: Seat, generated: int | None) -> None:
        """Give a slot back with what it generated after the prompt; None = the request did not come to its end."""
        slot = self._slots[seat.index]
        self._releases += 1
        slot.busy, slot.released, slot.generated = False, self._releases, generated

    def _must_erase(self, slot: Slot, adapter: str | None, prompt: Sequence[int]) -> bool:
        if not slot.released or slot.adapter == self.cached_adapter:
            return False
        return slot.adapter != adapter or not _goes_on(slot, prompt)


def _goes_on(slot: Slot, prompt: Sequence[int]) -> bool:
    """Tell whether the server will certainly neither save nor restore: at least the slot's old prompt begins the new one."""
    old = len(slot.prompt)
    if slot.generated is None or tuple(prompt[:old]) != tuple(slot.prompt):
        return False
    like = old / max(1, len(prompt))
    kept = old / max(1, old + slot.generated)
    return like > PROMPT_SIMILARITY + _MARGIN and kept > 0.5 + _MARGIN
