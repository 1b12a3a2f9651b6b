"""getUpdates: waiting for updates, and what happens when two poll at once."""

from collections.abc import Callable
from dataclasses import dataclass

from bot.channels.telegram.fake_account import allow_updates
from bot.channels.telegram.fake_api import Later, Reply
from bot.channels.telegram.fake_params import Params
from bot.channels.telegram.fake_state import State

LONGEST_POLL_S = 50
CONFLICT_PAUSE_S = 3.0
_WEBHOOK_ACTIVE = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
_TWO_POLL = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
_WEBHOOK_SET = "Conflict: terminated by setWebhook request"

_NOTHING = Reply(200, b'{"ok":true,"result":[]}')

Answer = Callable[[Reply], None]


@dataclass(slots=True, eq=False)
class _Poll:
    answer: Answer
    offset: int
    limit: int


class Poller:
    """Holds the one call that waits. `pace` scales the pauses that Telegram itself makes."""

    def __init__(self, state: State, *, later: Later, pace: float, refuse: Callable[[int, str], Reply]) -> None:
        self._state = state
        self._later = later
        self._pace = pace
        self._refuse = refuse
        self._waiting: _Poll | None = None
        self._next_conflict_at = 0.0
        self._previous_offset: int | None = None
        self._previous_start = 0.0
        state.listeners.append(self._wake)

    @property
    def is_waiting(self) -> bool:
        return self._waiting is not None

    def poll(self, params: Params, answer: Answer) -> Callable[[], None] | None:
        """Answer now or when there are updates; return what to call if the bot hangs up before."""
        if self._state.webhook:
            self._conflict(_WEBHOOK_ACTIVE, answer)
            return None
        allow_updates(self._state, params)
        offset = params.integer("offset")
        limit = min(max(params.integer("limit", 100), 1), 100)
        timeout = min(max(params.integer("timeout"), 0), LONGEST_POLL_S)
        return self._start(_Poll(answer, offset, self._throttled(offset, limit)), self._slowed(offset, timeout))

    def _throttled(self, offset: int, limit: int) -> int:
        """Telegram gives one update only to who asks for the same offset again within half a second."""
        return 1 if self._repeats(offset, 0.5 * self._pace) else limit

    def _slowed(self, offset: int, timeout: float) -> float:
        """Telegram lets who asks again within three seconds wait three seconds."""
        repeats = self._repeats(offset, 3.0 * self._pace)
        self._previous_offset, self._previous_start = offset, self._state.now()
        return max(timeout, 3.0 * self._pace) if repeats else timeout

    def _repeats(self, offset: int, within_s: float) -> bool:
        return offset == self._previous_offset and self._state.now() < self._previous_start + within_s

    def _start(self, poll: _Poll, timeout: float) -> Callable[[], None] | None:
        if self._finish(poll):
            return None
        if timeout <= 0:
            poll.answer(_NOTHING)
            return None
        if self._waiting is not None:
            self._conflict(_TWO_POLL, self._waiting.answer)
        self._waiting = poll
        self._state.changed()
        self._later(timeout, lambda: self._time_out(poll))
        return lambda: self._forget(poll)

    def _finish(self, poll: _Poll) -> bool:
        """Answer with updates if there are any; return whether there were."""
        updates = self._state.updates.from_offset(poll.offset, poll.limit)
        if not updates:
            return False
        poll.answer(Reply(200, b'{"ok":true,"result":[' + b",".join(update.raw for update in updates) + b"]}"))
        return True

    def _wake(self) -> None:
        poll = self._waiting
        if poll is None:
            return
        if self._state.webhook:
            self._forget(poll)
            self._conflict(_WEBHOOK_SET, poll.answer)
        elif self._finish(poll):
            self._forget(poll)

    def _time_out(self, poll: _Poll) -> None:
        if self._waiting is poll:
            self._waiting = None
            poll.answer(_NOTHING)

    def _forget(self, poll: _Poll) -> None:
        if self._waiting is poll:
            self._waiting = None

    def _conflict(self, description: str, answer: Answer) -> None:
        """409; who repeats it gets it three seconds later."""
        now, pause_s = self._state.now(), CONFLICT_PAUSE_S * self._pace
        if now >= self._next_conflict_at:
            self._next_conflict_at = now + pause_s
            answer(self._refuse(409, description))
        else:
            self._later(pause_s, lambda: answer(self._refuse(409, description)))
