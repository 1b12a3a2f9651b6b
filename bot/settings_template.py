"""Writes a commented kefu.toml from the settings themselves, so that the file and the program cannot drift apart."""

import inspect
import json
import textwrap
from collections.abc import Mapping

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bot.settings import Settings
from bot.settings_problems import allowed_values

UNSET_MARK = "  # example; unset by default"

_HEAD = """\
# Settings of Kefu. Every key below shows its default; take the # away to change one.
#
# Strongest first: command line, environment (KEFU_SECTION__KEY, DATABASE_URL, TELEGRAM_BOT_TOKEN), .env, this file,
# config.toml in your own folder for Kefu. Keep secrets out of this file: TELEGRAM_BOT_TOKEN_FILE, DATABASE_URL_FILE and
# KEFU_REMOTE__API_KEY_FILE name files that hold them. `kefu doctor` checks what is set.
"""
_WIDTH = 110


def render_template() -> str:
    """Return the text of a kefu.toml in which every setting is explained and commented out."""
    return _HEAD + "".join(_section(name, field) for name, field in Settings.model_fields.items())


def _section(name: str, field: FieldInfo) -> str:
    model = field.annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"[{name}] is no section")
    lines = [f"\n[{name}]", *_comment(inspect.cleandoc(model.__doc__ or ""))]
    for key, setting in model.model_fields.items():
        lines += ["", *_comment(f"{setting.description} Allowed: {allowed_values(Settings, name, key)}."), _assignment(key, setting)]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def _assignment(key: str, setting: FieldInfo) -> str:
    if setting.default is None:
        return f"#{key} = {_toml(setting.examples[0] if setting.examples else '')}{UNSET_MARK}"
    return f"#{key} = {_toml(setting.get_default(call_default_factory=True))}"


def _toml(value: object) -> str:
    """Return a scalar, a tuple or a table of scalars as TOML; JSON writes the first two in the same way."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
