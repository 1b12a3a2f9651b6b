"""What a simulated crowd sees, and that the check behind it can fail."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bot.channels.telegram.fake_crowd import Said
from bot.channels.telegram.fake_server import FakeTelegram
from bot.cli.simulation_summary import summary_rows, verdict
from bot.cli.simulation_view import line, render, totals
from bot.errors import ExitCode
from bot.settings_sections import TelegramSection
from bot.simulation import Plan, Report, Scene, simulate
from bot.simulation_check import Fate, Outcome, examine
from storage.database import open_database
from tests.bot.apps import app_settings
from tests.bot.channels.telegram.scene import CHAT, GROUP, scene

PEOPLE = 6


async def unwatched(_scene: Scene) -> None:
    """Nobody looks."""


async def run(folder: Path, **plan: Any) -> Report:
    """Simulate a short while."""
    fields: dict[str, Any] = {"people": PEOPLE, "minutes": 0.03, "rate": 60.0, "seed": 3, **plan}
    settings = app_settings(folder).model_copy(update={"telegram": TelegramSection(timeout_s=0.5)})
    return await simulate(settings, None, Plan(**fields), folder / "simulated", unwatched)


async def test_everybody_is_answered(tmp_path: Path) -> None:
    """A crowd that does everything that people do loses no answer, and its own data stay where they are."""
    report = await run(tmp_path)
    assert report.outcome.is_clean
    assert report.code is ExitCode.OK
    assert report.outcome.fates[Fate.ANSWERED] == sum(said.needs_answer for said in report.scene.crowd.said) >= PEOPLE
    assert not (tmp_path / "data").exists()


async def test_a_script_is_what_people_say(tmp_path: Path) -> None:
    """With lines of one's own nothing else is said."""
    report = await run(tmp_path, lines=("one", "two"), people=2)
    texts = {shown.text for said in report.scene.crowd.said for shown in report.scene.telegram.screen(said.chat) if not shown.is_bot}
    assert texts <= {"one", "two"} != set()


async def test_faults_are_injected_and_survived(tmp_path: Path) -> None:
    """What goes wrong at the platform is counted, and costs no answer."""
    report = await run(tmp_path, faults="some", people=3, lines=("hello",))
    assert report.outcome.is_clean
    assert sum(report.as_json()["injected"].values()) == len(report.scene.telegram.faults.injected)


async def judged(folder: Path, *, harm: str = "") -> Outcome:
    """Answer a private message and one in a group, do harm, and judge."""
    async with scene(folder) as running:
        said = [_said(running.telegram, CHAT, "hello"), _said(running.telegram, GROUP, "@kefu_bot hello")]
        answer = (await running.answers(1))[0]
        await running.answers(1, GROUP)
        state = running.telegram.state
        match harm:
            case "twice":
                state.add_message(state.chats[CHAT], state.bot, {"text": answer.text})
            case "vanished":
                state.chats[CHAT].messages[answer.message_id].is_deleted = True
            case "acknowledged too early":
                said.append(Said(CHAT, 999_999, 0.0))
    database = await open_database(running.settings.storage_config())
    try:
        return await examine(database, running.telegram, said)
    finally:
        await database.close()


def _said(telegram: FakeTelegram, chat: int, text: str) -> Said:
    return Said(chat, telegram.say(text, chat=chat).message_id, 0.0)


async def test_unharmed_answers_are_clean(tmp_path: Path) -> None:
    """Answers that stand where they belong are neither lost nor shown twice."""
    outcome = await judged(tmp_path)
    assert outcome.is_clean
    assert outcome.fates == {Fate.ANSWERED: 2}


@pytest.mark.parametrize("harm", ["vanished", "acknowledged too early"])
async def test_a_lost_answer_is_noticed(tmp_path: Path, harm: str) -> None:
    """An answer that is stored as sent but stands nowhere, or a message that nobody stored, is reported as lost."""
    outcome = await judged(tmp_path, harm=harm)
    assert outcome.fates[Fate.LOST] == 1
    assert not outcome.is_clean


async def test_an_answer_that_is_shown_twice_is_noticed(tmp_path: Path) -> None:
    """A second copy of an answer, which no row of the outbox owns, is reported."""
    outcome = await judged(tmp_path, harm="twice")
    assert outcome.twice == 1
    assert not outcome.is_clean


async def test_the_picture_shows_everybody(tmp_path: Path) -> None:
    """The table has a row for each person, and the line for machines the totals."""
    report = await run(tmp_path, people=2, lines=("hello",))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(report.scene))
    shown = console.export_text()
    assert all(person.name in shown for person in report.scene.crowd.people)
    assert all(f"{name} {value}" in line(report.scene) for name, value in totals(report.scene).items())


async def test_the_totals_stay_on_a_small_screen(tmp_path: Path) -> None:
    """Where not everybody fits, as many people have a line as there is room for, and the totals are below."""
    report = await run(tmp_path, lines=("hello",))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(report.scene, most=2))
    shown = console.export_text()
    assert [person.name for person in report.scene.crowd.people if person.name in shown] == ["Ann", "晓明"]
    assert f"… and {PEOPLE - 2} more" in shown
    assert "messages" in shown.splitlines()[-1]


async def test_the_summary_ends_with_a_verdict(tmp_path: Path) -> None:
    """Every figure has words; a broken promise is said and outweighs that somebody interrupted the run."""
    report = await run(tmp_path, people=2, lines=("hello",))
    interrupted = replace(report, code=ExitCode.INTERRUPTED)
    broken = replace(interrupted, outcome=replace(report.outcome, fates={Fate.WAITING: 1, Fate.LOST: 2}))
    assert [one.exit_code for one in (report, interrupted, broken)] == [ExitCode.OK, ExitCode.INTERRUPTED, ExitCode.FAILURE]
    rows = dict(summary_rows(broken))
    assert (rows["lost"], rows["waiting"]) == ("2", "1 (not lost: the next start would answer them)")
    assert rows["time"].endswith("stopped early")
    assert (rows["shown twice"], rows["faults"]) == ("0", "none")
    assert verdict(report.outcome).startswith("No message was lost")
    assert verdict(broken.outcome).startswith("2 messages lost, 0 answers shown twice")
