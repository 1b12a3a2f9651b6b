"""A row's values by what a mapping calls them, whatever the file calls them.

A recipe's `fields` names columns; what it does not name is looked for under the names that data sets of the field use.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from finetune.config import SourceSection
from finetune.errors import DataInvalid
from finetune.sources.rows import Row

LITERAL: Final = "="  # "=en>de" means these words, not a column

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "dialogue_id", "conversation_id"),
    "group": ("group",),
    "language": ("lang", "language"),
    "messages": ("messages", "conversations", "conversation", "turns", "dialogue", "dialog", "utterances"),
    "role": ("role", "speaker", "from", "author", "sender"),
    "content": ("content", "text", "value", "utterance", "message"),
    "transcript": ("transcript", "messages_display", "text", "conversation", "dialogue"),
    "question": ("question", "prompt", "instruction", "query", "user", "customer", "utterance", "input"),
    "input": ("input",),
    "answer": ("answer", "response", "output", "completion", "reply", "assistant", "agent"),
    "document": ("document", "article", "source", "text", "dialogue"),
    "summary": ("summary", "tldr", "highlights", "target", "section_text"),
    "source": ("source",),
    "target": ("target",),
    "direction": ("direction",),
    "text": ("text", "ref", "reference", "output"),
    "topic": ("topic", "instruction", "prompt"),
    "facts": ("facts", "mr", "meaning_representation"),
    "kind": ("kind",),
    "article": ("article", "path", "id"),
    "title": ("title",),
    "heading": ("heading", "question", "title"),
    "body": ("text", "body", "content", "answer"),
    "url": ("url", "permalink"),
}


@dataclass(frozen=True, slots=True)
class Columns:
    """One row, seen through the fields of its source."""

    section: SourceSection
    row: Row

    def name(self, wanted: str) -> str:
        """Return the column that holds `wanted`, "" when there is none."""
        named = self.section.fields.get(wanted)
        if named is not None:
            return named
        there = {str(column).strip().lower().replace(" ", "_"): str(column) for column in self.row.values}
        return next((there[column] for column in COLUMNS[wanted] if column in there), "")

    def find(self, wanted: str) -> Any:
        """Return the value, or None where the row has none. Raises DataInvalid when a column is missing that the recipe names."""
        column = self.name(wanted)
        if column.startswith(LITERAL):
            return column[1:]
        value = walk(self.row.values, column) if column else MISSING
        if value is MISSING and column:
            raise self.row.problem("missing column", column)
        return None if value is MISSING else value

    def need(self, wanted: str) -> Any:
        """Return the value. Raises DataInvalid when its column is missing."""
        if not self.name(wanted):
            raise self.row.problem("missing column", self.section.fields.get(wanted) or " or ".join(COLUMNS[wanted]) or wanted)
        return self.find(wanted)

    def text(self, wanted: str) -> str:
        """Return the value as text; "" when the row has none."""
        value = self.find(wanted)
        return "" if value is None else as_text(value)

    def texts(self, wanted: str) -> list[str]:
        """Return the values of a column that must be there; one value is a list of one."""
        value = self.need(wanted)
        return [as_text(one) for one in value] if isinstance(value, list) else [as_text(value)]


class _Missing:
    """What is not there; None is a value."""


MISSING: Final = _Missing()


def walk(value: Any, path: str) -> Any:
    """Return what `path` leads to: through objects by name, through lists for each item. A name with dots in it comes first."""
    if isinstance(value, list):
        found = [walk(item, path) for item in value]
        return MISSING if any(item is MISSING for item in found) else found
    if not isinstance(value, dict):
        return MISSING
    if path in value:
        return value[path]
    name, dot, rest = path.partition(".")
    return walk(value[name], rest) if dot and name in value else MISSING


def as_text(value: Any) -> str:
    """Return a value of a file as text: of a list of content parts, the text of those that have one."""
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(as_text(part) for part in value)
    if isinstance(value, dict):
        return as_text(value.get("text"))
    return value if isinstance(value, str) else str(value)


def broadcast(row: Row, *lists: list[str]) -> list[tuple[str, ...]]:
    """Return the lists side by side; one of length 1 stands beside every item of the others. Raises DataInvalid."""
    length = max(map(len, lists))
    if any(len(each) not in {1, length} for each in lists):
        raise DataInvalid(row.file, row.line, "lists of different lengths")
    return list(zip(*(each * length if len(each) == 1 else each for each in lists), strict=True))
