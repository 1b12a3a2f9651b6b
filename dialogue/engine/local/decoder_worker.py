"""The thread that owns a decoder: step by step, a token for each reply that generates and a piece of each prompt that is read.

    orders (a reply, other adapters) ─► scheduler.plan ─► model.compute ─► choose_tokens ─► reply.take ─► events

On a GPU a step is launched before the tokens of the one before are read, so that the device does not wait for the host: what a
request turns out to have ended with is known one step late, and that step's token for it is thrown away. On a CPU the host is the device.

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
from typing import Final

import torch

from dialogue.engine.local.decoder_figures import DecoderFigures
from dialogue.engine.local.decoder_model import DecoderModel
from dialogue.engine.local.decoder_reply import DecoderReply
from dialogue.engine.local.kv_store import bytes_per_token
from dialogue.engine.local.lora_layers import LoraWeights
from dialogue.engine.local.memory import is_out_of_memory
from dialogue.engine.local.scheduler import Scheduler, Sequence, Step
from dialogue.engine.local.token_sampling import choose_tokens
from dialogue.engine.local.uploads import ChosenTokens
from dialogue.errors import EngineUnavailable

# Tokens of a step, by the kind of device. On two cores a step of 128 takes a tenth of a second with the default model, and a cancelled
# request is noticed between two steps; 256 were not quicker. A GPU is not busy with fewer than some thousand.
STEP_TOKENS: Final = {"cpu": 128, "cuda": 2048}


@dataclass(frozen=True, slots=True)
class _Change:
    """Other adapters, and who waits for them."""

    weights: LoraWeights
    done: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True, slots=True)
class _Launched:
    """A step that is on its way, and whose replies get a token by it."""

    step: Step
    replies: tuple[DecoderReply, ...]
    chosen: ChosenTokens


class DecoderWorker:
    """Runs until `close`, or until the device fails."""

    def __init__(
        self, model: DecoderModel, scheduler: Scheduler, on_fatal: Callable[[Exception], None] | None = None, *, overlaps: bool = False
    ) -> None:
        """`overlaps` = a step is launched before the tokens of the one before are read."""
        self._model = model
        self._scheduler = scheduler
        self._on_fatal = on_fatal
        self._orders: queue.SimpleQueue[DecoderReply | _Change | None] = queue.SimpleQueue()  # None = end
        self._replies: dict[Sequence, DecoderReply] = {}
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)
        self._broken = False
        self._overlaps = overlaps
        self._launched: _Launched | None = None  # its tokens are not read yet
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
        launched = self._launch(step) if step.chunks else None
        self._read()
        self._launched = launched
        if not self._overlaps:
            self._read()

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
        self._model.install(change.weights)
        self._scheduler.table.drop_idle(self._model.lora.known)
        if not change.loop.is_closed():
            change.loop.call_soon_threadsafe(change.done.set_result, None)

    def _note_beginnings(self, step: Step) -> None:
        for chunk in step.chunks:
            reply = self._replies[chunk.sequence]
            if not reply.has_begun:
                reply.begin()
                self._figures.note_beginning(len(reply.request.prompt), chunk.sequence.cached or 0)

    def _launch(self, step: Step) -> _Launched | None:
        """Compute a step, or have the device begin with it. Returns None when it failed; that is dealt with."""
        self._note_beginnings(step)
        self._model.copy(step)  # the slots hold the copies from here on, whatever becomes of the step
        before = self._launched.chosen if self._launched else None
        rows = before.rows if before else {}
        replies = tuple(self._replies[chunk.sequence] for chunk in step.chunks if chunk.samples)
        try:
            logits = self._model.compute(step, before)
            draws = [reply.draw(rows.get(reply.sequence) if reply.sequence.unread else None) for reply in replies]
            tokens = choose_tokens(logits, draws, before.tokens if before else None)
            chosen = ChosenTokens(tokens, {reply.sequence: row for row, reply in enumerate(replies)})
        except Exception as error:  # noqa: BLE001 - whatever it was, the thread must say so and go on, or end the process
            self._read()
            self._meet(error, step)
            return None
        self._scheduler.commit(step)
        for reply in replies:
            reply.sequence.expect()
        return _Launched(step, replies, chosen)

    def _read(self) -> None:
        """Hand out the tokens of the step that was launched last, if they have not been."""
        launched, self._launched = self._launched, None
        if launched is None:
            return
        try:
            tokens = launched.chosen.read()
        except Exception as error:  # noqa: BLE001 - the device tells only here what went wrong in the step
            self._meet(error, launched.step)
            return
        self._figures.note_step(len(launched.step.chunks), len(tokens), time.monotonic())
        for reply, token in zip(launched.replies, tokens, strict=True):
            if reply.sequence in self._replies and not reply.take(token):
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
        for sequence in [chunk.sequence for chunk in step.chunks if chunk.sequence in self._replies]:
            self._replies[sequence].break_off(_gave_up(error))
            self._end(sequence)

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
