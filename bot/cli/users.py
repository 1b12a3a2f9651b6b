"""`kefu users`: what is remembered about a person, given out or erased."""

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from bot.cli.consent import ask_consent
from bot.cli.data import operate
from bot.cli.output import note, print_json
from bot.cli.person import current_user, typed_lines
from bot.cli.prepare import prepare
from bot.errors import CliError

app = typer.Typer(add_completion=False, no_args_is_help=True)

Channel = Annotated[str, typer.Option(help="Where the person writes: terminal, telegram, …")]
Account = Annotated[
    str | None, typer.Option(help="Which bot of that channel, as `kefu conversations list` shows it; not for the terminal.")
]
ExternalId = Annotated[str, typer.Option("--id", help="The person's id on that channel.")]


@app.callback()
def group() -> None:
    """Export or erase what is remembered about a person."""


@app.command(epilog="Example: kefu users export --channel telegram --account 123456789 --id 42 --output person.json")
def export(
    ctx: typer.Context,
    channel: Channel,
    external_id: ExternalId,
    account: Account = None,
    output: Annotated[Path | None, typer.Option(help="File to write, readable by you alone; otherwise stdout.")] = None,
) -> None:
    """Write everything about one person as JSON."""
    found = operate(prepare(ctx), "users.export", **_person(channel, account, external_id))
    if output is None:
        print_json(found)
        return
    try:
        output.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        raise CliError(f"{output} is already there.", hint="Choose another name.") from None
    output.write_text(json_text.dumps(found, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    typer.echo(str(output))


@app.command(epilog="Example: kefu users erase --channel telegram --account 123456789 --id 42")
def erase(
    ctx: typer.Context,
    channel: Channel,
    external_id: ExternalId,
    account: Account = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Delete everything about one person, for good."""
    settings, person = prepare(ctx), _person(channel, account, external_id)
    ask_consent(f"Everything about {external_id} on {channel} is deleted for good; backups keep what they hold.", yes=yes)
    if channel == "terminal" and external_id == current_user():
        typed_lines(settings).unlink(missing_ok=True)  # what this person typed here
    counts = operate(settings, "users.erase", **person)
    if json:
        print_json(counts)
    else:
        gone = ", ".join(f"{count} {table}" for table, count in counts.items() if count)
        note(f"Erased: {gone or 'nothing was stored'}.")


def _person(channel: str, account: str | None, external_id: str) -> dict[str, str]:
    if account is None and channel != "terminal":
        raise typer.BadParameter(
            "needed, because a channel may have several bots; `kefu conversations list` shows it", param_hint="--account"
        )
    return {"channel": channel, "account": external_id if account is None else account, "external_id": external_id}
