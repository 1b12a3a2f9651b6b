"""A scripted crowd chats with the owner's settings and model, through the fake Bot API server inside this process.

Everything is as in `kefu run`, but for four things: the platform is the fake one, the database a new one in a folder of its
own, the owner's lists and limits of people do not hold for made-up people, and no port is opened.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from bot.app import App, RunOptions
from bot.channels.telegram.channel import telegram_channel
from bot.channels.telegram.fake_crowd import Crowd, Figures
from bot.channels.telegram.fake_faults import Fault, FaultKind, Faults
from bot.channels.telegram.fake_server import FakeTelegram
from bot.errors import ExitCode
from bot.serving import open_model
from bot.settings import Settings
from bot.settings_sections import AccessSection, PathsSection
from bot.simulation_check import Fate, Outcome, examine
from dialogue.engine.model_files import ModelFiles
from storage.database import open_database
from storage.records import OutboxState

PATIENCE_S: Final = 2.0  # who stops a simulation does not want to wait

FAULTS: Final[Mapping[str, Mapping[FaultKind | Fault, float]]] = {
    "none": {},
    "some": {FaultKind.LOST: 0.02, FaultKind.BUSY: 0.02, FaultKind.ERROR: 0.02, FaultKind.SLOW: 0.05},
    "bad": {
        FaultKind.LOST: 0.08,
        FaultKind.TRUNCATED: 0.02,
        FaultKind.BUSY: 0.06,
        FaultKind.ERROR: 0.06,
        FaultKind.ERROR_HTML: 0.02,
        FaultKind.BROKEN: 0.04,
        Fault(FaultKind.SLOW, 2.0): 0.1,
    },
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated."""

    people: int = 8
    minutes: float = 1.0
    rate: float = 6.0  # how often one person does something, a minute
    faults: str = "none"  # a key of FAULTS
    lines: Sequence[str] = ()  # what is said instead of everything that people do
    seed: int = 0


@dataclass(slots=True)
class Scene:
    """A simulation while it runs."""

    plan: Plan
    telegram: FakeTelegram
    crowd: Crowd
    ready_at: float | None = None  # when the engine took requests
    ended_at: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the crowd began."""
        if self.ready_at is None:
            return 0.0
        return (self.ended_at or self.telegram.state.now()) - self.ready_at

    @property
    def figures(self) -> Figures:
        """What all of them have seen."""
        everybody = [person.figures for person in self.crowd.people]
        return Figures(
            sent=sum(one.sent for one in everybody),
            answered=sum(one.answered for one in everybody),
            reactions_s=[seconds for one in everybody for seconds in one.reactions_s],
            answers_s=[seconds for one in everybody for seconds in one.answers_s],
        )

    @property
    def waiting(self) -> int:
        """How many people wait for an answer now."""
        return sum(person.waits_since is not None for person in self.crowd.people)

    @property
    def injected(self) -> Mapping[str, int]:
        """How often each fault was injected."""
        return Counter(str(fault.kind) for _, fault in self.telegram.faults.injected)

    @property
    def refused(self) -> int:
        """How many calls were answered with 429."""
        return sum(call.code == 429 for call in self.telegram.transcript())


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it."""

    scene: Scene
    outcome: Outcome
    code: ExitCode  # of the program: whether it was interrupted

    @property
    def exit_code(self) -> ExitCode:
        """How the command ends: broken promises outweigh that somebody interrupted it."""
        return self.code if self.outcome.is_clean else ExitCode.FAILURE

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values; milliseconds."""
        scene, figures, outcome = self.scene, self.scene.figures, self.outcome
        return {
            "people": scene.plan.people,
            "seconds": round(scene.elapsed_s, 1),
            "faults": scene.plan.faults,
            "seed": scene.plan.seed,
            "messages": figures.sent,
            "messages_per_s": round(figures.sent / scene.elapsed_s, 2) if scene.elapsed_s else 0.0,
            "answered": outcome.fates.get(Fate.ANSWERED, 0),
            "waiting": outcome.fates.get(Fate.WAITING, 0),
            "lost": outcome.fates.get(Fate.LOST, 0),
            "twice": outcome.twice,
            "reaction_ms": quantiles_ms(figures.reactions_s),
            "answer_ms": quantiles_ms(figures.answers_s),
            "unknown_rows": outcome.rows.get(OutboxState.UNKNOWN, 0),
            "failed_rows": outcome.rows.get(OutboxState.FAILED, 0),
            "injected": dict(scene.injected),
            "too_many_requests": scene.refused,
            "violations": len(scene.telegram.violations()),
            "interrupted": self.code == ExitCode.INTERRUPTED,
        }


Watch = Callable[[Scene], Coroutine[Any, Any, None]]  # looks at the scene until it is cancelled


async def simulate(settings: Settings, files: ModelFiles | None, plan: Plan, folder: Path, watch: Watch) -> Report:
    """Run it in `folder`. Raises whatever keeps the program from starting."""
    faults = Faults(FAULTS[plan.faults], seed=plan.seed, busy_s=(1, 3))
    async with FakeTelegram(faults=faults, seed=plan.seed) as telegram:
        crowd = Crowd(telegram, telegram.changed, people=plan.people, rate=plan.rate, lines=plan.lines, seed=plan.seed)
        scene = Scene(plan, telegram, crowd)
        simulated = simulated_settings(settings, folder, telegram)
        channel = telegram_channel(simulated)
        app = App(simulated, partial(open_model, simulated, files), user="simulation")
        options = RunOptions(command="kefu simulate", patience_s=PATIENCE_S, main=partial(_play, scene))
        watching = asyncio.create_task(watch(scene))
        try:
            code = await app.run([channel] if channel else [], options)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        scene.ended_at = telegram.state.now()
        return Report(scene, await _examine(simulated, scene), code)


def simulated_settings(settings: Settings, folder: Path, telegram: FakeTelegram) -> Settings:
    """Return the owner's settings for a fake Telegram and a database below `folder`."""
    place = {"token": SecretStr(telegram.token), "base_url": telegram.base_url, "webhook_url": None}
    return settings.model_copy(
        update={
            "telegram": settings.telegram.model_copy(update=place),
            "storage": settings.storage.model_copy(update={"url": None}),
            "access": AccessSection(messages_per_minute=0),
            "paths": PathsSection(data_dir=folder, cache_dir=settings.cache_dir),
        }
    )


async def _play(scene: Scene, app: App) -> None:
    await app.ready.wait()
    scene.ready_at = scene.telegram.state.now()
    await scene.crowd.chat(scene.plan.minutes * 60)


async def _examine(settings: Settings, scene: Scene) -> Outcome:
    database = await open_database(settings.storage_config(), owner="kefu simulate")
    try:
        return await examine(database, scene.telegram, scene.crowd.said)
    finally:
        await database.close()


def quantiles_ms(seconds: Sequence[float]) -> dict[str, int] | None:
    """Return median and 99th percentile in milliseconds; None when nothing was measured."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return {name: round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]) for name, share in (("p50", 0.5), ("p99", 0.99))}
