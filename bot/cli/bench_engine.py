"""`kefu bench engine`."""

import asyncio
import importlib
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from bot.cli.ensure_model import ensure_model
from bot.cli.output import note, print_json_line
from bot.cli.prepare import prepare
from bot.errors import CliError, ExitCode
from bot.settings import Settings
from dialogue.engine.bench.arm_table import ARMS, BASE_ARMS, chosen
from dialogue.engine.bench.engine_bench import QUICK, QUICK_SECONDS, Plan, Progress, run_bench
from dialogue.engine.bench.fleet import Terms
from dialogue.engine.bench.machine import has_cuda
from dialogue.engine.bench.metrics import Objective
from dialogue.engine.bench.summary import table
from dialogue.engine.bench.workload import WORKLOADS, Language, Sizes
from dialogue.engine.models import ModelFiles, load_template, load_tokenizer
from dialogue.messages import ChatMessage, Role

app = typer.Typer(add_completion=False)

RESULT_NAME = "engine.json"
MOST_SLOTS = 16  # that are opened for many users, unless --slots says otherwise
PATIENCE_S = 3600.0  # until an engine is ready, or shows a sign of life: a slow arm is measured, not killed
PATIENT = {"start_timeout_s": PATIENCE_S, "hang_timeout_s": PATIENCE_S, "max_waiting": 100_000, "max_queue_tokens": 1 << 40}

EXAMPLES = """Examples:

kefu bench engine --quick

kefu bench engine --arms all --users 1,8 --rounds 3 --out bench

kefu bench engine --arms llamacpp,raw --workloads multi-turn --rounds 9

kefu bench engine --arms local,url --url http://127.0.0.1:8000 --users 1,64,256"""


@app.command(epilog=EXAMPLES)
def engine(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option(help="Model reference, instead of model.reference.")] = None,
    *,
    arms: Annotated[
        str, typer.Option(help=f"Which arms, with commas between; all = every one that runs here. {', '.join(kind.name for kind in ARMS)}.")
    ] = ",".join(BASE_ARMS),
    workloads: Annotated[str | None, typer.Option(help=f"Which workloads, with commas between: {', '.join(WORKLOADS)}.")] = None,
    users: Annotated[str | None, typer.Option(help="Users at the same time in `single`, with commas between.")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="How often each arm is measured.")] = 3,
    prompt_tokens: Annotated[int, typer.Option(min=8, help="Tokens of a single prompt.")] = 128,
    reply_tokens: Annotated[int | None, typer.Option(min=4, help="Tokens of a reply to a single prompt.")] = None,
    turns: Annotated[int, typer.Option(min=2, max=64, help="Turns of a chat in `multi-turn`.")] = 8,
    chat_users: Annotated[int | None, typer.Option(min=1, help="Users in `multi-turn`, and beside the long prompt.")] = None,
    think: Annotated[float | None, typer.Option(min=0, help="Seconds between two turns, in the mean.")] = None,
    long_tokens: Annotated[int, typer.Option(min=16, help="Tokens of the long prompt.")] = 2048,
    adapters: Annotated[int, typer.Option(min=2, max=64, help="Users in `adapters`, each with a random adapter of its own.")] = 4,
    slots: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Answers that are made at the same time, the same for all arms.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each arm, instead of engine.threads.")] = None,
    slo_ttft: Annotated[float, typer.Option(min=1, help="Goodput: the longest time to first token, ms.")] = 2000,
    slo_tpot: Annotated[float, typer.Option(min=1, help="Goodput: the longest time per further token, ms.")] = 150,
    url: Annotated[str, typer.Option(help="A server with OpenAI's completions that takes token ids; adds the arm `url`.")] = "",
    url_model: Annotated[str, typer.Option(help="What that server calls the model; otherwise the first that it names.")] = "",
    out: Annotated[Path | None, typer.Option(help=f"Folder for {RESULT_NAME} and the pictures, PNG and SVG.")] = None,
    seed: Annotated[int, typer.Option(help="Chooses the pauses between turns.")] = 17,
    apart: Annotated[
        bool | None, typer.Option("--apart/--together", help="One arm's process at a time; otherwise only where there is a GPU to share.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few users, short replies: under a minute with the default arms.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="No table; the last line is one JSON object in any case.")] = False,
) -> None:
    """Measure engines side by side: Kefu's own, transformers, the raw library, a server.

    All get the same prompts as token ids and answer at the same length, in turn, each in a process of its own: TTFT, TPOT, ITL, E2E,
    tokens/s, goodput, prefix hits, share of the roofline, peak memory. The last line is one JSON object.
    """
    settings = prepare(ctx, {"model.reference": model, "engine.kind": "auto", "engine.threads": threads})
    usual = QUICK if quick else Sizes()
    sizes = replace(
        usual,
        workloads=_workloads(workloads) if workloads else usual.workloads,
        users=_numbers(users) if users else usual.users,
        prompt_tokens=prompt_tokens,
        reply_tokens=reply_tokens or usual.reply_tokens,
        turns=turns,
        chat_users=chat_users or usual.chat_users,
        think_s=usual.think_s if think is None else think,
        long_tokens=long_tokens,
        adapters=adapters,
        seed=seed,
    )
    kinds = chosen([*_names(arms), *(["url"] if url else [])])
    plan = Plan(
        kinds, sizes, rounds, Objective(slo_ttft, slo_tpot), QUICK_SECONDS if quick else None, apart=has_cuda() if apart is None else apart
    )
    files = ensure_model(settings)
    if files is None:
        raise CliError("This bench needs a model.", hint="Name one with --model.", code=ExitCode.CONFIGURATION)
    config = replace(settings.engine_config(), slots=slots or max(settings.engine.slots, min(MOST_SLOTS, max(sizes.users))), **PATIENT)
    terms = Terms(config, files, url=url, url_model=url_model, url_key=_key(settings, url))
    with _Watched() as watched:
        result = asyncio.run(run_bench(plan, terms, _language(files), watched))
    _show(result, out, as_json=as_json)
    if result["failed"]:
        raise CliError(f"Some arms failed: {', '.join(result['failed'])}.", hint="The lines above say why; the others are in the result.")


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def _workloads(text: str) -> tuple[str, ...]:
    names = _names(text)
    if unknown := sorted(set(names) - set(WORKLOADS)):
        raise CliError(f"There is no workload {', '.join(unknown)}.", hint=f"Workloads are: {', '.join(WORKLOADS)}.", code=ExitCode.USAGE)
    return tuple(names)


def _numbers(text: str) -> tuple[int, ...]:
    names = _names(text)
    if not names or not all(name.isdecimal() and int(name) > 0 for name in names):
        raise CliError("--users takes numbers with commas between.", hint="Example: --users 1,4,8", code=ExitCode.USAGE)
    return tuple(sorted({int(name) for name in names}))


def _key(settings: Settings, url: str) -> str:
    """Return the key of a server that the settings name themselves; another one gets none."""
    known = {base.rstrip("/") for base in settings.remote.base_urls}
    key = settings.remote.api_key
    return key.get_secret_value() if key and url.rstrip("/").removesuffix("/v1") in known else ""


def _language(files: ModelFiles) -> Language:
    tokenizer = load_tokenizer(files)
    template = load_template(files, tokenizer)

    def render(texts: Sequence[str]) -> tuple[int, ...]:
        roles = [Role.SYSTEM, *(role for role, _ in zip(cycle((Role.USER, Role.ASSISTANT)), texts[1:], strict=False))]
        return template.render_chat([ChatMessage(role, text) for role, text in zip(roles, texts, strict=True)]).ids

    return Language(tokenizer.encode, render)


class _Watched(Progress, AbstractContextManager["_Watched"]):
    """A bar on a terminal, and lines everywhere."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task("Measuring", total=None)

    def __enter__(self) -> "_Watched":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def tell(self, text: str) -> None:
        note(text)

    def total(self, steps: int) -> None:
        self._bar.update(self._task, total=steps)

    def step(self) -> None:
        self._bar.advance(self._task)


def _show(result: dict[str, Any], out: Path | None, *, as_json: bool) -> None:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / RESULT_NAME).write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        _draw(result, out)
    if not as_json:
        for line in table(result):
            note(line)
    print_json_line(result)


def _draw(result: dict[str, Any], out: Path) -> None:
    try:
        plot: Any = importlib.import_module("dialogue.engine.bench.plot")
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        note(f"No pictures were drawn: {library} is missing. Install it with: pip install 'kefu[finetune]'")
        return
    plot.draw(result, out)
