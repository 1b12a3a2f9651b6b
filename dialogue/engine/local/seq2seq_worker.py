"""The thread that makes replies: it steps through the batches in turn, a token for each row.

    waiting ─► what waits at the beginning of a round becomes a batch ─► step, step … ─► rows leave as their replies end

A request that comes later gets a batch of its own, stepped in turn with the others: it never waits for the end of a long one.
Rows join no batch that runs already. Where there is no memory to read a batch, its halves are read one after the other. An error of the
device itself leaves nothing that can be trusted: `on_fatal` is called, which ends the process.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby

import torch

from dialogue.engine.local.memory import unless_out_of_memory
from dialogue.engine.local.seq2seq_model import Batch, Seq2SeqModel
from dialogue.engine.local.seq2seq_reply import Reply
from dialogue.errors import EngineUnavailable

Order = tuple[Seq2SeqModel, Reply]


class Seq2SeqWorker:
    """Runs until `close`."""

    def __init__(self, on_fatal: Callable[[Exception], None] | None = None) -> None:
        self._on_fatal = on_fatal
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
        if wanted:
            self._read(model, wanted)

    def _read(self, model: Seq2SeqModel, replies: list[Reply]) -> None:
        """Let the encoder read the texts of a batch."""
        begin = partial(model.begin, [reply.request.prompt for reply in replies], [reply.beginning for reply in replies])
        try:
            batch = unless_out_of_memory(begin) if len(replies) > 1 else begin()
        except Exception as error:  # noqa: BLE001 - whatever it was, these requests end with it and say so
            self._give_up(replies, error)
            return
        if batch is not None:
            self._running.append((batch, replies))
            return
        half = len(replies) // 2
        self._read(model, replies[:half])
        self._read(model, replies[half:])

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
            self._give_up(replies, error)
            return []
        _let_go(reply for reply, token in zip(replies, tokens, strict=True) if token is None)
        return [replies[row] for row in rows]

    def _give_up(self, replies: Iterable[Reply], error: Exception) -> None:
        if isinstance(error, torch.AcceleratorError) and self._on_fatal is not None:
            self._on_fatal(error)
        for reply in replies:
            reply.break_off(EngineUnavailable(f"the encoder–decoder gave up the request: {type(error).__name__}: {error}"))
            reply.let_go()


def _grouped(orders: Iterable[Order]) -> list[tuple[Seq2SeqModel, list[Reply]]]:
    """Return what may share a batch: the same model, and beginnings of the same length."""
    ordered = sorted(orders, key=_kind)
    return [(group[0][0], [reply for _, reply in group]) for group in (list(each) for _, each in groupby(ordered, key=_kind))]


def _kind(order: Order) -> tuple[int, int]:
    return id(order[0]), len(order[1].beginning)


def _let_go(replies: Iterable[Reply]) -> None:
    for reply in replies:
        reply.let_go()
