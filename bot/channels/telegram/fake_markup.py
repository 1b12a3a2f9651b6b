"""HTML and MarkdownV2 to text and entities, as far as bots use them, with Telegram's errors. Legacy Markdown is refused."""

import html
import re
from typing import Any

from bot.channels.telegram.fake_text import TextRefused, utf16_length

Json = dict[str, Any]

_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)((?:\s[^<>]*)?)>")
_ATTRIBUTE = re.compile(r"""([\w-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?""")
_KIND_OF_TAG = {
    "b": "bold", "strong": "bold", "i": "italic", "em": "italic", "u": "underline", "ins": "underline", "s": "strikethrough",
    "strike": "strikethrough", "del": "strikethrough", "tg-spoiler": "spoiler", "span": "spoiler", "a": "text_link", "code": "code",
    "pre": "pre", "blockquote": "blockquote", "tg-emoji": "custom_emoji",
}  # fmt: skip
_KIND_OF_MARK = {"*": "bold", "_": "italic", "__": "underline", "~": "strikethrough", "||": "spoiler"}
_RESERVED = frozenset("_*[]()~`>#+-=|{}.!")


def parsed(text: str, mode: str) -> tuple[str, list[Json]]:
    """Return the text without its marks, and its entities; raise TextRefused."""
    match mode.lower():
        case "html":
            return _HtmlParser(text).run()
        case "markdownv2":
            return _MarkdownParser(text).run()
        case _:
            raise TextRefused("unsupported parse_mode")


class _Output:
    """Text and entities so far."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0
        self.entities: list[Json] = []

    def write(self, text: str) -> None:
        self.parts.append(text)
        self.length += utf16_length(text)

    def close(self, kind: str, start: int, fields: Json) -> None:
        if self.length > start:
            self.entities.append({"type": kind, "offset": start, "length": self.length - start, **fields})

    def result(self) -> tuple[str, list[Json]]:
        return "".join(self.parts), self.entities


class _HtmlParser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._out = _Output()
        self._open: list[tuple[str, int, Json]] = []

    def run(self) -> tuple[str, list[Json]]:
        position = 0
        while position < len(self._source):
            start = self._source.find("<", position)
            if start < 0:
                break
            self._out.write(html.unescape(self._source[position:start]))
            position = self._take_tag(start)
        self._out.write(html.unescape(self._source[position:]))
        if self._open:
            raise _refused(f'Can\'t find end tag corresponding to start tag "{self._open[-1][0]}"')
        return self._out.result()

    def _take_tag(self, start: int) -> int:
        tag = _TAG.match(self._source, start)
        where = len(self._source[:start].encode())
        if tag is None:
            raise _refused(f'Unsupported start tag "{self._source[start + 1 : start + 2]}" at byte offset {where}')
        name = tag[2].lower()
        if tag[1]:
            self._end(name, where)
        elif name not in _KIND_OF_TAG:
            raise _refused(f'Unsupported start tag "{name}" at byte offset {where}')
        else:
            self._open.append((name, self._out.length, _fields(name, tag[3])))
        return tag.end()

    def _end(self, name: str, where: int) -> None:
        if not self._open:
            raise _refused(f"Unexpected end tag at byte offset {where}")
        opened, start, fields = self._open.pop()
        if opened != name:
            raise _refused(f'Unmatched end tag at byte offset {where}, expected "</{opened}>", found "</{name}>"')
        language = fields.pop("language", None)
        if name == "code" and self._open and self._open[-1][0] == "pre":
            if language:
                self._open[-1][2]["language"] = language
            return
        if name == "pre" and language:
            fields["language"] = language
        kind = fields.pop("kind", _KIND_OF_TAG[name])
        if name != "a" or fields.get("url"):
            self._out.close(kind, start, fields)


def _fields(name: str, attributes: str) -> Json:
    given = {match[1].lower(): html.unescape(match[2] or match[3] or match[4] or "") for match in _ATTRIBUTE.finditer(attributes)}
    match name:
        case "a":
            return {"url": given.get("href", "")}
        case "code" if given.get("class", "").startswith("language-"):
            return {"language": given["class"].removeprefix("language-")}
        case "tg-emoji":
            return {"custom_emoji_id": given.get("emoji-id", "")}
        case "blockquote" if "expandable" in given:
            return {"kind": "expandable_blockquote"}
        case _:
            return {}


class _MarkdownParser:
    """MarkdownV2."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._position = 0
        self._out = _Output()
        self._open: list[tuple[str, int, int]] = []  # mark, where it began in the text and in the source

    def run(self) -> tuple[str, list[Json]]:
        while self._position < len(self._source):
            self._step()
        if self._open:
            mark, _, where = self._open[-1]
            raise _refused(f"Can't find end of {_name_of(mark)} entity at byte offset {where}")
        return self._out.result()

    def _step(self) -> None:
        rest = self._source[self._position :]
        character = rest[0]
        if character == "\\" and len(rest) > 1 and rest[1] < "\x7f":
            self._write(rest[1], 2)
        elif rest.startswith("```"):
            self._take_pre(rest)
        elif character == "`":
            self._take_code(rest)
        elif character == "]" and self._open and self._open[-1][0] == "[":
            self._end_link(rest)
        elif character == "[":
            self._begin("[")
        elif mark := next((mark for mark in ("__", "||", "*", "_", "~") if rest.startswith(mark)), ""):
            self._toggle(mark)
        elif character in _RESERVED and not (character == ">" and (self._position == 0 or self._source[self._position - 1] == "\n")):
            raise _refused(f"Character '{character}' is reserved and must be escaped with the preceding '\\'")
        elif character == ">":
            self._take_quote()
        else:
            self._write(character, 1)

    def _write(self, text: str, taken: int) -> None:
        self._out.write(text)
        self._position += taken

    def _begin(self, mark: str) -> None:
        self._open.append((mark, self._out.length, len(self._source[: self._position].encode())))
        self._position += len(mark)

    def _toggle(self, mark: str) -> None:
        if self._open and self._open[-1][0] == mark:
            _, start, _ = self._open.pop()
            self._position += len(mark)
            self._out.close(_KIND_OF_MARK[mark], start, {})
        else:
            self._begin(mark)

    def _end_link(self, rest: str) -> None:
        _, start, where = self._open.pop()
        if not rest.startswith("]("):
            self._position += 1
            return
        end = re.search(r"(?<!\\)\)", rest)
        if end is None:
            raise _refused(f"Can't find end of a URL at byte offset {where}")
        self._position += end.end()
        self._out.close("text_link", start, {"url": re.sub(r"\\(.)", r"\1", rest[2 : end.start()])})

    def _take_pre(self, rest: str) -> None:
        end = rest.find("```", 3)
        if end < 0:
            raise _refused(f"Can't find end of Pre entity at byte offset {len(self._source[: self._position].encode())}")
        language = re.match(r"(\S*)\n", rest[3:end])
        body = rest[3 + (language.end() if language else 0) : end]
        self._take_verbatim("pre", body, end + 3, {"language": language[1]} if language and language[1] else {})

    def _take_code(self, rest: str) -> None:
        end = re.search(r"(?<!\\)`", rest[1:])
        if end is None:
            raise _refused(f"Can't find end of Code entity at byte offset {len(self._source[: self._position].encode())}")
        self._take_verbatim("code", rest[1 : end.start() + 1], end.end() + 1, {})

    def _take_verbatim(self, kind: str, body: str, taken: int, fields: Json) -> None:
        start = self._out.length
        self._write(re.sub(r"\\([`\\])", r"\1", body), taken)
        self._out.close(kind, start, fields)

    def _take_quote(self) -> None:
        lines = re.match(r"(?:>[^\n]*(?:\n|$))+", self._source[self._position :])
        body = "" if lines is None else re.sub(r"^>", "", lines[0], flags=re.MULTILINE)
        start = self._out.length
        text, entities = _MarkdownParser(body.removesuffix("\n")).run()
        self._out.entities += [{**entity, "offset": entity["offset"] + start} for entity in entities]
        self._write(text, 0 if lines is None else lines.end())
        self._out.close("blockquote", start, {})
        if body.endswith("\n"):
            self._out.write("\n")


def _name_of(mark: str) -> str:
    return "Url" if mark == "[" else _KIND_OF_MARK[mark].title()


def _refused(problem: str) -> TextRefused:
    return TextRefused(f"can't parse entities: {problem}")
