"""From files to a decoder that can be served: weights, tokenizer, and what adapters are checked against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from dialogue.engine.local.decoder_model import DecoderModel
from dialogue.engine.local.decoder_trial import settle_attention
from dialogue.engine.local.dequantised import first_line, torch_folder
from dialogue.engine.local.int8_matrix import int8_works
from dialogue.engine.local.kv_store import KvStore, bytes_per_token
from dialogue.engine.local.lora_layers import has_known_layers, round_weights
from dialogue.engine.local.memory import is_out_of_memory
from dialogue.engine.model_files import ModelFiles
from dialogue.errors import EngineUnavailable, ModelError
from dialogue.tokenizer import CONFIG_NAME, Tokenizer, read_json

FULL: Final = "full"
INT8: Final = "int8"
CODE_KEY: Final = "auto_map"  # by which transformers would find code in the folder
STRETCHED_ROPE: Final = frozenset({"dynamic", "longrope"})  # they look at the longest position of a row, and ours holds many requests


@dataclass(frozen=True, slots=True)
class LoadedDecoder:
    """A model in memory."""

    model: DecoderModel
    tokenizer: Tokenizer
    eos_ids: frozenset[int]
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Needs:
    """How much a model has to hold at once."""

    context_tokens: int  # of one request
    slots: int  # requests that run
    cache_bytes: int  # for the keys and values of conversations that do not
    weights: str = FULL  # or INT8, on a CPU
    graphs: bool = True  # on a GPU, replay recorded steps


def load_decoder(files: ModelFiles, cache_dir: Path, needs: Needs) -> LoadedDecoder:
    """Load a model: in float32 or int8 on a CPU, in bfloat16 on a GPU. Takes seconds. Raises EngineUnavailable."""
    try:
        tokenizer = Tokenizer.load(files.tokenizer_path)
        folder = files.path if files.path.is_dir() else torch_folder(files, cache_dir)
        weights = load_weights(folder)
    except ModelError as error:
        raise EngineUnavailable(str(error)) from error
    if needs.weights == INT8:
        _round(weights)
    model = DecoderModel(weights, _store(weights, needs), graphs=needs.graphs)
    if needs.weights == INT8:
        model.lora.merge_with(partial(load_weights, folder))
    settle_attention(model)
    return LoadedDecoder(
        model=model,
        tokenizer=tokenizer,
        eos_ids=tokenizer.eos_ids | frozenset(_listed(weights.generation_config.eos_token_id)),
        vocabulary=weights.config.vocab_size,
    )


def load_weights(folder: Path) -> Any:
    """Return the causal language model in a folder, on the device. Only safetensors are opened, no code is run. Raises ModelError."""
    for name in ("config.json", CONFIG_NAME):
        if CODE_KEY in read_json(folder / name):
            raise ModelError(f"The model in {folder} wants to run code of its own ({CODE_KEY}); such models are not loaded.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    try:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # the library raises whatever its parts raise
        raise ModelError(f"{folder} cannot be loaded as a causal language model: {first_line(error)}") from error
    if report["missing_keys"]:
        raise ModelError(f"The model in {folder} lacks weights, such as {min(report['missing_keys'])}.")
    if not has_known_layers(model):
        raise ModelError(f"The engine local cannot serve a {type(model).__name__}: its layers are not laid out as those of Llama.")
    if stretched := STRETCHED_ROPE & _rope_types(getattr(model.config, "rope_parameters", None) or {}):
        raise ModelError(f"The positions of the model in {folder} are stretched ({min(stretched)}), which depends on the other requests.")
    return model.eval().to(device)


def _round(model: Any) -> None:
    """Round the layers to int8. Raises EngineUnavailable where there is nothing to multiply them with: whoever asks for it has a reason."""
    if model.device.type != "cpu":
        raise EngineUnavailable('Weights in int8 are for CPUs. On a GPU let the setting engine.weights be "full".')
    if not int8_works():
        raise EngineUnavailable('This CPU or this torch does not multiply int8 rightly. Let the setting engine.weights be "full".')
    round_weights(model)


def _rope_types(parameters: Mapping[str, Any]) -> set[str]:
    """Return the kinds of rotary positions: one for all layers, or one by type of layer."""
    by_layer = [each for each in parameters.values() if isinstance(each, dict)]
    return {str(each["rope_type"]) for each in (parameters, *by_layer) if "rope_type" in each}


def _store(model: Any, needs: Needs) -> KvStore:
    """Return as many places as there is memory for, down to those of one request. Raises EngineUnavailable."""
    places = needs.slots * needs.context_tokens + needs.cache_bytes // bytes_per_token(model)
    while True:
        try:
            return KvStore(model, places)
        except Exception as error:
            if not is_out_of_memory(error) or places <= needs.context_tokens:
                raise EngineUnavailable(f"no keys and values of {places} tokens can be kept: {first_line(error)}") from error
            places = max(needs.context_tokens, places // 2)


def _listed(value: int | Sequence[int] | None) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else list(value)
