"""From sources to a dataset: read, map, clean, split, check, and account for every row.

    rows ─► samples, cleaned, no duplicates (`gather`) ─► splits by group ─► grounded questions, from the articles of each split alone
         ─► at most so many ─► no leaks (`leaks`) ─► pieces that fit a row ─► further references, weights ─► content and manifest

Nothing is written here, and nothing but the sources is read; equal sources, recipe and model give an equal dataset.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from finetune.cleaning.lengths import fit
from finetune.cleaning.text import fold
from finetune.config import Recipe, SourceSection
from finetune.dataset import SPLITS, Content, Dropped, encode_splits, write_dataset
from finetune.errors import FinetuneError
from finetune.gather import Gathered, Watch, gather
from finetune.leaks import settle_leaks
from finetune.ledger import Item, Ledger
from finetune.manifest import DatasetManifest, SourceManifest
from finetune.rendering import RowRenderer
from finetune.samples import Kind
from finetune.sources.grounded import build_grounded
from finetune.sources.own_turns import OwnTurns
from finetune.split import share_of, split_groups

Splits = Mapping[str, list[Item]]

_SEVERAL_ANSWERS: Final = frozenset({Kind.SUMMARY, Kind.TRANSLATION, Kind.WRITING})
_REFERENCE: Final = "kept as a further reference of the same question"
_NOT_CHOSEN: Final = "more than max_samples"
_CHOICE: Final = "chosen:"  # the split hashes groups, which may be named like samples: the same hash would choose the test split first


@dataclass(frozen=True, slots=True)
class Prepared:
    """A dataset that is not written yet."""

    content: Content
    manifest: DatasetManifest
    dropped: Sequence[Dropped]

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all. Raises FinetuneError and OSError, as `write_dataset` says."""
        write_dataset(folder, self.content, self.manifest, self.dropped)


def prepare(
    recipe: Recipe,
    renderer: RowRenderer | None,
    *,
    name: str = "recipe",
    own: OwnTurns | None = None,
    strict: bool = False,
    watch: Watch = lambda _source, _rows: None,
    now: datetime | None = None,
) -> Prepared:
    """Return the dataset of a recipe that people know as `name`.

    `renderer` measures rows in tokens; None where the model's own tokenizer does that later. `own` holds the turns of the database.
    Raises RecipeInvalid for a missing source, DataInvalid for a bad row if `strict`, FinetuneError when nothing is left.
    """
    ledger = Ledger()
    gathered = gather(recipe, ledger, name=name, own=own, strict=strict, watch=watch)
    splits = _split(recipe, gathered, ledger)
    splits = _chosen(recipe, splits, ledger)
    splits, leaks = _without_leaks(recipe, splits, ledger)
    if renderer is not None:
        splits = {split: list(_fitting(items, renderer, ledger, watch)) for split, items in splits.items()}
    splits = {split: items if split == "train" else list(_with_references(items, ledger)) for split, items in splits.items()}
    if not splits["train"]:
        raise FinetuneError(
            f"{name}: no sample is left to train on{_main_reason(ledger)}.", hint="Look at fields and [clean] of the recipe."
        )
    content = encode_splits({split: [item.sample for item in items] for split, items in _weighted(recipe, splits).items()})
    sources = tuple(_source_manifest(section, gathered, ledger, splits) for section in recipe.source)
    manifest = DatasetManifest(
        version=content.version,
        name=recipe.name,
        created_at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        kefu=version("kefu"),
        splits=dict(content.splits),
        sources=sources,
        leaks=leaks,
        recipe=_without_paths(recipe),
    )
    return Prepared(content, manifest, ledger.dropped)


def _fixed_split(section: SourceSection) -> str:
    """Return the split that a source names, "" when its groups are spread by the recipe's shares."""
    if section.weight == 0:
        return "test"
    return "" if section.split == "auto" else section.split


def _split(recipe: Recipe, gathered: Gathered, ledger: Ledger) -> Splits:
    fixed = {section.name: _fixed_split(section) for section in recipe.source}
    free = [item.sample.group for item in gathered.items if not fixed[item.sample.source]]
    free += [article.id for source, articles in gathered.articles.items() if not fixed[source] for article in articles]
    places = split_groups(free, recipe.split, recipe.seed)
    splits: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for item in gathered.items:
        splits[fixed[item.sample.source] or places[item.sample.group]].append(item)
    for section in recipe.source:
        for split in SPLITS if section.name in gathered.articles else ():
            own = [article for article in gathered.articles[section.name] if (fixed[section.name] or places[article.id]) == split]
            samples = build_grounded(own, recipe.grounded, recipe.seed, source=section.name, skill=section.skill) if own else []
            ledger.tally(section.name).samples += len(samples)
            splits[split] += [Item(sample, sample.group, 0) for sample in samples]
    return splits


def _chosen(recipe: Recipe, splits: Splits, ledger: Ledger) -> Splits:
    """Return at most `max_samples` of each source, the same ones at every run; each split gives its share."""
    going: set[str] = set()
    for section in recipe.source:
        own = [item for items in splits.values() for item in items if item.sample.source == section.name]
        own.sort(key=lambda item: (share_of(recipe.seed, f"{_CHOICE}{item.sample.id}"), item.sample.id))
        for item in own[section.max_samples :] if section.max_samples else ():
            going.add(item.sample.id)
            ledger.drop_item(item, _NOT_CHOSEN)
    return {split: [item for item in items if item.sample.id not in going] for split, items in splits.items()}


def _without_leaks(recipe: Recipe, splits: Splits, ledger: Ledger) -> tuple[Splits, dict[str, int]]:
    fixed = {section.name for section in recipe.source if _fixed_split(section)}
    settled, leaks = settle_leaks(splits, fixed, recipe.clean.near_duplicates)
    for leak in leaks:
        if leak.gone is not None:
            ledger.drop_item(leak.gone, leak.remedy)
    return settled, dict(Counter(f"{leak.reason}: {leak.remedy}" for leak in leaks))


def _fitting(items: Sequence[Item], renderer: RowRenderer, ledger: Ledger, watch: Watch) -> Iterator[Item]:
    for number, item in enumerate(items, start=1):
        watch("Measuring in tokens", number)
        pieces, done = fit(item.sample, renderer)
        if pieces:
            ledger.change(item.sample.source, [done] if done else [])
        else:
            ledger.drop_item(item, done)
        yield from (replace(item, sample=piece) for piece in pieces)


def _with_references(items: Sequence[Item], ledger: Ledger) -> Iterator[Item]:
    """Ask each question once where several answers are right: the others become references."""
    first: dict[tuple[str, str], Item] = {}
    for item in items:
        sample = item.sample
        key = (sample.source, fold(sample.question)) if sample.kind in _SEVERAL_ANSWERS else (sample.id, "")
        if key in first:
            known = first[key]
            first[key] = replace(
                known, sample=replace(known.sample, references=(*known.sample.references, sample.answer, *sample.references))
            )
            ledger.drop_item(item, _REFERENCE)
        else:
            first[key] = item
    yield from first.values()


def _weighted(recipe: Recipe, splits: Splits) -> Splits:
    weights = {section.name: section.weight for section in recipe.source}
    return {**splits, "train": [again for item in splits["train"] for again in _repeated(item, weights[item.sample.source])]}


def _repeated(item: Item, weight: int) -> Iterator[Item]:
    yield item
    for number in range(2, weight + 1):
        yield replace(item, sample=replace(item.sample, id=f"{item.sample.id}+{number}"))


def _source_manifest(section: SourceSection, gathered: Gathered, ledger: Ledger, splits: Splits) -> SourceManifest:
    tally = ledger.tally(section.name)
    return SourceManifest(
        name=section.name,
        licence=section.licence,
        origin=section.origin,
        map=section.map,
        files=gathered.files.get(section.name, {}),
        weight=section.weight,
        rows=tally.rows,
        samples=tally.samples,
        dropped=dict(tally.dropped.most_common()),
        changed=dict(tally.changed.most_common()),
        kept={split: sum(item.sample.source == section.name for item in items) for split, items in splits.items()},
    )


def _without_paths(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as it may be passed on: a path tells who prepared it, and where."""
    plain = recipe.model_dump(mode="json")
    for source in plain["source"]:
        del source["path"]
    return plain | {"model": recipe.model if recipe.model.startswith(("pypi:", "hf:")) else Path(recipe.model).name}


def _main_reason(ledger: Ledger) -> str:
    reasons = Counter(dropped.reason for dropped in ledger.dropped).most_common(1)
    return f" (most were dropped for: {reasons[0][0]})" if reasons else ""
