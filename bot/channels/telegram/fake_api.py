"""One call of the Bot API: fault, limit, method, fault. What the bot gets to see and what takes effect are two things here."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bot.channels.telegram import fake_account, fake_methods
from bot.channels.telegram.fake_chats import ApiRefused, Call, Json, Message, bad_request
from bot.channels.telegram.fake_faults import Fault, FaultKind, Faults
from bot.channels.telegram.fake_params import Params
from bot.channels.telegram.fake_people import People
from bot.channels.telegram.fake_state import State

Method = Callable[[State, Params], Any]
Later = Callable[[float, Callable[[], None]], None]

DRAFTS = frozenset({"sendmessagedraft", "sendrichmessagedraft"})
COUNTED = DRAFTS | {
    "sendmessage", "senddocument", "sendrichmessage", "editmessagetext", "editmessagecaption", "editmessagemedia", "editmessagereplymarkup",
}  # fmt: skip

METHODS: dict[str, tuple[str, Method]] = {  # name → the version of the API that brought it, and what it does
    "getme": ("1.0", fake_account.get_me),
    "getchat": ("2.1", fake_account.get_chat),
    "leavechat": ("2.1", fake_account.leave_chat),
    "getfile": ("1.0", fake_account.get_file),
    "answercallbackquery": ("2.0", fake_account.answer_callback_query),
    "setmycommands": ("4.7", fake_account.set_my_commands),
    "getmycommands": ("4.7", fake_account.get_my_commands),
    "deletemycommands": ("5.3", fake_account.delete_my_commands),
    "setwebhook": ("1.0", fake_account.set_webhook),
    "deletewebhook": ("2.3", fake_account.delete_webhook),
    "getwebhookinfo": ("2.2", fake_account.get_webhook_info),
    "sendmessage": ("1.0", fake_methods.send_message),
    "senddocument": ("1.0", fake_methods.send_document),
    "sendchataction": ("1.0", fake_methods.send_chat_action),
    "editmessagetext": ("2.0", fake_methods.edit_message_text),
    "editmessagecaption": ("2.0", fake_methods.edit_message_caption),
    "editmessagereplymarkup": ("2.0", fake_methods.edit_message_reply_markup),
    "editmessagemedia": ("4.0", fake_methods.edit_message_media),
    "deletemessage": ("3.0", fake_methods.delete_message),
    "sendmessagedraft": ("9.5", fake_methods.send_message_draft),
    "sendrichmessage": ("10.1", fake_methods.send_rich_message),
    "sendrichmessagedraft": ("10.1", fake_methods.send_rich_message_draft),
}

NEW_PARAMETERS = {"rich_message": "10.1", "can_stop": "10.3", "keep_on_stop": "10.3"}

HTML_PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<h1>502 Bad Gateway</h1>\r\n</body>\r\n</html>\r\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back over the connection, and how."""

    code: int
    body: bytes
    retry_after: int = 0
    content_type: str = "application/json"
    fault: Fault | None = None  # of the connection: LOST, HANG, SLOW, TRUNCATED, BROKEN, LATE, LATE_HANG


class Api:
    """Answers calls. `later(seconds, action)` runs an action after a while."""

    def __init__(self, people: People, faults: Faults, *, version: str, later: Later) -> None:
        self.state = people.state
        self._people = people
        self.faults = faults
        self._version = _version(version)
        self._later = later
        self._unsettled: list[Callable[[], None]] = []

    def settle(self) -> int:
        """Let every call that was to take effect late take effect now; return how many there were."""
        unsettled = tuple(self._unsettled)
        for effect in unsettled:
            effect()
        return len(unsettled)

    def call(self, method: str, params: Params) -> Reply:
        """Answer a call; `method` is in lower case."""
        since, run = METHODS.get(method, ("", None))
        if run is None or _version(since) > self._version:
            return self._refuse(method, params, ApiRefused(404, "Not Found: method not found"))
        params = self._known(params)
        fault = self.faults.next(method)
        refusal = self.refusal(method, params, fault)
        if refusal is not None:
            return refusal
        return self._run(method, run, params, fault)

    def _known(self, params: Params) -> Params:
        """Leave out what this version does not know: a server passes over such parameters."""
        unknown = {name for name, since in NEW_PARAMETERS.items() if _version(since) > self._version}
        return Params({name: value for name, value in params.values.items() if name not in unknown}, params.uploads)

    def refuse(self, method: str, code: int, description: str) -> Reply:
        """Answer a call that reaches no method."""
        return self._refuse(method, Params({}, {}), ApiRefused(code, description))

    def refusal(self, method: str, params: Params, fault: Fault | None) -> Reply | None:
        """Return the reply to a call that has no effect; None if it may have one."""
        chat, now = params.integer("chat_id"), self.state.now()
        if fault is not None:
            refused = self._faulty(method, params, fault, now)
            if refused is not None:
                return refused
        if method not in COUNTED:
            return None
        wait_s = self.state.limiter.retry_after(method, chat, now, is_draft=method in DRAFTS)
        return self._refuse(method, params, _too_many(wait_s)) if wait_s else None

    def _faulty(self, method: str, params: Params, fault: Fault, now: float) -> Reply | None:
        chat = params.integer("chat_id")
        match fault.kind:
            case FaultKind.BROKEN | FaultKind.DOWN:
                self._record(method, params, "no response", 0, fault=fault)
                return Reply(0, b"", fault=fault)
            case FaultKind.BUSY:
                seconds = self.state.limiter.punish(chat, fault.after_s, now, is_draft=method in DRAFTS)
                return self._refuse(method, params, _too_many(seconds), fault)
            case FaultKind.ERROR:
                return self._refuse(method, params, ApiRefused(fault.status, "Internal Server Error"), fault)
            case FaultKind.ERROR_HTML:
                self._record(method, params, "a page of HTML", fault.status, fault=fault)
                return Reply(fault.status, HTML_PAGE, content_type="text/html")
            case FaultKind.UNAUTHORIZED:
                return self._refuse(method, params, ApiRefused(401, "Unauthorized"), fault)
            case FaultKind.BLOCKED if chat in self.state.chats:
                self._people.block(chat=chat)
            case FaultKind.MIGRATED if chat in self.state.chats and self.state.chats[chat].kind == "group":
                self._people.migrate(chat=chat)
        return None

    def _run(self, method: str, run: Method, params: Params, fault: Fault | None) -> Reply:
        kind = None if fault is None else fault.kind
        if fault is not None and kind in {FaultKind.LATE, FaultKind.LATE_HANG}:
            self._postpone(lambda: self._effect(method, run, params, fault), fault.after_s)
            return Reply(0, b"", fault=fault)
        if kind is FaultKind.ENTITIES and params.values.get("entities"):
            return self._refuse(method, params, bad_request("can't parse entities: this time"), fault)
        reply = self._effect(method, run, params, fault)
        if kind is FaultKind.NOT_MODIFIED and reply.code == 200:
            return _error_reply(bad_request(fake_methods.NOT_MODIFIED))
        return Reply(reply.code, reply.body, reply.retry_after, fault=fault)

    def _postpone(self, effect: Callable[[], object], after_s: float) -> None:
        def once() -> None:
            if once in self._unsettled:
                self._unsettled.remove(once)
                effect()

        self._unsettled.append(once)
        if after_s > 0:
            self._later(after_s, once)

    def _effect(self, method: str, run: Method, params: Params, fault: Fault | None) -> Reply:
        try:
            result = run(self.state, params)
        except ApiRefused as refused:
            return self._refuse(method, params, refused, fault)
        message_id = result.message_id if isinstance(result, Message) else 0
        self._record(method, params, "ok", 200, message_id=message_id, fault=fault)
        shown = result.json() if isinstance(result, Message) else result
        return Reply(200, json.dumps({"ok": True, "result": shown}).encode())

    def _refuse(self, method: str, params: Params, refused: ApiRefused, fault: Fault | None = None) -> Reply:
        self._record(method, params, refused.description, refused.code, fault=fault)
        return _error_reply(refused)

    def _record(self, method: str, params: Params, outcome: str, code: int, *, message_id: int = 0, fault: Fault | None = None) -> None:
        what = "" if fault is None else str(fault.kind)
        chat = params.integer("chat_id")
        self.state.transcript.append(Call(self.state.now(), method, chat, params.for_transcript(), outcome, code, message_id, what))
        self.state.changed()


def _too_many(seconds: int) -> ApiRefused:
    return ApiRefused(429, f"Too Many Requests: retry after {seconds}", {"retry_after": seconds})


def _error_reply(refused: ApiRefused) -> Reply:
    body: Json = {"ok": False, "error_code": refused.code, "description": refused.description}
    if refused.parameters:
        body["parameters"] = refused.parameters
    retry_after = int((refused.parameters or {}).get("retry_after", 0))
    return Reply(refused.code, json.dumps(body).encode(), retry_after)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")) if text else (0,)
