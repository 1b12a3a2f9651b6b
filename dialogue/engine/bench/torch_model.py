"""A model as transformers loads it, for the arms that stand for transformers itself. Imports torch: in an arm's process alone."""

import warnings
from typing import Any

import peft
import torch
import transformers

from dialogue.engine.bench.device import device_bandwidth
from dialogue.engine.bench.settings import ArmSettings
from dialogue.engine.cpu_cores import usable_cores
from dialogue.engine.local.dequantised import torch_folder
from dialogue.errors import EngineUnavailable


def load_model(settings: ArmSettings) -> Any:
    """Return the model: float32 on a CPU, bfloat16 on CUDA; a GGUF file is dequantised once. Adapters are loaded, not merged."""
    if settings.files is None:
        raise EngineUnavailable("transformers needs a model.")
    torch.set_num_threads(settings.engine.threads or usable_cores())
    cuda = torch.cuda.is_available()
    files = settings.files
    folder = files.path if files.path.is_dir() else torch_folder(files, settings.engine.cache_dir)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if cuda else torch.float32)
    model.generation_config = transformers.GenerationConfig(pad_token_id=0, eos_token_id=None)  # replies have a fixed length
    return _with_adapters(model.to("cuda" if cuda else "cpu").eval(), settings)


def _with_adapters(model: Any, settings: ArmSettings) -> Any:
    if not settings.adapters:
        return model
    first, *others = settings.adapters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, about what peft calls in it
        model = peft.PeftModel.from_pretrained(model, first.path, adapter_name=first.name)
        for adapter in others:
            model.load_adapter(adapter.path, adapter.name)
    return model.eval()


def about(model: Any) -> dict[str, Any]:
    """Return what is worth knowing of a loaded model."""
    cuda = model.device.type == "cuda"
    return {
        "engine": "transformers",
        "attention": model.config._attn_implementation,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(model.device) if cuda else f"{torch.get_num_threads()} CPU threads",
        **({"bandwidth_bytes_per_s": device_bandwidth(model.device)} if cuda else {}),
    }
