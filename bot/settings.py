"""The settings of Kefu, and the only place that reads the environment.

From the strongest to the weakest: command line, environment, `.env`, `./kefu.toml`, `config.toml` in the user's folder for
Kefu, default. A file named by `--config` or KEFU_CONFIG stands instead of both files. Variables are called
`KEFU_SECTION__KEY`; DATABASE_URL, TELEGRAM_BOT_TOKEN and others have their usual names (`USUAL_NAMES`); a secret may lie in a file that
`<NAME>_FILE` names. Other rooms get frozen values from here and know nothing of files or variables.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bot.access_config import AccessConfig
from bot.control import socket_path
from bot.errors import SettingsError
from bot.settings_problems import settings_error
from bot.settings_sections import (
    AccessSection,
    DialogueSection,
    EngineSection,
    HttpSection,
    LimitsSection,
    LoggingSection,
    ModelSection,
    PathsSection,
    RemoteSection,
    SkillModelSection,
    SkillsSection,
    StorageSection,
    TelegramSection,
)
from bot.settings_sources import Layer, flag_layer, toml_layer, variable_layer
from dialogue.config import DialogueConfig, EngineConfig, RemoteConfig
from storage.config import StorageConfig

PROJECT_FILE = Path("kefu.toml")
DOTENV_FILE = Path(".env")
# Read by hand: whatever a password holds, it must neither stop the program nor be shown.
_PASSWORD = re.compile(r"://[^:/@\s]*:(.+)@", re.DOTALL)
_PLACE = re.compile(r"(?P<host>\[[^\]]*\]|[^/:?]*)(?::(?P<port>\d+))?(?P<rest>.*)", re.DOTALL)
DATABASE_NAME = "kefu.db"
BUILT_IN_ENGINES = ("auto", "llamacpp", "local", "remote", "scripted")
ENGINE_ENTRY_POINTS = "kefu.engines"


class Settings(BaseSettings):
    """Everything that can be set. Sections are frozen; secrets never stand in its repr."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    storage: StorageSection = Field(default_factory=StorageSection)
    model: ModelSection = Field(default_factory=ModelSection)
    engine: EngineSection = Field(default_factory=EngineSection)
    remote: RemoteSection = Field(default_factory=RemoteSection)
    skills: SkillsSection = Field(default_factory=SkillsSection)
    dialogue: DialogueSection = Field(default_factory=DialogueSection)
    telegram: TelegramSection = Field(default_factory=TelegramSection)
    access: AccessSection = Field(default_factory=AccessSection)
    http: HttpSection = Field(default_factory=HttpSection)
    logging: LoggingSection = Field(default_factory=LoggingSection)
    limits: LimitsSection = Field(default_factory=LimitsSection)
    paths: PathsSection = Field(default_factory=PathsSection)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let `Settings(...)` hold what it is given and nothing else: files and variables are `load`'s part, which keeps their names."""
        return (init_settings,)

    @property
    def data_dir(self) -> Path:
        """Folder of the database and the control socket. It may not exist yet."""
        folder = self.paths.data_dir or platformdirs.user_data_path("kefu", appauthor=False)
        return folder.expanduser().absolute()

    @property
    def cache_dir(self) -> Path:
        """Folder of the models. It may not exist yet."""
        folder = self.paths.cache_dir or platformdirs.user_cache_path("kefu", appauthor=False)
        return folder.expanduser().absolute()

    @property
    def database_url(self) -> str:
        """The URL of the database, password included: for `storage` only, never for a message."""
        return self.storage.url.get_secret_value() if self.storage.url else f"sqlite:///{self.data_dir / DATABASE_NAME}"

    @property
    def database_file(self) -> Path | None:
        """The SQLite file, absolute; None on PostgreSQL."""
        scheme, _, path = self.database_url.partition(":///")
        return Path(path).expanduser().absolute() if scheme == "sqlite" else None

    @property
    def control_socket(self) -> Path:
        """Where the process that serves this database takes commands."""
        anchor = self.database_file or self.data_dir / f"postgresql-{self._database_digest()}"
        return socket_path(anchor, Path(tempfile.gettempdir()) / f"kefu-{os.getuid()}")  # the same in every session, unlike XDG_RUNTIME_DIR

    def _database_digest(self) -> str:
        """Tell PostgreSQL databases apart, whatever the password: commands for one must never reach the server of another."""
        place = _PLACE.fullmatch(self.database_url.rpartition("@")[2].rpartition("://")[2])
        identity = f"{place['host'].lower()}:{place['port'] or 5432}{place['rest']}" if place else self.database_url
        return hashlib.sha256(identity.encode()).hexdigest()[:12]

    def secrets(self) -> tuple[str, ...]:
        """Every secret value, so that the logs can take care of them."""
        given = [
            secret.get_secret_value()
            for secret in (self.telegram.token, self.telegram.webhook_secret, self.remote.api_key, self.model.hub_token)
            if secret
        ]
        urls = [self.database_url, *([self.model.index_url.get_secret_value()] if self.model.index_url else [])]
        passwords = [found[1] for url in urls if (found := _PASSWORD.search(url))]
        return (*given, *{form for password in passwords for form in (password, unquote(password))})

    def storage_config(self) -> StorageConfig:
        fields = self.storage.model_dump(exclude={"url"})
        return StorageConfig(url=self.database_url, **fields)

    def dialogue_config(self) -> DialogueConfig:
        return DialogueConfig(**self.dialogue.model_dump(exclude={"quiet_window_s"}))

    def access_config(self) -> AccessConfig:
        return AccessConfig(
            owners=frozenset(self.access.owners),
            allow=frozenset(self.access.allow),
            block=frozenset(self.access.block),
            messages_per_minute=self.access.messages_per_minute,
            tokens_per_day=self.access.tokens_per_day,
        )

    def engine_config(self) -> EngineConfig:
        return EngineConfig(
            cache_dir=self.cache_dir,
            model=self.model.reference,
            context_tokens=self.model.context_tokens,
            remote=self._remote_config(),
            **self.engine.model_dump(),
        )

    def skill_models(self) -> Mapping[str, SkillModelSection]:
        """The models that skills have for themselves, by skill."""
        named = {name: getattr(self.skills, name) for name in SkillsSection.model_fields}
        return {name: model for name, model in named.items() if model is not None}

    def _remote_config(self) -> RemoteConfig | None:
        if not self.remote.base_urls:
            return None
        return RemoteConfig(
            base_urls=self.remote.base_urls,
            model=self.remote.model,
            api_key=self.remote.api_key.get_secret_value() if self.remote.api_key else "",
            tokenizer=self.remote.tokenizer,
            adapter_root=self.remote.adapter_root,
            slots=self.remote.slots,
        )


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and where they were looked for."""

    settings: Settings
    files: tuple[Path, ...]  # those that were read, the strongest first
    variables: tuple[str, ...]  # names of the environment variables that were used


def load_settings(flags: Mapping[str, object] | None = None, *, config: Path | None = None) -> Settings:
    """Read every source and return the settings. `flags` maps "section.key" to a value of the command line.

    Raises SettingsError.
    """
    return load(flags, config=config).settings


def load(flags: Mapping[str, object] | None = None, *, config: Path | None = None) -> LoadedSettings:
    """Like `load_settings`, and tell which files and variables were used. Raises SettingsError."""
    environment = _environment()
    dotenv = _dotenv(DOTENV_FILE)
    sections = frozenset(Settings.model_fields)
    layers = [
        flag_layer(flags or {}),
        variable_layer(environment, "environment", sections),
        variable_layer(dotenv, str(DOTENV_FILE), sections),
    ]
    layers += _file_layers(config or _config_variable(environment, dotenv))
    settings = _validate(layers)
    _check_engine(settings)
    files = tuple(layer.path for layer in layers if layer.path is not None)
    return LoadedSettings(settings, ((DOTENV_FILE, *files) if dotenv else files), tuple(layers[1].names.values()))


def _check_engine(settings: Settings) -> None:
    """Notice before anything is fetched or started that there is no such engine, or that it lacks its servers."""
    kinds = (*BUILT_IN_ENGINES, *entry_points(group=ENGINE_ENTRY_POINTS).names)
    if settings.engine.kind not in kinds:
        raise SettingsError("", "[engine] kind", f"there is no engine {settings.engine.kind!r}", f"one of {', '.join(kinds)}")
    if settings.engine.kind == "remote" and not settings.remote.base_urls:
        raise SettingsError("", "[remote] base_urls", 'is needed by [engine] kind = "remote"', "a list of http:// or https:// addresses")


def debug_requested() -> bool:
    """Whether KEFU_DEBUG asks for tracebacks. Never raises: it is asked when something is already wrong."""
    return _environment().get("kefu_debug", "").lower() in {"1", "true", "yes", "on"}


def user_config_file() -> Path:
    """The file in the user's own folder, below `./kefu.toml` in precedence."""
    return platformdirs.user_config_path("kefu", appauthor=False) / "config.toml"


def _environment() -> Mapping[str, str]:
    """The non-empty variables of the process, names in lower case."""
    return _present(EnvSettingsSource(Settings).env_vars)


def _dotenv(path: Path) -> Mapping[str, str]:
    try:
        return _present(DotEnvSettingsSource(Settings, env_file=path, env_file_encoding="utf-8").env_vars)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), "", f"cannot be read ({error})", "a readable UTF-8 file, or none") from error


def _present(variables: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value}


def _config_variable(environment: Mapping[str, str], dotenv: Mapping[str, str]) -> Path | None:
    name = environment.get("kefu_config") or dotenv.get("kefu_config")
    return Path(name) if name else None


def _file_layers(config: Path | None) -> list[Layer]:
    if config is not None:
        return [toml_layer(config.expanduser(), required=True)]
    return [toml_layer(path) for path in (PROJECT_FILE, user_config_file())]


def _validate(layers: list[Layer]) -> Settings:
    sources = tuple(InitSettingsSource(Settings, layer.values) for layer in layers)
    try:
        return Settings(_build_sources=(sources, {}))
    except ValidationError as error:
        raise settings_error(error, Settings, layers) from None
