"""`kefu finetune`: one command for each step from data to an adapter with a verdict. The commands themselves are in `commands/`."""

from typing import Final

import typer

from finetune.commands import agree, data, evaluate, export, merge, prepare, pretrain, scrub, train

app: Final = typer.Typer(
    name="finetune",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="The way: prepare, train, evaluate; then `kefu adapters promote`.",
)


@app.callback()
def group() -> None:
    """Train an adapter on your own conversations."""


app.command("prepare", epilog=prepare.EPILOG)(prepare.prepare)
app.add_typer(data.app, name="data")
app.command("scrub", epilog=scrub.EPILOG)(scrub.scrub)
app.command("train", epilog=train.EPILOG)(train.train)
app.command("evaluate", epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command("agree", epilog=agree.EPILOG)(agree.agree)
app.command("pretrain", epilog=pretrain.EPILOG)(pretrain.pretrain)
app.command("merge", epilog=merge.EPILOG)(merge.merge)
app.command("export", epilog=export.EPILOG)(export.export)
