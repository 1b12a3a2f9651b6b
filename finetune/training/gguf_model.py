"""Models as float32 GGUF files: what llama.cpp computes with one is what torch computes.

A GGUF file is copied with its metadata and its tokenizer; its weights are dequantised, or replaced by trained ones. Weights of
transformers differ from those of llama.cpp in their names, in the order of q's and k's rows where `lora_gguf.PERMUTED` says so, and by
one in Gemma's norms.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import starmap
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from dialogue.engine.lora_gguf import PERMUTED, rope_order
from dialogue.engine.model_files import ModelFiles
from finetune.errors import FinetuneError

Array = npt.NDArray[np.float32]
Weights = Mapping[str, Array]  # by the names of transformers, such as "model.layers.0.self_attn.q_proj.weight"

FLOAT_NAME = "float32.gguf"


def float_gguf(files: ModelFiles, cache_dir: Path) -> Path:
    """Return the float32 form of a GGUF model, from the cache once it was made. Raises FinetuneError."""
    target = cache_dir / "finetune" / f"{files.path.stem}-{files.sha256[:12]}-{FLOAT_NAME}"
    if not target.is_file():
        write_float_gguf(files.path, {}, target)
    return target


def write_float_gguf(source: Path, weights: Weights, target: Path) -> Path:
    """Write the GGUF file `source` with float32 weights, whole or not at all. Raises FinetuneError.

    `weights` replace those of the file; what they leave out is dequantised. The same arguments give the same bytes.
    """
    reader = _reader(source)
    architecture = str(_value(reader, "general.architecture"))
    replaced = dict(starmap(_layout(reader, architecture).place, weights.items())) if weights else {}
    unknown = set(replaced) - {tensor.name for tensor in reader.tensors}
    if unknown:
        raise FinetuneError(f"{source.name} has no {min(unknown)}, so the weights are those of another model.")
    write_file(target, lambda path: _write(reader, architecture, replaced, path))
    return target


@dataclass(frozen=True, slots=True)
class Layout:
    """How llama.cpp keeps the weights of one model."""

    architecture: str
    layers: int
    heads: Mapping[str, int]  # of attn_q and attn_k, whose rows may have another order

    def place(self, name: str, value: Array) -> tuple[str, Array]:
        """Return a weight of transformers as llama.cpp has it: name, float32 values. Raises FinetuneError."""
        known = _names(self.architecture, self.layers).get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise FinetuneError(f"The weight {name} has no place in a GGUF file of the kind {self.architecture}.")
        return known, self._converted(known.split(".")[-2], value.astype(np.float32))

    def _converted(self, part: str, rows: Array) -> Array:
        if PERMUTED[self.architecture] and part in self.heads:
            return rope_order(rows.reshape(len(rows), -1), self.heads[part]).reshape(rows.shape)
        if self.architecture.startswith("gemma") and part.endswith("norm"):
            return rows + 1  # transformers keeps the difference to one
        return rows


def layout_of(architecture: str, layers: int, heads: int, kv_heads: int) -> Layout:
    """Return the layout of an architecture, by GGUF's name for it. Raises FinetuneError where it is not known."""
    if architecture not in PERMUTED:
        raise FinetuneError(f"Models of the kind {architecture!a} cannot be written as GGUF; known are {', '.join(PERMUTED)}.")
    return Layout(architecture, layers, {"attn_q": heads, "attn_k": kv_heads})


_ARCHITECTURES = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}


@cache
def _names(architecture: str, layers: int) -> gguf.TensorNameMap:
    return gguf.get_tensor_name_map(_ARCHITECTURES[architecture], layers)


def _reader(source: Path) -> gguf.GGUFReader:
    try:
        return gguf.GGUFReader(source)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise FinetuneError(f"{source} is no GGUF file that can be read.") from error


def _layout(reader: gguf.GGUFReader, architecture: str) -> Layout:
    heads = int(_value(reader, f"{architecture}.attention.head_count"))
    key = f"{architecture}.attention.head_count_kv"
    layers = int(_value(reader, f"{architecture}.block_count"))
    return layout_of(architecture, layers, heads, heads if reader.get_field(key) is None else int(_value(reader, key)))


def _value(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise FinetuneError(f"The GGUF file lacks {key}.")
    return field.contents()


def _write(reader: gguf.GGUFReader, architecture: str, replaced: Weights, path: Path) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in _OWN_KEYS:
            kind = field.types[0]
            writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        announce(writer, tensor.name, [int(size) for size in reversed(tensor.shape)])  # the reader gives sizes innermost first
    finish(writer, (_tensor(tensor, replaced) for tensor in reader.tensors))


_OWN_KEYS = frozenset({"general.architecture", "general.file_type", "general.quantization_version"})


def _tensor(tensor: Any, replaced: Weights) -> Array:
    if tensor.name in replaced:
        return np.ascontiguousarray(replaced[tensor.name])
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)


def announce(writer: gguf.GGUFWriter, name: str, shape: Sequence[int]) -> None:
    """Promise a float32 tensor, which `finish` gets in the same order."""
    writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * math.prod(shape))


def finish(writer: gguf.GGUFWriter, tensors: Iterable[Array]) -> None:
    """Write header and metadata, then one tensor after the other, so that only one is in memory."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(tensor)
    writer.close()


def write_file(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file beside `target`, then give it its name in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    os.close(descriptor)
    part = Path(name)
    try:
        write(part)
        part.chmod(0o644)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
