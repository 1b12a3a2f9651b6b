"""`kefu bench engine`."""

import asyncio
from collections.abc import Sequence
from itertools import cycle
from typing import Annotated, Any

import typer

from bot.cli.ensure_model import ensure_model
from bot.cli.output import note, print_json_line
from bot.cli.prepare import prepare
from bot.errors import CliError, ExitCode
from bot.serving import open_model
from bot.settings import Settings
from dialogue.engine.bench.arms import RawSettings
from dialogue.engine.bench.engine_bench import FULL, QUICK, BenchSize, run_bench
from dialogue.engine.cpu_cores import usable_cores
from dialogue.engine.models import ModelFiles, load_template, load_tokenizer
from dialogue.messages import ChatMessage, Role

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: kefu bench engine --quick")
def engine(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option(help="Model reference, instead of model.reference.")] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="One conversation, under a minute.")] = False,
) -> None:
    """Measure the engine beside the raw library.

    Both have the same model, threads, slots and context, and answer the same conversations in turn. The last line is one JSON object.
    """
    settings = prepare(ctx, {"model.reference": model})
    files = ensure_model(settings)
    if settings.engine.kind not in {"auto", "llamacpp"} or files is None or not files.path.is_file():
        message = "This bench is for the engine llamacpp with a GGUF file."
        raise CliError(message, hint='Set [engine] kind = "auto" and a GGUF model.', code=ExitCode.CONFIGURATION)
    print_json_line(asyncio.run(_measure(settings, files, QUICK if quick else FULL)))


async def _measure(settings: Settings, files: ModelFiles, size: BenchSize) -> dict[str, Any]:
    raw = RawSettings(
        model=str(files.path),
        context_tokens=min(settings.model.context_tokens, files.context_tokens),
        slots=settings.engine.slots,
        threads=settings.engine.threads or usable_cores(),
        cache_ram_mib=settings.engine.cache_ram_mib,
    )
    template = load_template(files, load_tokenizer(files))

    def render(texts: Sequence[str]) -> tuple[int, ...]:
        roles = [Role.SYSTEM, *(role for role, _ in zip(cycle((Role.USER, Role.ASSISTANT)), texts[1:], strict=False))]
        return template.render_chat([ChatMessage(role, text) for role, text in zip(roles, texts, strict=True)]).ids

    return await run_bench((await open_model(settings, files)).engine, raw, render, size, note)
