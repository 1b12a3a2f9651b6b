"""Our arm of `kefu bench bot`: the whole program, as `kefu run` composes it, with an engine that answers by rule.

`python -m bot.cli.bench_bot_arm JSON` runs until it is terminated. The JSON names folder, URL, token, and how fast the engine is.
"""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from bot.app import App, RunOptions
from bot.channels.telegram.channel import telegram_channel
from bot.logs import configure_logging
from bot.settings import Settings
from bot.settings_sections import AccessSection, DialogueSection, EngineSection, HttpSection, LimitsSection, PathsSection, TelegramSection
from bot.unstarted_model import UnstartedModel
from dialogue.byte_chat import ByteTemplate, ByteTokenizer, echo_user
from dialogue.engine.admission import AdmissionLimits, AdmittedEngine
from dialogue.engine.scripted import ScriptedEngine

CONTEXT_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run. A token is four bytes of an answer."""

    folder: str
    base_url: str
    token: str
    token_delay_s: float = 0.0
    slots: int = 64
    workers: int = 64
    queue_s: float = 30.0
    webhook_port: int = 0  # 0 = long polling


def settings(plan: Plan) -> Settings:
    """Return settings as they ship, without the limits that would keep anybody from measuring."""
    return Settings(
        engine=EngineSection(kind="scripted"),
        dialogue=DialogueSection(quiet_window_s=0.0, seed=1),
        http=HttpSection(enabled=False),
        limits=LimitsSection(workers=plan.workers, queue_s=plan.queue_s),
        access=AccessSection(messages_per_minute=0),
        telegram=TelegramSection(
            token=SecretStr(plan.token),
            base_url=plan.base_url,
            chat_per_s=0,
            group_per_min=0,
            overall_per_s=0,
            webhook_url=f"http://127.0.0.1:{plan.webhook_port}/telegram" if plan.webhook_port else None,
            webhook_port=plan.webhook_port,
        ),
        paths=PathsSection(data_dir=Path(plan.folder) / "data", cache_dir=Path(plan.folder) / "cache"),
    )


async def run(plan: Plan) -> int:
    """Serve until terminated."""
    configured = settings(plan)
    channel = telegram_channel(configured)
    if channel is None:
        raise ValueError("the plan has no token")
    scripted = ScriptedEngine(echo_user, slots=plan.slots, context_tokens=CONTEXT_TOKENS, token_delay_s=plan.token_delay_s)
    bounds = AdmissionLimits(max_waiting=configured.engine.max_waiting, max_queue_tokens=configured.engine.max_queue_tokens)
    engine = AdmittedEngine(scripted, bounds)

    async def open_model() -> UnstartedModel:
        return UnstartedModel(engine, ByteTemplate(), ByteTokenizer(), "scripted", "0" * 64)

    return await App(configured, open_model).run([channel], RunOptions(command="kefu bench bot", patience_s=2.0))


if __name__ == "__main__":
    configure_logging("info")
    raise SystemExit(asyncio.run(run(Plan(**json.loads(sys.argv[1])))))
