"""The whole way of an encoder–decoder: prepare, train, evaluate, register, agree, merge, serve."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dialogue.config import DialogueConfig
from dialogue.engine.base import AdapterRef, GenerationRequest, TextDelta
from dialogue.engine.local.seq2seq import Seq2SeqEngine, Seq2SeqSettings
from dialogue.engine.local.seq2seq_codec import Seq2SeqCodec
from dialogue.engine.local.seq2seq_files import describe_seq2seq
from dialogue.engine.model_sources import ModelSources
from dialogue.errors import TaskUnsupported
from dialogue.skills.base import PromptPlan, SkillInput
from dialogue.skills.translate import TranslateSkill
from dialogue.task_prompt import TaskPromptBuilder
from finetune.config import EvaluateSection, Recipe
from finetune.errors import FinetuneError
from finetune.evaluation.answers import greedy
from finetune.evaluation.command import Outcome, Request, evaluate_run
from finetune.evaluation.contenders import Contender, Place, line_up
from finetune.evaluation.evaluate import OnProgress
from finetune.evaluation.run_agreement import run_agreement
from finetune.evaluation.seq2seq_losses import Seq2SeqLosses
from finetune.evaluation.seq2seq_scene import fits_seq2seq, load_float
from finetune.evaluation.seq2seq_suites import SEQ2SEQ_SUITES, own_gate
from finetune.evaluation.subject import Terms
from finetune.prepare import prepare
from finetune.training.architectures import run_plan
from finetune.training.export import export_adapter
from finetune.training.merge import merge
from finetune.training.plan import TrainingPlan
from finetune.training.seq2seq_train import build_pair_renderer, find_seq2seq
from storage.database import open_database
from storage.records import ReleaseStatus
from tests.fakes.tiny_seq2seq import write_tiny
from tests.finetune.evaluation.scene import UNTIMED
from tests.finetune.evaluation.tiny_run import tiny_program
from tests.finetune.training.tiny import Watched
from tests.finetune.training.tiny_pairs import COUNT, pair_recipe, pair_sample, pair_texts, write_pair_source

QUIET: OnProgress = lambda *_: None  # noqa: E731 - nobody watches
SPLITS = {"train": [number for number in range(COUNT) if number % 3], "test": range(0, COUNT, 3)}
ENGLISH = tuple(pair_texts(number)[0] for number in (2, 7, 22))


@dataclass(frozen=True)
class Trained:
    """A prepared dataset and the run that was trained on it."""

    place: Path
    recipe: Recipe
    run: Path
    outcome: Outcome


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny T5 that learned some pairs of words, evaluated on others and registered."""
    place = tmp_path_factory.mktemp("seq2seq")
    model = write_tiny("t5", place / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"task_specific_params": {"translation_en_to_fr": {}}}))
    recipe = pair_recipe(
        model,
        evaluate={"bootstrap": 200, "max_reply_tokens": 12, "margins": UNTIMED},
        sources=[_source(place, "train"), _source(place, "test")],
        epochs=4,
        lora={"r": 16, "alpha": 32},
    )
    prepare(recipe, None).write(place / "data")
    plan = TrainingPlan(recipe=recipe, dataset=place / "data", run=place / "run", cache_dir=place / "cache")
    run_plan(plan, Watched())
    request = Request(plan.run, None, None, against_base=False, suites=(), samples=None, register=True)
    return Trained(place, recipe, plan.run, evaluate_run(request, tiny_program(place), ModelSources(), QUIET))


def _source(place: Path, split: str) -> dict[str, object]:
    """Return the source of a recipe whose pairs all go to one split."""
    path = write_pair_source(place / f"{split}.jsonl", SPLITS[split])
    fields = {"direction": "=en>de"}
    return {"name": split, "path": str(path), "map": "translation", "fields": fields, "licence": "CC0-1.0", "split": split}


async def translated(model: Path, adapter: Path | None = None) -> list[str]:
    """Return the greedy translations of ENGLISH by the engine that serves, prompts made as the chat makes them."""
    files = describe_seq2seq("tiny", model)
    engine = Seq2SeqEngine(Seq2SeqSettings(files.path, "tiny", files.sha256, 512, 2, 1))
    await engine.set_adapters([] if adapter is None else [AdapterRef("tiny", str(adapter))])
    try:
        await engine.start()
        builder = TaskPromptBuilder(Seq2SeqCodec(model, any_pair=adapter is not None), 512)
        return [text async for text in _said(engine, builder, None if adapter is None else "tiny")]
    finally:
        await engine.close()


async def _said(engine: Seq2SeqEngine, builder: TaskPromptBuilder, adapter: str | None) -> AsyncIterator[str]:
    for english in ENGLISH:
        plan = TranslateSkill(DialogueConfig()).plan(SkillInput(text=f"en>de {english}", language="en"))
        assert isinstance(plan, PromptPlan)
        prompt = builder.build(plan)
        request = GenerationRequest("r", prompt.ids, greedy(16, 1.0), adapter=adapter, decoder_prompt=prompt.decoder_ids)
        yield "".join([event.text async for event in engine.generate(request) if isinstance(event, TextDelta)])


def test_what_was_learned_passes(trained: Trained) -> None:
    """On pairs that it never saw the adapter beats its base by the loss, which is the main suite without being named."""
    verdict = trained.outcome.verdict
    assert verdict.passed, verdict.reasons
    assert "Translations and summaries, loss (loss per token) is better than the base" in verdict.reasons[0]
    loss = next(each for each in verdict.comparisons if each.suite == "task_loss")
    assert loss.main
    assert loss.candidate < loss.other
    assert {(each.suite, each.model) for each in verdict.scores} == {
        (suite, model) for suite in ("task_loss", "translation", "language", "latency") for model in ("candidate", "base")
    }
    assert verdict.provenance.engine.startswith("seq2seq")
    assert {path.name for path in trained.outcome.folder.iterdir()} == {"verdict.json", "report.html", "answers.jsonl"}


def test_suites_of_chats_are_left_out_with_a_sentence(trained: Trained) -> None:
    """What makes sense for a chat alone is named as not run, and so is a suite without samples."""
    other, empty = trained.outcome.verdict.skipped
    assert other.startswith("Made for another kind of model: Support replies, loss; ")
    assert not any(suite.title in other for suite in SEQ2SEQ_SUITES)
    assert empty == "Summaries: there are no samples for it."


async def test_it_is_registered_as_a_candidate_for_its_skill(trained: Trained) -> None:
    """The release holds the verdict, the base's hash and the one skill that the adapter was trained for."""
    database = await open_database(tiny_program(trained.place).storage)
    try:
        (release,) = await database.read(lambda unit: unit.adapters.list())
    finally:
        await database.close()
    assert (release.status, release.passed, release.skills) == (ReleaseStatus.CANDIDATE, True, ("translate",))
    assert release.base_model_sha256 == describe_seq2seq("", trained.place / "model").sha256
    assert (Path(release.path) / "adapter_model.safetensors").read_bytes() == (
        trained.run / "adapter" / "adapter_model.safetensors"
    ).read_bytes()


def test_serving_says_what_training_says(trained: Trained) -> None:
    """In float32 the engine gives the replies of PEFT's own layers, token by token."""
    terms = Terms(trained.run, None, 6, 12, tiny_program(trained.place).engine, ModelSources())
    (agreement,) = run_agreement(terms, QUIET)
    assert agreement.exact
    assert agreement.holds
    assert agreement.same == agreement.prompts == 6
    assert agreement.tokens >= 12


def test_merged_says_the_same(trained: Trained) -> None:
    """The merged folder is served without an adapter, for the pair that was learned, and says what the adapter says on its base."""
    folder = merge(trained.run, trained.place / "merged", trained.place / "cache")
    said = asyncio.run(translated(folder))
    assert said == asyncio.run(translated(trained.place / "model", trained.run / "adapter"))
    assert all(said)
    with pytest.raises(TaskUnsupported):  # the base says that it knows another pair alone
        asyncio.run(translated(trained.place / "model"))
    with pytest.raises(FinetuneError, match="is there already"):
        merge(trained.run, folder, trained.place / "cache")


def test_no_gguf_is_made_of_it(trained: Trained) -> None:
    """llama.cpp gets no adapter of such a model, and the refusal names what there is instead."""
    with pytest.raises(FinetuneError, match=r"encoder–decoder") as caught:
        export_adapter(trained.run, trained.place / "lora.gguf", trained.place / "cache")
    assert "kefu finetune merge" in caught.value.hint


def test_losses_are_those_of_the_model_alone(trained: Trained) -> None:
    """Without its adapter the meter gives the base's loss, with it another; and again the same when it is taken off."""
    base = find_seq2seq(trained.recipe.model, trained.place / "cache")
    pairs = [build_pair_renderer(base.codec, trained.recipe).pair(pair_sample(number)) for number in (1, 12)]
    candidate, alone = Contender(Place.CANDIDATE, trained.run / "adapter"), Contender(Place.BASE)
    plain = list(Seq2SeqLosses(load_float(base), [alone]).measure(alone, pairs))
    meter = Seq2SeqLosses(load_float(base), [candidate, alone])
    assert list(meter.measure(alone, pairs)) == pytest.approx(plain)
    assert sum(meter.measure(candidate, pairs)) < sum(plain)
    assert list(meter.measure(alone, pairs)) == pytest.approx(plain)


def test_an_adapter_of_another_model_is_refused(trained: Trained, tmp_path: Path) -> None:
    """Before anything is compared an adapter that the engine would not load is refused, with the part that it has."""
    other = find_seq2seq(str(write_tiny("t5", tmp_path / "other", seed=2)), tmp_path / "cache")
    with pytest.raises(FinetuneError, match=r"The candidate .* cannot be evaluated: .*another base model"):
        line_up(trained.run / "adapter", None, fits_seq2seq(other, load_float(other)), "other")


@pytest.mark.parametrize(("main", "gate"), [(None, ("task_loss",)), (("translation",), ("translation",))])
def test_the_gate_of_a_recipe_stays(main: tuple[str, ...] | None, gate: tuple[str, ...]) -> None:
    """A recipe that names no main suite gets the loss of held-out tasks; one that does keeps its own."""
    assert own_gate(EvaluateSection() if main is None else EvaluateSection(main=main)).main == gate
