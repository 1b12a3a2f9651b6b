"""Adapter folders as PEFT 0.21 writes them, and hostile ones."""

import json
import math
import os
import pickle
import random
import re
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from dialogue.engine.adapters import (
    BASE_FORMS_KEY,
    BASE_HASH_KEY,
    CONFIG_FILE,
    TEMPLATE_HASH_KEY,
    TOKENIZER_HASH_KEY,
    WEIGHTS_FILE,
    BaseModelFacts,
    tensor_name,
)
from dialogue.engine.lora_pairs import ATTENTION, FEED_FORWARD, Projection

TINY = BaseModelFacts(
    architecture="llama",
    sha256="5" * 64,
    layers=2,
    heads=4,
    kv_heads=2,
    projections={
        "q_proj": (32, 32),
        "k_proj": (16, 32),
        "v_proj": (16, 32),
        "o_proj": (32, 32),
        "gate_proj": (48, 32),
        "up_proj": (48, 32),
        "down_proj": (32, 48),
    },
    tokenizer_sha256="7" * 64,
    template_sha256="8" * 64,
)

# What LoraConfig(r=8, target_modules=["q_proj"], task_type="CAUSAL_LM").save_pretrained wrote with peft 0.21.2, rank and targets aside.
PEFT_CONFIG: dict[str, object] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": None,
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": False,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.0,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 4,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["v_proj", "q_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}

Tensors = dict[str, npt.NDArray[np.generic]]


def random_tensors(base: BaseModelFacts, targets: Sequence[Projection], rank: int, seed: int, strength: float = 1.0) -> Tensors:
    """Return LoRA matrices whose update is about `strength` of a typical weight."""
    generator = np.random.default_rng(seed)
    result: Tensors = {}
    for layer in range(base.layers):
        for name in targets:
            outputs, inputs = base.projections[name]
            a = generator.standard_normal((rank, inputs)) / math.sqrt(inputs)
            b = generator.standard_normal((outputs, rank)) * strength / math.sqrt(rank)
            result[tensor_name(layer, name, "A")] = a.astype(np.float32)
            result[tensor_name(layer, name, "B")] = b.astype(np.float32)
    return result


def write_adapter(
    folder: Path,
    base: BaseModelFacts = TINY,
    *,
    targets: Sequence[Projection] = ("q_proj", "v_proj"),
    rank: int = 4,
    config: dict[str, object] | None = None,
    tensors: Tensors | None = None,
    pin: str | None = "",
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write an adapter for `base`; `config` changes single keys, an empty `pin` stands for the right one, None leaves it out.

    `metadata` is added to that of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = PEFT_CONFIG | {"target_modules": list(targets), "r": rank} | (config or {})
    (folder / CONFIG_FILE).write_text(json.dumps(settings, indent=2), encoding="utf-8")
    weights = random_tensors(base, targets, rank, seed=1) if tensors is None else tensors
    pinned = {"format": "pt"} | ({} if pin is None else {BASE_HASH_KEY: pin or base.sha256})
    (folder / WEIGHTS_FILE).write_bytes(save(weights, {**pinned, **(metadata or {})}))
    return folder


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


Malice = Callable[[Path, Path, random.Random], None]


def _config(**changes: object) -> Malice:
    return lambda folder, _, __: void(write_adapter(folder, config=changes))


def void(_: object) -> None:
    """Drop a value."""


def _pickle(folder: Path, mark: Path, _: random.Random) -> None:
    write_adapter(folder)
    (folder / WEIGHTS_FILE).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Payload(mark)))


def _pickle_beside(folder: Path, mark: Path, _: random.Random) -> None:
    write_adapter(folder)
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Payload(mark)))


def _pickle_inside(folder: Path, mark: Path, _: random.Random) -> None:
    write_adapter(folder)
    (folder / WEIGHTS_FILE).write_bytes(pickle.dumps(Payload(mark)))


def _extra(name: str) -> Malice:
    def malice(folder: Path, _: Path, __: random.Random) -> None:
        write_adapter(folder)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("import colorsys", encoding="utf-8")

    return malice


def _linked(name: str) -> Malice:
    def malice(folder: Path, _: Path, __: random.Random) -> None:
        write_adapter(folder)
        (folder / name).rename(folder.parent / f"{folder.name}-{name}")
        (folder / name).symlink_to(folder.parent / f"{folder.name}-{name}")

    return malice


def _linked_folder(folder: Path, _: Path, __: random.Random) -> None:
    folder.symlink_to(write_adapter(folder.parent / f"{folder.name}-real"))


def _pipe(folder: Path, _: Path, __: random.Random) -> None:
    write_adapter(folder)
    (folder / WEIGHTS_FILE).unlink()
    os.mkfifo(folder / WEIGHTS_FILE)


def _metadata(pin: str | None = "", **metadata: str) -> Malice:
    return lambda folder, _, __: void(write_adapter(folder, pin=pin, metadata=metadata))


def _sparse(name: str, size: int) -> Malice:
    """A file that takes no room on the disk and all of the memory of whoever reads it."""

    def malice(folder: Path, _: Path, __: random.Random) -> None:
        write_adapter(folder)
        os.truncate(folder / name, size)

    return malice


def _linked_card(folder: Path, _: Path, __: random.Random) -> None:
    (write_adapter(folder) / "README.md").symlink_to("/etc/hostname")


def _socket(folder: Path, _: Path, __: random.Random) -> None:
    write_adapter(folder)
    (folder / WEIGHTS_FILE).unlink()
    place = Path.cwd()
    os.chdir(folder)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(WEIGHTS_FILE)
    finally:
        os.chdir(place)


def _folder_as_file(folder: Path, _: Path, __: random.Random) -> None:
    write_adapter(folder)
    (folder / CONFIG_FILE).unlink()
    (folder / CONFIG_FILE).mkdir()


def _raw_config(text: Callable[[random.Random], str | bytes]) -> Malice:
    def malice(folder: Path, _: Path, rng: random.Random) -> None:
        write_adapter(folder)
        data = text(rng)
        (folder / CONFIG_FILE).write_bytes(data if isinstance(data, bytes) else data.encode())

    return malice


def _tensors(change: Callable[[Tensors, random.Random], object]) -> Malice:
    def malice(folder: Path, _: Path, rng: random.Random) -> None:
        tensors = random_tensors(TINY, ("q_proj", "v_proj"), 4, seed=rng.randrange(1000))
        change(tensors, rng)
        write_adapter(folder, tensors=tensors)

    return malice


def _bytes(change: Callable[[bytes, random.Random], bytes]) -> Malice:
    def malice(folder: Path, _: Path, rng: random.Random) -> None:
        write_adapter(folder)
        path = folder / WEIGHTS_FILE
        path.write_bytes(change(path.read_bytes(), rng))

    return malice


def _with_header(data: bytes, edit: Callable[[str], str]) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header = edit(data[8 : 8 + length].decode()).encode()
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def _poison(value: float) -> Malice:
    def change(tensors: Tensors, rng: random.Random) -> None:
        matrix = tensors[rng.choice(sorted(tensors))]
        matrix[rng.randrange(matrix.shape[0]), rng.randrange(matrix.shape[1])] = value

    return _tensors(change)


def _swap_shape(tensors: Tensors, rng: random.Random) -> None:
    name = rng.choice([name for name in sorted(tensors) if tensors[name].shape[0] != tensors[name].shape[1]])
    tensors[name] = np.ascontiguousarray(tensors[name].T)


def _retype(dtype: type[np.generic]) -> Malice:
    def change(tensors: Tensors, rng: random.Random) -> None:
        name = rng.choice(sorted(tensors))
        tensors[name] = tensors[name].astype(dtype)

    return _tensors(change)


def _full_config(**changes: object) -> str:
    return json.dumps(PEFT_CONFIG | changes)


# Each writes one hostile folder; `mark` is a path that comes into being when its payload runs.
MALICES: dict[str, Malice] = {
    "pickle instead of safetensors": _pickle,
    "pickle beside safetensors": _pickle_beside,
    "pickle named safetensors": _pickle_inside,
    "auto_mapping": _config(auto_mapping={"base_model_class": "HLS", "parent_library": "colorsys"}),
    "megatron core": _config(megatron_core="colorsys"),
    "megatron config": _config(megatron_config={"tensor_model_parallel_size": 1}),
    "tokenizer that trusts code": _config(tokenizer_kwargs={"trust_remote_code": True}),
    "unknown key": _config(hub_kernel="evil/kernel"),
    "another kind": _config(peft_type="PROMPT_TUNING"),
    "another task": _config(task_type="SEQ_CLS"),
    "saved modules": _config(modules_to_save=["lm_head"]),
    "pattern as targets": _config(target_modules="(a+)+$"),
    "path as target": _config(target_modules=["../../q_proj"]),
    "no targets": _config(target_modules=[]),
    "bias": _config(bias="all"),
    "dora": _config(use_dora=True),
    "rank as text": _config(r="4"),
    "rank as truth": _config(r=True),
    "rank zero": _config(r=0),
    "rank too big": _config(r=257),
    "rank other than the weights": _config(r=8),
    "alpha infinite": _raw_config(lambda _: _full_config().replace('"lora_alpha": 8', '"lora_alpha": 1e999')),
    "alpha NaN": _raw_config(lambda _: _full_config().replace('"lora_alpha": 8', '"lora_alpha": NaN')),
    "alpha negative": _config(lora_alpha=-8),
    "rank pattern": _config(rank_pattern={"q_proj": 99}),
    "loftq": _config(loftq_config={"loftq_bits": 4}),
    "changed base weights": _config(init_lora_weights="pissa"),
    "replicated layers": _config(layer_replication=[[0, 30], [0, 30]]),
    "label with control characters": _config(base_model_name_or_path="x\x1b]0;owned\x07"),
    "label too long": _config(base_model_name_or_path="x" * 4096),
    "duplicate key": _raw_config(lambda _: _full_config().replace("{", '{"r": 4, ', 1)),
    "deep JSON": _raw_config(lambda rng: '{"a":' * rng.randint(5_000, 9_000)),
    "deep list": _raw_config(lambda _: "[" * 60_000),
    "huge config": _raw_config(lambda _: _full_config() + " " * 70_000),
    "bad UTF-8": _raw_config(lambda rng: bytes(rng.randrange(128, 256) for _ in range(64))),
    "not JSON": _raw_config(lambda rng: bytes(rng.randrange(256) for _ in range(200))),
    "empty config": _raw_config(lambda _: ""),
    "a list": _raw_config(lambda _: "[]"),
    "script beside": _extra("modeling_evil.py"),
    "hidden file": _extra(".gitattributes"),
    "subfolder": _extra("checkpoint-1/adapter_config.json"),
    "link for the config": _linked(CONFIG_FILE),
    "link for the weights": _linked(WEIGHTS_FILE),
    "link for the folder": _linked_folder,
    "pipe for the weights": _pipe,
    "folder for the config": _folder_as_file,
    "no folder": lambda *_: None,
    "only the config": lambda folder, *_: (write_adapter(folder) / WEIGHTS_FILE).unlink(),
    "cut off": _bytes(lambda data, rng: data[: rng.randrange(len(data))]),
    "bytes after the end": _bytes(lambda data, rng: data + rng.randbytes(rng.randint(1, 64))),
    "huge header": _bytes(lambda data, rng: struct.pack("<Q", rng.choice([2**63, 2**32, 3 * 2**20, len(data)])) + data[8:]),
    "duplicate tensor": _bytes(lambda data, _: _with_header(data, lambda h: h.rstrip()[:-1] + "," + h.rstrip()[1:])),
    "deep header": _bytes(lambda data, _: _with_header(data, lambda _: "[" * 100_000)),
    "overlapping tensors": _bytes(lambda data, _: _with_header(data, lambda h: h.replace("[512,", "[0,", 1))),
    "NaN": _poison(math.nan),
    "infinite": _poison(-math.inf),
    "wrong shape": _tensors(_swap_shape),
    "missing tensor": _tensors(lambda tensors, rng: tensors.pop(rng.choice(sorted(tensors)))),
    "extra layer": _tensors(lambda tensors, _: tensors.update({tensor_name(2, "q_proj", "A"): np.zeros((4, 32), np.float32)})),
    "tensor with a path": _tensors(lambda tensors, _: tensors.update({"../../evil": np.zeros((4, 32), np.float32)})),
    "double precision": _retype(np.float64),
    "whole numbers": _retype(np.int32),
    "wrong base": lambda folder, *_: void(write_adapter(folder, pin="6" * 64)),
    "no base": lambda folder, *_: void(write_adapter(folder, pin=None)),
    "other forms of no base": _metadata(pin=None, **{BASE_FORMS_KEY: TINY.sha256}),
    "another tokenizer": _metadata(**{TOKENIZER_HASH_KEY: "9" * 64}),
    "another template": _metadata(**{TEMPLATE_HASH_KEY: "9" * 64}),
    "base that is no hash": _metadata(**{BASE_FORMS_KEY: "../../etc/passwd"}),
    "hashes with a hole": _metadata(**{TOKENIZER_HASH_KEY: f"{TINY.tokenizer_sha256},"}),
    "hashes without end": _metadata(**{TEMPLATE_HASH_KEY: ",".join(["8" * 64] * 1000)}),
    "metadata that are a list": _bytes(
        lambda data, _: _with_header(data, lambda h: re.sub(r'"__metadata__":{[^}]*}', '"__metadata__":[]', h))
    ),
    "weights of sixteen gigabytes": _sparse(WEIGHTS_FILE, 16 << 30),
    "config of a gigabyte": _sparse(CONFIG_FILE, 1 << 30),
    "link for the card": _linked_card,
    "socket for the weights": _socket,
    "kernel from the hub": _config(arrow_config={"hub": "evil/kernel"}),
    "rank in the millions": _config(r=4_000_000),
    "layers by a pattern": _config(layers_to_transform=[0], layers_pattern="(x+x+)+y"),
    "changed embedding": _config(trainable_token_indices=[0, 1]),
    "shape that overflows": _bytes(lambda data, _: _with_header(data, lambda h: h.replace("[4,32]", f"[4,{2**62}]", 1))),
    "negative offset": _bytes(lambda data, _: _with_header(data, lambda h: h.replace('"data_offsets":[0,', '"data_offsets":[-512,', 1))),
    "empty weights": _bytes(lambda _, __: b""),
}

EVERY_PROJECTION: tuple[Projection, ...] = ATTENTION + FEED_FORWARD
