"""Which text and entities Telegram takes, and what it shows of them. Offsets and lengths are UTF-16 code units.

Telegram refuses little: it repairs. It replaces control characters, trims, and silently drops formatting that it cannot nest. `validate`
raises for what is refused; `strict=True` also raises for what would silently change, which is what a renderer should be tested with.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Entity = Mapping[str, Any]

TEXT_LIMIT = 4096
CAPTION_LIMIT = 1024
KEPT_ENTITIES = 100  # those behind are ignored, without an error
ENTITIES_BYTES = 9500  # approximate

_SPLITTABLE = frozenset({"bold", "italic", "underline", "strikethrough", "spoiler"})
_PRE = frozenset({"pre", "code", "date_time"})
_QUOTES = frozenset({"blockquote", "expandable_blockquote"})
_CONTINUOUS = frozenset({"text_link", "text_mention", "custom_emoji"})
_USER_KINDS = _SPLITTABLE | _PRE | _QUOTES | _CONTINUOUS
_FOUND_BY_TELEGRAM = frozenset({"mention", "hashtag", "cashtag", "bot_command", "url", "email", "phone_number", "bank_card_number"})
_REQUIRED_FIELD = {"text_link": "url", "text_mention": "user", "custom_emoji": "custom_emoji_id", "date_time": "unix_time"}

_DROPPED = "\r\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u0333\u033f\u030a"
_UNCLEAN = re.compile(f"[\x00-\x09\x0b-\x1f{_DROPPED}]")


class TextRefused(ValueError):
    """`description` is Telegram's own, without "Bad Request: "."""

    def __init__(self, description: str) -> None:
        super().__init__(description)
        self.description = description


def utf16_length(text: str) -> int:
    """Count the UTF-16 code units of a text."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def validate(text: str, entities: Sequence[Entity] = (), *, limit: int = TEXT_LIMIT, strict: bool = False) -> None:
    """Raise TextRefused if Telegram would not take this; with `strict` also if it would change it."""
    shown, kept = shown_as(text, entities, limit=limit)
    if strict:
        _require_unchanged(text, entities, shown, kept)


def shown_as(
    text: str, entities: Sequence[Entity] = (), *, limit: int = TEXT_LIMIT, allow_empty: bool = False
) -> tuple[str, list[dict[str, Any]]]:
    """Return the text and the entities that people see; raise TextRefused if there are none."""
    if not text and not allow_empty:
        raise TextRefused("message text is empty")
    _require_utf8(text)
    own = _sorted([entity for entity in map(_parsed, entities) if entity is not None])
    _require_inside(text, own)
    clean, own = _cleaned(text, own)
    clean, own = _trimmed(clean, _nestable(own))
    if not clean and not allow_empty:
        raise TextRefused("text must be non-empty")
    if utf16_length(clean) > limit:
        raise TextRefused("message is too long" if limit == TEXT_LIMIT else "message caption is too long")
    own = own[:KEPT_ENTITIES]
    _require_small(own)
    return clean, own


def silent_changes(text: str, entities: Sequence[Entity]) -> Iterator[str]:
    """Yield a sentence for each thing that Telegram would change without an error; the text itself has to be valid."""
    shown, kept = shown_as(text, entities)
    if shown != text:
        yield "the text would be trimmed or cleaned"
    lost = len(entities) - len(kept)
    if lost:
        yield f"{lost} entities would be dropped"
    elif [_place(entity) for entity in _sorted([dict(entity) for entity in entities])] != [_place(entity) for entity in kept]:
        yield "entities would be moved or shortened"


def _require_unchanged(text: str, entities: Sequence[Entity], shown: str, kept: Sequence[Entity]) -> None:
    if shown != text or len(kept) != len(entities):
        raise TextRefused("; ".join(silent_changes(text, entities)))


def _require_utf8(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TextRefused("strings must be encoded in UTF-8") from None


def _parsed(entity: Entity) -> dict[str, Any] | None:
    """Return the entity, or None for a kind that Telegram finds itself and ignores in requests."""
    for name in ("offset", "length", "type"):
        if name not in entity:
            raise TextRefused(f"can't parse MessageEntity: Can't find field \"{name}\"")
    kind = entity["type"]
    if kind in _FOUND_BY_TELEGRAM:
        return None
    if kind not in _USER_KINDS:
        raise TextRefused("can't parse MessageEntity: Unsupported type specified")
    required = _REQUIRED_FIELD.get(kind)
    if required and not entity.get(required):
        raise TextRefused(f"can't parse MessageEntity: Can't find field \"{required}\"")
    return dict(entity)


def _require_inside(text: str, entities: Sequence[Entity]) -> None:
    if not entities:
        return
    borders = _borders(text)
    last = borders[-1]
    allowed = set(borders)
    for entity in entities:
        start, length = entity["offset"], entity["length"]
        if not 0 <= start <= 1_000_000:
            raise TextRefused(f"receive an entity with incorrect offset {start}")
        if not 0 <= length <= 1_000_000:
            raise TextRefused(f"receive an entity with incorrect length {length}")
        if length == 0:
            continue
        if start > last:
            raise TextRefused(f"entity begins after the end of the text at UTF-16 offset {start}")
        if start + length > last:
            raise TextRefused(f"entity beginning at UTF-16 offset {start} ends after the end of the text at UTF-16 offset {start + length}")
        if start not in allowed:
            raise TextRefused(f"entity begins in a middle of a UTF-16 symbol at byte offset {_byte_offset(text, start)}")
        if start + length not in allowed:
            where = _byte_offset(text, start + length)
            raise TextRefused(f"entity beginning at UTF-16 offset {start} ends in a middle of a UTF-16 symbol at byte offset {where}")


def _borders(text: str) -> list[int]:
    """Return the offset before each character, and that of the end."""
    borders = [0]
    for character in text:
        borders.append(borders[-1] + (2 if character > "\uffff" else 1))
    return borders


def _byte_offset(text: str, offset: int) -> int:
    """Return where the character ends that a UTF-16 offset splits."""
    return len(text.encode("utf-16-le")[: 2 * offset + 2].decode("utf-16-le").encode())


def _cleaned(text: str, entities: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    if _UNCLEAN.search(text) is None:
        return text, [entity for entity in entities if entity["length"]]
    moved: dict[int, int] = {}
    old = new = 0
    kept = []
    for character in text:
        moved[old] = new
        width = 2 if character > "\uffff" else 1
        old += width
        if character not in _DROPPED:
            new += width
            kept.append(" " if character < " " and character != "\n" else character)
    moved[old] = new
    return "".join(kept), _moved(entities, moved)


def _moved(entities: list[dict[str, Any]], moved: Mapping[int, int]) -> list[dict[str, Any]]:
    placed = []
    for entity in entities:
        start, end = moved.get(entity["offset"], 0), moved.get(entity["offset"] + entity["length"], 0)
        placed.append({**entity, "offset": start, "length": end - start})
    return [entity for entity in placed if entity["length"] > 0]


def _trimmed(text: str, entities: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    right = text.rstrip(" \n")
    end = utf16_length(right)
    clipped = [{**entity, "length": min(entity["length"], end - entity["offset"])} for entity in entities if entity["offset"] < end]
    clipped = [entity for entity in clipped if not _is_blank(right, entity)]  # before the left end: what is not shown holds no blank
    first = min((entity["offset"] for entity in clipped), default=end)
    left = min(len(right) - len(right.lstrip(" \n")), first)
    return right[left:], [{**entity, "offset": entity["offset"] - left} for entity in clipped]


def _is_blank(text: str, entity: Entity) -> bool:
    if text.isascii():
        return not text[entity["offset"] : entity["offset"] + entity["length"]].strip()
    units = text.encode("utf-16-le")
    return not units[2 * entity["offset"] : 2 * (entity["offset"] + entity["length"])].decode("utf-16-le").strip()


def _nestable(entities: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop what cannot be shown: anything that crosses pre or code, and nested or crossing kinds that cannot be."""
    kept: list[dict[str, Any]] = []
    for entity in sorted(entities, key=lambda entity: entity["type"] not in _PRE):
        if all(_can_stand_with(entity, other) for other in kept):
            kept.append(entity)
    return _sorted(kept)


def _can_stand_with(entity: Entity, other: Entity) -> bool:
    if _end(entity) <= other["offset"] or _end(other) <= entity["offset"]:
        return True
    kinds = {entity["type"], other["type"]}
    if len(kinds) == 1 or kinds <= _QUOTES or kinds <= _CONTINUOUS:
        return False
    if kinds & _PRE:
        inner, outer = (entity, other) if entity["type"] in _PRE else (other, entity)
        return outer["type"] in _QUOTES and _contains(outer, inner)
    return kinds <= _SPLITTABLE or _contains(entity, other) or _contains(other, entity)


def _contains(outer: Entity, inner: Entity) -> bool:
    return bool(outer["offset"] <= inner["offset"] and _end(inner) <= _end(outer))


def _end(entity: Entity) -> int:
    return int(entity["offset"] + entity["length"])


def _require_small(entities: Sequence[Entity]) -> None:
    fields = ("url", "language", "custom_emoji_id")
    if sum(12 + sum(len(str(entity.get(name, "")).encode()) for name in fields) for entity in entities) > ENTITIES_BYTES:
        raise TextRefused("ENTITIES_TOO_LONG")


def _sorted(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(entities, key=lambda entity: (entity["offset"], -entity["length"]))


def _place(entity: Entity) -> tuple[int, int, str]:
    return entity["offset"], entity["length"], entity["type"]
