"""What llama.cpp loads: an adapter as GGUF LoRA, a model as float32 GGUF."""

from pathlib import Path

from safetensors import safe_open

from dialogue.engine.adapters import BaseModelFacts, load_adapter
from dialogue.engine.lora_gguf import ServedFiles, served_facts, write_gguf
from dialogue.engine.lora_pairs import ATTENTION, FEED_FORWARD, Projection
from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import PUBLIC_SOURCES
from dialogue.tokenizer import read_json
from finetune.errors import FinetuneError
from finetune.training.base_model import BaseFiles, find_base
from finetune.training.gguf_export import ARCHITECTURES, export_gguf
from finetune.training.gguf_model import write_file, write_float_gguf
from finetune.training.merge import base_of
from finetune.training.run_folder import read_run


def export_adapter(run: Path, target: Path, cache_dir: Path, sources: ModelSources = PUBLIC_SOURCES) -> Path:
    """Write the adapter of a finished run as a GGUF file. Raises FinetuneError, ModelError and AdapterRejected."""
    base = base_of(read_run(run), cache_dir, sources)
    facts = _facts(base, cache_dir)
    adapter = load_adapter(run / "adapter", facts)
    write_file(target, lambda path: write_gguf(adapter, facts, path))
    return target


def export_model(reference: str, target: Path, cache_dir: Path, sources: ModelSources = PUBLIC_SOURCES) -> Path:
    """Write a model, a transformers' folder or a GGUF file of any kind, as float32 GGUF. Raises FinetuneError and ModelError."""
    path = Path(reference)
    if path.is_dir():
        return export_gguf(path, target)
    files = find_base(reference, cache_dir, sources).files
    return write_float_gguf(files.path, {}, target)


def _facts(base: BaseFiles, cache_dir: Path) -> BaseModelFacts:
    """Return what the adapter must fit. Raises FinetuneError and AdapterRejected."""
    if base.files.path.is_file():
        hashes = (base.tokenizer.sha256, base.template.sha256)
        return served_facts(ServedFiles(base.files.path, base.files.sha256, *hashes), cache_dir)
    config = read_json(base.folder / "config.json")
    if base.files.architecture not in ARCHITECTURES:
        raise FinetuneError(f"Adapters of the kind {base.files.architecture!a} cannot be written as GGUF.")
    heads = int(config["num_attention_heads"])
    return BaseModelFacts(
        architecture=ARCHITECTURES[base.files.architecture],
        sha256=base.files.sha256,
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        projections=_projections(base.folder),
        tokenizer_sha256=base.tokenizer.sha256,
        template_sha256=base.template.sha256,
    )


def _projections(folder: Path) -> dict[Projection, tuple[int, int]]:
    """Return the shapes of the first layer's projections: the kinds that are known have equal layers."""
    shapes: dict[Projection, tuple[int, int]] = {}
    wanted = {f"model.layers.0.{block}.{name}.weight": name for block, names in _BLOCKS for name in names}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            for name in wanted.keys() & set(tensors.keys()):
                outputs, inputs = tensors.get_slice(name).get_shape()
                shapes[wanted[name]] = (outputs, inputs)
    return shapes


_BLOCKS = (("self_attn", ATTENTION), ("mlp", FEED_FORWARD))
