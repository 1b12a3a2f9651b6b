"""`kefu finetune agree`: whether the engines say what the training process says."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dialogue.config import ProgramConfig
from dialogue.engine.model_sources import ModelSources
from dialogue.normalise import escape_control
from finetune.commands.evaluate import ProgressBar
from finetune.lazy import load

EPILOG = "Example: kefu finetune agree --run runs/support"
_SHOWN = 80  # characters of an answer


def agree(
    ctx: typer.Context,
    run: Annotated[Path, typer.Option(help="The training run whose adapter speaks.")],
    data: Annotated[Path | None, typer.Option(help="The dataset whose prompts are asked; by default the one that was trained on.")] = None,
    prompts: Annotated[int, typer.Option(min=1, help="How many prompts.")] = 50,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer, at most.")] = 32,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON, the last on stdout.")] = False,
) -> None:
    """Compare greedy answers of the training process with those of every engine here.

    Ends with exit code 1 when an engine in float32 says something else.
    """
    program: ProgramConfig = ctx.obj.program_config()
    room = load("finetune.evaluation.run_agreement")
    sources = ModelSources(program.index_url, program.hub_url, program.hub_token)
    with ProgressBar() as bar:
        terms = load("finetune.evaluation.subject").Terms(run, data, prompts, tokens, program.engine, sources)
        found = room.run_agreement(terms, bar.update)
    for agreement in found:
        _show(agreement)
    if as_json:
        typer.echo(json.dumps([_plain(agreement) for agreement in found], ensure_ascii=False))
    if not all(agreement.holds for agreement in found):
        raise typer.Exit(1)


def _show(agreement: Any) -> None:
    word = "must agree" if agreement.exact else "other weights"
    rate = agreement.matched_tokens / max(1, agreement.tokens)
    typer.echo(
        f"{agreement.engine} ({word}): {agreement.same} of {agreement.prompts} answers the same, {rate:.1%} of the tokens before they part"
    )
    for divergence in agreement.divergences[: None if agreement.exact else 1]:
        tie = ", two tokens equally likely" if divergence.is_tie else f", sure by {divergence.gap:.3f} logits"
        typer.echo(f"  {divergence.sample}: parts at token {divergence.token}{tie}")
        for who, text in (("torch ", divergence.expected), ("engine", divergence.said)):
            typer.echo(f"    {who}: {escape_control(text)[:_SHOWN]}")


def _plain(agreement: Any) -> dict[str, Any]:
    first = agreement.divergences[0] if agreement.divergences else None
    return {
        "engine": agreement.engine,
        "exact": agreement.exact,
        "holds": agreement.holds,
        "prompts": agreement.prompts,
        "same": agreement.same,
        "tokens": agreement.tokens,
        "matched_tokens": agreement.matched_tokens,
        "first_divergence": None if first is None else {"sample": first.sample, "token": first.token, "gap": first.gap},
    }
