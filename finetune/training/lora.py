"""LoRA on a model: attached for training, written as the folder that serving accepts."""

import importlib.util
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors.torch import save_file

from dialogue.engine.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from finetune.config import LoraSection
from finetune.errors import FinetuneError

Tensors = dict[str, torch.Tensor]


def lora_config(section: LoraSection, task: str = "CAUSAL_LM") -> peft.LoraConfig:
    """Return PEFT's configuration of a recipe's section."""
    targets = section.targets if section.targets == "all-linear" else list(section.targets)
    return peft.LoraConfig(
        r=section.r,
        lora_alpha=section.alpha,  # pyrefly: ignore[bad-argument-type] - a float is taken, and saved as such
        lora_dropout=section.dropout,
        target_modules=targets,
        use_rslora=section.rslora,
        use_dora=section.dora,
        task_type=task,
    )


def attach(model: Any, section: LoraSection, task: str = "CAUSAL_LM") -> Any:
    """Return the model with fresh LoRA layers, the only weights that will be trained, in float32. Raises FinetuneError."""
    if section.quantise == "4bit":
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    try:
        with warnings.catch_warnings():  # peft still asks by a name that transformers will drop
            warnings.simplefilter("ignore", FutureWarning)
            return peft.get_peft_model(model, lora_config(section, task))
    except ValueError as error:
        raise FinetuneError(f"LoRA cannot be attached: {error}", hint="Check train.lora.targets in the recipe.") from error


def attach_trained(model: Any, folder: Path) -> Any:
    """Return the model with the adapter that a run of this program wrote into `folder`; not for folders from elsewhere."""
    if not (folder / WEIGHTS_FILE).is_file():
        raise FinetuneError(f"{folder} holds no {WEIGHTS_FILE}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return peft.PeftModel.from_pretrained(model, str(folder))


def adapted_layers(model: Any) -> list[str]:
    """Return the names, as in the base model, of the layers that carry LoRA."""
    inner = model.get_base_model()
    return [name for name, layer in inner.named_modules() if isinstance(layer, peft.tuners.lora.LoraLayer)]


def quantisation(section: LoraSection) -> dict[str, Any]:
    """Return what loading the base needs for QLoRA, nothing without it. Raises FinetuneError where it cannot be done."""
    if section.quantise == "none":
        return {}
    if not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None:
        what = "a CUDA device" if not torch.cuda.is_available() else "the library bitsandbytes"
        raise FinetuneError(f'train.lora.quantise = "4bit" needs {what}, which is not here.', hint='Set it to "none".')
    settings = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    return {"quantization_config": transformers.BitsAndBytesConfig(**settings)}


def round_weights(model: Any) -> None:
    """Round the trained weights to float16, as they will be stored: what is measured afterwards is what is served."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.copy_(weight.half())


def write_adapter(model: Any, folder: Path, reference: str, metadata: Mapping[str, str]) -> None:
    """Write the two files of an adapter, weights in float16 with `metadata` in their header. `reference` names its base."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = sorted({name.rpartition(".")[2] for name in adapted_layers(model)})  # peft names each layer of a small model
    config = model.active_peft_config.to_dict() | {
        "inference_mode": True,
        "base_model_name_or_path": reference,
        "target_modules": targets,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True, default=sorted) + "\n", encoding="utf-8")
    state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    weights: Tensors = {name: tensor.half().contiguous().cpu() for name, tensor in state.items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt", **metadata})
    (folder / WEIGHTS_FILE).chmod(0o644)  # whoever serves it may be another user
