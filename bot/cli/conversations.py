"""`kefu conversations`: what was said, and how a person takes over."""

import sys
from datetime import UTC, datetime
from operator import itemgetter
from typing import Annotated, Any

import typer

from bot.cli.data import operate
from bot.cli.output import note, print_json, print_table, print_text
from bot.cli.prepare import prepare
from bot.errors import CliError

app = typer.Typer(add_completion=False, no_args_is_help=True)

ConversationId = Annotated[str, typer.Argument(help="Id, as `kefu conversations list` shows it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest.")]


@app.callback()
def group() -> None:
    """Show conversations and their turns; take one over, answer as a person, give it back."""


@app.command("list", epilog="Example: kefu conversations list --waiting")
def list_conversations(
    ctx: typer.Context,
    limit: Limit = 50,
    before: Annotated[str | None, typer.Option(help="Only those older than this conversation's id.")] = None,
    *,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those in which somebody waits for a person, longest first.")] = False,
    json: Json = False,
) -> None:
    """List the newest conversations, and in which of them somebody waits for a person: asked for one, or has no answer of the one there."""
    found = operate(prepare(ctx), "conversations.list", limit=limit, before=before, waiting=waiting)
    if json:
        print_json(found)
        return
    columns = ("id", "channel", "account", "chat", "owner", "turns", "waiting since", "begun")
    print_table(columns, (_row(conversation) for conversation in found))


@app.command(epilog="Example: kefu conversations show 0192f3c1a7b07c3f8e5a9b1c2d3e4f50 --limit 5")
def show(
    ctx: typer.Context,
    conversation_id: ConversationId,
    limit: Limit = 50,
    *,
    json: Json = False,
) -> None:
    """Show one conversation turn by turn, and between the turns what people said in it."""
    found = operate(prepare(ctx), "conversations.show", id=conversation_id, limit=limit)
    if json:
        print_json(found)
        return
    said: list[dict[str, Any]] = [*found["turns"], *found["said_by_people"]]
    for one in sorted(said, key=itemgetter("created_at")):
        if "user_text" in one:
            _print_turn(one)
        else:
            print_text(f"── a person · {_time(one['created_at'])} · {one['state']} · {one['id']}\n{one['text']}\n")


@app.command(epilog="Example: kefu conversations take 0192f3c1a7b07c3f8e5a9b1c2d3e4f50")
def take(ctx: typer.Context, conversation_id: ConversationId, *, json: Json = False) -> None:
    """Take a conversation over: when this returns, the bot is silent in it until `release`."""
    taken = operate(prepare(ctx), "conversations.take", id=conversation_id)
    if json:
        print_json(taken)
        return
    note("A person had it already; the bot is silent." if taken["already"] else "It is yours; the bot is silent.")
    note(f"Answer with: kefu conversations say {conversation_id} TEXT")
    if taken["in_flight"] == "unknown":
        note("One message of the bot was on its way, and it is not known whether it arrived: `kefu outbox list --state unknown`.")


@app.command(epilog='Example: kefu conversations say 0192f3c1a7b07c3f8e5a9b1c2d3e4f50 "Good morning, I am Ada."')
def say(
    ctx: typer.Context,
    conversation_id: ConversationId,
    text: Annotated[str, typer.Argument(help="What you say; - reads it from standard input.")],
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="See for a while what becomes of it.")] = True,
    json: Json = False,
) -> None:
    """Say something as a person, in a conversation that was taken."""
    words = sys.stdin.read() if text == "-" else text
    said = operate(prepare(ctx), "conversations.say", id=conversation_id, text=words, wait=wait)
    if json:
        print_json(said)
    elif said["state"] == "sent":
        note("Sent.")
    elif said["state"] == "failed":
        raise CliError(f"It was refused: {said['error']}.", hint=f"Try it again with `kefu outbox retry {said['id']}`.")
    elif said["state"] == "unknown":
        raise CliError(
            f"It is not known whether it arrived: {said['error']}.",
            hint=f"`kefu outbox list --state unknown` shows what becomes of {said['id']}: `kefu run` tries it again where that is safe.",
        )
    else:
        trouble = f" ({said['error']})" if said["error"] else ""
        note(f"It is stored{trouble}; `kefu run` delivers it as soon as it can.")


@app.command(epilog="Example: kefu conversations release 0192f3c1a7b07c3f8e5a9b1c2d3e4f50")
def release(ctx: typer.Context, conversation_id: ConversationId, *, json: Json = False) -> None:
    """Give a conversation back to the bot: it answers again, from the next message on."""
    given = operate(prepare(ctx), "conversations.release", id=conversation_id)
    if json:
        print_json(given)
    else:
        note("The bot had it already." if given["already"] else "`kefu run` answers in it again.")


def _print_turn(turn: dict[str, Any]) -> None:
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
