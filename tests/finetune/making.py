"""Samples, sources and recipes for the tests of preparation."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from dialogue.messages import ChatMessage, Role
from finetune.config import Recipe, SourceSection, parse_recipe
from finetune.ledger import Item
from finetune.samples import Kind, Sample

DATA: Final = Path(__file__).parent / "data" / "prepare"


def talk(*texts: str) -> tuple[ChatMessage, ...]:
    """Return turns that alternate, the customer's first."""
    return tuple(ChatMessage((Role.USER, Role.ASSISTANT)[number % 2], text) for number, text in enumerate(texts))


def sample(*texts: str, name: str = "s:1", group: str = "", **more: Any) -> Sample:
    """Return a dialogue of these texts."""
    kind = Kind.DIALOGUE if len(texts) > 2 else Kind.ANSWER
    return Sample(name, kind, "support", more.pop("language", "en"), group or name, more.pop("source", "s"), talk(*texts), **more)


def item(*texts: str, name: str = "s:1", group: str = "", **more: Any) -> Item:
    """Return a sample on its way."""
    return Item(sample(*texts, name=name, group=group, **more), "file.jsonl", 1)


def section(path: Path, **more: Any) -> SourceSection:
    """Return the description of a source."""
    return SourceSection.model_validate({"name": "s", "licence": "CC0-1.0", "path": path, **more})


def recipe(*sources: dict[str, Any], folder: Path = DATA, **more: Any) -> Recipe:
    """Return a recipe as a file in `folder` would give it."""
    described = [{"name": f"s{number}", "licence": "CC0-1.0", **source} for number, source in enumerate(sources, start=1)]
    return parse_recipe({"name": "test", "source": described, **more}, "recipe.toml", folder)


def write_lines(path: Path, rows: Iterable[object]) -> Path:
    """Write rows as JSONL; a string is a line as it is."""
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def faq(number: int) -> dict[str, str]:
    """Return one question with its answer; different numbers are no near duplicates."""
    word = "".join(chr(97 + int(digit)) for digit in str(number))
    return {
        "question": f"Where can I find the {word} manual for my {word * 2} machine, please?",
        "answer": f"The {word} manual lies on shelf {number} of room {word * 3}, and on our page about {word * 2} machines.",
    }
