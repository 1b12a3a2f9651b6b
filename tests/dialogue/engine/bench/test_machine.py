"""Memory of processes, the speed of copies, and what a model's step must read."""

from pathlib import Path

from dialogue.engine.bench.machine import copy_bandwidth, family, hardware, peak_memory_mib
from dialogue.engine.bench.metrics import ModelCost
from dialogue.engine.bench.model_cost import gguf_cost, torch_cost
from tests.fakes.tiny_decoder import write_tiny_decoder
from tests.fakes.tiny_gguf import FEED_FORWARD, HEAD, HEADS, KV_HEADS, LAYERS, VOCABULARY, WIDTH, tiny_model, write_tiny_gguf

LINEAR = WIDTH * HEAD * (2 * HEADS + 2 * KV_HEADS) + 3 * WIDTH * FEED_FORWARD
VALUES = LAYERS * (LINEAR + 2 * WIDTH) + WIDTH + VOCABULARY * WIDTH  # the output layer counts, the embedding is only looked up
KV_VALUES = 2 * LAYERS * KV_HEADS * HEAD


def status(proc: Path, number: int, parent: int, kib: int) -> None:
    (proc / str(number)).mkdir()
    (proc / str(number) / "status").write_text(f"Name:\tx\nPPid:\t{parent}\nVmHWM:\t{kib} kB\n", encoding="utf-8")


def test_the_memory_of_a_family(tmp_path: Path) -> None:
    """A process counts with its children and theirs, nobody else's; a system's own processes without memory do not disturb."""
    for number, parent, kib in ((1, 0, 500), (7, 1, 1024), (8, 7, 2048), (9, 8, 1024), (10, 1, 99)):
        status(tmp_path, number, parent, kib)
    (tmp_path / "11").mkdir()
    (tmp_path / "11" / "status").write_text("Name:\tkernel\nPPid:\t7\n", encoding="utf-8")
    assert family(7, tmp_path) == [7, 8, 11, 9]
    assert peak_memory_mib(7, tmp_path) == 4


def test_a_copy_has_a_speed() -> None:
    """Two threads copy at once; the result is bytes a second."""
    assert copy_bandwidth(2, size=1 << 16, times=2) > 0
    assert hardware()["cores"]


def test_what_a_step_reads(tmp_path: Path) -> None:
    """Every matrix once, and the KV of a token, as llama.cpp and as torch keep them: the same model, other bytes."""
    model = tiny_model()
    path = write_tiny_gguf(model, tmp_path / "tiny.gguf")
    folder = write_tiny_decoder(model, tmp_path / "tiny")
    assert gguf_cost(path) == ModelCost(4 * VALUES, 2 * KV_VALUES)
    assert torch_cost(path, 4) == torch_cost(folder, 4) == ModelCost(4 * VALUES, 4 * KV_VALUES)
    assert torch_cost(folder, 2) == ModelCost(2 * VALUES, 2 * KV_VALUES)
