"""The first half of a preparation: every source row by row, mapped, cleaned, and without duplicates."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from finetune.cleaning.duplicates import EXACT, Index, fingerprint
from finetune.cleaning.pipeline import Cleaner, Unfit
from finetune.cleaning.text import fold
from finetune.config import Recipe, SourceSection
from finetune.errors import DataInvalid
from finetune.ledger import Item, Ledger
from finetune.sources.grounded import Article
from finetune.sources.join import joined
from finetune.sources.mapping import map_article, map_row
from finetune.sources.own_turns import DATABASE, OwnTurns
from finetune.sources.read import file_name, read_rows, source_files
from finetune.sources.rows import Row, Rows

Watch = Callable[[str, int], None]  # a source or a step, and how many rows of it are done

_TOLD_EVERY = 100  # rows


@dataclass(slots=True)
class Gathered:
    """What the sources hold, before it is split."""

    items: list[Item] = field(default_factory=list)
    articles: dict[str, list[Article]] = field(default_factory=dict)  # by source
    files: dict[str, dict[str, str]] = field(default_factory=dict)  # source → file → sha256


def gather(recipe: Recipe, ledger: Ledger, *, name: str, own: OwnTurns | None, strict: bool, watch: Watch) -> Gathered:
    """Read all sources of a recipe. Raises RecipeInvalid when one is missing, and, if `strict`, DataInvalid for the first bad row."""
    files = {section.name: _files(section, name) for section in recipe.source}
    gatherer = _Gatherer(recipe, ledger, strict=strict, watch=watch)
    for section in recipe.source:
        if section.map == "own_turns":
            gatherer.add_own(section, own or OwnTurns())
        for file in files[section.name]:
            gatherer.add_file(section, file)
    return gatherer.found


def _files(section: SourceSection, recipe: str) -> Sequence[Path]:
    return () if section.map == "own_turns" else source_files(section, recipe)


class _Gatherer:
    """Takes rows of one source after the other; a copy of what came earlier is dropped, whichever source it came from."""

    def __init__(self, recipe: Recipe, ledger: Ledger, *, strict: bool, watch: Watch) -> None:
        self.found = Gathered()
        self._ledger = ledger
        self._strict = strict
        self._watch = watch
        self._cleaner = Cleaner(recipe.clean)
        self._index = Index(recipe.clean.near_duplicates)
        self._ids: set[str] = set()
        self._sections_seen: set[tuple[str, str]] = set()

    def add_file(self, section: SourceSection, file: Path) -> None:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        self.found.files.setdefault(section.name, {})[file_name(file, section)] = digest
        self._add_rows(section, joined(section, read_rows(file, section)))

    def add_own(self, section: SourceSection, own: OwnTurns) -> None:
        for reason in own.left_out:
            self._ledger.drop(section.name, DATABASE, 0, reason)
        self._add_rows(section, iter(own.rows))

    def _add_rows(self, section: SourceSection, rows: Rows | Iterable[Row]) -> None:
        tally = self._ledger.tally(section.name)
        add = self._add_article if section.map == "articles" else self._add_samples
        for row in rows:
            tally.rows += isinstance(row, Row) or row.line > 0
            if tally.rows % _TOLD_EVERY == 0:
                self._watch(section.name, tally.rows)
            try:
                add(section, _sound(row))
            except DataInvalid as problem:
                if self._strict:
                    raise
                self._ledger.drop(section.name, problem.file, problem.line, problem.reason)
        self._watch(section.name, tally.rows)

    def _add_samples(self, section: SourceSection, row: Row) -> None:
        for sample in map_row(section, row):
            self._ledger.tally(section.name).samples += 1
            self._add_item(Item(sample, row.file, row.line))

    def _add_item(self, item: Item) -> None:
        try:
            sample, done = self._cleaner.clean(item.sample)
        except Unfit as unfit:
            self._ledger.drop_item(item, str(unfit))
            return
        print_ = fingerprint(sample)
        if (copy := self._index.find(print_)) is not None:
            self._ledger.drop_item(item, copy[1])
            return
        self._index.add(print_)
        self._ledger.change(sample.source, done)
        self.found.items.append(replace(item, sample=replace(sample, id=self._unique(sample.id))))

    def _unique(self, wanted: str) -> str:
        number, unique = 1, wanted
        while unique in self._ids:
            number += 1
            unique = f"{wanted}~{number}"
        self._ids.add(unique)
        return unique

    def _add_article(self, section: SourceSection, row: Row) -> None:
        try:
            article, done = self._cleaner.clean_article(map_article(section, row))
        except Unfit as unfit:
            self._ledger.drop(section.name, row.file, row.line, str(unfit))
            return
        key = (fold(article.heading), fold(article.text))
        if key in self._sections_seen:
            self._ledger.drop(section.name, row.file, row.line, EXACT)
            return
        self._sections_seen.add(key)
        self._ledger.change(section.name, done)
        self.found.articles.setdefault(section.name, []).append(article)


def _sound(row: Row | DataInvalid) -> Row:
    """Return a row that could be read. Raises DataInvalid for one that could not."""
    if isinstance(row, DataInvalid):
        raise row
    return row
