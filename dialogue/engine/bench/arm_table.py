"""The arms: what each one is, what it needs, and on which workloads it says something."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import util
from typing import Any, Final, Literal

from dialogue.engine.bench.machine import has_cuda
from dialogue.engine.bench.workload import ADAPTERS, LONG_PREFILL, MULTI_TURN, SINGLE, WORKLOADS
from dialogue.engine.model_files import ModelFiles
from dialogue.errors import ConfigurationInvalid

TORCH_LIBRARIES: Final = ("torch", "transformers", "peft")
Has = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class ArmKind:
    """One way to answer."""

    name: str
    says: str  # for people
    builder: str  # of `child.BUILDERS`
    needs: Literal["", "torch", "cuda", "gguf", "url"]
    workloads: tuple[str, ...] = WORKLOADS
    batches: bool = True  # requests run together, as many as there are slots
    adapters: int = 0  # that it always has, whatever the workload; the first one answers everybody
    engine: Mapping[str, Any] = field(default_factory=dict)  # changes of the engine's settings
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def on_torch(self) -> bool:
        """Whether torch computes."""
        return self.needs in {"torch", "cuda"}


_NO_ADAPTERS: Final = (SINGLE, MULTI_TURN, LONG_PREFILL)

ARMS: Final = (
    ArmKind("generate", "transformers.generate, one request after the other", "generate", "torch", batches=False),
    ArmKind("static", "transformers.generate in padded batches", "generate", "torch", options={"width": "slots"}),
    ArmKind("continuous", "transformers' continuous batching", "continuous", "torch", _NO_ADAPTERS),
    ArmKind("local", "Kefu's engine on torch", "engine", "torch", engine={"kind": "local"}),
    ArmKind("local-uncached", "the same without its prefix cache", "ablation", "torch", (MULTI_TURN,), options={"without": "cache"}),
    ArmKind("local-int8", "the same with weights in int8", "engine", "torch", (SINGLE,), engine={"kind": "local", "weights": "int8"}),
    ArmKind("local-no-graphs", "the same without recorded steps", "ablation", "cuda", (SINGLE,), options={"without": "graphs"}),
    ArmKind(
        "local-no-overlap",
        "the same, no step launched ahead",
        "ablation",
        "cuda",
        (SINGLE,),
        options={"without": "overlap"},
    ),
    ArmKind(
        "local-unmerged", "the same, its one adapter beside the weights", "engine", "torch", (SINGLE,), adapters=2, engine={"kind": "local"}
    ),
    ArmKind(
        "local-merged", "the same, one merged adapter for everybody", "engine", "torch", (ADAPTERS,), adapters=1, engine={"kind": "local"}
    ),
    ArmKind("llamacpp", "Kefu's engine on llama.cpp", "engine", "gguf", engine={"kind": "llamacpp"}),
    ArmKind(
        "llamacpp-no-speculation",
        "the same without guesses",
        "engine",
        "gguf",
        (SINGLE, MULTI_TURN),
        engine={"kind": "llamacpp", "speculation": False},
    ),
    ArmKind("raw", "xllamacpp, nothing of Kefu", "raw", "gguf"),
    ArmKind("url", "the server at --url, nothing of Kefu", "url", "url", _NO_ADAPTERS),
)
BY_NAME: Final = {kind.name: kind for kind in ARMS}
BASE_ARMS: Final = ("llamacpp", "llamacpp-no-speculation", "raw")  # those of the base install
OURS: Final = tuple(kind.name for kind in ARMS if kind.builder in {"engine", "ablation"})
BASELINES: Final = tuple(kind.name for kind in ARMS if kind.name not in OURS)


def chosen(names: Sequence[str]) -> tuple[ArmKind, ...]:
    """Return the arms of these names, in the table's order; "all" means every one. Raises ConfigurationInvalid."""
    unknown = sorted(set(names) - {*BY_NAME, "all"})
    if unknown:
        error = ConfigurationInvalid(f"There is no arm {', '.join(unknown)}.")
        error.hint = f"Arms are: {', '.join(BY_NAME)}; all = every one."
        raise error
    return tuple(kind for kind in ARMS if "all" in names or kind.name in names)


def lacking(kind: ArmKind, files: ModelFiles | None, url: str, *, has: Has | None = None) -> str:
    """Return why an arm cannot be measured here, in a sentence; "" = it can."""
    if not kind.needs:
        return ""
    if kind.needs == "url":
        return "" if url else "It needs a server: name one with --url."
    if kind.needs == "gguf":
        return "" if files is not None and not files.path.is_dir() else "It needs a GGUF file: let --model name one."
    has = has or (lambda library: util.find_spec(library) is not None)
    if missing := [library for library in TORCH_LIBRARIES if not has(library)]:
        return f"It needs {' and '.join(missing)}. Install it with: pip install 'kefu[torch]'"
    if kind.needs == "cuda" and not has_cuda():
        return "It needs a CUDA device: on a CPU the engine has no such part."
    return "" if files is not None else "It needs a model: let --model name one."


def measures(kind: ArmKind, workload: str) -> bool:
    """Whether an arm has a part in a workload."""
    return workload in kind.workloads


def needs_adapters(kind: ArmKind, workload: str) -> bool:
    """Whether an arm has its adapters in a workload. Such runs have a process of their own."""
    return workload == ADAPTERS or kind.adapters > 0
