"""What is hosted in a child process: named by plain values, so that nothing but JSON crosses the border."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from typing import Any

from dialogue.engine.base import Engine

EngineBuilder = Callable[[Mapping[str, Any]], Engine]

# The only code that a spec may name, beside the entry points of the group. Imported in the child alone, because
# native libraries belong there.
BUILDERS = {
    "scripted": "dialogue.engine.scripted:build",
    "llamacpp": "dialogue.engine.llamacpp:build",
    "local": "dialogue.engine.local.decoder:build",
    "seq2seq": "dialogue.engine.local.seq2seq:build",
}
ENTRY_POINTS = "kefu.engines.hosted"


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """An engine to be built in a child process."""

    kind: str  # a key of BUILDERS, or the name of an entry point of the group ENTRY_POINTS
    arguments: Mapping[str, Any] = field(default_factory=dict)  # JSON values; handed to the builder as they are
    adapters_at_start: bool = False  # set_adapters() works only before start(): new adapters need a second child


def find_builder(kind: str) -> EngineBuilder:
    """Import the builder of `kind`. Raises LookupError for a kind that is not on the list."""
    if kind in BUILDERS:
        module, _, name = BUILDERS[kind].partition(":")
        return getattr(import_module(module), name)
    for entry in metadata.entry_points(group=ENTRY_POINTS, name=kind):
        return entry.load()
    raise LookupError(f"no engine of kind {kind!r}; there are {', '.join(sorted(BUILDERS))} and the entry points of {ENTRY_POINTS}")
