"""Loading a LoRA adapter that nobody vouches for.

An adapter folder is data from outside: PEFT's own loader imports modules that the configuration names and falls back to
pickle. Here nothing of that exists. Both files are read once, from descriptors that follow no link, and every later step
works on those bytes; the weights are parsed by safetensors, then names, shapes, types, finiteness and the base model's hash
are checked against the model that will be served. What is not expected is refused with one sentence.
"""

import hashlib
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from dialogue.engine.adapter_files import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from dialogue.engine.adapter_schema import AdapterConfig, Config, parse_config, parse_lora_config, strict_json
from dialogue.engine.lora_pairs import ATTENTION, LoraPair, Place, Projection
from dialogue.engine.lora_pairs import Values as Matrix
from dialogue.errors import AdapterRejected

# In the metadata of the weights, written by Kefu's training: one sha256 or several, separated by commas.
BASE_HASH_KEY = "base_model_sha256"  # what it was trained on
BASE_FORMS_KEY = "base_model_forms"  # further forms of that model: dequantised, quantised
TOKENIZER_HASH_KEY = "tokenizer_sha256"
TEMPLATE_HASH_KEY = "template_sha256"

# Every bound of an adapter folder stands here.
MAX_CONFIG_BYTES = 64 * 1024
MAX_HEADER_BYTES = 2 * 1024 * 1024
MAX_WEIGHTS_BYTES = 4 * 1024**3
MAX_HASHES = 64  # of one kind

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


@dataclass(frozen=True, slots=True)
class BaseModelFacts:
    """What an adapter must fit: the model that is served."""

    architecture: str  # GGUF's general.architecture, such as "llama"
    sha256: str  # of the model file, hexadecimal
    layers: int
    heads: int
    kv_heads: int
    projections: Mapping[Projection, tuple[int, int]]  # (outputs, inputs) of each linear layer, equal in all layers
    tokenizer_sha256: str = ""  # of the tokenizer that is served; "" = not known, and then nothing fits an adapter that asks for one
    template_sha256: str = ""  # the same of the chat template


@dataclass(frozen=True, slots=True)
class Pins:
    """What an adapter says it was trained with; () = it does not say."""

    bases: tuple[str, ...] = ()  # sha256 of model files that it fits, the one that it was trained on first
    tokenizers: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedAdapter:
    """An adapter that fits its base. Rows are in the order of PEFT and transformers."""

    config: AdapterConfig
    pairs: Mapping[Place, LoraPair]  # by layer and projection
    sha256: str  # of both files together
    pins: Pins

    @property
    def base_model_sha256(self) -> str | None:
        """What the adapter says it was trained on."""
        return self.pins.bases[0] if self.pins.bases else None


@dataclass(frozen=True, slots=True)
class InspectedAdapter:
    """An adapter that is harmless, whatever base it belongs to."""

    config: AdapterConfig
    sha256: str  # of both files together
    pins: Pins


def load_adapter(folder: Path, base: BaseModelFacts, *, allow_unpinned: bool = False) -> CheckedAdapter:
    """Return the adapter in `folder` if it is harmless and fits `base`.

    `allow_unpinned` also takes weights that do not say which base they were trained on, as PEFT writes them.
    Raises AdapterRejected with one sentence.
    """
    with _opened(folder) as descriptor:
        _check_entries(descriptor)
        config_bytes = _read(descriptor, CONFIG_FILE, MAX_CONFIG_BYTES)
        config = parse_config(config_bytes)
        weights = _read(descriptor, WEIGHTS_FILE, min(MAX_WEIGHTS_BYTES, _largest_weights(config, base)))
    pins = _pins(weights)
    _check_pins(pins, base, allow_unpinned=allow_unpinned)
    pairs = _pairs(_tensors(weights, config, base), config, base)
    return CheckedAdapter(config, pairs, _digest(config_bytes, weights), pins)


def inspect_adapter(folder: Path) -> InspectedAdapter:
    """Return what is known of an adapter that another program will load: everything is checked but the fit to its base.

    Raises AdapterRejected.
    """
    with _opened(folder) as descriptor:
        _check_entries(descriptor)
        config_bytes = _read(descriptor, CONFIG_FILE, MAX_CONFIG_BYTES)
        config = parse_config(config_bytes)
        weights = _read(descriptor, WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
    pins = _pins(weights)
    entries = _parsed(weights)
    names = {tensor_name(layer, name, side) for layer in range(len(entries)) for name in config.projections for side in "AB"}
    for name, entry in entries:
        shape = tuple(entry["shape"])
        if len(shape) != 2 or shape[0 if ".lora_A." in name else 1] != config.r:
            raise AdapterRejected(f"The tensor {ascii(name)[:120]} has not the rank {config.r}.")
        _matrix(name, entry["dtype"], shape, entry["data"], dict.fromkeys(names, shape))
    return InspectedAdapter(config, _digest(config_bytes, weights), pins)


def adapter_digest(folder: Path) -> str:
    """Return the hash of an adapter's two files, of whatever kind it is; nothing in them is looked at. Raises AdapterRejected."""
    with _opened(folder) as descriptor:
        _check_entries(descriptor)
        return _digest(_read(descriptor, CONFIG_FILE, MAX_CONFIG_BYTES), _read(descriptor, WEIGHTS_FILE, MAX_WEIGHTS_BYTES))


def _digest(config: bytes, weights: bytes) -> str:
    return hashlib.sha256(hashlib.sha256(config).digest() + hashlib.sha256(weights).digest()).hexdigest()


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Give a descriptor of a folder that is no link."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (OSError, ValueError):
        raise AdapterRejected(f"The adapter folder {str(folder)!a} is not there, not a folder or a link.") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _check_entries(folder: int) -> None:
    """Refuse an open folder that holds anything but the two files and at most a README.md."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in {CONFIG_FILE, WEIGHTS_FILE, CARD_FILE} or not entry.is_file(follow_symlinks=False):
                name = ascii(entry.name)[:80]
                raise AdapterRejected(f"The adapter folder holds {name}; accepted are {CONFIG_FILE} and {WEIGHTS_FILE} as plain files.")


def _read(folder: int, name: str, limit: int) -> bytes:
    """Return the bytes of a regular file in an open folder."""
    try:  # non-blocking: a pipe put in the file's place must not hang us
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        raise AdapterRejected(f"The adapter has no readable {name}.") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= limit:
            raise AdapterRejected(f"{name} is not a plain file of 1 to {limit} bytes.")
        data = file.read(limit + 1)
    if len(data) != status.st_size:
        raise AdapterRejected(f"{name} changed while it was read.")
    return data


def _largest_weights(config: AdapterConfig, base: BaseModelFacts) -> int:
    """Return the size of the biggest file that could be right."""
    values = sum(config.r * sum(_shape(name, base)) for name in config.projections) * base.layers
    return 8 + MAX_HEADER_BYTES + 4 * values


def _shape(name: Projection, base: BaseModelFacts) -> tuple[int, int]:
    if name not in base.projections:
        raise AdapterRejected(f"The base model has no {name}.")
    return base.projections[name]


def _pins(weights: bytes) -> Pins:
    """Return the hashes in the file's metadata; refuses a header that is too long or ambiguous."""
    (length,) = struct.unpack("<Q", weights[:8].ljust(8, b"\xff"))
    if length > min(MAX_HEADER_BYTES, len(weights) - 8):
        raise AdapterRejected(f"{WEIGHTS_FILE} is cut off or its header is longer than {MAX_HEADER_BYTES} bytes.")
    header = strict_json(weights[8 : 8 + length], f"The header of {WEIGHTS_FILE}")
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    if not isinstance(metadata, dict):
        raise AdapterRejected(f"The metadata of {WEIGHTS_FILE} are no table.")
    bases = _hashes(metadata, BASE_HASH_KEY)
    forms = _hashes(metadata, BASE_FORMS_KEY) if bases else ()
    return Pins((*bases, *forms), _hashes(metadata, TOKENIZER_HASH_KEY), _hashes(metadata, TEMPLATE_HASH_KEY))


def _hashes(metadata: Mapping[str, object], key: str) -> tuple[str, ...]:
    """Return the hashes under `key`; () = there is no such key, or it is empty."""
    value = metadata.get(key, "")
    hashes = tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else ("",)
    if value == "":
        return ()
    if len(hashes) > MAX_HASHES or not all(_SHA256.fullmatch(each) for each in hashes):
        raise AdapterRejected(f"{key} in the metadata of {WEIGHTS_FILE} is not a list of at most {MAX_HASHES} sha256.")
    return hashes


def _check_pins(pins: Pins, base: BaseModelFacts, *, allow_unpinned: bool) -> None:
    """Refuse an adapter of another base, or one that learned with other token ids or another chat template than those served."""
    if not pins.bases and not allow_unpinned:
        raise AdapterRejected(f"The adapter lacks {BASE_HASH_KEY}.")
    if pins.bases and base.sha256 not in pins.bases:
        raise AdapterRejected("The adapter was trained on another base model.")
    if pins.tokenizers and base.tokenizer_sha256 not in pins.tokenizers:
        raise AdapterRejected("The adapter was trained with another tokenizer than the one served.")
    if pins.templates and base.template_sha256 not in pins.templates:
        raise AdapterRejected("The adapter was trained with another chat template than the one served.")


def _tensors(weights: bytes, config: AdapterConfig, base: BaseModelFacts) -> dict[str, Matrix]:
    """Return every tensor as finite float32, by name, if the file holds exactly the expected ones."""
    shapes = dict(_expected(config, base))
    found = {name: _matrix(name, entry["dtype"], tuple(entry["shape"]), entry["data"], shapes) for name, entry in _parsed(weights)}
    if len(found) != len(shapes):
        raise AdapterRejected(f"The adapter holds {len(found)} tensors; rank, targets and base model ask for {len(shapes)}.")
    return found


def _parsed(weights: bytes) -> list[tuple[str, Any]]:
    """Return (name, {dtype, shape, data}) of each tensor."""
    try:
        return safetensors.deserialize(weights)
    except safetensors.SafetensorError:
        raise AdapterRejected(f"{WEIGHTS_FILE} is not a whole safetensors file.") from None


def _expected(config: AdapterConfig, base: BaseModelFacts) -> list[tuple[str, tuple[int, int]]]:
    """Return name and shape of every tensor that the configuration promises."""
    result: list[tuple[str, tuple[int, int]]] = []
    for layer in range(base.layers):
        for name in config.projections:
            outputs, inputs = _shape(name, base)
            result += [(tensor_name(layer, name, "A"), (config.r, inputs)), (tensor_name(layer, name, "B"), (outputs, config.r))]
    return result


def tensor_name(layer: int, projection: Projection, side: str) -> str:
    """Return the name that PEFT gives to a LoRA matrix; `side` is A or B."""
    block = "self_attn" if projection in ATTENTION else "mlp"
    return f"base_model.model.model.layers.{layer}.{block}.{projection}.lora_{side}.weight"


def _matrix(name: str, dtype: str, shape: tuple[int, ...], data: bytearray, shapes: Mapping[str, tuple[int, int]]) -> Matrix:
    if name not in shapes:
        raise AdapterRejected(f"The adapter holds the unexpected tensor {ascii(name)[:120]}.")
    if dtype not in _DTYPES or shape != shapes[name]:
        raise AdapterRejected(f"{name} is {dtype!a} {shape}; expected F32, F16 or BF16 {shapes[name]}.")
    raw = np.frombuffer(data, _DTYPES[dtype]).reshape(shapes[name])
    # bfloat16 is the upper half of a float32
    values = (raw.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else raw.astype(np.float32)
    if not np.isfinite(values).all():
        raise AdapterRejected(f"{name} holds values that are not finite.")
    return values


def _pairs(tensors: Mapping[str, Matrix], config: AdapterConfig, base: BaseModelFacts) -> dict[Place, LoraPair]:
    return {
        (layer, name): LoraPair(tensors[tensor_name(layer, name, "A")], tensors[tensor_name(layer, name, "B")])
        for layer in range(base.layers)
        for name in config.projections
    }


def load_named(
    folder: Path, base: BaseModelFacts, kind: type[Config], shapes_of: Callable[[Config], Mapping[str, tuple[int, int]]]
) -> tuple[Config, dict[str, Matrix], str]:
    """Return configuration, tensors and hash of an adapter for a model whose layers have other names than those of decoders.

    `shapes_of` says which tensors a configuration promises, by name; exactly those must be there. Raises AdapterRejected.
    """
    with _opened(folder) as descriptor:
        _check_entries(descriptor)
        config_bytes = _read(descriptor, CONFIG_FILE, MAX_CONFIG_BYTES)
        config = parse_lora_config(config_bytes, kind)
        shapes = shapes_of(config)
        largest = 8 + MAX_HEADER_BYTES + 4 * sum(rows * columns for rows, columns in shapes.values())
        weights = _read(descriptor, WEIGHTS_FILE, min(MAX_WEIGHTS_BYTES, largest))
    _check_pins(_pins(weights), base, allow_unpinned=False)
    tensors = {name: _matrix(name, entry["dtype"], tuple(entry["shape"]), entry["data"], shapes) for name, entry in _parsed(weights)}
    if len(tensors) != len(shapes):
        raise AdapterRejected(f"The adapter holds {len(tensors)} tensors; its targets and the base model ask for {len(shapes)}.")
    return config, tensors, _digest(config_bytes, weights)
