"""The only shape of adapter_config.json that is accepted: what PEFT 0.21 writes for plain LoRA, and nothing else.

Every key that could name code, other files or a changed base model must have its harmless value. Keys that PEFT does not
write are refused, so that a new feature of a later PEFT is looked at before it is trusted.
"""

import json
import math
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dialogue.engine.lora_pairs import ATTENTION, FEED_FORWARD, Projection
from dialogue.errors import AdapterRejected

ModuleName = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
Label = Annotated[str, Field(max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$")]


Config = TypeVar("Config", bound="LoraConfig")


class LoraConfig(BaseModel):
    """What every checked adapter_config.json has. Only the first block has an effect; the rest is fixed or a label."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    peft_type: Literal["LORA"]
    r: Annotated[int, Field(ge=1, le=256)]
    lora_alpha: Annotated[float, Field(gt=0, le=4096)]
    use_rslora: bool = False

    # Labels and matters of training: recorded, never followed.
    base_model_name_or_path: Label | None = None
    revision: Label | None = None
    peft_version: Label | None = None
    inference_mode: bool = True
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # Other initialisations (PiSSA, OLoRA, CorDA, LoftQ …) change the base weights, which are then not the ones served here.
    init_lora_weights: bool | Literal["gaussian", "orthogonal"] = True
    qalora_group_size: int = 16

    # Names code to import, files to read or another layout: only PEFT's default is harmless.
    auto_mapping: None = None
    megatron_config: None = None
    megatron_core: Literal["megatron.core"] | None = None
    bias: Literal["none"] = "none"
    fan_in_fan_out: Literal[False] = False
    modules_to_save: None = None
    exclude_modules: None = None
    layers_to_transform: None = None
    layers_pattern: None = None
    layer_replication: None = None
    rank_pattern: Annotated[dict[str, int], Field(max_length=0)] = Field(default_factory=dict)
    alpha_pattern: Annotated[dict[str, int], Field(max_length=0)] = Field(default_factory=dict)
    target_parameters: None = None
    trainable_token_indices: None = None
    ensure_weight_tying: Literal[False] = False
    use_dora: Literal[False] = False
    use_qalora: Literal[False] = False
    use_bdlora: None = None
    lora_bias: Literal[False] = False
    loftq_config: Annotated[dict[str, int], Field(max_length=0)] | None = None
    eva_config: None = None
    corda_config: None = None
    lora_ga_config: None = None
    arrow_config: None = None
    kasa_config: None = None
    velora_config: None = None
    monteclora_config: None = None
    alora_invocation_tokens: None = None

    @property
    def scaling(self) -> float:
        """What B·A is multiplied with."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)


class AdapterConfig(LoraConfig):
    """The adapter of a decoder."""

    task_type: Literal["CAUSAL_LM"]
    target_modules: Annotated[list[Projection], Field(min_length=1, max_length=7)] | Literal["all-linear"]

    @property
    def projections(self) -> tuple[Projection, ...]:
        """The projections that carry a LoRA pair in every layer, in the order of the model."""
        every = ATTENTION + FEED_FORWARD
        return every if self.target_modules == "all-linear" else tuple(name for name in every if name in self.target_modules)


class Seq2SeqAdapterConfig(LoraConfig):
    """The adapter of an encoder–decoder. The families name their layers differently: the model itself says which exist."""

    task_type: Literal["SEQ_2_SEQ_LM"]
    target_modules: Annotated[list[ModuleName], Field(min_length=1, max_length=1024)] | Literal["all-linear"]


def parse_config(data: bytes) -> AdapterConfig:
    """Return the checked adapter_config.json of a decoder's adapter. Raises AdapterRejected."""
    config = strict_json(data, "adapter_config.json")
    if isinstance(config, dict) and config.get("task_type") == "SEQ_2_SEQ_LM":
        raise AdapterRejected("The adapter belongs to an encoder–decoder, which a skill names: as [skills.translate] adapter, for example.")
    return parse_lora_config(data, AdapterConfig)


def parse_lora_config(data: bytes, kind: type[Config]) -> Config:
    """Return the checked adapter_config.json of this kind. Raises AdapterRejected."""
    try:
        return kind.model_validate(strict_json(data, "adapter_config.json"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key = ascii(".".join(str(part) for part in first["loc"][:2]))[:80]
        raise AdapterRejected(f"adapter_config.json: the key {key} is refused ({first['msg'].lower()}).") from None


def strict_json(data: bytes, name: str) -> object:
    """Return the JSON in `data`; duplicate keys, NaN, absurd depth and bad UTF-8 are refused. Raises AdapterRejected."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise AdapterRejected(f"{name} is not plain JSON with unique keys.") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def _no_constant(name: str) -> object:
    raise ValueError(name)
