"""`kefu replay`: what a turn was made of, and the same request again."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Annotated, Any

import typer

from bot.cli.data import operate
from bot.cli.ensure_model import ensure_model, ensure_skill_models
from bot.cli.output import note, print_json, print_text
from bot.cli.prepare import prepare
from bot.cli.progress import waiting
from bot.serving import open_model
from bot.settings import Settings
from bot.shipped_adapter import shipped_adapter
from bot.skill_models import UnstartedTaskModel, open_skill_model
from bot.unstarted_model import UnstartedModel
from dialogue import replay as turn_replay
from dialogue.document import TurnDocument
from dialogue.engine.base import AdapterRef, TextDelta
from dialogue.engine.models import ModelFiles, load_tokenizer
from dialogue.prompt import Section

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: kefu replay 0192f3c1a7b07c3f8e5a9b1c2d3e4f50 --generate")
def replay(
    ctx: typer.Context,
    turn_id: Annotated[str, typer.Argument(help="Id, as `kefu conversations show` or `kefu ask --json` shows it.")],
    *,
    generate: Annotated[bool, typer.Option("--generate", help="Send the same request to the engine again and compare the text.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a turn was made of, and make it again."""
    settings = prepare(ctx)
    stored = operate(settings, "turns.document", id=turn_id)
    document = turn_replay.load(base64.b64decode(stored["document"] or ""))
    files = None if _has_own_model(settings, document) else ensure_model(settings)
    parts = turn_replay.describe(document, _decoder(files))
    again = _generate(settings, files, document, stored["adapter_path"] or _shipped(settings, document)) if generate else None
    comparison = _compare(stored["turn"]["reply_text"], again) if again is not None else None
    if json:
        print_json({"turn": stored["turn"], "parts": [{"name": part.name, "text": part.text} for part in parts], "generated": comparison})
        return
    for part in (*parts, *_results(stored["turn"], comparison)):
        print_text(f"── {part.name}\n{part.text}\n")


def _has_own_model(settings: Settings, document: TurnDocument) -> bool:
    """Whether the turn was answered by the model that its skill has for itself, which the settings still name."""
    skill_model = settings.skill_models().get(document.skill)
    return skill_model is not None and skill_model.engine == document.engine


def _shipped(settings: Settings, document: TurnDocument) -> str | None:
    """Return the folder of the adapter that ships with Kefu, if that made the turn."""
    shipped = shipped_adapter(settings)
    return shipped.path if shipped is not None and shipped.name == document.adapter else None


def _decoder(files: ModelFiles | None) -> Callable[[Sequence[int]], str] | None:
    return load_tokenizer(files).decode if files is not None else None


def _results(turn: dict[str, Any], comparison: dict[str, Any] | None) -> list[Section]:
    results = [Section("reply", turn["reply_text"])]
    if comparison is not None:
        verdict = "identical to the reply" if comparison["identical"] else "different from the reply"
        results.append(Section(f"generated again: {verdict}", comparison["text"]))
    return results


def _compare(reply: str, again: str) -> dict[str, Any]:
    return {"text": again, "identical": again.strip() == reply.strip()}


def _generate(settings: Settings, files: ModelFiles | None, document: TurnDocument, adapter_path: str | None) -> str:
    if _has_own_model(settings, document):
        files = ensure_skill_models(settings)[document.skill]
    if files is not None and document.hashes.model and document.hashes.model != files.sha256:
        note(f"The turn was made with another model ({document.model}); the configured one is used now.")
    adapters = [AdapterRef(document.adapter, adapter_path)] if document.adapter and adapter_path else []
    with waiting("Generating again"):
        return asyncio.run(_run(settings, files, adapters, document))


async def _run(settings: Settings, files: ModelFiles | None, adapters: Sequence[AdapterRef], document: TurnDocument) -> str:
    if files is not None and _has_own_model(settings, document):
        model: UnstartedModel | UnstartedTaskModel = await open_skill_model(settings, document.skill, files)
    else:
        model = await open_model(settings, files)
    try:
        await model.engine.set_adapters(adapters)
        await model.start()
        async with aclosing(turn_replay.regenerate(document, model.engine)) as events:
            return "".join([event.text async for event in events if isinstance(event, TextDelta)])
    finally:
        await model.engine.close()
