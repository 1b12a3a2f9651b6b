"""LoRA on encoder–decoders: what is trained is what is served, and it is learned."""

from pathlib import Path

import pytest
import torch

from dialogue.engine.base import AdapterRef, GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.local.seq2seq import Seq2SeqEngine, Seq2SeqSettings
from dialogue.engine.local.seq2seq_adapter import load_seq2seq_adapter, merged, seq2seq_facts
from dialogue.engine.local.seq2seq_codec import Seq2SeqCodec
from dialogue.engine.local.seq2seq_files import describe_seq2seq
from dialogue.engine.local.seq2seq_model import load_weights
from dialogue.errors import AdapterRejected
from dialogue.skills.translate import TranslateSkill
from dialogue.task_prompt import TaskPromptBuilder
from finetune.errors import FinetuneError
from finetune.rendering import Unrenderable, skill_input
from finetune.samples import Sample
from finetune.training.architectures import run_plan
from finetune.training.lora import attach_trained
from finetune.training.merge import base_of
from finetune.training.run_folder import read_run
from finetune.training.seq2seq_examples import Pair, bucketed
from finetune.training.seq2seq_objective import Seq2SeqObjective
from finetune.training.seq2seq_train import build_pair_renderer
from tests.fakes.tiny_seq2seq import FAMILIES
from tests.finetune.training.tiny import Watched
from tests.finetune.training.tiny_pairs import pair_plan, pair_sample

GREEDY = SamplingParams(max_tokens=16, temperature=0, repetition_penalty=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_are_what_the_chat_sends(family: str, tmp_path: Path) -> None:
    """Encoder ids and beginning of each pair are those of the skill's own prompt, and the labels are the reply and its end alone."""
    plan = pair_plan(tmp_path, family)
    codec = Seq2SeqCodec(tmp_path / "model", any_pair=True)
    pair = build_pair_renderer(codec, plan.recipe).pair(pair_sample(3))
    chat = TranslateSkill(plan.recipe.dialogue_config()).plan(skill_input(pair_sample(3)))
    prompt = TaskPromptBuilder(codec, 512).build(chat)  # pyrefly: ignore[bad-argument-type] - no refusal
    assert (pair.source, pair.beginning) == (prompt.ids, prompt.decoder_ids)
    batch = Seq2SeqObjective().collate([(pair,)])
    learned = [token for token in batch["labels"][0].tolist() if token >= 0]
    assert tuple(learned) == pair.reply
    assert codec.decode(learned).split() == pair_sample(3).answer.split()
    assert Seq2SeqObjective().trained_tokens(batch) == len(pair.reply)


def test_padding_teaches_nothing(tmp_path: Path) -> None:
    """The loss of a padded batch is the sum of the losses of its pairs alone."""
    plan = pair_plan(tmp_path, "t5")
    renderer = build_pair_renderer(Seq2SeqCodec(tmp_path / "model", any_pair=True), plan.recipe)
    pairs = [renderer.pair(pair_sample(number)) for number in (0, 7, 13)]
    model, objective = load_weights(tmp_path / "model", torch.device("cpu"), torch.float32), Seq2SeqObjective()
    with torch.no_grad():
        together = objective.loss(model, objective.collate([tuple(pairs)]))
        alone = sum(objective.loss(model, objective.collate([(pair,)])) for pair in pairs)
    assert together.item() == pytest.approx(float(alone), rel=1e-4)


def test_buckets_hold_pairs_of_like_length() -> None:
    """No bucket is wider than allowed unless one pair is, and every pair is in exactly one."""
    pairs = [Pair((5,) * length, (0,), (6,) * (length % 7 + 1)) for length in (3, 40, 5, 9, 33, 4, 90, 6)]
    buckets = bucketed(pairs, 64)
    assert sorted(pair.tokens for bucket in buckets for pair in bucket) == sorted(pair.tokens for pair in pairs)
    assert all(len(bucket) == 1 or len(bucket) * max(pair.tokens for pair in bucket) <= 64 for bucket in buckets)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (pair_sample(1, skill="chat"), "no task"),
        (pair_sample(1, question="en>de " + "order " * 200), "too long"),
        (pair_sample(1, question="la>de x"), "know"),
    ],
)
def test_what_cannot_be_learned_is_counted(sample: Sample, reason: str, tmp_path: Path) -> None:
    """Chats, texts that are too long and languages without a code have no pair, each with a reason."""
    plan = pair_plan(tmp_path, "nllb")
    with pytest.raises(Unrenderable, match=reason):
        build_pair_renderer(Seq2SeqCodec(tmp_path / "model", any_pair=True), plan.recipe).pair(sample)


async def test_a_run_learns_and_its_adapter_is_served(tmp_path: Path) -> None:
    """The loss of twenty pairs falls, and the engine says with the adapter what PEFT says with it, token for token; it is no GGUF."""
    plan = pair_plan(tmp_path, "t5", epochs=12, lora={"r": 16, "alpha": 32})
    display = Watched()
    outcome = run_plan(plan, display)
    assert sum(display.losses[-5:]) < 0.6 * sum(display.losses[:5])
    manifest = read_run(plan.run)
    assert manifest.result.steps == outcome.steps
    with pytest.raises(FinetuneError, match="encoder–decoder"):
        base_of(manifest, tmp_path / "cache")
    files = describe_seq2seq("tiny", tmp_path / "model")
    codec = Seq2SeqCodec(tmp_path / "model", any_pair=True)
    trained = attach_trained(load_weights(files.path, torch.device("cpu"), torch.float32), plan.adapter)
    engine = Seq2SeqEngine(Seq2SeqSettings(files.path, "tiny", files.sha256, 512, 2, 1))
    await engine.set_adapters([AdapterRef("tiny", str(plan.adapter))])
    try:
        await engine.start()
        for number in (2, 7, 22):
            pair = build_pair_renderer(codec, plan.recipe).pair(pair_sample(number))
            request = GenerationRequest("r", pair.source, GREEDY, adapter="tiny", decoder_prompt=pair.beginning)
            texts = [event.text async for event in engine.generate(request) if isinstance(event, TextDelta)]
            ids = trained.generate(input_ids=torch.tensor([pair.source]), max_new_tokens=GREEDY.max_tokens, do_sample=False, num_beams=1)
            assert "".join(texts) == codec.decode(ids[0].tolist())
    finally:
        await engine.close()


def test_merged_is_unmerged(tmp_path: Path) -> None:
    """Logits of the merged copy are those of PEFT's own layers over the base; another base is refused."""
    plan = pair_plan(tmp_path, "marian", max_steps=2)
    run_plan(plan, Watched())
    files = describe_seq2seq("tiny", tmp_path / "model")
    codec = Seq2SeqCodec(tmp_path / "model", any_pair=True)
    base = load_weights(files.path, torch.device("cpu"), torch.float32)
    facts = seq2seq_facts(files.architecture, files.sha256, codec.sha256, codec.layout_sha256)
    ours = merged(base, load_seq2seq_adapter(plan.adapter, base, facts), 1.0)
    theirs = attach_trained(load_weights(files.path, torch.device("cpu"), torch.float32), plan.adapter)
    batch = {"input_ids": torch.tensor([[5, 6, 7, 0]]), "decoder_input_ids": torch.tensor([[95, 5, 6]])}
    with torch.no_grad():
        torch.testing.assert_close(ours(**batch).logits, theirs(**batch).logits, rtol=1e-3, atol=1e-3)
    with pytest.raises(AdapterRejected, match="another base"):
        load_seq2seq_adapter(plan.adapter, base, seq2seq_facts(files.architecture, "0" * 64, codec.sha256, codec.layout_sha256))
