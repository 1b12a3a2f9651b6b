"""Preparation from end to end: every row is accounted for, nothing personal is written, nothing leaks."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dialogue.chat_template import ChatTemplate
from dialogue.config import DialogueConfig
from finetune.dataset import SPLITS, read_dropped, read_split
from finetune.errors import DataInvalid, FinetuneError, RecipeInvalid
from finetune.prepare import Prepared, prepare
from finetune.rendering import RowRenderer, build_renderer
from finetune.samples import Kind, Sample, decode_sample
from finetune.sources.own_turns import OwnTurns
from finetune.sources.rows import Row
from tests.fakes.tiny_tokenizers import template_source, tiny_tokenizer
from tests.finetune.making import faq, recipe, write_lines


def renderer(row_tokens: int) -> RowRenderer:
    """Return what measures rows of a tiny model."""
    tokenizer = tiny_tokenizer("smollm").load()
    return build_renderer(ChatTemplate(template_source("chatml"), tokenizer), tokenizer, DialogueConfig(), row_tokens)


def samples_of(prepared: Prepared, *splits: str) -> list[Sample]:
    """Return the samples of the named splits, of all without a name."""
    return [decode_sample(line) for split in splits or SPLITS for line in prepared.content.files[f"{split}"].decode().split("\n")[:-1]]


def faq_file(folder: Path, count: int = 40, extra: Sequence[object] = ()) -> Path:
    return write_lines(folder / "faq.jsonl", [*(faq(number) for number in range(count)), *extra])


TASKS = {"question": "instruction", "input": "instances.input", "answer": "instances.output"}
EVERYTHING: list[dict[str, Any]] = [
    {"path": "star.jsonl"},
    {"path": "sgd.jsonl"},
    {"path": "crosswoz.jsonl"},
    {"path": "bcontrast.json", "fields": {"user_content": "target", "assistant_content": "source"}},
    {"path": "bitext.jsonl", "map": "pairs", "fields": {"question": "input", "answer": "output"}},
    {"path": "tau_bench.jsonl", "map": "transcript"},
    {"path": "chatterbot.jsonl"},
    {"path": "mts_dialog.csv", "map": "summary", "fields": {"document": "dialogue", "summary": "section_text"}},
    {"path": "scitldr.jsonl", "map": "summary"},
    {"path": "csl.jsonl", "map": "summary", "language": "zh"},
    {"path": "tatoeba.tsv", "map": "translation", "fields": {"source": "1", "target": "2", "direction": "=en>de"}},
    {"path": "ntrex.jsonl", "map": "translation", "fields": {"source": "en", "target": "fr", "direction": "=en>fr", "group": "doc"}},
    {"path": "e2e.csv", "map": "writing"},
    {
        "path": "self_instruct.jsonl",
        "map": "pairs",
        "fields": {"question": "instruction", "input": "instances.input", "answer": "instances.output"},
    },
    {"path": "login_gov.jsonl", "map": "articles"},
    {"path": "login_gov_pages", "map": "articles", "language": ""},
]


def test_every_kind_of_source_in_one_dataset(tmp_path: Path) -> None:
    """Sixteen public sources become one dataset: ids are unique, groups stay together, and every row is accounted for."""
    prepared = prepare(recipe(*EVERYTHING), None)
    prepared.write(tmp_path / "d")
    samples = samples_of(prepared)
    assert {sample.kind for sample in samples} >= {Kind.DIALOGUE, Kind.ANSWER, Kind.GROUNDED, Kind.SUMMARY, Kind.TRANSLATION, Kind.WRITING}
    assert len({sample.id for sample in samples}) == len(samples)
    groups = [{sample.group for sample in samples_of(prepared, split)} for split in SPLITS]
    assert sum(map(len, groups)) == len(set().union(*groups))
    for source in prepared.manifest.sources:
        assert source.rows > 0
        assert sum(source.kept.values()) > 0 or source.map == "articles", source
        assert source.files
    by_source = Counter((dropped.source, dropped.reason) for dropped in read_dropped(tmp_path / "d"))
    assert by_source == {(source.name, reason): number for source in prepared.manifest.sources for reason, number in source.dropped.items()}
    chatterbot = prepared.manifest.sources[6]
    assert (chatterbot.rows, chatterbot.dropped["duplicate"], sum(chatterbot.kept.values())) == (1050, 1040, 10)


def test_the_same_again(tmp_path: Path) -> None:
    """Equal sources give an equal version wherever they lie and whenever they are read; another seed gives another one."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    versions = [
        prepare(recipe({"path": "faq.jsonl", "map": "pairs"}, folder=faq_file(tmp_path / name).parent, seed=seed), None).content.version
        for name, seed in (("a", 1), ("b", 1), ("b", 2))
    ]
    assert versions[0] == versions[1] != versions[2]


def test_a_manifest_tells_no_path(tmp_path: Path) -> None:
    """Sources are named by their files and hashes, the recipe stands in it without the place where it lies."""
    faq_file(tmp_path)
    manifest = prepare(recipe({"path": "faq.jsonl", "map": "pairs", "origin": "us"}, folder=tmp_path), None).manifest
    (source,) = manifest.sources
    assert list(source.files) == ["faq.jsonl"]
    assert (source.licence, source.origin, source.rows, source.samples) == ("CC0-1.0", "us", 40, 40)
    assert str(tmp_path) not in manifest.model_dump_json()
    assert manifest.recipe["source"][0]["map"] == "pairs"


BAD = ['{"question": "Why?"', '{"question": "Why?"}', "[1, 2]"]


def test_bad_rows_are_counted(tmp_path: Path) -> None:
    """Rows that cannot be used are skipped and counted by their reason, with the line of each."""
    faq_file(tmp_path, extra=BAD)
    prepared = prepare(recipe({"path": "faq.jsonl", "map": "pairs"}, folder=tmp_path), None)
    assert prepared.manifest.sources[0].dropped == {"broken JSON": 1, "missing column": 2}
    assert [(dropped.file, dropped.line) for dropped in prepared.dropped] == [("faq.jsonl", 41), ("faq.jsonl", 42), ("faq.jsonl", 43)]


@pytest.mark.parametrize(("bad", "reason"), list(zip(BAD, ["broken JSON", "missing column", "missing column"], strict=True)))
def test_strict_stops_at_the_first_bad_row(tmp_path: Path, bad: str, reason: str) -> None:
    """With `strict`, the first row that cannot be used ends the preparation, with file, line and reason."""
    faq_file(tmp_path, extra=[bad])
    with pytest.raises(DataInvalid, match=f"faq.jsonl, line 41: {reason}"):
        prepare(recipe({"path": "faq.jsonl", "map": "pairs"}, folder=tmp_path), None, strict=True)


def test_cleaning_is_not_strictness(tmp_path: Path) -> None:
    """A copy or an unfilled template is dropped with `strict` too: that is what cleaning is for."""
    faq_file(tmp_path, extra=[faq(1), {"question": "Why?", "answer": "Because of {{Reason}}."}])
    prepared = prepare(recipe({"path": "faq.jsonl", "map": "pairs"}, folder=tmp_path), None, strict=True)
    assert prepared.manifest.sources[0].dropped == {"duplicate": 1, "unfilled placeholder": 1}


def test_a_missing_source_is_a_mistake_of_the_recipe(tmp_path: Path) -> None:
    """It is found before anything is read."""
    read: list[str] = []
    faq_file(tmp_path)
    sources = [{"path": "faq.jsonl", "map": "pairs"}, {"path": "gone.jsonl", "map": "pairs"}]
    with pytest.raises(RecipeInvalid, match=r"support.toml: source s2: path: .*gone.jsonl does not exist"):
        prepare(recipe(*sources, folder=tmp_path), None, name="support.toml", watch=lambda source, _: read.append(source))
    assert read == []


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    """A preparation that would give an empty training split says why."""
    write_lines(tmp_path / "faq.jsonl", [{"q": "x"}])
    with pytest.raises(FinetuneError, match="missing column"):
        prepare(recipe({"path": "faq.jsonl", "map": "pairs"}, folder=tmp_path), None)


def test_personal_data_is_nowhere(tmp_path: Path) -> None:
    """No file of a dataset holds what was replaced: not the samples, not the manifest, not the list of what was dropped."""
    secret = "bob.miller@gmail.com"
    rows = [
        {"id": secret, "question": f"I am {secret}, hello?", "answer": "Good to know, thank you very much."},
        {"id": secret, "question": f"I am {secret}, hello?", "answer": "Good to know, thank you very much."},
        {"id": 3, "group": secret, "question": "Who am I?", "answer": f"You are {secret}, are you not?"},
        {"id": 4, "group": secret, "question": f"Broken {secret}?", "answer": ""},
    ]
    faq_file(tmp_path, extra=rows)
    prepare(recipe({"path": "faq.jsonl", "map": "pairs"}, folder=tmp_path), None).write(tmp_path / "d")
    for file in (tmp_path / "d").iterdir():
        assert secret not in file.read_text(encoding="utf-8"), file
    assert any("[EMAIL]" in sample.question for split in SPLITS for sample in read_split(tmp_path / "d", split))


def test_weights_repeat_training_samples(tmp_path: Path) -> None:
    """A source with weight 3 stands three times in the training split, under different ids, and once in the others."""
    faq_file(tmp_path)
    heavy, light = (prepare(recipe({"path": "faq.jsonl", "map": "pairs", "weight": weight}, folder=tmp_path), None) for weight in (3, 1))
    assert len(samples_of(heavy, "train")) == 3 * len(samples_of(light, "train"))
    assert samples_of(heavy, "test", "valid") == samples_of(light, "test", "valid")
    assert len({sample.id for sample in samples_of(heavy)}) == len(samples_of(heavy))
    assert heavy.manifest.sources[0].kept == light.manifest.sources[0].kept


@pytest.mark.parametrize(("section", "filled"), [({"weight": 0}, "test"), ({"split": "test"}, "test"), ({"split": "train"}, "train")])
def test_a_source_can_be_bound_to_a_split(tmp_path: Path, section: dict[str, Any], filled: str) -> None:
    """A source with weight 0, or with a split of its own, is in that split alone."""
    faq_file(tmp_path)
    write_lines(tmp_path / "other.jsonl", [faq(number) for number in range(100, 120)])
    sources = [{"path": "faq.jsonl", "map": "pairs"}, {"path": "other.jsonl", "map": "pairs", **section}]
    kept = prepare(recipe(*sources, folder=tmp_path), None).manifest.sources[1].kept
    assert kept == {**dict.fromkeys(SPLITS, 0), filled: 20}


def test_a_copy_of_the_test_is_not_trained_on(tmp_path: Path) -> None:
    """Where near duplicates may stay, one whose copy is held out still leaves training, and the manifest tells."""
    faq_file(tmp_path)
    nearly = [{**faq(number), "answer": f"{faq(number)['answer']} Really."} for number in range(5)]
    write_lines(tmp_path / "other.jsonl", nearly)
    sources = [{"path": "faq.jsonl", "map": "pairs"}, {"path": "other.jsonl", "map": "pairs", "split": "test"}]
    made = recipe(*sources, folder=tmp_path, clean={"near_duplicates": 0})
    prepared = prepare(made, None)
    trained = {sample.question for sample in samples_of(prepared, "train")}
    assert not trained & {row["question"] for row in nearly}
    assert sum(prepared.manifest.leaks.values()) >= 1
    assert prepared.manifest.sources[0].dropped["in a held-out split too"] >= 1


def test_at_most_so_many(tmp_path: Path) -> None:
    """`max_samples` takes that many, the same ones at every run, and counts the others."""
    faq_file(tmp_path)
    made = recipe({"path": "faq.jsonl", "map": "pairs", "max_samples": 10}, folder=tmp_path)
    once, again = prepare(made, None), prepare(made, None)
    assert len(samples_of(once)) == 10
    assert once.content == again.content
    assert once.manifest.sources[0].dropped == {"more than max_samples": 30}


def articles(count: int) -> list[dict[str, str]]:
    return [
        {
            "article": f"help/{faq(number)['question'][-20:-9]}{number // 2}",
            "title": f"Machine {number // 2}",
            "heading": faq(number)["question"],
            "text": f"{faq(number)['answer']} Ask for number {number} at the desk, which is open from nine to five on working days.",
        }
        for number in range(count)
    ]


def test_no_article_is_trained_on_and_asked(tmp_path: Path) -> None:
    """Neither an article of the test nor a passage of one stands in a training prompt."""
    write_lines(tmp_path / "help.jsonl", articles(60))
    made = recipe({"path": "help.jsonl", "map": "articles"}, folder=tmp_path, split={"test": 0.3, "valid": 0.1})
    prepared = prepare(made, None)
    shown = [{passage.source for sample in samples_of(prepared, split) for passage in sample.passages} for split in SPLITS]
    assert all(shown)
    assert sum(map(len, shown)) == len(set().union(*shown))


def test_rows_fit_the_model(tmp_path: Path) -> None:
    """What is written can be rendered: long dialogues are cut at turns, and what cannot fit is dropped and counted."""
    turns = [{"role": ("user", "assistant")[number % 2], "content": f"Sentence number {number} of a long talk."} for number in range(60)]
    faq_file(tmp_path)
    write_lines(tmp_path / "long.jsonl", [{"id": "long", "messages": turns}])
    write_lines(tmp_path / "huge.jsonl", [{"question": "word " * 2000, "answer": "That is a long question."}])
    sources = [
        {"path": "faq.jsonl", "map": "pairs"},
        {"path": "long.jsonl", "split": "train"},
        {"path": "huge.jsonl", "map": "pairs", "split": "train"},
    ]
    measured = renderer(1500)
    prepared = prepare(recipe(*sources, folder=tmp_path), measured)
    pieces = [sample for sample in samples_of(prepared, "train") if sample.source == "s2"]
    assert len(pieces) > 1
    assert [turn for piece in pieces for turn in piece.turns][:2] == [*pieces[0].turns[:2]]
    assert prepared.manifest.sources[1].changed == {"cut into pieces that fit a row": 1}
    assert prepared.manifest.sources[2].dropped == {"too long for a row": 1}
    for sample in samples_of(prepared):
        assert all(len(row.ids) <= 1500 for row in measured.rows(sample))


def test_held_out_questions_are_asked_once(tmp_path: Path) -> None:
    """Several right texts for the same facts are references of one held-out sample; in training each is a sample."""
    prepared = prepare(recipe({"path": "e2e.csv", "map": "writing", "split": "test"}, {"path": "chatterbot.jsonl"}), None)
    (asked,) = [sample for sample in samples_of(prepared, "test") if sample.source == "s1"]
    assert len(asked.references) >= 1
    trained = prepare(recipe({"path": "e2e.csv", "map": "writing", "split": "train"}), None)
    assert len(samples_of(trained, "train")) == 1 + len(asked.references)


def test_own_turns_become_samples() -> None:
    """Turns of the database are cleaned like any others, and what was left out of them is counted."""
    rows: list[Row] = []
    for number in range(30):
        said = [*faq(number).values()]
        rows.append(Row("database", number, {"id": f"c{number}", "group": f"u{number % 10}", "messages": said}, str(number)))
    own = OwnTurns(rows, ["called bad and not corrected"])
    prepared = prepare(recipe({"map": "own_turns"}), None, own=own)
    (source,) = prepared.manifest.sources
    assert (source.rows, source.samples, source.files, source.dropped) == (30, 30, {}, {"called bad and not corrected": 1})
    for split in SPLITS:
        others = {sample.group for other in SPLITS if other != split for sample in samples_of(prepared, other)}
        assert not others & {sample.group for sample in samples_of(prepared, split)}


ROW = st.one_of(
    st.builds(faq, st.integers(0, 30)),
    st.fixed_dictionaries({"question": st.sampled_from(["Hi?", "<b>Hi?</b>", "", "{{x}}"]), "answer": st.text(max_size=20)}),
    st.sampled_from(["broken", "[]", '{"question": "x"}', ""]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(ROW, max_size=20))
def test_every_row_is_accounted_for(tmp_path: Path, rows: list[object]) -> None:
    """Whatever stands in a file, each of its rows is in the dataset or dropped for a reason, once."""
    write_lines(tmp_path / "faq.jsonl", [*rows, faq(31), faq(32)])
    (source,) = prepare(recipe({"path": "faq.jsonl", "map": "pairs"}, folder=tmp_path), None).manifest.sources
    assert source.rows == sum(row != "" for row in rows) + 2
    assert source.rows == sum(source.kept.values()) + sum(source.dropped.values())
