"""`kefu conversations`: what was said, for the operator's eyes."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from bot.cli.data import operate
from bot.cli.output import print_json, print_table, print_text
from bot.cli.prepare import prepare

app = typer.Typer(add_completion=False, no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest.")]


@app.callback()
def group() -> None:
    """Show conversations and their turns."""


@app.command("list", epilog="Example: kefu conversations list --waiting")
def list_conversations(
    ctx: typer.Context,
    limit: Limit = 50,
    before: Annotated[str | None, typer.Option(help="Only those older than this conversation's id.")] = None,
    *,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that wait for a person, longest first.")] = False,
    json: Json = False,
) -> None:
    """List the newest conversations."""
    found = operate(prepare(ctx), "conversations.list", limit=limit, before=before, waiting=waiting)
    if json:
        print_json(found)
        return
    columns = ("id", "channel", "account", "chat", "owner", "turns", "waiting since", "begun")
    print_table(columns, (_row(conversation) for conversation in found))


@app.command(epilog="Example: kefu conversations show 0192f3c1a7b07c3f8e5a9b1c2d3e4f50 --limit 5")
def show(
    ctx: typer.Context,
    conversation_id: Annotated[str, typer.Argument(help="Id, as `kefu conversations list` shows it.")],
    limit: Limit = 50,
    *,
    json: Json = False,
) -> None:
    """Show one conversation turn by turn."""
    found = operate(prepare(ctx), "conversations.show", id=conversation_id, limit=limit)
    if json:
        print_json(found)
        return
    for turn in found["turns"]:
        print_text(f"── {turn['seq']} · {_time(turn['created_at'])} · {turn['skill']} · {turn['status']} · {turn['id']}")
        print_text(f"> {turn['user_text']}".replace("\n", "\n> "))
        print_text(f"{turn['reply_text']}\n")


def _row(conversation: dict[str, Any]) -> tuple[object, ...]:
    kind = conversation["chat"] if conversation["is_private"] else f"{conversation['chat']} (group)"
    waiting = _time(conversation["waiting_since"]) if conversation["waiting_since"] is not None else ""
    names = (conversation["id"], conversation["channel"], conversation["account"], kind, conversation["owner"], conversation["turns"])
    return (*names, waiting, _time(conversation["created_at"]))


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
