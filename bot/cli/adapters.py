"""`kefu adapters`: which LoRA adapter answers, and how another one gets there."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from bot.cli.data import operate
from bot.cli.output import note, print_json, print_table, print_text
from bot.cli.prepare import prepare
from bot.errors import CliError, ExitCode

app = typer.Typer(add_completion=False, no_args_is_help=True)

Release = Annotated[str, typer.Argument(help="Id of a release, or its name if no other has it; `kefu adapters list` shows both.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option(help="Why; stands in the audit log.")]

VERDICT: Final = Path("evaluation") / "verdict.json"  # in the folder of a training run
ADAPTER: Final = "adapter"  # the same


@app.callback()
def group() -> None:
    """Show adapter releases, promote one, roll back.

    A `kefu run` on the same database follows at once, and no answer is lost on the way.
    """


@app.command("list", epilog="Example: kefu adapters list --json")
def list_releases(ctx: typer.Context, *, json: Json = False) -> None:
    """List the releases, the newest first, with what their verdicts say."""
    found = operate(prepare(ctx), "adapters.list")
    if json:
        print_json(found)
        return
    if found["releases"]:
        print_table(("id", "name", "status", "verdict", "skills", "base model", "since"), (_row(release) for release in found["releases"]))
    else:
        note("There is no release. `kefu finetune evaluate --register` and `kefu adapters import` make one.")
    _tell_serving(found["serving"])


@app.command(epilog="Example: kefu adapters show support")
def show(ctx: typer.Context, release: Release, *, json: Json = False) -> None:
    """Show one release: verdict, hashes, and what became of it."""
    found = operate(prepare(ctx), "adapters.show", id=release)
    if json:
        print_json(found)
        return
    print_table(("what", "value"), _facts(found["release"]))
    print_text("")
    print_table(("when", "who", "from", "to", "why"), (_event(event) for event in found["history"]))
    _tell_serving(found["serving"])


@app.command("import", epilog="Example: kefu adapters import runs/support --name support")
def take_in(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="An adapter, or a training run that holds one.", exists=True, file_okay=False)],
    name: Annotated[str | None, typer.Option(help="What to call it; otherwise as the folder.")] = None,
    verdict: Annotated[
        Path | None, typer.Option(help="Its verdict.json; otherwise that of the training run, where there is one.", dir_okay=False)
    ] = None,
    skill: Annotated[
        list[str] | None, typer.Option(help="A skill that it answers; may be given again. Otherwise chat and support.")
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Register an adapter as a candidate: it is checked and copied, and answers nothing yet."""
    source = (folder / ADAPTER if (folder / ADAPTER).is_dir() else folder).absolute()
    arguments = {
        "path": str(source),
        "name": name or folder.absolute().name,
        "verdict": _verdict(folder, verdict),
        "skills": ",".join(skill or ()) or None,
    }
    release = operate(prepare(ctx), "adapters.import", **arguments)["release"]
    if json:
        print_json(release)
        return
    note(f"{release['name']} is registered: {release['id']}, {release['status']}, verdict: {verdict_word(release)}.")
    if release["passed"]:
        note(f"`kefu adapters promote {release['id']}` lets it answer.")


@app.command(epilog="Example: kefu adapters promote support")
def promote(
    ctx: typer.Context,
    release: Release,
    reason: Reason = "",
    *,
    force: Annotated[bool, typer.Option("--force", help="Do without a passed verdict; takes a --reason.")] = False,
    json: Json = False,
) -> None:
    """Let a candidate with a passed verdict answer customers, instead of the release before it."""
    _tell(operate(prepare(ctx), "adapters.promote", id=release, reason=reason, force=force), json=json)


@app.command(epilog="Example: kefu adapters activate support-2")
def activate(ctx: typer.Context, release: Release, reason: Reason = "", *, json: Json = False) -> None:
    """Let a release answer again that was active before."""
    _tell(operate(prepare(ctx), "adapters.activate", id=release, reason=reason), json=json)


@app.command(epilog='Example: kefu adapters rollback --reason "refuses too much"')
def rollback(
    ctx: typer.Context,
    reason: Reason = "",
    *,
    to_base: Annotated[
        bool, typer.Option("--to-base", help="Let no release answer: the adapter of the setting model.adapter does, or the base model.")
    ] = False,
    json: Json = False,
) -> None:
    """Go back to the release that was active before; again, and it goes back further."""
    _tell(operate(prepare(ctx), "adapters.rollback", reason=reason, to_base=to_base), json=json)


def _verdict(folder: Path, chosen: Path | None) -> str | None:
    """Return the text of the verdict; None where there is none. Raises CliError."""
    path = chosen or folder / VERDICT
    if chosen is None and not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise CliError(f"The verdict {path} cannot be read.", code=ExitCode.USAGE) from None


def _tell(changed: dict[str, Any], *, json: bool) -> None:
    """Say what a change came to; exit 1 when the running engine does not follow."""
    release, serving = changed["release"], changed["serving"]
    if json:
        print_json(changed)
    else:
        note(
            f"Active: {release['name']} ({release['id']})."
            if release
            else "No release is active: the adapter of the setting model.adapter answers, or the base model."
        )
        if serving is None:
            note("The next start of Kefu uses it." if release else "So it will at the next start of Kefu.")
        _tell_serving(serving)
    if serving is not None and serving["refused"]:
        raise typer.Exit(ExitCode.FAILURE)


def _tell_serving(serving: dict[str, Any] | None) -> None:
    if serving is None:
        return
    who = f"{serving['name']} ({serving['adapter']})" if serving["name"] != serving["adapter"] else serving["name"]
    note(f"The running Kefu answers with {who if serving['adapter'] else 'the base model'}.")
    if serving["refused"]:
        note(f"It refuses {serving['refused']}: {serving['reason']}")


def verdict_word(release: dict[str, Any]) -> str:
    """Say in a word what stands in for a release."""
    if release["forced_reason"] and not release["passed"]:
        return "forced"
    if not release["has_verdict"]:
        return "none"
    return "passed" if release["passed"] else "not passed"


def _row(release: dict[str, Any]) -> Sequence[object]:
    names = (release["id"], release["name"], release["status"], verdict_word(release), ", ".join(release["skills"]))
    return (*names, release["base_model_sha256"][:12], _time(release["created_at"]))


def _facts(release: dict[str, Any]) -> Sequence[tuple[str, object]]:
    facts: list[tuple[str, object]] = [
        ("id", release["id"]),
        ("name", release["name"]),
        ("status", release["status"]),
        ("verdict", verdict_word(release)),
        *(("", reason) for reason in release["reasons"]),
        ("skills", ", ".join(release["skills"])),
        ("sha256", release["sha256"]),
        ("base model", release["base_model_sha256"]),
        *(("or", form) for form in release["base_forms"]),
        ("folder", release["path"]),
        ("since", _time(release["created_at"])),
    ]
    return [*facts, ("forced", release["forced_reason"])] if release["forced_reason"] else facts


def _event(event: dict[str, Any]) -> Sequence[object]:
    return (_time(event["at"]), event["actor"], event["from"], event["to"], event["reason"])


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
