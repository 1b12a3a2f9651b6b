"""Methods that show nothing in a chat: who the bot is, its commands, its webhook, files, answers to buttons."""

from typing import Any
from urllib.parse import urlsplit

from bot.channels.telegram.fake_chats import Json, bad_request
from bot.channels.telegram.fake_params import Params
from bot.channels.telegram.fake_state import State

DOWNLOAD_BYTES = 20 * 1024 * 1024
MAX_COMMANDS = 100
_SECRET_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_COMMAND_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


def get_me(state: State, _params: Params) -> Json:
    return {
        **state.bot.json(),
        "can_join_groups": True,
        "can_read_all_group_messages": True,  # every message of a group is delivered
        "has_topics_enabled": any(chat.threads for chat in state.chats.values() if chat.chat_id > 0),
        "supports_inline_queries": False,
        "can_connect_to_business": False,
        "has_main_web_app": False,
    }


def get_chat(state: State, params: Params) -> Json:
    chat = state.chat_for(params.get("chat_id"), to_write=False)
    return {**chat.json(), "accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": _gifts()}


def leave_chat(state: State, params: Params) -> bool:
    chat = state.chat_for(params.get("chat_id"))
    if chat.chat_id > 0:
        raise bad_request("chat member status can't be changed in private chats")
    chat.is_member = False
    state.changed()
    return True


def get_file(state: State, params: Params) -> Json:
    file_id = params.text("file_id")
    if not file_id:
        raise bad_request("file_id not specified")
    if file_id not in state.files:
        raise bad_request("wrong file_id or the file is temporarily unavailable")
    path, content = state.files[file_id]
    if len(content) > DOWNLOAD_BYTES:
        raise bad_request("file is too big")
    return {"file_id": file_id, "file_unique_id": path, "file_size": len(content), "file_path": path}


def answer_callback_query(state: State, params: Params) -> bool:
    text = params.text("text")
    if len(text) > 200:
        raise bad_request("MESSAGE_TOO_LONG")
    state.answer_press(params.text("callback_query_id"), text)
    return True


def set_my_commands(state: State, params: Params) -> bool:
    commands = params.structure("commands", "can't parse commands JSON object")
    if not isinstance(commands, list):
        raise bad_request("expected an Array of BotCommand")
    if len(commands) > MAX_COMMANDS:
        raise bad_request("BOT_COMMANDS_TOO_MUCH")
    state.commands[_scope(params)] = [_checked_command(command) for command in commands]
    return True


def get_my_commands(state: State, params: Params) -> list[Json]:
    return state.commands.get(_scope(params), [])


def delete_my_commands(state: State, params: Params) -> bool:
    state.commands.pop(_scope(params), None)
    return True


def set_webhook(state: State, params: Params) -> bool:
    """As a local Bot API server does: HTTP and every port are allowed."""
    url = params.text("url")
    if url:
        _check_webhook(url, params.text("secret_token"))
    allow_updates(state, params)
    if params.flag("drop_pending_updates"):
        state.updates.clear()
    connections = min(max(params.integer("max_connections", 40), 1), 100)
    state.webhook = {"url": url, "secret": params.text("secret_token"), "max_connections": connections} if url else {}
    state.changed()
    return True


def delete_webhook(state: State, params: Params) -> bool:
    if params.flag("drop_pending_updates"):
        state.updates.clear()
    state.webhook = {}
    state.changed()
    return True


def get_webhook_info(state: State, _params: Params) -> Json:
    info = {"url": state.webhook.get("url", ""), "has_custom_certificate": False, "pending_update_count": len(state.updates)}
    if state.webhook:
        info |= {"max_connections": state.webhook["max_connections"], "ip_address": "127.0.0.1"}
    info |= {name: state.webhook[name] for name in ("last_error_date", "last_error_message") if name in state.webhook}
    allowed = state.updates.allowed()
    return info | ({"allowed_updates": allowed} if allowed else {})


def allow_updates(state: State, params: Params) -> None:
    """Take over `allowed_updates` if the call names any; what waits already stays."""
    kinds = params.entities("allowed_updates")
    if "allowed_updates" in params.values:
        state.updates.allow([str(kind) for kind in kinds])


def _check_webhook(url: str, secret: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise bad_request("invalid webhook URL specified")
    if len(secret) > 256:
        raise bad_request("secret token is too long")
    if not set(secret) <= _SECRET_CHARACTERS:
        raise bad_request("secret token contains unallowed characters")


def _checked_command(command: Any) -> Json:
    if not isinstance(command, dict):
        raise bad_request("can't parse BotCommand: expected an Object")
    name, description = str(command.get("command", "")).removeprefix("/"), str(command.get("description", ""))
    if not 1 <= len(name) <= 32 or not set(name) <= _COMMAND_CHARACTERS:
        raise bad_request("BOT_COMMAND_INVALID")
    if not 1 <= len(description) <= 256:
        raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
    return {**command, "command": name, "description": description}


def _scope(params: Params) -> str:
    scope = params.structure("scope", "can't parse BotCommandScope JSON object") or {"type": "default"}
    return f"{sorted(scope.items())} {params.text('language_code')}"


def _gifts() -> Json:
    names = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")
    return dict.fromkeys(names, False)
