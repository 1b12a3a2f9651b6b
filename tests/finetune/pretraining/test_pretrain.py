"""Whole runs: what was promised is in the folder, what is saved is what was measured, and engines say what transformers says."""

import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
import transformers

from dialogue.engine.base import GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.local.seq2seq import Seq2SeqEngine, Seq2SeqSettings
from dialogue.engine.local.seq2seq_codec import Seq2SeqCodec
from dialogue.engine.local.seq2seq_files import TARGET_FOLDER, describe_seq2seq
from dialogue.tokenizer import Tokenizer
from finetune.errors import FinetuneError, RecipeInvalid, TrainingFailed
from finetune.pretraining.config import PretrainRecipe, load_pretrain_recipe
from finetune.pretraining.learners import read_corpus
from finetune.pretraining.models import PAD_ID
from finetune.pretraining.outcome import read_manifest
from finetune.pretraining.pair_objective import PairObjective
from finetune.pretraining.pretrain import check_reached, pretrain
from finetune.pretraining.rows import document_rows, pair_rows
from finetune.training.objective import DecoderObjective
from finetune.training.packing import pack_rows
from tests.fakes.llama_server import llama_server
from tests.finetune.pretraining.recipes import PAIRS, TRAIN, Silence, run, write_corpus, write_pairs, write_recipe
from tests.sizes import record_proof, size

TINY = Path(__file__).parents[3] / "finetune" / "recipes" / "tiny.toml"


def test_from_scratch(small_run: Path) -> None:
    """A decoder from scratch beats what can be known without context, and its folder holds what was promised."""
    manifest = read_manifest(small_run)
    assert manifest.held_out_loss < manifest.goal <= manifest.corpus_unigram_entropy
    assert manifest.held_out_loss < manifest.loss_before
    names = {path.name for path in small_run.iterdir()}
    assert names == {"plan.json", "checkpoints", "metrics.jsonl", "learning_curve.png", "model", "model.gguf", "pretrain.json"}
    card = (small_run / "model" / "README.md").read_text(encoding="utf-8")
    assert "CC0-1.0" in card
    assert f"{manifest.held_out_loss:.4f}" in card


def test_what_is_saved_is_what_was_measured(small_run: Path) -> None:
    """The held-out loss of the saved model, computed anew from its folder, is the one in the manifest."""
    manifest = read_manifest(small_run)
    assert measured_again(manifest.recipe, small_run / "model") == pytest.approx(manifest.held_out_loss, rel=1e-5)


def test_llama_cpp_says_what_transformers_says(small_run: Path) -> None:
    """Greedy ids of llama.cpp on the float32 GGUF file are those of transformers on the folder."""
    tokenizer = Tokenizer.load(small_run / "model" / "tokenizer.json")
    prompts = [[0, *tokenizer.encode(text)] for text in ("Page 7\n", "order parcel", "please write 12 你好", "Zoë’s «?»")]
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(small_run / "model").eval()
    theirs = [greedy(model, prompt) for prompt in prompts]
    with llama_server(small_run / "model.gguf", context=64) as server:
        headers = {"Authorization": f"Bearer {server.api_key}", "Connection": "close"}
        body = {"n_predict": 24, "temperature": 0, "cache_prompt": False, "return_tokens": True}
        ours = [
            httpx2.post(f"{server.url}/completion", json={**body, "prompt": prompt}, headers=headers, timeout=60)
            .raise_for_status()
            .json()["tokens"]
            for prompt in prompts
        ]
    assert ours == theirs
    assert len({tuple(each) for each in ours}) > 1, "the prompts make no difference"


def test_encoder_decoder(tmp_path: Path) -> None:
    """An encoder–decoder with two vocabularies learns pairs; the saved folder writes targets by the vocabulary of targets."""
    corpus = write_pairs(tmp_path)
    recipe = load_pretrain_recipe(write_recipe(tmp_path, corpus, PAIRS, TRAIN.replace("max_steps = 48", "max_steps = 60")))
    manifest = run(recipe, tmp_path / "run")
    check_reached(manifest)
    folder = tmp_path / "run" / "model"
    assert manifest.vocabularies == (300, 280)
    assert measured_again(recipe, folder) == pytest.approx(manifest.held_out_loss, rel=1e-5)
    model: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    assert (model.config.vocab_size, model.config.decoder_vocab_size) == (300, 280)
    assert model.config.max_position_embeddings == 48
    loaded: list[Any] = [transformers.AutoTokenizer.from_pretrained(place) for place in (folder, folder / TARGET_FOLDER)]
    source, target = loaded
    assert (source.model_max_length, target.model_max_length, model.generation_config.max_length) == (40, 48, 48)
    written = model.generate(**source("3 order parcel", return_tensors="pt"))
    text = target.decode(written[0], skip_special_tokens=True)
    assert text == text.upper()
    assert text


@pytest.mark.parametrize("vocabularies", [1, 2])
async def test_the_engine_for_encoder_decoders_says_what_transformers_says(tmp_path: Path, vocabularies: int) -> None:
    """An encoder–decoder is served as it lies there: prompt ids and greedy text are those of transformers, by one vocabulary or two."""
    sizes = PAIRS.replace("target_vocabulary = 280\n", "") if vocabularies == 1 else PAIRS
    run(write_recipe(tmp_path, write_pairs(tmp_path), sizes, TRAIN.replace("max_steps = 48", "max_steps = 30")), tmp_path / "run")
    folder = tmp_path / "run" / "model"
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    model: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    batch = tokenizer("3 order parcel", return_tensors="pt")
    own = folder / TARGET_FOLDER
    writer: Any = transformers.AutoTokenizer.from_pretrained(own if own.is_dir() else folder)
    expected = writer.decode(model.generate(**batch, max_new_tokens=20)[0], skip_special_tokens=True)
    task = Seq2SeqCodec(folder).translate("3 order parcel", "en", "de")
    assert list(task.ids) == batch["input_ids"][0].tolist()
    files = describe_seq2seq("small", folder)
    engine = Seq2SeqEngine(Seq2SeqSettings(folder, "small", files.sha256, files.context_tokens, slots=1, threads=1))
    try:
        await engine.start()
        sampling = SamplingParams(max_tokens=20, temperature=0, repetition_penalty=1)
        request = GenerationRequest("r", task.ids, sampling, decoder_prompt=task.decoder_ids)
        said = "".join([event.text async for event in engine.generate(request) if isinstance(event, TextDelta)])
    finally:
        await engine.close()
    assert said == expected
    assert said


@pytest.mark.parametrize("full", [True, False], ids=["full", "lora"])
def test_continued(small_run: Path, tmp_path: Path, full: bool) -> None:
    """Going on with a model on new documents lowers its loss on them, trained whole or by a LoRA that is merged in the end."""
    train = (
        TRAIN.replace("max_steps = 48", "max_steps = 16").replace("learning_rate = 0.01", "learning_rate = 0.003")
        + f"full = {str(full).lower()}\n"
    )
    texts = tmp_path / "handbook.txt"
    texts.write_text(
        "".join(f"Rule {number}: a parcel without an invoice goes back to the shop.\n" for number in range(60)), encoding="utf-8"
    )
    recipe = load_pretrain_recipe(write_recipe(tmp_path, texts, train, head=f'base = "{small_run / "model"}"'))
    manifest = run(recipe, tmp_path / "run")
    check_reached(manifest)
    assert manifest.goal == manifest.loss_before
    folder = tmp_path / "run" / "model"
    assert measured_again(recipe, small_run / "model") == pytest.approx(manifest.loss_before, rel=1e-5)
    assert measured_again(recipe, folder) == pytest.approx(manifest.held_out_loss, rel=1e-4)
    assert (folder / "tokenizer.json").read_bytes() == (small_run / "model" / "tokenizer.json").read_bytes()
    assert (manifest.trained_weights < manifest.weights) == (not full)
    assert (tmp_path / "run" / "model.gguf").is_file()


def test_rows_longer_than_the_base(small_run: Path, tmp_path: Path) -> None:
    """Rows that are longer than the positions of the base are refused with the key to change."""
    corpus = write_corpus(tmp_path, count=4)
    path = write_recipe(tmp_path, corpus, TRAIN.replace("row_tokens = 64", "row_tokens = 65"), head=f'base = "{small_run / "model"}"')
    with pytest.raises(RecipeInvalid, match=r"train\.row_tokens: 65 tokens are more than the base's 64 positions"):
        run(path, tmp_path / "run")


class InterruptedAt(Silence):
    """Presses Ctrl-C in one step."""

    def __init__(self, number: int) -> None:
        self._number = number

    def step(self, done: int, total: int, loss: float, tokens_per_s: float) -> None:
        if done == self._number:
            signal.raise_signal(signal.SIGINT)


def test_resume(small_run: Path, tmp_path: Path) -> None:
    """A run that Ctrl-C stopped has no model; resumed it ends with the loss of the unbroken run. Another recipe cannot go on with it."""
    unbroken = read_manifest(small_run)
    folder = tmp_path / "run"
    assert pretrain(unbroken.recipe, folder, tmp_path, InterruptedAt(13)) is None
    assert not (folder / "model" / "model.safetensors").exists()
    with pytest.raises(FinetuneError, match="is no finished pretraining"):
        read_manifest(folder)
    with pytest.raises(FinetuneError, match="is not empty"):
        run(unbroken.recipe, folder)
    with pytest.raises(FinetuneError, match="begun with another recipe or corpus"):
        run(unbroken.recipe.model_copy(update={"seed": 99}), folder, resume=True)
    resumed = run(unbroken.recipe, folder, resume=True)
    assert resumed.steps == unbroken.steps
    assert resumed.held_out_loss == pytest.approx(unbroken.held_out_loss, rel=1e-5)
    with pytest.raises(FinetuneError, match="is finished"):
        run(unbroken.recipe, folder, resume=True)


def test_a_goal_that_is_missed(small_run: Path) -> None:
    """A loss that is not below the goal is a failure that says both and what to change."""
    manifest = read_manifest(small_run)
    check_reached(manifest)
    with pytest.raises(TrainingFailed, match="did not fall below") as caught:
        check_reached(manifest.model_copy(update={"held_out_loss": manifest.goal}))
    assert "train.epochs" in caught.value.hint


def test_tiny(tmp_path: Path) -> None:
    """The recipe tiny.toml reaches its goal: as it stands under `make proof`, with a smaller model and fewer steps elsewhere."""
    recipe = load_pretrain_recipe(TINY)
    if size("pretrain_tiny_whole", small=0, proof=1) == 0:
        sizes = {"layers": 1, "d_model": 64, "feed_forward": 128}
        assert recipe.decoder is not None
        recipe = recipe.model_copy(
            update={
                "decoder": recipe.decoder.model_copy(update=sizes),
                "train": recipe.train.model_copy(update={"max_steps": 40, "learning_rate": 0.01, "evaluate_every": 40}),
            }
        )
    manifest = run(recipe, tmp_path / "run")
    check_reached(manifest)
    losses = f"held-out loss {manifest.held_out_loss:.3f}, unigram entropy {manifest.corpus_unigram_entropy:.3f} nats per token"
    record_proof("pretrain_tiny_whole", seed=recipe.seed, size=manifest.steps, result=f"{losses}, {manifest.seconds:.0f} s")


def greedy(model: Any, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    with torch.no_grad():
        whole = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
    return whole[0, len(prompt) :].tolist()


def measured_again(recipe: PretrainRecipe, folder: Path) -> float:
    """Return the held-out loss of a recipe's corpus for the model in a folder, in nats per token."""
    corpus = read_corpus(recipe)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    if recipe.encoder_decoder is None:
        objective: Any = DecoderObjective()
        examples: Any = pack_rows(document_rows(corpus.valid, tokenizer, recipe.train.row_tokens), recipe.train.row_tokens)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder)
    else:
        objective = PairObjective(pad=PAD_ID, start=PAD_ID)
        target = Tokenizer.load(folder / TARGET_FOLDER / "tokenizer.json")
        examples = pair_rows(corpus.valid, (tokenizer, target), recipe.encoder_decoder)
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    batches = [objective.collate([example]) for example in examples]
    with torch.no_grad():
        total = sum(float(objective.loss(model.eval(), batch)) for batch in batches)
    return total / sum(objective.trained_tokens(batch) for batch in batches)
