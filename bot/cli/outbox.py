"""`kefu outbox`: messages on their way, and those that did not arrive for certain."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from bot.cli.consent import ask_consent
from bot.cli.data import operate
from bot.cli.output import note, print_json, print_table
from bot.cli.prepare import prepare
from bot.errors import CliError, ExitCode
from bot.settings import Settings
from storage.records import OutboxState

app = typer.Typer(add_completion=False, no_args_is_help=True)

Ids = Annotated[list[str], typer.Argument(help="Ids, as `kefu outbox list` shows them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

FAR_S: Final = 30 * 86_400  # no wait of a platform is longer: such a row is not tried again by itself

_CHANGED: Final = {"outbox.retry": "is due at once; `kefu run` delivers it", "outbox.drop": "nobody will send it"}


@app.callback()
def group() -> None:
    """Show messages on their way, and deal with those that did not arrive for certain.

    unknown: sent, but the platform gave no answer; `kefu run` tries again where that shows nothing twice. failed: refused for good.
    orphans: placeholders that may be on the screen without words, because their id was lost.
    """


@app.command("list", epilog="Example: kefu outbox list --state unknown")
def list_rows(
    ctx: typer.Context,
    state: Annotated[OutboxState | None, typer.Option(help="Only messages in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest.")] = 50,
    *,
    orphans: Annotated[bool, typer.Option("--orphans", help="Only those that may have left a placeholder without words.")] = False,
    text: Annotated[bool, typer.Option("--text", help="Show what the messages say.")] = False,
    json: Json = False,
) -> None:
    """List messages, the newest first."""
    found = operate(prepare(ctx), "outbox.list", state=state and state.value, limit=limit, orphaned=orphans, text=text)
    if json:
        print_json(found["rows"])
        return
    if not found["rows"]:
        note("There is no such message.")
        return
    columns = ("id", "conversation", "state", "attempts", "age", "next try", "orphans", "reason", *(["text"] if text else []))
    print_table(columns, (_row(row, found["now"], with_text=text) for row in found["rows"]))


@app.command(epilog="Example: kefu outbox retry 0192f3c1a7b07c3f8e5a9b1c2d3e4f50")
def retry(ctx: typer.Context, ids: Ids, *, json: Json = False) -> None:
    """Try messages again that are unknown or failed. What is unknown goes again only where that shows nothing twice."""
    _change(prepare(ctx), "outbox.retry", ids, json=json)


@app.command(epilog="Example: kefu outbox drop --yes 0192f3c1a7b07c3f8e5a9b1c2d3e4f50")
def drop(
    ctx: typer.Context, ids: Ids, *, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False, json: Json = False
) -> None:
    """Give messages up that were not delivered: nobody will send them any more."""
    settings = prepare(ctx)
    ask_consent(f"Nobody will send {'these messages' if len(ids) > 1 else 'this message'} any more.", yes=yes)
    _change(settings, "outbox.drop", ids, json=json)


def _change(settings: Settings, operation: str, ids: Sequence[str], *, json: bool) -> None:
    """Change each message, whatever becomes of the others; exit 1 when one could not be changed."""
    results = [_change_one(settings, operation, one) for one in ids]
    if json:
        print_json(results)
    for result in () if json else results:
        note(f"{result['id']}: {result.get('problem') or _CHANGED[operation]}")
    if any("problem" in result for result in results):
        raise typer.Exit(ExitCode.FAILURE)


def _change_one(settings: Settings, operation: str, outbox_id: str) -> dict[str, Any]:
    try:
        return operate(settings, operation, id=outbox_id)
    except CliError as error:
        if error.code == ExitCode.TEMPORARY:  # the next one would fare no better
            raise
        return {"id": outbox_id, "problem": str(error)}


def _row(row: dict[str, Any], now: int, *, with_text: bool) -> tuple[object, ...]:
    age, again = _age((now - row["created_at"]) // 1000), next_try(row, now)
    cells = (row["id"], row["conversation_id"], row["state"], row["attempts"], age, again, row["orphans"] or "", row["error"])
    return (*cells, row["text"]) if with_text else cells


def next_try(row: dict[str, Any], now: int) -> str:
    """Say when `kefu run` tries again by itself; "by hand" where it would not."""
    seconds = (row["next_attempt_at"] - now) // 1000
    match OutboxState(row["state"]):
        case OutboxState.FAILED:
            return "by hand"
        case OutboxState.READY | OutboxState.UNKNOWN if seconds > FAR_S:
            return "by hand"
        case OutboxState.READY | OutboxState.UNKNOWN:
            return f"in {_age(seconds)}" if seconds > 0 else "now"
        case _:
            return ""


def _age(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(0, seconds)} s"
