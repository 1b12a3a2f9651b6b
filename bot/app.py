"""The composition root: everything is wired here and nowhere else, and runs in one TaskGroup.

    receivers ─► inbox ─► database ◄─ workers ─► delivery ─► channels
                                        │
                                   manager ─► engine
    beside them: delivery sweep, control socket, health pages, housekeeping

Start: database, control socket and HTTP port first, because they fail quickly and say why. The engine loads in the
background; messages are accepted meanwhile, turns begin when it is ready.

Stop (a signal, the control socket, or the last channel had nothing more to say): receivers end, running turns and
deliveries get `limits.stop_timeout_s`, then they are cancelled and give their claims back. A second signal cancels at
once. Engine and database are closed on every way out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import structlog

from bot.access import AccessPolicy
from bot.adapter_folders import adapter_folders
from bot.adapter_operations import adapter_operations
from bot.adapter_watch import LOOK_S, AdapterWatch
from bot.channels.ask import AskChannel, AskResult
from bot.channels.base import Channel
from bot.commands import Surroundings, direct_commands
from bot.control import ControlBusy, ControlServer, Operation
from bot.data_operations import data_operations
from bot.delivery import Delivery
from bot.documents import document_maker
from bot.errors import CliError, ExitCode
from bot.handoff_desk import Desk
from bot.health import build_pages
from bot.housekeeping import TIDY_S, Scrubber, Tidier, repeat
from bot.http_server import HttpServer
from bot.inbox import Inbox, RunningTurns
from bot.metrics import Metrics
from bot.presses import PressHandler
from bot.settings import Settings
from bot.shipped_adapter import shipped_adapter
from bot.skill_models import SkillModels, adapter_choice
from bot.stopping import Stopping
from bot.unstarted_model import UnstartedModel
from bot.wakeup import Wakeup
from bot.worker import WorkerConfig, WorkerPool
from dialogue.errors import EngineUnavailable
from dialogue.manager import DialogueManager
from dialogue.memory import memory_commands
from dialogue.ports import ServedModel, SkillModel
from dialogue.router import Command, Router
from dialogue.skills.registry import load_skills
from storage.database import Database, open_database
from storage.errors import StorageError

PROBE_S = 2.0  # how long /readyz waits for the database

OpenModel = Callable[[], Awaitable[UnstartedModel]]
OpenSkillModels = Callable[[], Awaitable[SkillModels]]
Main = Callable[["App"], Awaitable[None]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one run differs from another."""

    command: str = "kefu run"  # what other processes are told about who has the database
    http: bool = False  # serve the health pages, if the settings allow it
    patience_s: float = 25.0  # what running answers get when the program ends
    on_interrupt: Callable[[], bool] | None = None  # sees Ctrl-C first; True = it was meant for that, not for the program
    main: Main | None = None  # runs beside everything else; the program ends when it returns


@dataclass(frozen=True, slots=True)
class Parts:
    """What is wired together once the database is open."""

    database: Database
    model: UnstartedModel
    channels: tuple[Channel, ...]
    inboxes: Mapping[Channel, Inbox]
    delivery: Delivery
    running: RunningTurns
    wakeup: Wakeup
    watch: AdapterWatch
    skill_models: SkillModels
    scrubber: Scrubber


class App:
    """One run of the program. Use it once."""

    def __init__(
        self, settings: Settings, open_model: OpenModel, *, open_skill_models: OpenSkillModels | None = None, user: str = "operator"
    ) -> None:
        self.ready = asyncio.Event()  # the engine takes requests
        self.stopping = Stopping()
        self.metrics = Metrics()
        self.pages: HttpServer | None = None  # while they are served
        self._settings = settings
        self._open_model = open_model
        self._open_skill_models = open_skill_models
        self._asking = AskChannel(user=user, max_chars=settings.limits.message_chars)
        self._contacts: set[Channel] = {self._asking}  # channels that have made contact with their platform
        self._parts: Parts | None = None

    async def run(self, channels: Sequence[Channel], options: RunOptions) -> ExitCode:
        """Serve until asked to stop, until every channel has ended, or until `options.main` returns.

        Raises whatever keeps a part from starting or running, possibly in an ExceptionGroup; `bot.errors.describe` has the words.
        """
        async with AsyncExitStack() as stack:
            parts = self._parts = await self._open(stack, channels, options)
            stack.enter_context(self.stopping.signals(options.on_interrupt))
            await self._take_commands(stack, parts)
            if options.http and self._settings.http.enabled:
                self.pages = self._health_server(parts)
                stack.callback(self.pages.release)
            async with asyncio.TaskGroup() as group:
                await self._supervise(group, parts, options)
        log.info("app.stopped", code=int(self.stopping.code))
        return self.stopping.code

    async def ask(self, text: str) -> AskResult:
        """Return the answer to one question, once the engine is there. Only while `run` runs. Raises StorageError."""
        if self._parts is None:
            raise RuntimeError("questions are asked while the program runs")
        return await self._asking.ask(text, self._parts.inboxes[self._asking])

    async def _open(self, stack: AsyncExitStack, channels: Sequence[Channel], options: RunOptions) -> Parts:
        """Open the database, build the engine, wire the parts. What was opened is closed by `stack`."""
        database = await open_database(self._settings.storage_config(), owner=options.command)
        stack.push_async_callback(database.close)
        model = await self._open_model()
        stack.push_async_callback(model.engine.close)
        skill_models: SkillModels = {} if self._open_skill_models is None else await self._open_skill_models()
        for skill_model in skill_models.values():
            stack.push_async_callback(skill_model.engine.close)
        everywhere = (*channels, self._asking)
        for channel in everywhere:
            stack.push_async_callback(channel.close)
        running, wakeup = RunningTurns(), Wakeup()
        return Parts(
            database=database,
            model=model,
            channels=tuple(channels),
            inboxes={channel: self._inbox(database, channel, running, wakeup) for channel in everywhere},
            delivery=Delivery(database, everywhere, metrics=self.metrics, documents=document_maker(database), is_open=self._is_open),
            running=running,
            wakeup=wakeup,
            watch=self._adapter_watch(database, model),
            skill_models=skill_models,
            scrubber=Scrubber(database),
        )

    def _adapter_watch(self, database: Database, model: UnstartedModel) -> AdapterWatch:
        shipped, enabled = shipped_adapter(self._settings), self._settings.model.use_adapters
        check = adapter_folders(self._settings, lambda: model.files).check
        return AdapterWatch(database, model.engine, model.sha256, check=check, shipped=shipped, enabled=enabled)

    def _inbox(self, database: Database, channel: Channel, running: RunningTurns, wakeup: Wakeup) -> Inbox:
        return Inbox(
            database,
            channel.name,
            channel.account,
            max_bytes=self._settings.limits.event_bytes,
            quiet_s=self._settings.dialogue.quiet_window_s if channel.capabilities.joins_bursts else 0.0,
            wakeup=wakeup,
            running=running,
            metrics=self.metrics,
        )

    async def _supervise(self, group: asyncio.TaskGroup, parts: Parts, options: RunOptions) -> None:
        """Start everything, wait for the end, wind down."""
        pool: asyncio.Future[WorkerPool] = asyncio.get_running_loop().create_future()
        turns = group.create_task(self._serve_turns(parts, pool), name="turns")
        sweep = group.create_task(parts.delivery.run(), name="delivery")
        receivers = group.create_task(self._receive(parts), name="receivers")
        tidier = Tidier(parts.database)
        background = [
            group.create_task(repeat(tidier.tidy, TIDY_S), name="housekeeping"),
            group.create_task(repeat(parts.watch.look, LOOK_S), name="adapters"),
            group.create_task(parts.scrubber.run(), name="scrubber"),
        ]
        if self.pages is not None:
            background.append(group.create_task(self.pages.run(), name="health"))
        if options.main is not None:
            background.append(group.create_task(self._run_main(options.main), name="main"))
        await self.stopping.asked.wait()
        log.info("app.stopping", patience_s=options.patience_s)
        receivers.cancel()
        if pool.done():
            pool.result().close()
        else:
            turns.cancel()  # the engine never came up: there is nothing to finish
        parts.delivery.close()
        await self._finish({turns, sweep}, options.patience_s)
        for task in (turns, sweep, *background):
            task.cancel()

    async def _serve_turns(self, parts: Parts, started: asyncio.Future[WorkerPool]) -> None:
        """Start the engine, then let the workers work until they are closed."""
        await parts.watch.look()
        served = await _start(parts)
        for_skills = {skill: await model.start() for skill, model in parts.skill_models.items()}
        pool = self._pool(parts, served, for_skills)
        started.set_result(pool)
        self.ready.set()
        log.info("app.ready", engine=served.info.engine, model=served.info.model, channels=[channel.name for channel in parts.channels])
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._settings.limits.workers):
                workers.create_task(pool.run())

    def _pool(self, parts: Parts, served: ServedModel, for_skills: Mapping[str, SkillModel]) -> WorkerPool:
        config = self._settings.dialogue_config()
        storage = self._settings.storage_config()
        adapters = adapter_choice(parts.skill_models, parts.watch.current)
        manager = DialogueManager(parts.database, served, self._router(parts), config, skill_models=for_skills, adapter_for=adapters)
        return WorkerPool(
            parts.database,
            manager,
            tuple(parts.inboxes),
            parts.delivery,
            running=parts.running,
            wakeup=parts.wakeup,
            metrics=self.metrics,
            config=WorkerConfig(
                self._settings.dialogue.quiet_window_s,
                storage.lease_s,
                min(storage.max_attempts, WorkerConfig().max_attempts),
                self._settings.limits.queue_s,
            ),
            presses=PressHandler(parts.database, parts.scrubber),
            access=AccessPolicy(self._settings.access_config()),
            is_open=self._is_open,
        )

    def _router(self, parts: Parts) -> Router:
        config = self._settings.dialogue_config()
        commands: dict[str, Command] = dict(memory_commands())
        router = Router(load_skills(config), commands, config.default_skill)
        around = Surroundings(
            database=parts.database,
            assistant_name=config.assistant_name,
            model=parts.model.reference,
            engine_health=parts.model.engine.health,
            list_commands=router.describe,
            is_owner=AccessPolicy(self._settings.access_config()).is_owner,
            export_dir=self._settings.data_dir / "exports",
        )
        commands.update(direct_commands(around))
        return router

    async def _receive(self, parts: Parts) -> None:
        """Receive on every channel; when all of them have ended, so does the program."""
        async with asyncio.TaskGroup() as receivers:
            for channel in parts.channels:
                receivers.create_task(self._receive_on(channel, parts), name=f"receive {channel.name}")
        if parts.channels:
            self.stopping.ask()

    async def _receive_on(self, channel: Channel, parts: Parts) -> None:
        """Nothing of a channel is parsed or delivered before it has made contact: it does not know yet who it is."""
        await channel.open()
        self._contacts.add(channel)
        parts.wakeup.ring()
        try:
            await channel.receive(parts.inboxes[channel])
        finally:
            await parts.inboxes[channel].release_poll()

    def _is_open(self, channel: Channel) -> bool:
        """Whether there can be work on a channel. Nobody else's questions are answered by `ask`, so it is seldom worth a look."""
        return channel in self._contacts and (channel is not self._asking or self._asking.is_asked)

    async def _run_main(self, main: Main) -> None:
        await main(self)
        self.stopping.ask()

    async def _finish(self, work: set[asyncio.Task[None]], patience_s: float) -> None:
        """Wait until all of `work` is done, the patience ends or somebody insists."""
        done = asyncio.create_task(asyncio.wait(work))
        forced = asyncio.create_task(self.stopping.forced.wait())
        await asyncio.wait({done, forced}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        done.cancel()
        forced.cancel()

    async def _take_commands(self, stack: AsyncExitStack, parts: Parts) -> None:
        """Open the control socket. On PostgreSQL several programs run side by side, and the first of them takes the commands.

        Raises ControlBusy on SQLite.
        """
        try:
            await stack.enter_async_context(self._control_server(parts))
        except ControlBusy as busy:
            if parts.database.dialect == "sqlite":
                raise
            log.warning("control.elsewhere", reason=str(busy))

    def _control_server(self, parts: Parts) -> ControlServer:
        preview_s = max(channel.capabilities.timeout_s for channel in parts.inboxes)
        desk = Desk(parts.database, parts.running, preview_s=preview_s, on_queued=parts.delivery.ring)
        operations: dict[str, Operation] = {
            **data_operations(parts.database, self._settings.storage_config(), desk),
            **adapter_operations(parts.database, adapter_folders(self._settings, lambda: parts.model.files), parts.watch),
            "ping": self._ping,
            "ask": self._ask_operation,
            "stop": self._stop_operation,
        }
        return ControlServer(self._settings.control_socket, operations, max_bytes=self._settings.limits.control_bytes)

    async def _ping(self, _arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {"ready": self.ready.is_set()}

    async def _ask_operation(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        text = arguments.get("text")
        if not isinstance(text, str) or not text.strip():
            raise CliError("There is no question.", code=ExitCode.USAGE)
        return (await self.ask(text)).as_json()

    async def _stop_operation(self, _arguments: Mapping[str, Any]) -> None:
        self.stopping.ask()

    def _health_server(self, parts: Parts) -> HttpServer:
        http = self._settings.http

        async def reasons() -> list[str]:
            return await self._missing(parts)

        async def scrape() -> bytes:
            await self._measure(parts)
            return self.metrics.scrape()

        return HttpServer(build_pages(reasons, scrape), http.host, http.port, name="health")

    async def _missing(self, parts: Parts) -> list[str]:
        missing = [] if await _answers(parts.database) else ["the database does not answer"]
        health = parts.model.engine.health()
        if not (self.ready.is_set() and health.ready):
            missing.append(f"the engine is not ready ({health.detail or 'starting'})")
        return missing

    async def _measure(self, parts: Parts) -> None:
        self.metrics.set_engine(parts.model.engine.health())
        self.metrics.set_adapter(parts.watch.serving)
        self.metrics.set_process(len(asyncio.all_tasks()), parts.database.connections)
        try:
            async with asyncio.timeout(PROBE_S):
                self.metrics.set_storage(
                    await parts.database.read(lambda unit: unit.inbox.pending()),
                    await parts.database.read(lambda unit: unit.inbox.oldest_pending_age_ms()),
                    await parts.database.read(lambda unit: unit.outbox.counts()),
                    quarantined=await parts.database.read(lambda unit: unit.inbox.quarantined_count()),
                    orphans=await parts.database.read(lambda unit: unit.outbox.orphans()),
                )
        except (StorageError, TimeoutError) as error:
            log.warning("metrics.incomplete", reason=str(error) or "the database does not answer")


async def _start(parts: Parts) -> ServedModel:
    """Start the engine, without adapters if it is they that keep it from starting. Raises EngineUnavailable."""
    try:
        return await parts.model.start()
    except EngineUnavailable as failure:
        if not await parts.watch.let_go(failure):
            raise
    return await parts.model.start()


async def _answers(database: Database) -> bool:
    try:
        async with asyncio.timeout(PROBE_S):
            await database.read(lambda unit: unit.inbox.oldest_pending_age_ms())
    except (StorageError, TimeoutError):
        return False
    return True
