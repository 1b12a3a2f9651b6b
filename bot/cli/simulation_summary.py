"""What a simulation says at its end: a table of what happened to the messages, and a verdict."""

from bot.errors import ExitCode
from bot.simulation import Report, quantiles_ms
from bot.simulation_check import Fate, Outcome
from storage.records import OutboxState


def summary_rows(report: Report) -> list[tuple[str, str]]:
    """Return the table, name and value."""
    scene, figures, outcome = report.scene, report.scene.figures, report.outcome
    waiting, too_early = outcome.fates.get(Fate.WAITING, 0), len(scene.telegram.violations())
    return [
        ("people", f"{scene.plan.people} (seed {scene.plan.seed})"),
        ("time", f"{scene.elapsed_s:.1f} s{', stopped early' if report.code is ExitCode.INTERRUPTED else ''}"),
        ("messages", f"{figures.sent}{_rate(report)}{_need_no_answer(report)}"),
        ("answered", str(outcome.fates.get(Fate.ANSWERED, 0))),
        ("waiting", f"{waiting}{' (not lost: the next start would answer them)' if waiting else ''}"),
        ("lost", str(outcome.fates.get(Fate.LOST, 0))),
        ("shown twice", str(outcome.twice)),
        ("first reaction", _spread(figures.reactions_s)),
        ("whole answer", _spread(figures.answers_s)),
        ("not delivered", f"{outcome.rows.get(OutboxState.UNKNOWN, 0)} unknown, {outcome.rows.get(OutboxState.FAILED, 0)} refused"),
        ("faults", _faults(report)),
        ("429", f"{scene.refused}{f', {too_early} calls inside of their wait' if too_early else ''}"),
    ]


def verdict(outcome: Outcome) -> str:
    """Say whether the promises held, and what to do when they did not."""
    if outcome.is_clean:
        return "No message was lost, no answer was shown twice."
    harm = f"{outcome.fates.get(Fate.LOST, 0)} messages lost, {outcome.twice} answers shown twice"
    return f"{harm}: please report it, with the same --seed and the folder of --keep."


def _rate(report: Report) -> str:
    scene = report.scene
    return f", {scene.figures.sent / scene.elapsed_s:.1f} a second" if scene.elapsed_s else ""


def _need_no_answer(report: Report) -> str:
    count = sum(not said.needs_answer for said in report.scene.crowd.said)
    return f", {count} of them a /stop that needs no answer" if count else ""


def _spread(seconds: list[float]) -> str:
    measured = quantiles_ms(seconds)
    return f"half within {measured['p50'] / 1000:.1f} s, 99 % within {measured['p99'] / 1000:.1f} s" if measured else "none was seen"


def _faults(report: Report) -> str:
    injected = ", ".join(f"{count} {name}" for name, count in report.scene.injected.items())
    return f"{report.scene.plan.faults}: {injected}" if injected else "none"
