"""The program that the Telegram crash test kills: the app as `kefu run` builds it, a scripted engine, the real channel over HTTP.

`python -m tests.crash.telegram_child` imports everything once and forks a fresh run for each line on stdin, a Plan in JSON, so that
a kill costs milliseconds instead of a start of the interpreter. It prints the process id of each run, and how it ended.
"""

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import SecretStr

from bot import inbox
from bot.app import RunOptions
from bot.channels.telegram import polling, reply_stream
from bot.channels.telegram.channel import telegram_channel
from bot.channels.telegram.fake_server import TOKEN
from bot.logs import configure_logging
from bot.settings import Settings
from bot.settings_sections import AccessSection, StorageSection, TelegramSection
from dialogue.byte_chat import echo_user
from dialogue.engine.scripted import ScriptedEngine
from tests.bot.apps import app_settings, make_app
from tests.crash.telegram_faults import plant
from tests.crash.telegram_points import arm

LEASE_S = 1.0
TIMEOUT_S = 0.5  # the least that the settings allow
POLL_LEASE_S = 1.5
FIRST_PREVIEW_S = 0.02
TOKEN_S = 0.015


@dataclass(frozen=True)
class Plan:
    """What is run."""

    folder: str  # of the SQLite file, the control socket and the log
    base_url: str = ""  # of the Bot API server
    database_url: str = ""  # "" = SQLite in the folder
    webhook_port: int = 0  # 0 = long polling
    quiet_s: float = 0.0  # the quiet window; 0 = no bursts
    lease_s: float = LEASE_S  # of a conversation
    poll_lease_s: float = POLL_LEASE_S
    fault: str = ""  # a planted fault, one of `telegram_faults.FAULTS`
    kill_at: str = ""  # the edge at which the run kills itself, one of `telegram_points.POINTS`; "" = none
    kill_count: int = 1  # at which arrival there

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def settings_of(plan: Plan) -> Settings:
    """Return the settings of the run: limits lifted, so that kills fall into work and not into waiting."""
    base = app_settings(Path(plan.folder))
    telegram = TelegramSection(
        token=SecretStr(TOKEN),
        base_url=plan.base_url,
        webhook_url=f"http://127.0.0.1:{plan.webhook_port}/telegram" if plan.webhook_port else None,
        webhook_port=plan.webhook_port,
        group_mode="all",
        preview_s=0.1,
        timeout_s=TIMEOUT_S,
        poll_s=1,
        chat_per_s=0,
        group_per_min=0,
        overall_per_s=0,
    )
    storage = StorageSection.model_validate({"lease_s": plan.lease_s, **({"url": plan.database_url} if plan.database_url else {})})
    changes = {
        "storage": storage,
        "telegram": telegram,
        "access": AccessSection(messages_per_minute=0),
        "dialogue": base.dialogue.model_copy(update={"quiet_window_s": plan.quiet_s}),
        "limits": base.limits.model_copy(update={"workers": 8, "queue_s": 3600.0}),
    }
    return base.model_copy(update=changes)


def hasten(poll_lease_s: float) -> None:
    """Let previews begin at once, and the poll lease of a killed run end soon."""
    reply_stream.FIRST_S = FIRST_PREVIEW_S  # type: ignore[misc]
    inbox.POLL_LEASE_S = poll_lease_s  # type: ignore[misc]
    polling.STANDBY_S = 0.1  # type: ignore[misc]


async def run(plan: Plan) -> int:
    """Run the program until it is told to stop."""
    hasten(plan.poll_lease_s)
    plant(plan.fault)
    if plan.kill_at:
        arm(plan.kill_at, plan.kill_count)
    settings = settings_of(plan)
    channel = telegram_channel(settings)
    assert channel is not None
    app = make_app(settings, ScriptedEngine(echo_user, token_delay_s=TOKEN_S))
    return await app.run([channel], RunOptions(patience_s=10.0))


def main() -> None:
    """Fork a run for each line on stdin."""
    configure_logging("info")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            code = 1
            try:
                code = asyncio.run(run(Plan(**json.loads(line))))
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
