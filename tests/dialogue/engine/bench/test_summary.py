"""From runs to what is printed and drawn."""

import json
from pathlib import Path
from typing import Any

from dialogue.engine.bench.arm_table import ARMS
from dialogue.engine.bench.metrics import Objective, run_metrics
from dialogue.engine.bench.plot import STYLES, draw
from dialogue.engine.bench.samples import Sample
from dialogue.engine.bench.summary import Run, case_summary, curve, table
from dialogue.engine.bench.workload import MULTI_TURN, SINGLE, Case
from tests.dialogue.engine.bench.pieces import sample

ONE, FOUR = Case(SINGLE, 1), Case(SINGLE, 4)


def run(arm: str, number: int, *samples: Sample, case: Case = ONE) -> Run:
    return Run(case, arm, number, run_metrics(samples, Objective()), tuple(each.text for each in samples))


def test_ratios_compare_runs_that_stood_side_by_side() -> None:
    """A machine that gets twice as slow in the middle does not change the ratio; an arm that is slower does."""
    runs = [run("llamacpp", number, sample(10, slow * 1000)) for number, slow in enumerate((1, 1, 2))]
    runs += [run("raw", number, sample(5, slow * 500)) for number, slow in enumerate((1, 1, 2))]
    result = case_summary(ONE, runs)
    ratio = result["over"]["llamacpp/raw"]
    assert ratio["output_tokens_per_s"] == {"median": 0.5, "min": 0.5, "max": 0.5, "interval": None}
    assert ratio["ttft_ms.p50"]["median"] == 2
    assert result["arms"]["raw"]["output_tokens_per_s"]["max"] == 22
    assert result["arms"]["raw"]["rounds"] == 3


def test_other_texts_are_seen() -> None:
    """Where two arms do not say the same, the result says so."""
    runs = [run("llamacpp", 0, sample(1, 2)), run("raw", 0, sample(1, 2)), run("generate", 0, sample(1, 2, text="other"))]
    over = case_summary(ONE, runs)["over"]
    assert (over["llamacpp/raw"]["same_texts"], over["llamacpp/generate"]["same_texts"]) == (True, False)


def test_a_round_that_one_arm_lacks_is_not_compared() -> None:
    """An arm that failed in the middle is compared by the rounds that it has."""
    runs = [run("llamacpp", number, sample(10, 1000)) for number in (0, 1)] + [run("raw", 0, sample(10, 2000))]
    assert case_summary(ONE, runs)["over"]["llamacpp/raw"]["output_tokens_per_s"]["median"] == 2


def test_ablations_are_compared_with_the_whole() -> None:
    """What the engine gains by each of its parts: the whole over the engine without it, and nothing the other way round."""
    runs = [run("local", 0, sample(10, 1000)), run("local-unmerged", 0, sample(10, 1500)), run("generate", 0, sample(10, 3000))]
    over = case_summary(ONE, runs)["over"]
    assert list(over) == ["local/generate", "local-unmerged/generate", "local/local-unmerged"]
    assert over["local/local-unmerged"]["output_tokens_per_s"]["median"] == 1.5


def cases_of(*runs: Run) -> dict[str, Any]:
    return {case.name: case_summary(case, runs) for case in dict.fromkeys(each.case for each in runs)}


def test_a_table_for_people() -> None:
    """Each arm has a line in each case, what is not known is a dash, and ratios show their interval."""
    cases = cases_of(run("llamacpp", 0, sample(10, 1000, cached_tokens=-1)), run("raw", 0, sample(10, 2000)))
    about = {"raw": {"engine": "xllamacpp"}, "generate": {"device": "2 CPU threads", "attention": "sdpa"}}
    lines = table({"cases": cases, "about": about, "peak_memory": {"raw": {"peak_memory_mib": 123.4}}})
    assert lines[0].startswith("single-1")
    assert "–" in lines[1]
    assert lines[3].startswith("  llamacpp/raw: tokens/s × 2.000 (2.000 to 2.000), E2E × 0.500 (0.500 to 0.500)")
    assert lines[-2:] == ["raw: peak memory 123 MiB", "generate: 2 CPU threads, attention sdpa"]


def test_ratios_of_many_rounds_have_an_interval() -> None:
    """From six rounds on there is an interval, and it is named as one."""
    runs = [run(arm, number, sample(10, total)) for arm, total in (("llamacpp", 1000), ("raw", 2000)) for number in range(6)]
    lines = table({"cases": cases_of(*runs), "about": {}, "peak_memory": {}})
    assert "tokens/s × 2.000 (95 %: 2.000 to 2.000)" in lines[3]


def test_a_curve_over_users() -> None:
    """Single turns alone make a curve, by rising users."""
    cases = cases_of(
        run("raw", 0, sample(9, 99), case=FOUR), run("raw", 0, sample(1, 9)), run("raw", 0, sample(1, 9), case=Case(MULTI_TURN, 2))
    )
    assert [(users, value["median"]) for users, value in curve(cases.values(), "raw", "ttft_ms.p50")] == [(1, 1.0), (4, 9.0)]
    assert curve(cases.values(), "llamacpp", "ttft_ms.p50") == []


def test_both_pictures_in_both_formats(tmp_path: Path) -> None:
    """Latency and throughput over users, as PNG and SVG; without single turns there is nothing to draw."""
    cases = cases_of(run("raw", 0, sample(1, 9)), run("raw", 1, sample(2, 10)), run("llamacpp", 0, sample(9, 99), case=FOUR))
    files = draw({"cases": json.loads(json.dumps(cases))}, tmp_path)
    assert [file.name for file in files] == ["latency.png", "latency.svg", "throughput.png", "throughput.svg"]
    assert all(file.stat().st_size > 1000 for file in files)
    assert "<svg" in files[1].read_text(encoding="utf-8")
    assert draw({"cases": cases_of(run("raw", 0, sample(1, 9), case=Case(MULTI_TURN, 2)))}, tmp_path) == []


def test_no_two_arms_look_alike() -> None:
    """There are as many styles as arms, no two of them with the same colour or the same mark and line."""
    assert len(STYLES) >= len(ARMS)
    assert len({colour for colour, _, _ in STYLES}) == len({mark for _, _, mark in STYLES}) == len(STYLES)
