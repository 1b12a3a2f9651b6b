"""The thread that owns a decoder: step by step, a token for each reply that generates and a piece of each prompt that is read.

    orders (a reply, other adapters) ─► scheduler.plan ─► model.compute ─► choose_tokens ─► reply.take ─► events

Between two steps requests join, leave and find other adapters loaded. Out of memory is met by smaller steps: nothing of the
step was taken note of, so it is computed again. An error of the device itself leaves nothing that can be trusted: `on_fatal` is
called, which ends the process where it is a child.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dialogue.engine.local.decoder_figures import DecoderFigures
from dialogue.engine.local.decoder_model import DecoderModel
from dialogue.engine.local.decoder_reply import DecoderReply
from dialogue.engine.local.kv_store import bytes_per_token
from dialogue.engine.local.lora_layers import LoraWeights
from dialogue.engine.local.memory import is_out_of_memory
from dialogue.engine.local.scheduler import Scheduler, Sequence, Step
from dialogue.engine.local.token_sampling import choose_tokens
from dialogue.errors import EngineUnavailable


@dataclass(frozen=True, slots=True)
class _Change:
    """Other adapters, and who waits for them."""

    weights: LoraWeights
    done: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


class DecoderWorker:
    """Runs until `close`, or until the device fails."""

    def __init__(self, model: DecoderModel, scheduler: Scheduler, on_fatal: Callable[[Exception], None] | None = None) -> None:
        self._model = model
        self._scheduler = scheduler
        self._on_fatal = on_fatal
        self._orders: queue.SimpleQueue[DecoderReply | _Change | None] = queue.SimpleQueue()  # None = end
        self._replies: dict[Sequence, DecoderReply] = {}
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)
        self._broken = False
        self._figures = DecoderFigures(bytes_per_token(model.model))

    @property
    def running(self) -> int:
        """How many replies hold a slot. May be asked in any thread."""
        return len(self._scheduler.running)

    @property
    def figures(self) -> dict[str, float]:
        """What it counts. May be asked in any thread."""
        return self._figures.snapshot(self._scheduler, time.monotonic())

    @property
    def alive(self) -> bool:
        """Tell whether replies can be made."""
        return self._thread.is_alive() and not self._broken

    def start(self) -> None:
        self._thread.start()

    def submit(self, reply: DecoderReply) -> None:
        """Make a reply."""
        self._orders.put(reply)

    async def change(self, weights: LoraWeights) -> None:
        """Compute with other adapters from the next step on."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._orders.put(_Change(weights, done, loop))
        await done

    def close(self) -> None:
        """End after the step that runs; what is unfinished is let go without a word. Blocks."""
        self._orders.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while self._obey():
                self._step()
        except Exception as error:  # noqa: BLE001 - a thread that ends without a word would leave everybody waiting
            self._break(error)
        for sequence in tuple(self._replies):
            self._let_go(sequence)

    def _step(self) -> None:
        for sequence in self._scheduler.drop_cancelled():
            self._let_go(sequence)
        step = self._scheduler.plan()
        if step.chunks:
            self._note_beginnings(step)
            self._compute(step)

    def _obey(self) -> bool:
        """Take the orders that are there, after waiting for one when there is nothing else to do. Returns False at the end."""
        while True:
            try:
                order = self._orders.get(block=self._scheduler.idle)
            except queue.Empty:
                return True
            if order is None:
                return False
            if isinstance(order, _Change):
                self._install(order)
            elif self._broken:
                order.break_off(EngineUnavailable("the device has failed"))
                order.let_go()
            else:
                self._replies[order.sequence] = order
                self._scheduler.submit(order.sequence)

    def _install(self, change: _Change) -> None:
        self._model.lora.install(change.weights)
        self._scheduler.table.drop_idle(self._model.lora.known)
        if not change.loop.is_closed():
            change.loop.call_soon_threadsafe(change.done.set_result, None)

    def _note_beginnings(self, step: Step) -> None:
        for chunk in step.chunks:
            reply = self._replies[chunk.sequence]
            if not reply.has_begun:
                reply.begin()
                self._figures.note_beginning(len(reply.request.prompt), chunk.sequence.cached or 0)

    def _compute(self, step: Step) -> None:
        self._model.copy(step)  # the slots hold the copies from here on, whatever becomes of the step
        try:
            logits = self._model.compute(step)
            sampling = [self._replies[chunk.sequence] for chunk in step.chunks if chunk.samples]
            tokens = choose_tokens(logits, [reply.draw() for reply in sampling])
        except Exception as error:  # noqa: BLE001 - whatever it was, the thread must say so and go on, or end the process
            self._meet(error, step)
            return
        self._figures.note_step(step, time.monotonic())
        self._scheduler.commit(step)
        for reply, token in zip(sampling, tokens, strict=True):
            if not reply.take(token):
                self._end(reply.sequence)

    def _meet(self, error: Exception, step: Step) -> None:
        if is_out_of_memory(error):
            self._figures.note_shortage()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if self._scheduler.put_back(step):
                return
        elif isinstance(error, torch.AcceleratorError):
            self._break(error)
            return
        for chunk in step.chunks:
            self._replies[chunk.sequence].break_off(_gave_up(error))
            self._end(chunk.sequence)

    def _break(self, error: Exception) -> None:
        """Nothing can be computed any more: tell everybody."""
        self._broken = True
        if self._on_fatal is not None:
            self._on_fatal(error)
        for reply in self._replies.values():
            reply.break_off(_gave_up(error))

    def _end(self, sequence: Sequence) -> None:
        self._scheduler.end(sequence)
        self._let_go(sequence)

    def _let_go(self, sequence: Sequence) -> None:
        self._replies.pop(sequence).let_go()


def _gave_up(error: Exception) -> EngineUnavailable:
    return EngineUnavailable(f"the model gave up the request: {type(error).__name__}: {error}")
