"""Mappings: real rows of public data become the samples that a person would make of them."""

from pathlib import Path
from typing import Any

import pytest

from dialogue.messages import Role
from finetune.errors import DataInvalid
from finetune.samples import Kind, Sample
from finetune.sources.join import joined
from finetune.sources.mapping import map_article, map_row
from finetune.sources.read import read_rows
from finetune.sources.rows import Row
from tests.finetune.making import DATA, section, write_lines


def samples_of(name: str, **more: Any) -> list[Sample]:
    """Return what a mapping makes of a file."""
    path = DATA / name
    described = section(path, **more)
    return [sample for row in read_rows(path, described) if isinstance(row, Row) for sample in map_row(described, row)]


def mapped(values: dict[str, Any], **more: Any) -> list[Sample]:
    """Return what a mapping makes of one row."""
    return map_row(section(Path("x.jsonl"), **more), Row("x.jsonl", 1, values, "1"))


def said(sample: Sample) -> list[tuple[str, str]]:
    """Return who said what."""
    return [(turn.role.value, turn.content) for turn in sample.turns]


def test_star() -> None:
    """A dialogue of STAR keeps its id and its turns."""
    first = samples_of("star.jsonl")[0]
    assert (first.id, first.kind, first.skill, first.language, first.group) == (
        "s:star-4414",
        Kind.DIALOGUE,
        "support",
        "en",
        "s:star-4414",
    )
    assert said(first)[:2] == [
        ("user", "Hello, can you help me schedule an appointment with Dr. Morgan?"),
        ("assistant", "Could I have your name, please?"),
    ]


def test_sgd_and_crosswoz() -> None:
    """Lists of messages in English and Chinese are read alike; the row's own language counts."""
    english, chinese = samples_of("sgd.jsonl")[0], samples_of("crosswoz.jsonl")[0]
    assert english.question == "Thanks a lot. That's all."
    assert english.answer == "Have a nice day."
    assert chinese.language == "zh"
    assert chinese.turns[0].content.startswith("你好，我想找家人均消费")


def test_bcontrast_as_dialogues() -> None:
    """Where customer and agent are translated, each role has its English side in another column."""
    first = samples_of("bcontrast.json", fields={"user_content": "target", "assistant_content": "source"})[0]
    assert first.id.startswith("s:dlg-")
    assert {turn.role for turn in first.turns} == {Role.ASSISTANT, Role.USER}
    text = " ".join(turn.content for turn in first.turns)
    assert not any(german in text for german in (" ich ", " nicht ", "für"))


def test_bcontrast_as_translations() -> None:
    """Agents are translated into German and customers into English, sentence by sentence."""
    fields = {
        "source": "messages.source",
        "target": "messages.target",
        "direction": "messages.speaker",
        "direction agent": "en>de",
        "direction customer": "de>en",
    }
    found = samples_of("bcontrast.json", map="translation", fields=fields)
    assert {(sample.question[:6], sample.language) for sample in found} == {("en>de ", "de"), ("de>en ", "en")}
    assert {(sample.kind, sample.skill) for sample in found} == {(Kind.TRANSLATION, "translate")}
    assert len({sample.id for sample in found}) == len(found)


def test_bitext() -> None:
    """The input is the question, not the instruction, which is the same in every row."""
    found = samples_of("bitext.jsonl", map="pairs", fields={"question": "input", "answer": "output"})
    assert said(found[0])[0] == ("user", "assistance changing to the premium account")
    assert found[0].kind is Kind.ANSWER


def test_tau_bench() -> None:
    """In a transcript, what tools said and turns without words are left out; a text may have several lines."""
    first = samples_of("tau_bench.jsonl", map="transcript")[0]
    words = [content for _, content in said(first)]
    assert words[0] == "Hi, I was wondering how I can check the balance on my gift card?"
    assert not any(word == "None" or "payment_methods" in word for word in words)
    assert any("gift card balance is $60" in word for word in words)


def test_chatterbot() -> None:
    """Two texts in a list are question and answer."""
    found = samples_of("chatterbot.jsonl")
    assert len(found) == 1050
    assert said(found[0])[0] == ("user", "My system is overheating.")
    assert [role for role, _ in said(found[0])] == ["user", "assistant"]


def test_summaries() -> None:
    """Dialogues, abstracts and Chinese papers become documents with a summary; further summaries are references."""
    doctor = samples_of("mts_dialog.csv", map="summary", fields={"document": "dialogue", "summary": "section_text"})[0]
    assert doctor.question.startswith("Doctor: What brings you back")
    assert doctor.answer.startswith("The patient is a 76-year-old")
    paper = samples_of("scitldr.jsonl", map="summary")[0]
    assert (paper.kind, paper.skill) == (Kind.SUMMARY, "summarize")
    assert paper.question.startswith("Mixed precision training")
    chinese = samples_of("csl.jsonl", map="summary", language="zh")[0]
    assert (chinese.answer, chinese.language) == ("一种基于平方和优化的飞行器大角度机动镇定控制器设计方法", "zh")
    assert mapped({"document": "Long.", "summary": ["One.", "Two."]}, map="summary")[0].references == ("Two.",)


def test_translations_without_a_language_column() -> None:
    """A direction can stand in the recipe; sentences of one document stay together where a column says so."""
    first = samples_of("tatoeba.tsv", map="translation", fields={"source": "1", "target": "2", "direction": "=en>de"})[0]
    english, german = (DATA / "tatoeba.tsv").read_text(encoding="utf-8").splitlines()[0].split("\t")
    assert said(first) == [("user", f"en>de {english}"), ("assistant", german)]
    assert first.language == "de"
    news = samples_of("ntrex.jsonl", map="translation", fields={"source": "en", "target": "zh", "direction": "=en>zh", "group": "doc"})
    assert {sample.group for sample in news} == {"s:bbc.381790"}
    assert {sample.language for sample in news} == {"zh"}


def test_e2e() -> None:
    """Facts are handed in as words; those that the text repeats can be checked."""
    first = samples_of("e2e.csv", map="writing", fields={"kind": "=product description"})[0]
    assert first.question == "product description about name: Alimentum; area: city centre; family friendly: no"
    assert (first.kind, first.skill, first.facts) == (Kind.WRITING, "write", ("Alimentum", "city centre"))
    assert len({sample.group for sample in samples_of("e2e.csv", map="writing")}) == 1  # all of them describe the same facts


def test_self_instruct() -> None:
    """A path leads through lists: one instruction, several instances; an empty input adds nothing."""
    fields = {"question": "instruction", "input": "instances.input", "answer": "instances.output"}
    found = samples_of("self_instruct.jsonl", map="pairs", skill="chat", fields=fields)
    assert found[0].question.startswith("Is there anything I can eat")
    assert found[1].question == "What is the relation between the given pairs?\n\nNight : Day :: Right : Left"
    assert found[0].skill == "chat"
    two = mapped(
        {"i": "Add.", "x": [{"a": "1+1", "b": 2}, {"a": "2+2", "b": 4}]},
        map="pairs",
        fields={"question": "i", "input": "x.a", "answer": "x.b"},
    )
    assert [(sample.id, sample.answer) for sample in two] == [("s:1.1", "2"), ("s:1.2", "4")]


def test_login_gov() -> None:
    """Sections of one article share its id; the language is the row's."""
    path = DATA / "login_gov.jsonl"
    described = section(path, map="articles")
    found = [map_article(described, row) for row in read_rows(path, described) if isinstance(row, Row)]
    assert {article.id for article in found} >= {"s:create-account/authentication-methods"}
    assert found[0].heading == "Authentication methods"
    assert found[0].language == "en"


def test_one_message_a_row(tmp_path: Path) -> None:
    """A table with a row for each message becomes conversations; a row that lacks its column is named."""
    rows = [
        {"ticket": 7, "author": "Guest", "text": "Hi.", "customer": "c1"},
        {"ticket": 7, "author": "Ada", "text": "Hello.", "customer": "c1"},
        {"author": "Guest", "text": "lost"},
        {"ticket": 8, "author": "Guest", "text": "Bye.", "customer": "c2"},
        {"ticket": 8, "author": "Ada", "text": "Bye!", "customer": "c2"},
    ]
    path = write_lines(tmp_path / "tickets.jsonl", rows)
    fields = {"conversation": "ticket", "role": "author", "content": "text", "assistant": "Ada, Bob", "group": "customer"}
    described = section(path, fields=fields)
    found = list(joined(described, read_rows(path, described)))
    samples = [map_row(described, row)[0] for row in found if isinstance(row, Row)]
    assert [(sample.id, sample.group, said(sample)) for sample in samples] == [
        ("s:7", "s:c1", [("user", "Hi."), ("assistant", "Hello.")]),
        ("s:8", "s:c2", [("user", "Bye."), ("assistant", "Bye!")]),
    ]
    assert [(row.line, row.reason) for row in found if isinstance(row, DataInvalid)] == [(3, "missing column")]


@pytest.mark.parametrize(
    ("values", "more", "reason"),
    [
        ({"a": "x"}, {"map": "pairs"}, "missing column"),
        ({"question": "x", "answer": "y"}, {"map": "pairs", "fields": {"answer": "reply"}}, "missing column"),
        ({"messages": "hello"}, {}, "no list of messages"),
        ({"messages": []}, {}, "no list of messages"),
        ({"messages": [{"role": "dog", "content": "wuff"}]}, {}, "unknown speaker"),
        ({"messages": [{"role": "user"}]}, {}, "missing column"),
        ({"messages": [{"role": "user", "content": "x"}, 3]}, {}, "a message that is no object"),
        ({"text": "no names here"}, {"map": "transcript"}, "no speaker found"),
        ({"source": "x", "target": "y", "direction": "en>klingon"}, {"map": "translation"}, "unknown direction of translation"),
        ({"document": "x", "summary": []}, {"map": "summary"}, "no summary"),
        ({"q": ["a", "b"], "answer": ["1", "2", "3"]}, {"map": "pairs", "fields": {"question": "q"}}, "lists of different lengths"),
    ],
)
def test_what_cannot_be_mapped_is_named(values: dict[str, Any], more: dict[str, Any], reason: str) -> None:
    """A row that lacks what its mapping needs says what is missing, with its line."""
    with pytest.raises(DataInvalid) as caught:
        mapped(values, **more)
    assert (caught.value.file, caught.value.line, caught.value.reason) == ("x.jsonl", 1, reason)


def test_parts_and_silence() -> None:
    """Content may come in parts; system messages and calls of tools are no turns."""
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image", "url": "x"}]},
        {"role": "assistant", "content": None},
        {"role": "tool", "content": "{}"},
        {"role": "assistant", "content": "Nice."},
    ]
    assert said(mapped({"messages": messages})[0]) == [("user", "Look:\n"), ("assistant", ""), ("assistant", "Nice.")]


def test_questions_decide_what_stays_together() -> None:
    """The same question with two answers is one group, whatever its case and punctuation; another question is another group."""
    rows = [
        {"question": "Where is it?", "answer": "Here."},
        {"question": "where is it", "answer": "There."},
        {"question": "Who?", "answer": "Me."},
    ]
    groups = [mapped(row, map="pairs")[0].group for row in rows]
    assert groups[0] == groups[1] != groups[2]
