"""PEFT's LoRA as llama.cpp wants it: a GGUF file of the type "adapter".

Two things differ between the two. GGUF files of Llama-type models keep the rows of q and k in the order of llama.cpp's
rotary embedding (neighbouring rows form a pair; in transformers the first half pairs with the second), so the rows of B must be
put in that order too. And llama.cpp always scales with alpha / r, so rank-stabilised LoRA is folded into alpha.
"""

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import numpy as np
from pydantic import TypeAdapter, ValidationError

from dialogue.engine.adapters import BaseModelFacts, CheckedAdapter, Matrix, load_adapter
from dialogue.engine.lora_pairs import Projection
from dialogue.errors import AdapterRejected

# Whether the rows of q and k are permuted. An architecture that is not listed has not been checked.
PERMUTED = {"llama": True, "qwen2": False, "qwen3": False, "gemma": False, "gemma2": False, "gemma3": False}

TENSORS: dict[Projection, str] = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}


@dataclass(frozen=True, slots=True)
class ServedFiles:
    """The GGUF file that is served, and the hashes of what goes with it; "" = not known."""

    path: Path
    sha256: str
    tokenizer_sha256: str = ""
    template_sha256: str = ""


_NOTE = TypeAdapter(BaseModelFacts)
_LAYOUT = 1  # part of the cached file's name: raise it when the conversion changes


def prepare_adapter(folder: Path, model: ServedFiles, cache_dir: Path, *, allow_unpinned: bool = False) -> Path:
    """Check the adapter in `folder` against the model that is served and return its GGUF form, converted once.

    Takes seconds for a big vocabulary: call it in a thread. Raises AdapterRejected.
    """
    base = served_facts(model, cache_dir)
    return convert(load_adapter(folder, base, allow_unpinned=allow_unpinned), base, cache_dir)


def served_facts(model: ServedFiles, cache_dir: Path) -> BaseModelFacts:
    """Return what an adapter must fit that shall be served with these files. Raises AdapterRejected."""
    facts = read_base_facts(model.path, model.sha256, cache_dir)
    _is_permuted(facts)  # an architecture whose layout is not known takes no adapter
    return replace(facts, tokenizer_sha256=model.tokenizer_sha256, template_sha256=model.template_sha256)


def convert(adapter: CheckedAdapter, base: BaseModelFacts, cache_dir: Path) -> Path:
    """Return the path of the adapter as GGUF in the cache; written whole or not at all."""
    target = cache_dir / "lora" / f"{adapter.sha256}-{base.sha256[:16]}-{_LAYOUT}.gguf"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, lambda path: write_gguf(adapter, base, path))
    return target


def write_gguf(adapter: CheckedAdapter, base: BaseModelFacts, path: Path) -> None:
    """Write the adapter as a GGUF file. Raises AdapterRejected for an architecture whose layout is not known."""
    permuted = _is_permuted(base)
    config = adapter.config
    writer = gguf.GGUFWriter(path, base.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, config.lora_alpha * (math.sqrt(config.r) if config.use_rslora else 1.0))
    heads = {"q_proj": base.heads, "k_proj": base.kv_heads} if permuted else {}
    for (layer, projection), pair in adapter.pairs.items():
        b = rope_order(pair.b, heads[projection]) if projection in heads else pair.b
        name = f"blk.{layer}.{TENSORS[projection]}.weight"
        writer.add_tensor(f"{name}.lora_a", pair.a)
        writer.add_tensor(f"{name}.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rope_order(rows: Matrix, heads: int) -> Matrix:
    """Put the rows (heads · size, any) of a q or k matrix from transformers' order into llama.cpp's: i and i + size/2 become neighbours."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def read_base_facts(model: Path, sha256: str, cache_dir: Path) -> BaseModelFacts:
    """Return what an adapter must fit, from the header of a GGUF file. Raises AdapterRejected."""
    note = cache_dir / "lora" / f"base-{sha256}.json"  # reading the header takes seconds, because it holds the vocabulary
    try:
        return _NOTE.validate_json(note.read_bytes())
    except (OSError, ValidationError):
        facts = _facts_from_gguf(model, sha256)
    note.parent.mkdir(parents=True, exist_ok=True)
    _replace(note, lambda path: path.write_bytes(_NOTE.dump_json(facts)))
    return facts


def _facts_from_gguf(model: Path, sha256: str) -> BaseModelFacts:
    try:
        reader = gguf.GGUFReader(model)
        architecture = str(_value(reader, "general.architecture"))
        heads = _number(reader, f"{architecture}.attention.head_count")
        return BaseModelFacts(
            architecture=architecture,
            sha256=sha256,
            layers=_number(reader, f"{architecture}.block_count"),
            heads=heads,
            kv_heads=_number(reader, f"{architecture}.attention.head_count_kv", heads),
            projections=_projections(reader),
        )
    except (OSError, ValueError, KeyError, IndexError):
        raise AdapterRejected(f"{model.name} is no GGUF file that an adapter could be checked against.") from None


def _projections(reader: gguf.GGUFReader) -> dict[Projection, tuple[int, int]]:
    """Return the shape of each projection that all layers share."""
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for tensor in reader.tensors:
        block, _, rest = tensor.name.partition(".")[2].partition(".")
        if block.isdigit():
            shapes.setdefault(rest, set()).add(tuple(int(size) for size in tensor.shape))
    result: dict[Projection, tuple[int, int]] = {}
    for projection, name in TENSORS.items():
        match sorted(shapes.get(f"{name}.weight", set())):
            case [(inputs, outputs)]:
                result[projection] = (outputs, inputs)
            case _:  # missing, or different from layer to layer: no adapter may name it
                continue
    return result


def _value(reader: gguf.GGUFReader, key: str) -> object:
    field = reader.get_field(key)
    if field is None:
        raise KeyError(key)
    return field.contents()


def _number(reader: gguf.GGUFReader, key: str, default: int | None = None) -> int:
    """Return a whole number; a model that has one per layer is not supported."""
    value = default if default is not None and reader.get_field(key) is None else _value(reader, key)
    if not isinstance(value, int):
        raise ValueError(key)  # noqa: TRY004 - caught with the other signs of an unsuitable file
    return value


def _is_permuted(base: BaseModelFacts) -> bool:
    if base.architecture not in PERMUTED:
        raise AdapterRejected(f"Adapters for the architecture {base.architecture!a} are not supported; known are {', '.join(PERMUTED)}.")
    return PERMUTED[base.architecture]


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside `target`, then put it in its place in one step."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".")
    os.close(descriptor)
    path = Path(name)
    try:
        write(path)
        path.replace(target)
    finally:
        path.unlink(missing_ok=True)
