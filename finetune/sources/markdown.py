"""Help articles in Markdown as rows: one for each section that begins with a heading."""

import re
from collections.abc import Iterator
from typing import Any, Final

from markdown_it import MarkdownIt

_FRONT_MATTER: Final = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_ENTRY: Final = re.compile(r"^([A-Za-z_][\w-]*):[ \t]+(.+?)[ \t]*$", re.MULTILINE)
_QUOTES: Final = ("'", '"')
_PARSER: Final = MarkdownIt()


def read_sections(text: str, article: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and values of each section that has words: article, title, heading, level, text, and the front matter's entries.

    What stands before the first heading belongs to the title.
    """
    front = front_matter(text)
    body = _FRONT_MATTER.sub(lambda match: "\n" * match[0].count("\n"), text)  # line numbers stay
    lines = body.splitlines()
    headings = _headings(body)
    title = front.get("title") or (headings[0][2] if headings else article.rpartition("/")[2])
    for begin, end, heading, level, number in _sections(headings, title, len(lines)):
        words = "\n".join(lines[begin:end]).strip()
        if words:
            yield number, {**front, "article": article, "title": title, "heading": heading, "level": level, "text": words}


def front_matter(text: str) -> dict[str, str]:
    """Return the plain entries of the front matter, such as title and permalink; lists and nested ones are left out."""
    match = _FRONT_MATTER.match(text)
    return {name: _unquoted(value) for name, value in _ENTRY.findall(match[1])} if match else {}


def _headings(body: str) -> list[tuple[int, int, str, int]]:
    """Return first line, line after, words and level of each heading."""
    tokens = _PARSER.parse(body)
    return [
        (token.map[0], token.map[1], tokens[index + 1].content, int(token.tag[1]))
        for index, token in enumerate(tokens)
        if token.type == "heading_open" and token.map and token.level == 0
    ]


def _sections(headings: list[tuple[int, int, str, int]], title: str, lines: int) -> Iterator[tuple[int, int, str, int, int]]:
    """Yield first line and line after of the words, heading, level, and the number of the line where the section begins."""
    ends = [heading[0] for heading in headings[1:]] + [lines]
    yield 0, headings[0][0] if headings else lines, title, 1, 1
    for (first, after, words, level), end in zip(headings, ends, strict=False):
        yield after, end, words, level, first + 1


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES else value
