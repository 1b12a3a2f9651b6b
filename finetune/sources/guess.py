"""A recipe for one source that has none: what its columns mean is guessed from their names, and told."""

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from finetune.config import Recipe, SourceSection
from finetune.errors import DataInvalid, FinetuneError
from finetune.sources.columns import Columns
from finetune.sources.mapping import map_row
from finetune.sources.read import read_rows, source_files
from finetune.sources.rows import Row

_LOOKED_AT: Final = 20  # rows
_TRIED: Final = ("messages", "transcript", "pairs", "summary")  # by how sure their columns are
_WANTED: Final = {
    "messages": ("messages",),
    "transcript": ("transcript",),
    "pairs": ("question", "answer"),
    "summary": ("document", "summary"),
}
_ARTICLES: Final = ("heading", "body")
_NO_NAME: Final = re.compile(r"[^a-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Guess:
    """A recipe, and the sentences that say what was guessed."""

    recipe: Recipe
    told: tuple[str, ...]


def guess_recipe(path: Path, model: str) -> Guess:
    """Return a recipe that tunes `model` with the file or folder.

    Raises FinetuneError when its columns say nothing, and RecipeInvalid when it is missing.
    """
    name = _NO_NAME.sub("-", path.resolve().stem.lower()).strip("-_") or "source"
    section = SourceSection(name=name, path=path.absolute(), licence="unknown: it was prepared without a recipe", language="")
    file = source_files(section, str(path))[0]
    rows = [row for row in islice(read_rows(file, section), _LOOKED_AT) if isinstance(row, Row)]
    if file.suffix.lower() == ".md":
        return _guess(section.model_copy(update={"map": "articles"}), _ARTICLES, rows[0] if rows else None, model)
    for mapping in _TRIED:
        tried = section.model_copy(update={"map": mapping})
        if rows and _fits(tried, rows[0]):
            return _guess(tried, _WANTED[mapping], rows[0], model)
    columns = ", ".join(rows[0].values) if rows else "no row could be read"
    raise FinetuneError(
        f"{path}: nobody can tell which column is the question and which the answer ({columns}).",
        hint="Write a recipe: [[source]] with path, licence, map and fields; finetune/recipes/ has examples.",
    )


def _fits(section: SourceSection, row: Row) -> bool:
    columns = Columns(section, row)
    if not all(columns.name(wanted) for wanted in _WANTED[section.map]):
        return False
    try:
        return bool(map_row(section, row))
    except DataInvalid:
        return False


def _guess(section: SourceSection, wanted: tuple[str, ...], row: Row | None, model: str) -> Guess:
    recipe = Recipe(name=section.name, model=model, source=(section,))
    meant = {name: Columns(section, row).name(name) for name in wanted} if row else {}
    fields = ", ".join(f'{name} = "{column}"' for name, column in meant.items())
    return Guess(recipe, (f'Guessed: map = "{section.map}", fields = {{ {fields} }}, language detected. A recipe can say it otherwise.',))
