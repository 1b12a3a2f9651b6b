"""PEFT adapters as GGUF: llama.cpp does with them what the formula says."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gguf
import httpx2
import numpy as np
import numpy.typing as npt
import pytest

from dialogue.engine import lora_gguf
from dialogue.engine.adapters import CheckedAdapter, load_adapter
from dialogue.engine.lora_gguf import ServedFiles, convert, prepare_adapter, read_base_facts, rope_order
from dialogue.errors import AdapterRejected
from tests.dialogue.engine.adapter_folders import EVERY_PROJECTION, TINY, random_tensors, write_adapter
from tests.fakes.llama_server import RunningServer, llama_server
from tests.fakes.tiny_gguf import Matrix, TinyModel, Weights, tiny_model, write_tiny_gguf

PROMPT = [17, 3, 99, 200, 45, 17, 81, 4, 3, 99]
TOKENS = 24

Said = tuple[list[int], npt.NDArray[np.float64]]


def say(server: RunningServer, lora: Sequence[dict[str, float]]) -> Said:
    """Return the greedy continuation of PROMPT and the log probability of each of its tokens."""
    body = {
        "prompt": PROMPT,
        "n_predict": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": False,
        "return_tokens": True,
        "n_probs": 1,
        "lora": lora,
    }
    headers = {"Authorization": f"Bearer {server.api_key}", "Connection": "close"}
    answer = httpx2.post(f"{server.url}/completion", json=body, headers=headers, timeout=60).raise_for_status().json()
    return answer["tokens"], np.array([entry["logprob"] for entry in answer["completion_probabilities"]])


def merged(adapter: CheckedAdapter) -> Weights:
    """Return what the adapter adds to each weight, by the formula."""
    return {key: np.float32(adapter.config.scaling) * (pair.b @ pair.a) for key, pair in adapter.pairs.items()}


def tiny_adapter(folder: Path, model: TinyModel, sha256: str, config: dict[str, object]) -> Path:
    facts = model.facts(sha256)
    tensors = random_tensors(facts, EVERY_PROJECTION, 8, seed=5, strength=0.3)
    return write_adapter(folder, facts, targets=EVERY_PROJECTION, rank=8, config=config, tensors=tensors)


def both_ways(root: Path, architecture: str, config: dict[str, object]) -> tuple[Said, Said, Said, Said]:
    """Return what is said by: the base, the base with the adapter at scale 0, at scale 1, and the merged model."""
    model = tiny_model(architecture)
    base = write_tiny_gguf(model, root / "base.gguf")
    sha256 = hashlib.sha256(base.read_bytes()).hexdigest()
    folder = tiny_adapter(root / "adapter", model, sha256, config)
    lora = prepare_adapter(folder, ServedFiles(base, sha256), root / "cache")
    whole = write_tiny_gguf(model, root / "merged.gguf", merged(load_adapter(folder, model.facts(sha256))))
    with llama_server(base) as server:
        plain = say(server, [])
    with llama_server(base, [lora]) as server:
        off, on = say(server, [{"id": 0, "scale": 0.0}]), say(server, [{"id": 0, "scale": 1.0}])
    with llama_server(whole) as server:
        return plain, off, on, say(server, [])


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("config", [{"lora_alpha": 12}, {"lora_alpha": 4, "use_rslora": True}], ids=["plain", "rslora"])
def test_applied_equals_merged(tmp_path: Path, architecture: str, config: dict[str, object]) -> None:
    """In llama.cpp a converted adapter at scale 1 says what the merged weights say, and at scale 0 exactly what the base says."""
    plain, off, on, whole = both_ways(tmp_path, architecture, config)
    assert off[0] == plain[0]
    assert np.array_equal(off[1], plain[1])
    assert on[0] != plain[0]
    assert on[0] == whole[0]
    assert np.allclose(on[1], whole[1], atol=2e-3)


def test_rows_left_in_place_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the permutation of B's rows the comparison with the merged weights fails."""
    monkeypatch.setattr(lora_gguf, "rope_order", _left_in_place)
    *_, on, whole = both_ways(tmp_path, "llama", {"lora_alpha": 12})
    assert on[0] != whole[0] or not np.allclose(on[1], whole[1], atol=2e-3)


def _left_in_place(rows: Matrix, heads: int) -> Matrix:
    return rows


def rotated_by_halves(vectors: Matrix, position: int) -> Matrix:
    """Rotate (heads, size) as transformers does: element i turns with element i + size/2."""
    half = vectors.shape[1] // 2
    angles = position * 10000.0 ** (-np.arange(half) / half)
    first, second = vectors[:, :half], vectors[:, half:]
    return np.concatenate([first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)], axis=1)


def rotated_by_neighbours(vectors: Matrix, position: int) -> Matrix:
    """Rotate (heads, size) as llama.cpp does for Llama: neighbours turn together, seen as complex numbers."""
    angles = position * 10000.0 ** (-np.arange(vectors.shape[1] // 2) / (vectors.shape[1] // 2))
    turned = (vectors[:, 0::2] + 1j * vectors[:, 1::2]) * np.exp(1j * angles)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(vectors.shape)


def test_permuted_rows_give_the_same_attention() -> None:
    """Scores of q and k with an update in transformers' order equal those with the permuted update in llama.cpp's order.

    The base weights went through the quantisation of the default model's file first.
    """
    generator = np.random.default_rng(3)
    heads, size, width, rank = 3, 16, 96, 4
    kind = gguf.GGMLQuantizationType.Q4_1
    weights = [
        gguf.quants.dequantize(gguf.quants.quantize(generator.standard_normal((heads * size, width)).astype(np.float32), kind), kind)
        for _ in range(2)
    ]
    updates = [
        (generator.standard_normal((heads * size, rank)).astype(np.float32), generator.standard_normal((rank, width)).astype(np.float32))
        for _ in range(2)
    ]
    tokens = generator.standard_normal((2, width))
    theirs = [
        rotated_by_halves(((weight + b @ a) @ token).reshape(heads, size), position)
        for weight, (b, a), token, position in zip(weights, updates, tokens, (7, 3), strict=True)
    ]
    ours = [
        rotated_by_neighbours(((rope_order(weight, heads) + rope_order(b, heads) @ a) @ token).reshape(heads, size), position)
        for weight, (b, a), token, position in zip(weights, updates, tokens, (7, 3), strict=True)
    ]
    assert np.allclose((theirs[0] * theirs[1]).sum(axis=1), (ours[0] * ours[1]).sum(axis=1), atol=1e-3)


def test_converted_once(tmp_path: Path) -> None:
    """The same adapter is converted once; another base, another weight or another setting makes another file; no half file is left."""
    adapter = load_adapter(write_adapter(tmp_path / "a"), TINY)
    first = convert(adapter, TINY, tmp_path)
    stamp = first.stat().st_mtime_ns
    assert convert(adapter, TINY, tmp_path) == first
    assert first.stat().st_mtime_ns == stamp
    other = load_adapter(write_adapter(tmp_path / "b", config={"lora_alpha": 9}), TINY)
    assert convert(other, TINY, tmp_path) != first
    assert convert(adapter, replace(TINY, sha256="7" * 64), tmp_path) != first
    assert {path.suffix for path in (tmp_path / "lora").iterdir()} == {".gguf"}


def test_a_broken_conversion_leaves_nothing(tmp_path: Path) -> None:
    """An architecture whose layout is not known is refused, and the cache holds no file afterwards."""
    strange = replace(TINY, architecture="mamba")
    adapter = load_adapter(write_adapter(tmp_path / "a", strange), strange)
    with pytest.raises(AdapterRejected, match="mamba"):
        convert(adapter, strange, tmp_path)
    assert list((tmp_path / "lora").iterdir()) == []


def test_facts_of_a_model(tmp_path: Path) -> None:
    """Layers, heads and shapes come from the GGUF file, and from a note in the cache the second time."""
    path = write_tiny_gguf(tiny_model(), tmp_path / "model.gguf")
    facts = read_base_facts(path, "a" * 64, tmp_path)
    assert facts == tiny_model().facts("a" * 64)
    path.unlink()
    assert read_base_facts(path, "a" * 64, tmp_path) == facts


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    """A file that is no GGUF model is refused with a sentence."""
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(AdapterRejected, match=r"x\.gguf"):
        read_base_facts(tmp_path / "x.gguf", "a" * 64, tmp_path)
