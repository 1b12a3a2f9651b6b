"""Encoder–decoders: equal to transformers' own generation, whatever the family; languages in, ids out; folders that are refused."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from dialogue.engine.base import GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.local.seq2seq import Seq2SeqEngine, Seq2SeqSettings
from dialogue.engine.local.seq2seq_adapter import load_seq2seq_adapter, seq2seq_facts
from dialogue.engine.local.seq2seq_codec import EncodedTask, Seq2SeqCodec
from dialogue.engine.local.seq2seq_files import describe_seq2seq
from dialogue.engine.local.seq2seq_model import Batch, Seq2SeqModel, load_weights
from dialogue.errors import AdapterRejected, EngineError, EngineUnavailable, ModelError, RequestTooLong, TaskUnsupported
from tests.fakes.tiny_seq2seq import FAMILIES, write_tiny, write_tiny_adapter

TEXTS = ("Where is my parcel?", "Hello world, the order was sent", "Monday")
NEW_TOKENS = 16
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Seq2SeqCodec, Seq2SeqModel]:
    folder = write_tiny(request.param, tmp_path_factory.mktemp(request.param))
    return Seq2SeqCodec(folder), Seq2SeqModel(load_weights(folder, CPU, torch.float32))


def greedy(model: Seq2SeqModel, tasks: list[EncodedTask]) -> list[list[int]]:
    """Make greedy replies in one batch, the end token included."""
    batch = model.begin([task.ids for task in tasks], [task.decoder_ids for task in tasks])
    replies: list[list[int]] = [[] for _ in tasks]
    rows = list(range(len(tasks)))
    for _ in range(NEW_TOKENS):
        tokens = batch.logits().argmax(-1).tolist()
        for row, token in zip(rows, tokens, strict=True):
            replies[row].append(token)
        kept = [place for place, token in enumerate(tokens) if token not in model.eos_ids]
        rows = [rows[place] for place in kept]
        if not rows:
            break
        batch.feed(kept, [tokens[place] for place in kept])
    return replies


def test_greedy_is_what_transformers_generates(tiny: tuple[Seq2SeqCodec, Seq2SeqModel]) -> None:
    """In float32 the ids of each reply are those of generate() with the family's own way to name the target language."""
    codec, model = tiny
    tasks = [codec.translate(text, "en", "de") for text in TEXTS]
    for task, reply in zip(tasks, greedy(model, tasks), strict=True):
        start, *forced = task.decoder_ids
        made = model.model.generate(
            input_ids=torch.tensor([task.ids]),
            decoder_start_token_id=start,
            forced_bos_token_id=forced[0] if forced else None,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            num_beams=1,
        )[0].tolist()[len(task.decoder_ids) :]
        assert reply[: len(made)] == made


def test_a_batch_changes_no_reply(tiny: tuple[Seq2SeqCodec, Seq2SeqModel]) -> None:
    """Texts of different length in one padded batch get the replies that they get alone, also when others end before."""
    codec, model = tiny
    tasks = [codec.translate(text, "en", "de") for text in TEXTS]
    assert greedy(model, tasks) == [greedy(model, [task])[0] for task in tasks]


def test_no_text_forges_a_control_token(tiny: tuple[Seq2SeqCodec, Seq2SeqModel]) -> None:
    """Whatever a person writes, no end token, language code or other control token comes out of it, and around it nothing changes."""
    codec, _ = tiny
    plain = codec.translate("x", "en", "de")
    for text in ("a</s>b", "<pad>", ">>fra<< salut", "deu_Latn", "__fr__", "de_DE", "＜/s＞", "<mask><s>"):
        ids = codec.encode(text)
        assert codec.find("</s>") not in ids
        assert set(ids).isdisjoint({codec.pad_id, *plain.decoder_ids})
        assert codec.translate(text, "en", "de").decoder_ids == plain.decoder_ids


@pytest.mark.parametrize(
    ("family", "before", "after", "decoder"),
    [
        ("t5", (), ("</s>",), ("<pad>",)),
        ("mbart", (), ("</s>", "en_XX"), ("de_DE",)),
        ("mbart50", ("en_XX",), ("</s>",), ("</s>", "de_DE")),
        ("marian", (">>deu<<",), ("</s>",), ("<pad>",)),
        ("nllb", ("eng_Latn",), ("</s>",), ("</s>", "deu_Latn")),
        ("m2m", ("__en__",), ("</s>",), ("</s>", "__de__")),
    ],
)
def test_layout_of_each_family(
    family: str, before: tuple[str, ...], after: tuple[str, ...], decoder: tuple[str, ...], tmp_path: Path
) -> None:
    """Each family's codes stand where its makers put them."""
    codec = Seq2SeqCodec(write_tiny(family, tmp_path))
    task = codec.translate("order", "en", "de")
    assert task.ids[: len(before)] == tuple(codec.find(token) for token in before)
    assert task.ids[len(task.ids) - len(after) :] == tuple(codec.find(token) for token in after)
    assert task.decoder_ids == tuple(codec.find(token) for token in decoder)


@pytest.mark.parametrize(
    ("family", "source", "target"),
    [("t5", "en", "xx"), ("t5", "", "de"), ("mbart", "en", "eo"), ("marian", "en", "zh"), ("marian", "fr", "de"), ("nllb", "en", "la")],
)
def test_unknown_languages_are_refused_in_words(family: str, source: str, target: str, tmp_path: Path) -> None:
    """A pair that the model does not know is refused, and the sentence names both languages."""
    codec = Seq2SeqCodec(write_tiny(family, tmp_path))
    with pytest.raises(TaskUnsupported, match=f"to {target}"):
        codec.translate("x", source, target)


def test_t5_keeps_to_the_pairs_that_it_names(tmp_path: Path) -> None:
    """A T5 whose configuration lists its tasks is asked for no other pair, unless an adapter may have taught it one."""
    write_tiny("t5", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["task_specific_params"] = {"translation_en_to_de": {"prefix": "translate English to German: "}, "summarization": {}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    codec = Seq2SeqCodec(tmp_path)
    assert codec.translate("x", "en", "de").ids[:-1] == tuple(codec.encode("translate English to German: x"))
    with pytest.raises(TaskUnsupported):
        codec.translate("x", "de", "en")
    assert Seq2SeqCodec(tmp_path, any_pair=True).translate("x", "de", "en").ids


def test_who_summarises(tmp_path: Path) -> None:
    """T5 and mBART summarise; models that only translate say so."""
    assert Seq2SeqCodec(write_tiny("t5", tmp_path / "t5")).summarise("x", "").ids
    assert Seq2SeqCodec(write_tiny("mbart", tmp_path / "mbart")).summarise("x", "de").ids
    for family in ("marian", "nllb"):
        with pytest.raises(TaskUnsupported, match="does not summarise"):
            Seq2SeqCodec(write_tiny(family, tmp_path / family)).summarise("x", "en")


def test_folders_that_are_refused(tmp_path: Path) -> None:
    """Pickled weights, code in the folder, a decoder and an empty folder are refused, each with a sentence."""
    folder = write_tiny("t5", tmp_path / "t5")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="can run code"):
        describe_seq2seq("x", folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for change, words in (
        ({"auto_map": {"AutoConfig": "x.Y"}}, "code of its own"),
        ({"model_type": "llama"}, "none of the encoder–decoders"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
        with pytest.raises(ModelError, match=words):
            describe_seq2seq("x", folder)
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        describe_seq2seq("x", tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"task_type": "CAUSAL_LM"}, {"target_modules": ["no_such_layer"]}, {"target_modules": ["q"]}, {"r": 3}, {"auto_mapping": {}},
        {"modules_to_save": ["lm_head"]}, {"use_dora": True}, {"target_modules": ["../q"]}, {"unknown_key": 1},
    ],
)  # fmt: skip
def test_adapters_that_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    """What is no plain LoRA on exactly the named layers of this model is not loaded."""
    files = describe_seq2seq("x", write_tiny("t5", tmp_path / "model"))
    facts = seq2seq_facts("t5", files.sha256, "", "")
    base = load_weights(files.path, CPU, torch.float32)
    assert load_seq2seq_adapter(write_tiny_adapter(tmp_path / "good", files), base, facts).layers
    with pytest.raises(AdapterRejected):
        load_seq2seq_adapter(write_tiny_adapter(tmp_path / "bad", files, **changes), base, facts)


async def test_each_side_has_its_own_length(tmp_path: Path) -> None:
    """A text longer than the model's positions is refused, a reply ends there, and ids outside the vocabulary reach no batch."""
    files = describe_seq2seq("x", write_tiny("marian", tmp_path))
    engine = Seq2SeqEngine(Seq2SeqSettings(tmp_path, "x", files.sha256, files.context_tokens, 2, 1))
    sampling = SamplingParams(max_tokens=1000, temperature=1.0, ignore_eos=True)
    try:
        await engine.start()
        with pytest.raises(RequestTooLong):
            await anext(engine.generate(GenerationRequest("r", (5,) * 65, sampling)))
        with pytest.raises(EngineError, match="does not know"):
            await anext(engine.generate(GenerationRequest("r", (5, 100_000), sampling)))
        events = [event async for event in engine.generate(GenerationRequest("r", (5,) * 64, sampling))]
        assert getattr(events[-1], "completion_tokens", 0) == 64
    finally:
        await engine.close()


async def test_sampling_is_the_requests_own(tmp_path: Path) -> None:
    """A seed gives the same text alone and among others, and another seed another one."""
    files = describe_seq2seq("x", write_tiny("mbart50", tmp_path))
    codec = Seq2SeqCodec(tmp_path)
    engine = Seq2SeqEngine(Seq2SeqSettings(tmp_path, "x", files.sha256, 128, 4, 1))
    task = codec.translate(TEXTS[0], "en", "de")

    async def text(seed: int) -> str:
        sampling = SamplingParams(max_tokens=24, temperature=1.5, top_k=0, top_p=1, repetition_penalty=1.2, seed=seed, ignore_eos=True)
        request = GenerationRequest("r", task.ids, sampling, decoder_prompt=task.decoder_ids)
        return "".join([event.text async for event in engine.generate(request) if isinstance(event, TextDelta)])

    try:
        await engine.start()
        alone = [await text(seed) for seed in range(3)]
        assert await asyncio.gather(*(text(seed) for seed in range(3))) == alone
        assert len(set(alone)) == 3
    finally:
        await engine.close()


async def test_without_memory_for_a_batch_its_halves_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that find no memory together get the replies of before in smaller batches; one that finds none alone ends."""
    files = describe_seq2seq("x", write_tiny("marian", tmp_path))
    codec, engine = Seq2SeqCodec(tmp_path), Seq2SeqEngine(Seq2SeqSettings(tmp_path, "x", files.sha256, 128, 4, 1))
    real, most, failures = Seq2SeqModel.begin, 4, 0

    async def text(source: str) -> str:
        task = codec.translate(source, "en", "de")
        sampling = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
        request = GenerationRequest("r", task.ids, sampling, decoder_prompt=task.decoder_ids)
        return "".join([event.text async for event in engine.generate(request) if isinstance(event, TextDelta)])

    def scarce(model: Seq2SeqModel, prompts: Sequence[Sequence[int]], beginnings: Sequence[Sequence[int]]) -> Batch:
        nonlocal failures
        if len(prompts) > most:
            failures += 1
            raise torch.OutOfMemoryError("no memory")
        return real(model, prompts, beginnings)

    monkeypatch.setattr(Seq2SeqModel, "begin", scarce)
    try:
        await engine.start()
        alone = [await text(each) for each in TEXTS]
        assert failures == 0
        most = 1
        assert await asyncio.gather(*map(text, TEXTS)) == alone
        assert failures
        most = 0
        with pytest.raises(EngineUnavailable, match="no memory"):
            await text(TEXTS[0])
    finally:
        await engine.close()
