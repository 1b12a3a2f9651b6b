"""`kefu bench engine`: its options, what it writes, and what it says when something is missing."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bot.cli import bench_engine
from bot.cli.bench_engine import MOST_SLOTS
from dialogue.engine.bench.arm_table import BASE_ARMS
from dialogue.engine.bench.engine_bench import Plan, Progress
from dialogue.engine.bench.fleet import Terms
from dialogue.engine.bench.workload import Language
from tests.bot.cli.program import Ended, Program, make_program
from tests.fakes.tiny_decoder import write_tiny_decoder
from tests.fakes.tiny_gguf import story_teller

TEMPLATE = "{% for message in messages %}<control 0>{{ message['role'] }}\\n{{ message['content'] }}<control 0>{% endfor %}"
RESULT: dict[str, Any] = {"bench": "engine", "cases": {}, "about": {}, "peak_memory": {}, "failed": {}}


class Called:
    """In the place of the bench: remembers what it was told to measure."""

    def __init__(self) -> None:
        self.result = RESULT
        self.plan: Any = None
        self.terms: Any = None

    async def __call__(self, plan: Plan, terms: Terms, language: Language, progress: Progress) -> dict[str, Any]:
        self.plan, self.terms = plan, terms
        progress.total(1)
        progress.step()
        progress.tell("told")
        assert language.render(["system", "hello"])
        return self.result


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Called:
    called = Called()
    monkeypatch.setattr(bench_engine, "run_bench", called)
    return called


@pytest.fixture
def program(tmp_path: Path) -> Program:
    program = make_program(tmp_path)
    folder = write_tiny_decoder(story_teller(), program.folder / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return program


def call(program: Program, *arguments: str) -> Ended:
    return program.call("bench", "engine", "--model", str(program.folder / "model"), *arguments)


def test_options_become_a_plan(program: Program, bench: Called) -> None:
    """What was asked for is what is measured; the last line is one JSON object, everything else is for people."""
    ended = call(program, "--arms", "raw, generate", "--users", "8,2", "--workloads", "single", "--rounds", "5", "--threads", "1")
    assert ended.code == 0, ended.stderr
    assert json.loads(ended.stdout) == RESULT
    assert "told" in ended.stderr
    assert [kind.name for kind in bench.plan.arms] == ["generate", "raw"]
    assert (bench.plan.sizes.users, bench.plan.sizes.workloads, bench.plan.rounds, bench.plan.seconds) == ((2, 8), ("single",), 5, None)
    assert (bench.terms.engine.slots, bench.terms.engine.threads) == (8, 1)


def test_many_users_do_not_open_many_slots(program: Program, bench: Called) -> None:
    """Slots follow the users up to a bound; --slots says otherwise."""
    call(program, "--users", "256")
    assert bench.terms.engine.slots == MOST_SLOTS
    call(program, "--users", "256", "--slots", "64", "--apart")
    assert (bench.terms.engine.slots, bench.plan.apart) == (64, True)


def test_a_quick_look_has_a_limit(program: Program, bench: Called) -> None:
    """`--quick` measures the arms of the base install, within seconds that are counted."""
    assert call(program, "--quick").code == 0
    assert tuple(kind.name for kind in bench.plan.arms) == BASE_ARMS
    assert bench.plan.seconds is not None
    assert max(bench.plan.sizes.users) <= 4


@pytest.mark.parametrize(("url", "key"), [("http://one:1/v1", "secret"), ("http://other:1", "")])
def test_a_key_goes_to_its_own_server_alone(program: Program, bench: Called, url: str, key: str) -> None:
    """A server that the settings name gets their key, any other one none; `--url` alone adds its arm."""
    variables = {"KEFU_REMOTE__BASE_URLS": "http://one:1", "KEFU_REMOTE__MODEL": "m", "KEFU_REMOTE__API_KEY": "secret"}
    ended = program.call("bench", "engine", "--model", str(program.folder / "model"), "--url", url, variables=variables)
    assert ended.code == 0, ended.stderr
    assert (bench.terms.url_key, bench.plan.arms[-1].name) == (key, "url")
    assert "secret" not in ended.stdout + ended.stderr


def test_what_is_written(program: Program, bench: Called) -> None:
    """`--out` keeps the JSON; a failed arm is an exit code after the result."""
    bench.result = RESULT | {"failed": {"raw": "no memory"}}
    ended = call(program, "--out", "results", "--json")
    assert ended.code == 1
    assert json.loads((program.folder / "results" / "engine.json").read_text(encoding="utf-8")) == bench.result
    assert json.loads(ended.stdout.splitlines()[-1]) == bench.result
    assert "raw" in ended.stderr


def test_pictures_need_matplotlib(program: Program, bench: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the result is written all the same, and one sentence says how to get the pictures."""
    monkeypatch.delitem(sys.modules, "dialogue.engine.bench.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    ended = call(program, "--out", "results")
    assert ended.code == 0
    assert "No pictures were drawn: matplotlib is missing. Install it with: pip install 'kefu[finetune]'" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--arms", "nonsense"), "local-merged"),
        (("--workloads", "nonsense"), "multi-turn"),
        (("--users", "many"), "--users 1,4,8"),
        (("--users", "0"), "--users 1,4,8"),
    ],
)
def test_a_wrong_option_says_what_is_allowed(program: Program, bench: Called, arguments: tuple[str, ...], said: str) -> None:
    """Names that do not exist end the command before anything is started, with those that do."""
    ended = call(program, *arguments)
    assert ended.code in {2, 78}
    assert said in ended.stderr
    assert bench.plan is None


def test_help_has_examples(program: Program) -> None:
    """Each example stands on a line of its own."""
    ended = program.call("bench", "engine", "--help")
    assert "kefu bench engine --quick" in ended.stdout
    assert "--url http://127.0.0.1:8000" in ended.stdout
