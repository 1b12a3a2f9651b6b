"""The thread that makes replies: it steps through the batches in turn, a token for each row.

    waiting ─► what waits at the beginning of a round becomes a batch ─► step, step … ─► rows leave as their replies end

A request that comes later gets a batch of its own, stepped in turn with the others: it never waits for the end of a long one.
Rows join no batch that runs already.
"""

import queue
import threading
from collections.abc import Iterable, Sequence
from itertools import groupby

from dialogue.engine.local.seq2seq_model import Batch, Seq2SeqModel
from dialogue.engine.local.seq2seq_reply import Reply
from dialogue.errors import EngineUnavailable

Order = tuple[Seq2SeqModel, Reply]


class Seq2SeqWorker:
    """Runs until `close`."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()  # None = end
        self._running: list[tuple[Batch, list[Reply]]] = []
        self._thread = threading.Thread(target=self._run, name="seq2seq", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, model: Seq2SeqModel, reply: Reply) -> None:
        """Make a reply with this model."""
        self._orders.put((model, reply))

    def close(self) -> None:
        """End after the step that runs; what is unfinished is let go without a word. Blocks."""
        self._orders.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (orders := self._waiting()) is not None:
            for model, replies in _grouped(orders):
                self._begin(model, replies)
            self._running = [(batch, kept) for batch, replies in self._running if (kept := self._step(batch, replies))]
        _let_go(reply for _, replies in self._running for reply in replies)

    def _waiting(self) -> list[Order] | None:
        """Return what waits, after waiting for it when there is nothing else to do; None = the end."""
        orders: list[Order] = []
        while True:
            try:
                order = self._orders.get(block=not (orders or self._running))
            except queue.Empty:
                return orders
            if order is None:
                _let_go(reply for _, reply in orders)
                return None
            orders.append(order)

    def _begin(self, model: Seq2SeqModel, replies: Sequence[Reply]) -> None:
        wanted = [reply for reply in replies if not reply.unwanted]
        _let_go(reply for reply in replies if reply.unwanted)
        for reply in wanted:
            reply.begin()
        if not wanted:
            return
        try:
            batch = model.begin([reply.request.prompt for reply in wanted], [reply.beginning for reply in wanted])
        except Exception as error:  # noqa: BLE001 - whatever it was, these requests end with it and say so
            _give_up(wanted, error)
        else:
            self._running.append((batch, wanted))

    def _step(self, batch: Batch, replies: list[Reply]) -> list[Reply]:
        """Make one token for each reply; return those that go on."""
        if all(reply.unwanted for reply in replies):
            _let_go(replies)
            return []
        try:
            logits = batch.logits()
            tokens = [None if reply.unwanted else reply.take(row) for reply, row in zip(replies, logits, strict=True)]
            rows = [row for row, token in enumerate(tokens) if token is not None]
            batch.feed(rows, [token for token in tokens if token is not None])
        except Exception as error:  # noqa: BLE001 - the same
            _give_up(replies, error)
            return []
        _let_go(reply for reply, token in zip(replies, tokens, strict=True) if token is None)
        return [replies[row] for row in rows]


def _grouped(orders: Iterable[Order]) -> list[tuple[Seq2SeqModel, list[Reply]]]:
    """Return what may share a batch: the same model, and beginnings of the same length."""
    ordered = sorted(orders, key=_kind)
    return [(group[0][0], [reply for _, reply in group]) for group in (list(each) for _, each in groupby(ordered, key=_kind))]


def _kind(order: Order) -> tuple[int, int]:
    return id(order[0]), len(order[1].beginning)


def _let_go(replies: Iterable[Reply]) -> None:
    for reply in replies:
        reply.let_go()


def _give_up(replies: Iterable[Reply], error: Exception) -> None:
    for reply in replies:
        reply.break_off(EngineUnavailable(f"the encoder–decoder gave up the request: {type(error).__name__}: {error}"))
        reply.let_go()
