"""`kefu bench`: four programs, loaded when they are called, because each brings the libraries that it compares with."""

import typer

from bot.cli.lazy import LazyCommand, LazyGroup

BENCHES = {
    "bot": LazyCommand("bot.cli.bench_bot:app", "Measure the whole way of a Telegram message beside python-telegram-bot."),
    "engine": LazyCommand("bot.cli.bench_engine:app", "Measure engines side by side: Kefu's own, transformers, the raw library, a server."),
    "storage": LazyCommand("bot.cli.bench_storage:app", "Measure whether the database stays fast as it fills."),
    "train": LazyCommand("finetune.bench.command:app", "Measure LoRA training beside TRL's SFTTrainer, with its defaults and tuned."),
}


class _Benches(LazyGroup):
    table = BENCHES


app = typer.Typer(cls=_Benches, add_completion=False, no_args_is_help=True)


@app.callback()
def group() -> None:
    """Measure the bot, the engine, the database or training on this machine."""
