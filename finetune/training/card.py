"""The model card of an adapter: the README.md that lies beside its two files. Made of the run's manifest alone."""

from finetune.training.run_folder import RunManifest


def model_card(manifest: RunManifest) -> str:
    """Return the card as Markdown."""
    return "\n".join([*_front(manifest), "", *_data(manifest), "", *_training(manifest), "", *_limits(manifest), ""])


def _front(manifest: RunManifest) -> list[str]:
    recipe, base = manifest.recipe, manifest.base
    return [
        "---",
        f"base_model: {base.reference}",
        "library_name: peft",
        "tags: [lora, customer-support]",
        "---",
        f"# {recipe.name}",
        "",
        recipe.description or "A LoRA adapter made with Kefu.",
        "",
        f"It belongs to {base.name} (`{base.reference}`, {base.architecture}) and to no other model: sha256 `{base.sha256}`.",
        *[f"It also fits the {form}: sha256 `{sha256}`." for form, sha256 in base.forms.items()],
    ]


def _data(manifest: RunManifest) -> list[str]:
    data = manifest.data
    rows = [f"| {source['name']} | {source['licence']} | {source['origin'] or '–'} |" for source in data.sources]
    return [
        "## Data",
        "",
        f"Dataset `{data.name}`, version `{data.version}`: {data.samples} samples, {data.trained_tokens} trained tokens an epoch.",
        *[f"Left out: {count} samples ({reason})." for reason, count in data.left_out.items()],
        "",
        "| source | licence | origin |",
        "|---|---|---|",
        *rows,
    ]


def _training(manifest: RunManifest) -> list[str]:
    train, result = manifest.recipe.train, manifest.result
    lora = train.lora
    kind = "".join(name for name, used in ((", rsLoRA", lora.rslora), (", DoRA", lora.dora), (", QLoRA", lora.quantise == "4bit")) if used)
    targets = lora.targets if isinstance(lora.targets, str) else ", ".join(lora.targets)
    return [
        "## Training",
        "",
        f"LoRA r = {lora.r}, alpha = {lora.alpha:g}, dropout {lora.dropout:g}, on {targets}{kind};"
        f" {result.trained_weights} weights, float16.",
        f"Learning rate {train.learning_rate:g}, {train.schedule}; {result.steps} steps of {train.rows_per_step} packed rows of"
        f" {train.row_tokens} tokens; seed {manifest.recipe.seed}; {result.seconds:.0f} s on {result.device}.",
        "",
        "| loss, nats per trained token | |",
        "|---|---|",
        f"| held out, base model | {_loss(result.base_held_out_loss)} |",
        f"| held out, with this adapter | {_loss(result.held_out_loss)} |",
        f"| last step | {_loss(result.train_loss)} |",
    ]


def _limits(manifest: RunManifest) -> list[str]:
    limits = [
        "- A lower loss is no proof of better answers: serve it only after `kefu finetune evaluate` and a passed verdict.",
        "- It knows what its data says, which ages; facts belong into the passages of a prompt.",
        "- It was trained with the prompts of Kefu's skills. Other prompts get other answers.",
    ]
    if manifest.recipe.train.lora.dora:
        limits.append("- It is a DoRA adapter: llama.cpp cannot serve it. `kefu finetune merge` makes a whole model of it.")
    return ["## Limits", "", *limits]


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
