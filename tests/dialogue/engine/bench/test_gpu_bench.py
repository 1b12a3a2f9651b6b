"""The bench for a bare GPU machine, tried on a CPU with a tiny model."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dialogue.engine.bench.gpu.__main__ import main
from dialogue.engine.bench.gpu.shapes import SHAPES, cost, random_model

TINY = ["--device", "cpu", "--shapes", "tiny", "--adapters-shape", "tiny", "--adapters-users", "3", "--prompt-tokens", "9", "--rounds", "2"]
ROOT = Path(__file__).parents[4]
# What the machine that the bench is made for need not have.
ABSENT = ("pydantic", "structlog", "sqlalchemy", "xllamacpp", "peft", "gguf", "telegram", "httpx", "typer")


def measured(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, dict[str, Any]]:
    """Run the bench; return what it says to people, and the object of its last line."""
    assert main([*TINY, *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(lines[-1])
    return "\n".join(lines[:-1]), found


def test_every_arm_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Each case has its arms with rate, latencies and share of the roofline; the aims stand beside what was measured."""
    table, found = measured(capsys, "--users", "1,2", "--reply-tokens", "6")
    arms = [list(case["arms"]) for case in found["cases"]]
    engine = ["local", "local-no-graphs", "local-no-overlap"]
    assert arms == [[*engine, "generate", "static"], [*engine, "static"], ["local-merged", "local-adapters"]]
    for case in found["cases"]:
        for figures in case["arms"].values():
            assert figures["output_tokens_per_s"]["min"] > 0
            assert figures["ttft_ms"]["p50"] > 0
            assert figures["roofline"]["median"] > 0
    assert [aim["what"] for aim in found["aims"]] == ["tiny, 1 users: tokens/s", "tiny: sixteen adapters over one merged, tokens/s"]
    assert "local-adapters" in table
    assert found["versions"]["torch"] == torch.__version__


def test_what_the_time_does_not_allow_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """No case is begun after the seconds that were given, and each one left out is said."""
    table, found = measured(capsys, "--users", "1", "--seconds", "-1")
    assert found["cases"] == []
    assert len(found["left_out"]) == 2
    assert table.count("not measured") == 2


@pytest.mark.parametrize("words", [["--shapes", "Qwen9"], ["--users", "one"], ["--users", "0"]])
def test_wrong_options_end_with_a_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and no traceback."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "error: argument" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 69 and a sentence that says how to try the bench all the same."""
    assert main([]) == 69
    assert "--device cpu" in capsys.readouterr().err


def test_the_cost_of_a_published_shape() -> None:
    """A step of SmolLM2-135M reads its 135 million weights once, and 23 KB of keys and values for each token before, in bfloat16."""
    with torch.device("meta"):
        model = random_model(SHAPES["SmolLM2-135M"], "meta", 1)
    needed = cost(model.to(torch.bfloat16))
    assert needed.weight_bytes == pytest.approx(2 * 134.5e6, rel=0.01)
    assert needed.kv_bytes_per_token == 2 * 30 * 3 * 64 * 2


def test_it_needs_torch_and_transformers_alone() -> None:
    """The bench and the tests for a GPU are imported where nothing else of what Kefu needs is installed."""
    block = f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r}))"
    modules = "dialogue.engine.bench.gpu.__main__, tests.gpu.test_decoder_gates, tests.gpu.test_decoder_worker, tests.gpu.conftest"
    subprocess.run([sys.executable, "-c", f"{block}; import {modules}"], cwd=ROOT, check=True)
