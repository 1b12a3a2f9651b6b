"""The layers that settings come from, each with the name that an operator knows it by. Reads files, never the environment."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bot.errors import SettingsError

Key = tuple[str, str]  # section, name

USUAL_NAMES: Mapping[str, Key] = {
    "database_url": ("storage", "url"),
    "telegram_bot_token": ("telegram", "token"),
    "pip_index_url": ("model", "index_url"),
    "hf_endpoint": ("model", "hub_url"),
    "hf_token": ("model", "hub_token"),
}
SECRETS: frozenset[Key] = frozenset(
    {
        ("storage", "url"),
        ("telegram", "token"),
        ("telegram", "webhook_secret"),
        ("remote", "api_key"),
        ("model", "index_url"),
        ("model", "hub_token"),
    }
)
MAX_FILE_BYTES = 1_048_576

_PREFIX = "kefu_"
_FILE_SUFFIX = "_file"


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one source."""

    values: dict[str, object]  # section → name → value, as deep as the source has it
    where: str  # a file's path, "environment" or "command line"
    names: Mapping[Key, str] = field(default_factory=dict)  # what the operator wrote for a key, where that is not section.name
    path: Path | None = None  # the file, if it was one and was there

    def holds(self, location: tuple[str, ...]) -> bool:
        """Whether this layer has a value at `location`."""
        value: object = self.values
        for part in location:
            if not isinstance(value, dict) or part not in value:
                return False
            value = value[part]
        return True


def flag_layer(flags: Mapping[str, object]) -> Layer:
    """Values of the command line, given as "section.name"."""
    values: dict[str, object] = {}
    for dotted, value in flags.items():
        section, _, name = dotted.partition(".")
        _put(values, (section, name), value)
    return Layer(values, "command line")


def toml_layer(path: Path, *, required: bool = False) -> Layer:
    """Values of a TOML file; nothing if it is not there and not `required`. Raises SettingsError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        if required:
            raise SettingsError(str(path), "", "there is no such file", "the path of a kefu.toml; `kefu init` writes one") from None
        return Layer({}, str(path))
    except OSError as error:
        raise SettingsError(str(path), "", f"cannot be read ({error.strerror})", "a file that this user may read") from None
    return Layer(_parse_toml(path, raw), str(path), path=path)


def _parse_toml(path: Path, raw: bytes) -> dict[str, object]:
    if len(raw) > MAX_FILE_BYTES:
        raise SettingsError(str(path), "", f"is larger than {MAX_FILE_BYTES} bytes", "a settings file")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SettingsError(str(path), "", f"is not UTF-8 (byte {error.start})", "a TOML file in UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(str(path), "", f"is not valid TOML: {error}", "lines such as `name = value` below a `[section]`") from None


def variable_layer(variables: Mapping[str, str], where: str, sections: frozenset[str]) -> Layer:
    """Values of variables whose names are in lower case: KEFU_SECTION__KEY, the usual names, and `<NAME>_FILE` for secrets.

    KEFU_SECTION__KEY wins over the usual name, a value over a file. `sections` are those that exist: KEFU_SECTION alone is
    a mistake, other names that merely begin with KEFU_ are not ours. Raises SettingsError.
    """
    values: dict[str, object] = {}
    names: dict[Key, str] = {}
    for name in sorted(variables, key=_weakest_first):
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) in sections:
            raise SettingsError("" if where == "environment" else where, name.upper(), "names a section", f"{name.upper()}__KEY")
        located = _locate(name)
        if located is None:
            continue
        key, is_file = located
        names[key] = name.upper()
        _put(values, key, _read_secret(Path(variables[name]), name.upper()) if is_file else variables[name])
    return Layer(values, where, names)


def _weakest_first(name: str) -> tuple[bool, bool, str]:
    return name.startswith(_PREFIX), not name.endswith(_FILE_SUFFIX), name


def _locate(name: str) -> tuple[Key, bool] | None:
    """Return the key that a variable names and whether it names a file that holds it; None if it is not ours."""
    key = _key_of(name)
    secret = _key_of(name.removesuffix(_FILE_SUFFIX)) if name.endswith(_FILE_SUFFIX) else None
    if secret in SECRETS and secret is not None:
        return secret, True
    return (key, False) if key is not None else None


def _key_of(name: str) -> Key | None:
    if name in USUAL_NAMES:
        return USUAL_NAMES[name]
    section, separator, key = name.removeprefix(_PREFIX).partition("__")
    return (section, key) if name.startswith(_PREFIX) and separator else None


def _read_secret(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(
            name, "", f"names a file that cannot be read ({path}: {reason})", "the path of a file that holds the secret"
        ) from None
    if not text:
        raise SettingsError(name, "", f"names an empty file ({path})", "the path of a file that holds the secret")
    return text


def _put(values: dict[str, object], key: Key, value: object) -> None:
    section = values.setdefault(key[0], {})
    if isinstance(section, dict):
        section[key[1]] = value
