"""The page that an owner reads: everything in one file, nothing from outside, nothing that a text can do to it."""

import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from rich.console import Console

from finetune.evaluation import plots
from finetune.evaluation.answers_file import write_answers
from finetune.evaluation.contenders import Place
from finetune.evaluation.evaluate import Evaluation
from finetune.evaluation.examples import changed_most
from finetune.evaluation.page import build_page
from finetune.evaluation.report import render
from finetune.evaluation.summary import show
from finetune.samples import Kind
from tests.finetune.evaluation.scene import bad, evaluated, good, sample, shop

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e]]> --> </style> {{ 7*7 }} \x1b[31m"
METRICS = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}, {"step": 2, "held_out_loss": 1.7}]


def hostile(prompt: str) -> str:
    """Answer with what would hurt a careless page."""
    return HOSTILE


RULES = {Place.CANDIDATE: good, Place.INCUMBENT: hostile, Place.BASE: bad}
LOSSES = {Place.CANDIDATE: 1.0, Place.INCUMBENT: 1.5, Place.BASE: 2.0}


class Reader(HTMLParser):
    """Collects tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
async def evaluation() -> Evaluation:
    """An evaluation with a hostile customer and a hostile incumbent."""
    asked = [*shop(9), sample(99, Kind.ANSWER, HOSTILE, HOSTILE)]
    return await evaluated(RULES, LOSSES, asked)


async def test_the_page_needs_nothing_from_outside(evaluation: Evaluation) -> None:
    """No script, no link, no image address: the page forbids itself to load anything."""
    reader = Reader(render(build_page(evaluation, "shop", "Ours.", METRICS)))
    assert not {"script", "link", "iframe", "img", "object", "form", "base"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name in {"src", "href", "srcset"} or name.startswith("on")]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in reader.attributes


async def test_hostile_text_is_shown_and_does_nothing(evaluation: Evaluation) -> None:
    """What people and models wrote stands there as they wrote it, control characters in visible form."""
    page = render(build_page(evaluation, HOSTILE, HOSTILE, METRICS))
    reader = Reader(page)
    assert "<script>alert(1)</script>" in reader.text
    assert "{{ 7*7 }}" in reader.text
    assert "\u202e" not in page
    assert "\x1b" not in page


async def test_the_verdict_comes_first_and_every_suite_is_there(evaluation: Evaluation) -> None:
    """Before any number an owner reads whether the candidate passed, and why; then each suite with its differences."""
    text = Reader(render(build_page(evaluation, "shop", "", METRICS))).text
    first = text.index("assed")
    assert first < text.index("Results") < text.index("Scores") < text.index("Examples") < text.index("What was compared")
    for result in evaluation.results:
        assert result.suite.title in text
    for reason in evaluation.verdict.reasons:
        assert reason in text


async def test_the_worst_changes_are_among_the_examples() -> None:
    """Half of a suite's examples are those that got worse most, where there are any; the largest change stands first."""

    def uneven(prompt: str) -> str:
        return "Order 3 is on its way." if re.search(r"order [0-4]\?", prompt) else "Flower"

    evaluation = await evaluated({Place.CANDIDATE: uneven, Place.BASE: good}, LOSSES, suites=("support_answers",), main=())
    examples = changed_most(evaluation.results[0], Place.BASE, evaluation.answers, most=4)
    assert len(examples) == 4
    assert sum(example.is_worse for example in examples) == 2
    assert [abs(example.gain) for example in examples] == sorted((abs(example.gain) for example in examples), reverse=True)
    assert examples[0].answers[Place.BASE] != examples[0].answers[Place.CANDIDATE]


async def test_a_page_without_metrics_or_answers_is_whole() -> None:
    """A run without a learning curve and an evaluation of losses alone have a page too."""
    evaluation = await evaluated({Place.CANDIDATE: good, Place.BASE: bad}, LOSSES, suites=("support_loss",))
    page = render(build_page(evaluation, "shop", "", []))
    assert "Learning curve" not in page
    assert "Support replies, loss" in page


async def test_the_terminal_shows_verdict_and_table(evaluation: Evaluation) -> None:
    """The summary says whether it passed, why, and one line for each measure; nothing in it is markup."""
    output = StringIO()
    show(evaluation.verdict, Console(width=200, file=output))
    text = output.getvalue()
    assert text.startswith("The candidate has ")
    assert "cites exactly the right passage" in text


async def test_every_answer_is_written_down(evaluation: Evaluation, tmp_path: Path) -> None:
    """`answers.jsonl` has one line for each question, with what each contender said."""
    write_answers(evaluation, tmp_path / "answers.jsonl")
    lines = (tmp_path / "answers.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert len(lines) == len(evaluation.questions)
    assert all('"incumbent"' in line for line in lines)


def test_pictures_are_whole_and_stay_in_their_frame() -> None:
    """Every picture is well-formed, whatever stands in it, and every place in it is within its frame."""
    rows = [plots.Dot("candidate", 0.5, float("-inf"), float("inf"), HOSTILE), plots.Dot("base", 0.2, 0.2, 0.2, "20 %")]
    pictures = [
        plots.dots(rows, share=True),
        plots.dots(rows, share=False),
        plots.strips({"candidate": [1.0, 2.0, 50.0], "base": [], "people": [0.0]}, "ms"),
        plots.learning_curve(METRICS),
    ]
    for picture in pictures:
        root = fromstring(str(picture))
        width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
        for element in root.iter():
            assert all(0 <= float(element.attrib[name]) <= width for name in ("x1", "x2", "cx", "x") if name in element.attrib)
            assert all(0 <= float(element.attrib[name]) <= height for name in ("y1", "y2", "cy", "y") if name in element.attrib)
