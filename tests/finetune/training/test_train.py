"""A whole run on a tiny model: what is in its folder, and that serving accepts it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from dialogue.engine.adapters import load_adapter
from dialogue.engine.lora_gguf import ServedFiles, served_facts
from dialogue.errors import AdapterRejected
from finetune.errors import DatasetInvalid, FinetuneError
from finetune.rendering import build_renderer
from finetune.training.base_model import find_base, load_base
from finetune.training.examples import packed, render_some
from finetune.training.gguf_export import export_gguf
from finetune.training.lora import attach_trained
from finetune.training.objective import DecoderObjective
from finetune.training.packing import pack_rows
from finetune.training.plan import TrainingPlan, read_plan
from finetune.training.run_folder import read_run
from finetune.training.train import begin, train
from tests.finetune.training.tiny import Watched, dialogue, tiny_plan, tiny_recipe, write_tiny, write_tiny_dataset


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> TrainingPlan:
    """A finished run on a GGUF file."""
    place = tmp_path_factory.mktemp("finished")
    model = export_gguf(write_tiny(place / "folder"), place / "tiny.gguf")
    plan = tiny_plan(place, model=model)
    begin(plan)
    train(plan, Watched())
    return plan


def served(plan: TrainingPlan) -> ServedFiles:
    """Return what would be served with the run's adapter."""
    base = find_base(plan.recipe.model, plan.cache_dir)
    return ServedFiles(base.files.path, base.files.sha256, base.tokenizer.sha256, base.template.sha256)


def test_serving_accepts_the_adapter(finished: TrainingPlan) -> None:
    """The strict loader of serving takes the adapter of a run, on the GGUF file that it was trained on, with all seven projections."""
    adapter = load_adapter(finished.adapter, served_facts(served(finished), finished.cache_dir))
    assert len(adapter.pairs) == 2 * 7
    assert adapter.config.base_model_name_or_path == finished.recipe.model


def test_serving_refuses_it_elsewhere(finished: TrainingPlan, tmp_path: Path) -> None:
    """On another base, or with another tokenizer or template, the adapter is refused."""
    right = served(finished)
    for wrong in (
        ServedFiles(right.path, "0" * 64, right.tokenizer_sha256, right.template_sha256),
        ServedFiles(right.path, right.sha256, "0" * 64, right.template_sha256),
        ServedFiles(right.path, right.sha256, right.tokenizer_sha256, "0" * 64),
    ):
        with pytest.raises(AdapterRejected, match="another"):
            load_adapter(finished.adapter, served_facts(wrong, tmp_path))


def test_the_weights_name_what_they_belong_to(finished: TrainingPlan) -> None:
    """The header of the weights names base, its other forms, tokenizer, template and data; the manifest says the same."""
    with safe_open(finished.adapter / "adapter_model.safetensors", framework="pt") as weights:
        metadata = weights.metadata()
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float16}  # noqa: SIM118 - no mapping
    manifest = read_run(finished.run)
    assert metadata.items() >= manifest.metadata().items()
    assert metadata["base_model_sha256"] == served(finished).sha256
    assert list(manifest.base.forms) == ["dequantised folder", "float32 GGUF"]
    assert metadata["base_model_forms"].split(",") == list(manifest.base.forms.values())
    assert manifest.data.version == json.loads((finished.dataset / "manifest.json").read_text())["version"]


def test_the_run_has_learned_and_tells(finished: TrainingPlan) -> None:
    """The held-out loss falls below the base's; metrics, curve and card are there, the card with data, licence and losses."""
    result = read_run(finished.run).result
    assert result.held_out_loss is not None
    assert result.base_held_out_loss is not None
    assert result.held_out_loss < result.base_held_out_loss - 1
    assert {path.name for path in finished.run.iterdir()} >= {"metrics.jsonl", "learning_curve.png", "run.json", "plan.json", "checkpoints"}
    card = (finished.adapter / "README.md").read_text()
    for words in ("CC0-1.0", f"{result.held_out_loss:.4f}", "r = 8", read_run(finished.run).data.version, "Limits"):
        assert words in card


def test_what_is_measured_is_what_is_saved(finished: TrainingPlan) -> None:
    """The adapter from its folder has the held-out loss of the manifest."""
    base = load_base(finished.recipe.model, finished.cache_dir)
    model = attach_trained(base.model, finished.adapter).eval()
    renderer = build_renderer(base.template, base.tokenizer, finished.recipe.dialogue_config(), 256)
    rendered = render_some([dialogue(number) for number in range(12, 15)], renderer)
    goal = DecoderObjective()
    with torch.no_grad():
        loss = sum(float(goal.loss(model, goal.collate([pack]))) for pack in pack_rows(rendered.rows, 256)) / rendered.trained_tokens
    assert loss == pytest.approx(read_run(finished.run).result.held_out_loss, rel=2e-3)


def test_only_replies_are_trained(finished: TrainingPlan) -> None:
    """What the loss counts reads as the assistant's replies, each with its end-of-turn token, and nothing else."""
    base = find_base(finished.recipe.model, finished.cache_dir)
    renderer = build_renderer(base.template, base.tokenizer, finished.recipe.dialogue_config(), 256)
    (pack,) = packed(render_some([dialogue(3)], renderer), 256).packs
    assert base.tokenizer.decode([token for _, token in pack.trained]) == "the word is 3.<|im_end|>" * 2


def test_no_held_out_data(tmp_path: Path) -> None:
    """Without held-out samples a run trains to its end and says that nothing was held out."""
    write_tiny_dataset(tmp_path / "data", valid=0)
    plan = tiny_plan(tmp_path, epochs=1)
    begin(plan)
    outcome = train(plan, Watched())
    assert (outcome.steps, outcome.held_out_loss) == (outcome.total_steps, None)
    assert "| held out, base model | – |" in (plan.adapter / "README.md").read_text()


def test_early_stopping_keeps_the_best(tmp_path: Path) -> None:
    """A run that gets worse ends after `patience` looks, and its best weights are kept."""
    plan = tiny_plan(tmp_path, max_steps=20, epochs=9, learning_rate=3.0, patience=2, evaluate_every=1, schedule="constant", warmup=0.0)
    begin(plan)
    watched = Watched()
    outcome = train(plan, watched)
    assert outcome.steps < outcome.total_steps
    assert outcome.held_out_loss == min(loss for step, loss in watched.looks if step)
    assert outcome.held_out_loss is not None
    assert outcome.held_out_loss < watched.looks[-1][1]


@pytest.mark.parametrize("lora", [{"dora": True}, {"rslora": True, "targets": ["q_proj", "v_proj"]}, {"dropout": 0.1, "r": 2}])
def test_kinds_of_lora(tmp_path: Path, lora: dict[str, Any]) -> None:
    """DoRA, rank-stabilised LoRA, chosen targets and dropout train; DoRA says that it must be merged."""
    plan = tiny_plan(tmp_path, max_steps=1, lora=lora)
    begin(plan)
    train(plan, Watched())
    config = json.loads((plan.adapter / "adapter_config.json").read_text())
    assert config["use_dora"] is lora.get("dora", False)
    assert ("kefu finetune merge" in (plan.adapter / "README.md").read_text()) is lora.get("dora", False)


def test_qlora_needs_cuda(tmp_path: Path) -> None:
    """Without CUDA and bitsandbytes QLoRA is refused with the setting to change."""
    plan = tiny_plan(tmp_path, lora={"quantise": "4bit"})
    with pytest.raises(FinetuneError, match="needs a CUDA device") as caught:
        train(plan, Watched())
    assert "none" in caught.value.hint


def test_whole_models_are_trained_elsewhere(tmp_path: Path) -> None:
    """A recipe that asks for every weight is sent to the command that trains whole models."""
    with pytest.raises(FinetuneError, match="every weight") as caught:
        train(tiny_plan(tmp_path, full=True), Watched())
    assert "kefu finetune pretrain" in caught.value.hint


def test_targets_that_no_layer_has(tmp_path: Path) -> None:
    """Targets that the model does not have are refused with the key of the recipe."""
    with pytest.raises(FinetuneError, match="cannot be attached") as caught:
        train(tiny_plan(tmp_path, lora={"targets": ["no_such_layer"]}), Watched())
    assert "train.lora.targets" in caught.value.hint


def test_rows_that_are_too_long(tmp_path: Path) -> None:
    """When no sample fits into a row, the run ends with the reason and the setting."""
    with pytest.raises(DatasetInvalid, match=r"None of the 12 samples can be trained: too long \(12\)"):
        train(tiny_plan(tmp_path, row_tokens=32), Watched())


def _anew(plan: TrainingPlan) -> TrainingPlan:
    return plan


def _resumed(plan: TrainingPlan) -> TrainingPlan:
    return plan.model_copy(update={"resume": True})


def _elsewhere(plan: TrainingPlan) -> TrainingPlan:
    return plan.model_copy(update={"run": plan.run / "nothing", "resume": True})


def _another_recipe(plan: TrainingPlan) -> TrainingPlan:
    return plan.model_copy(update={"recipe": tiny_recipe(Path(plan.recipe.model), epochs=9), "resume": True})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_anew, "is not empty"),
        (_resumed, "is finished"),
        (_another_recipe, "another recipe"),
        (_elsewhere, "no plan"),
    ],
)
def test_a_folder_that_cannot_be_used(finished: TrainingPlan, change: Callable[[TrainingPlan], TrainingPlan], reason: str) -> None:
    """A run never overwrites another one, and does not go on from what is not its own."""
    with pytest.raises(FinetuneError, match=reason):
        begin(change(finished))


def test_a_plan_is_read_back(finished: TrainingPlan) -> None:
    """The file that starts a run on several devices holds the whole plan."""
    assert read_plan(finished.run / "plan.json") == finished
