"""Strict adapter loading: what fits is loaded exactly, everything else is refused with one sentence and runs nothing."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dialogue.engine.adapters import (
    BASE_FORMS_KEY,
    BASE_HASH_KEY,
    CONFIG_FILE,
    TEMPLATE_HASH_KEY,
    TOKENIZER_HASH_KEY,
    WEIGHTS_FILE,
    adapter_digest,
    inspect_adapter,
    load_adapter,
    tensor_name,
)
from dialogue.errors import AdapterRejected
from tests.dialogue.engine.adapter_folders import (
    EVERY_PROJECTION,
    MALICES,
    PEFT_CONFIG,
    TINY,
    Tensors,
    random_tensors,
    write_adapter,
)
from tests.sizes import record_proof, size

SEED = 20261123


def test_what_peft_writes_is_loaded(tmp_path: Path) -> None:
    """An adapter with every key that PEFT 0.21 writes is loaded, its matrices bit for bit."""
    adapter = load_adapter(write_adapter(tmp_path / "a"), TINY)
    expected = random_tensors(TINY, ("q_proj", "v_proj"), 4, seed=1)
    assert set(adapter.pairs) == {(layer, name) for layer in range(2) for name in ("q_proj", "v_proj")}
    pair = adapter.pairs[1, "v_proj"]
    assert np.array_equal(pair.a, expected["base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight"])
    assert np.array_equal(pair.b, expected[tensor_name(1, "v_proj", "B")])
    assert adapter.base_model_sha256 == TINY.sha256


def test_peft_still_writes_these_keys(tmp_path: Path) -> None:
    """Where PEFT is installed, the keys that it writes today are the ones that are known here."""
    peft = pytest.importorskip("peft")
    peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM").save_pretrained(tmp_path)
    assert set(json.loads((tmp_path / CONFIG_FILE).read_bytes())) == set(PEFT_CONFIG)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_every_projection(tmp_path: Path, dtype: type[np.floating]) -> None:
    """`all-linear` stands for the seven projections of a layer; half precision is widened without loss."""
    tensors: Tensors = {name: matrix.astype(dtype) for name, matrix in random_tensors(TINY, EVERY_PROJECTION, 4, seed=2).items()}
    adapter = load_adapter(write_adapter(tmp_path / "a", config={"target_modules": "all-linear"}, tensors=tensors), TINY)
    assert len(adapter.pairs) == 14
    down = tensor_name(0, "down_proj", "A")
    assert np.array_equal(adapter.pairs[0, "down_proj"].a, tensors[down].astype(np.float32))


def test_bfloat16(tmp_path: Path) -> None:
    """bfloat16 weights are widened exactly: their bits are the upper half of a float32."""
    exact = random_tensors(TINY, ("q_proj", "v_proj"), 4, seed=1)
    bits = {name: matrix.view(np.uint32) & 0xFFFF0000 for name, matrix in exact.items()}
    folder = write_adapter(tmp_path / "a", tensors={name: (values >> 16).astype(np.uint16) for name, values in bits.items()})
    path = folder / WEIGHTS_FILE
    path.write_bytes(_retyped(path.read_bytes()))
    pair = load_adapter(folder, TINY).pairs[0, "q_proj"]
    assert np.array_equal(pair.a.view(np.uint32), bits[tensor_name(0, "q_proj", "A")])


def _retyped(data: bytes) -> bytes:
    """Say BF16 where a safetensors file says U16; the header grows."""
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(b'"U16"', b'"BF16"')
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def test_scaling(tmp_path: Path) -> None:
    """Plain LoRA scales with alpha / r, rank-stabilised LoRA with alpha / sqrt(r)."""
    plain = load_adapter(write_adapter(tmp_path / "a", config={"lora_alpha": 6}), TINY)
    stabilised = load_adapter(write_adapter(tmp_path / "b", config={"lora_alpha": 6, "use_rslora": True}), TINY)
    assert (plain.config.scaling, stabilised.config.scaling) == (1.5, 3.0)


def test_unpinned_weights_need_permission(tmp_path: Path) -> None:
    """Weights that do not name their base are loaded only where the caller allows it; a wrong name is never allowed."""
    unpinned = write_adapter(tmp_path / "a", pin=None)
    assert load_adapter(unpinned, TINY, allow_unpinned=True).base_model_sha256 is None
    with pytest.raises(AdapterRejected, match=BASE_HASH_KEY):
        load_adapter(unpinned, TINY)
    with pytest.raises(AdapterRejected, match="another base model"):
        load_adapter(write_adapter(tmp_path / "b", pin="6" * 64), TINY, allow_unpinned=True)


def test_other_forms_of_the_base_are_accepted(tmp_path: Path) -> None:
    """An adapter fits each form of its base that its training vouched for, and says on which one it was trained."""
    forms = {BASE_FORMS_KEY: f"{'4' * 64}, {TINY.sha256}"}
    adapter = load_adapter(write_adapter(tmp_path / "a", pin="6" * 64, metadata=forms), TINY)
    assert adapter.base_model_sha256 == "6" * 64
    assert adapter.pins.bases == ("6" * 64, "4" * 64, TINY.sha256)


@pytest.mark.parametrize(("key", "served"), [(TOKENIZER_HASH_KEY, TINY.tokenizer_sha256), (TEMPLATE_HASH_KEY, TINY.template_sha256)])
def test_tokenizer_and_template_must_be_those_served(tmp_path: Path, key: str, served: str) -> None:
    """The hashes of what an adapter was trained with are optional; where they stand, one of them must be what is served."""
    folder = write_adapter(tmp_path / "a", metadata={key: f"{'9' * 64},{served}"})
    load_adapter(folder, TINY)
    for hashes in ("", "1" * 64):
        other = replace(TINY, tokenizer_sha256=hashes, template_sha256=hashes)
        with pytest.raises(AdapterRejected, match="trained with another"):
            load_adapter(folder, other)
    load_adapter(write_adapter(tmp_path / "b", metadata={key: ""}), replace(TINY, tokenizer_sha256="", template_sha256=""))


def test_the_card_is_tolerated(tmp_path: Path) -> None:
    """A README.md, which PEFT writes beside every adapter, changes nothing."""
    folder = write_adapter(tmp_path / "a")
    before = load_adapter(folder, TINY).sha256
    (folder / "README.md").write_text("# card", encoding="utf-8")
    assert load_adapter(folder, TINY).sha256 == before


def test_the_hash_covers_both_files(tmp_path: Path) -> None:
    """Two adapters that differ in a label or in one weight have different hashes."""
    hashes = {
        load_adapter(write_adapter(tmp_path / "a"), TINY).sha256,
        load_adapter(write_adapter(tmp_path / "b", config={"revision": "x"}), TINY).sha256,
        load_adapter(write_adapter(tmp_path / "c", tensors=random_tensors(TINY, ("q_proj", "v_proj"), 4, seed=3)), TINY).sha256,
    }
    assert len(hashes) == 3


@given(file=st.sampled_from([CONFIG_FILE, WEIGHTS_FILE]), data=st.binary(max_size=300), keep=st.integers(0, 300))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_end_in_one_error(tmp_path: Path, file: str, data: bytes, keep: int) -> None:
    """Arbitrary bytes after an arbitrary part of a good file end in AdapterRejected and in nothing else."""
    folder = write_adapter(tmp_path / "a")
    (folder / file).write_bytes((folder / file).read_bytes()[:keep] + data)
    with pytest.raises(AdapterRejected):
        load_adapter(folder, TINY)


def hostile_folders(root: Path, count: int) -> list[Path]:
    """Write `count` hostile folders, every kind in turn, each with its own random details."""
    rng = random.Random(SEED)
    kinds = list(MALICES.items())
    folders: list[Path] = []
    for index in range(count):
        name, malice = kinds[index % len(kinds)]
        folder = root / f"{index:04d} {name}"
        malice(folder, root / f"mark-{index}", rng)
        folders.append(folder)
    return folders


def run_judge(loader: str, root: Path, folders: list[Path]) -> dict[str, list[str] | dict[str, str]]:
    """Load the folders in a fresh process under an audit hook."""
    manifest = root / "manifest.json"
    good = write_adapter(root / "good")
    manifest.write_text(json.dumps({"good": str(good), "folders": [str(folder) for folder in folders]}), encoding="utf-8")
    command = [sys.executable, "-m", "tests.dialogue.engine.adapter_judge", loader, str(manifest)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    return json.loads(done.stdout)


NEEDS_THE_BASE = {
    "wrong base",
    "no base",
    "other forms of no base",
    "another tokenizer",
    "another template",
    "missing tensor",
    "extra layer",
    "wrong shape",
}


@pytest.mark.parametrize("kind", sorted(set(MALICES) - NEEDS_THE_BASE))
def test_hostile_folders_are_not_handed_on(tmp_path: Path, kind: str) -> None:
    """What another server shall load is refused here for everything that can be seen without the base model."""
    MALICES[kind](tmp_path / "a", tmp_path / "mark", random.Random(SEED))
    with pytest.raises(AdapterRejected):
        inspect_adapter(tmp_path / "a")


def test_a_good_folder_is_handed_on(tmp_path: Path) -> None:
    """A harmless adapter passes without a base model, whatever it was trained on."""
    inspected = inspect_adapter(write_adapter(tmp_path / "a", pin="6" * 64))
    assert (inspected.config.r, inspected.pins.bases) == (4, ("6" * 64,))


def test_the_kinds_of_adapters_are_not_confused(tmp_path: Path) -> None:
    """An adapter of an encoder–decoder is refused in words by what looks at those of decoders; its hash is known all the same."""
    plain = {"peft_type": "LORA", "task_type": "SEQ_2_SEQ_LM", "r": 4, "lora_alpha": 4, "target_modules": ["q", "v"]}
    folder = write_adapter(tmp_path / "a")
    (folder / CONFIG_FILE).write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(AdapterRejected, match="belongs to an encoder–decoder"):
        inspect_adapter(folder)
    with pytest.raises(AdapterRejected, match="belongs to an encoder–decoder"):
        load_adapter(folder, TINY)
    before = adapter_digest(folder)
    (folder / CONFIG_FILE).write_text(json.dumps(plain | {"r": 5}), encoding="utf-8")
    assert adapter_digest(folder) != before
    (folder / "more.bin").touch()
    with pytest.raises(AdapterRejected, match=r"more\.bin"):
        adapter_digest(folder)


def test_the_corpus_is_big_enough() -> None:
    """At least forty kinds of hostile folders are known."""
    assert len(MALICES) >= 40


def test_hostile_folders_are_refused(tmp_path: Path) -> None:
    """Every hostile folder is refused with one sentence, and nothing is imported, unpickled or run."""
    count = size("adapter_fuzz", small=len(MALICES), proof=10 * len(MALICES))
    folders = hostile_folders(tmp_path, count)
    verdict = run_judge("strict", tmp_path, folders)
    assert verdict["accepted"] == []
    assert verdict["seen"] == []
    assert verdict["modules"] == []
    assert not list(tmp_path.glob("mark-*"))
    refused = verdict["refused"]
    assert isinstance(refused, dict)
    assert all(sentence.endswith((".", ").")) and sentence.isprintable() and len(sentence) < 400 for sentence in refused.values())
    record_proof("adapter_fuzz", seed=SEED, size=count, result=f"{len(refused)} of {count} hostile folders refused, 0 imports")


def test_a_trusting_loader_is_caught(tmp_path: Path) -> None:
    """The proof fails for a loader that follows the configuration: it accepts, imports and unpickles."""
    verdict = run_judge("lax", tmp_path, hostile_folders(tmp_path, len(MALICES)))
    assert verdict["accepted"]
    assert "colorsys" in verdict["modules"]
    assert any("pickle.find_class" in event for event in verdict["seen"])
    assert list(tmp_path.glob("mark-*"))
