"""`kefu users`: what is remembered about a person, given out or erased."""

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from bot.cli.consent import ask_consent
from bot.cli.data import operate
from bot.cli.output import note, print_json
from bot.cli.prepare import prepare
from bot.errors import CliError

app = typer.Typer(add_completion=False, no_args_is_help=True)

Channel = Annotated[str, typer.Option(help="Where the person writes: terminal, telegram, …")]
Account = Annotated[str, typer.Option(help="Which bot of that channel; `kefu conversations list` shows it.")]
ExternalId = Annotated[str, typer.Option("--id", help="The person's id on that channel.")]


@app.callback()
def group() -> None:
    """Export or erase what is remembered about a person."""


@app.command(epilog="Example: kefu users export --channel telegram --account 123456789 --id 42 --output person.json")
def export(
    ctx: typer.Context,
    channel: Channel,
    account: Account,
    external_id: ExternalId,
    output: Annotated[Path | None, typer.Option(help="File to write, readable by you alone; otherwise stdout.")] = None,
) -> None:
    """Write everything about one person as JSON."""
    found = operate(prepare(ctx), "users.export", channel=channel, account=account, external_id=external_id)
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
    account: Account,
    external_id: ExternalId,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Delete everything about one person, for good."""
    settings = prepare(ctx)
    ask_consent(f"Everything about {external_id} on {channel} ({account}) is deleted for good; backups keep what they hold.", yes=yes)
    counts = operate(settings, "users.erase", channel=channel, account=account, external_id=external_id)
    if json:
        print_json(counts)
    else:
        gone = ", ".join(f"{count} {table}" for table, count in counts.items() if count)
        note(f"Erased: {gone or 'nothing was stored'}.")
