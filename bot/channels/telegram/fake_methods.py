"""Methods that show something in a chat: messages, edits, documents, drafts. Each takes state and parameters and gives the result."""

from typing import Any

from bot.channels.telegram.fake_body import Upload
from bot.channels.telegram.fake_chats import ApiRefused, Chat, Json, Message, bad_request
from bot.channels.telegram.fake_keyboard import checked_markup
from bot.channels.telegram.fake_markup import parsed
from bot.channels.telegram.fake_params import Params
from bot.channels.telegram.fake_state import State
from bot.channels.telegram.fake_text import CAPTION_LIMIT, TEXT_LIMIT, TextRefused, shown_as, silent_changes

UPLOAD_BYTES = 50 * 1024 * 1024
RICH_TEXT_LIMIT = 32_768
NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same as a current content and reply markup "
    "of the message"
)
ACTIONS = frozenset({
    "typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice", "upload_document", "choose_sticker",
    "find_location", "record_video_note", "upload_video_note", "cancel",
})  # fmt: skip


def send_message(state: State, params: Params) -> Message:
    content = _text_content(state, params, "message is too long")
    markup = _markup(params)
    chat = state.chat_for(params.get("chat_id"))
    return _send(state, chat, params, content, markup)


def send_document(state: State, params: Params) -> Message:
    chat = state.chat_for(params.get("chat_id"))
    document = _document(state, params, params.text("document"), "document")
    return _send(state, chat, params, {"document": document, **_caption(params.get, params.entities("caption_entities"))}, _markup(params))


def send_rich_message(state: State, params: Params) -> Message:
    content = _rich_content(params)
    return _send(state, state.chat_for(params.get("chat_id")), params, content, _markup(params))


def edit_message_text(state: State, params: Params) -> Message:
    content = _rich_content(params) if params.get("rich_message") is not None else _text_content(state, params, "MESSAGE_TOO_LONG")
    markup = _markup(params)
    message = _editable(state, params)
    if "text" not in message.content:
        raise bad_request("there is no text in the message to edit")
    return _edit(state, message, content, markup)


def edit_message_caption(state: State, params: Params) -> Message:
    message = _editable(state, params)
    if "text" in message.content:
        raise bad_request("there is no caption in the message to edit")
    caption = _caption(params.get, params.entities("caption_entities"))
    kept = {name: value for name, value in message.content.items() if not name.startswith("caption")}
    return _edit(state, message, {**kept, **caption}, _markup(params))


def edit_message_reply_markup(state: State, params: Params) -> Message:
    markup = _markup(params)
    message = _editable(state, params)
    return _edit(state, message, message.content, markup)


def edit_message_media(state: State, params: Params) -> Message:
    """Documents only; a text message becomes a document, as Telegram allows."""
    media = params.structure("media", "can't parse input media JSON object")
    if not isinstance(media, dict):
        raise bad_request("can't parse InputMedia: expected an Object")
    if media.get("type") != "document":
        raise bad_request(f'can\'t parse InputMedia: type "{media.get("type")}" is unsupported')
    message = _editable(state, params)
    document = _document(state, params, str(media.get("media", "")), "media")
    content = {"document": document, **_caption(media.get, media.get("caption_entities") or [])}
    return _edit(state, message, content, _markup(params))


def delete_message(state: State, params: Params) -> bool:
    chat = state.chat_for(params.get("chat_id"))
    message = state.message_for(chat, params.integer("message_id"), "message to delete")
    if state.date() > message.date + 48 * 3600:
        raise bad_request("message can't be deleted")
    message.is_deleted = True
    state.changed()
    return True


def send_message_draft(state: State, params: Params) -> bool:
    """An empty text is shown as "Thinking…"."""
    text, _ = _formatted(params, params.text("text"), allow_empty=True)
    return _show_draft(state, params, text)


def send_rich_message_draft(state: State, params: Params) -> bool:
    return _show_draft(state, params, _rich_content(params)["text"])


def send_chat_action(state: State, params: Params) -> bool:
    action = params.text("action")
    if action not in ACTIONS:
        raise bad_request("wrong parameter action in request")
    chat = state.chat_for(params.get("chat_id"))
    state.actions.append((state.now(), chat.chat_id, action))
    state.changed()
    return True


def _send(state: State, chat: Chat, params: Params, content: Json, markup: Json | None) -> Message:
    thread = _thread(chat, params)
    reply_to = _reply_target(state, chat, params)
    return state.add_message(chat, state.bot, content, reply_to=reply_to, thread=thread, markup=markup)


def _thread(chat: Chat, params: Params) -> int:
    thread = params.integer("message_thread_id")
    if thread and thread not in chat.threads:
        raise bad_request("message thread not found")
    return max(thread, 0)


def _reply_target(state: State, chat: Chat, params: Params) -> int:
    wanted = params.structure("reply_parameters", "can't parse reply parameters JSON object") or {}
    if not isinstance(wanted, dict):
        raise bad_request("object expected as reply parameters")
    reply_to = int(wanted.get("message_id", 0)) or params.integer("reply_to_message_id")
    if not reply_to:
        return 0
    try:
        return state.message_for(chat, reply_to, "message to be replied").message_id
    except ApiRefused:
        if wanted.get("allow_sending_without_reply") or params.flag("allow_sending_without_reply"):
            return 0
        raise


def _editable(state: State, params: Params) -> Message:
    chat = state.chat_for(params.get("chat_id"))
    message = state.message_for(chat, params.integer("message_id"), "message to edit")
    if message.sender is not state.bot:
        raise bad_request("message can't be edited")
    return message


def _edit(state: State, message: Message, content: Json, markup: Json | None) -> Message:
    if message.content == content and message.markup == markup:
        raise bad_request(NOT_MODIFIED)
    message.show(content, markup, state.date())
    state.changed()
    return message


def _show_draft(state: State, params: Params, text: str) -> bool:
    draft_id = params.integer("draft_id")
    if draft_id == 0:
        raise bad_request("RANDOM_ID_INVALID")
    chat = state.chat_for(params.get("chat_id"))
    if chat.chat_id < 0:
        raise bad_request("TEXTDRAFT_PEER_INVALID")
    thread = _thread(chat, params)
    state.show_draft(chat, draft_id, thread, text, can_stop=params.flag("can_stop"), keep_on_stop=params.flag("keep_on_stop"))
    return True


def _text_content(state: State, params: Params, too_long: str) -> Json:
    text = params.text("text")
    try:
        shown, entities = _formatted(params, text)
    except ApiRefused as refused:
        # An edit that is too long only in UTF-16 is refused further inside, in other words.
        if refused.description == "Bad Request: message is too long" and len(text) <= TEXT_LIMIT:
            raise bad_request(too_long) from None
        raise
    _note_lost_formatting(state, params, text)
    return {"text": shown, "entities": entities} if entities else {"text": shown}


def _formatted(params: Params, text: str, *, allow_empty: bool = False) -> tuple[str, list[Json]]:
    try:
        mode = params.text("parse_mode")
        text, entities = parsed(text, mode) if mode else (text, params.entities("entities"))
        return shown_as(text, entities, allow_empty=allow_empty)
    except TextRefused as refused:
        raise bad_request(refused.description) from None


def _note_lost_formatting(state: State, params: Params, text: str) -> None:
    entities = params.entities("entities")
    if entities and not params.text("parse_mode") and any("entities" in change for change in silent_changes(text, entities)):
        state.lost_formatting.append((params.integer("chat_id"), text))


def _caption(get: Any, entities: list[Any]) -> Json:
    text, mode = str(get("caption") or ""), str(get("parse_mode") or "")
    try:
        text, entities = parsed(text, mode) if mode else (text, entities)
        shown, kept = shown_as(text, entities, limit=CAPTION_LIMIT, allow_empty=True)
    except TextRefused as refused:
        raise bad_request(refused.description) from None
    content: Json = {"caption": shown} if shown else {}
    return content | ({"caption_entities": kept} if kept else {})


def _rich_content(params: Params) -> Json:
    rich = params.structure("rich_message", "can't parse rich message JSON object")
    forms = [name for name in ("html", "markdown", "blocks") if isinstance(rich, dict) and rich.get(name)]
    if len(forms) != 1:
        raise bad_request("exactly one of html, markdown and blocks must be specified")
    source = str(rich[forms[0]])
    if len(source) > RICH_TEXT_LIMIT:
        raise bad_request("message is too long")
    return {"text": source, "rich_message": rich}


def _document(state: State, params: Params, wanted: str, field: str) -> Json:
    name = wanted.removeprefix("attach://") if wanted.startswith("attach://") else field
    upload = params.uploads.get(name)
    if upload is None:
        return _known_file(state, wanted)
    if not upload.content:
        raise bad_request("file must be non-empty")
    if len(upload.content) > UPLOAD_BYTES:
        raise ApiRefused(413, "Request Entity Too Large")
    return _stored(state, upload)


def _stored(state: State, upload: Upload) -> Json:
    return {"file_name": upload.name, **state.store_file("document", upload.content, upload.name)}


def _known_file(state: State, file_id: str) -> Json:
    if file_id not in state.files:
        raise bad_request("wrong file identifier/HTTP URL specified")
    path, content = state.files[file_id]
    return {"file_id": file_id, "file_unique_id": path, "file_size": len(content), "file_name": path.rpartition("/")[2]}


def _markup(params: Params) -> Json | None:
    return checked_markup(params.structure("reply_markup", "can't parse reply keyboard markup JSON object"))
