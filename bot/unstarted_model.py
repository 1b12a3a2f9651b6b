"""A model between being built, which is quick, and being started, which may take a minute."""

from dataclasses import dataclass

from dialogue.engine.base import Engine
from dialogue.engine.model_files import ModelFiles
from dialogue.ports import HashedTemplate, ServedModel, TextEncoder


@dataclass(frozen=True, slots=True)
class UnstartedModel:
    """An engine and what goes with it: `start` once, `engine.close` in any case."""

    engine: Engine
    template: HashedTemplate
    tokenizer: TextEncoder
    reference: str  # what the settings call the model
    sha256: str  # of the weights; adapters belong to these
    files: ModelFiles | None = None  # on this machine; None = the engine has none here

    async def start(self) -> ServedModel:
        """Load the weights. Raises EngineUnavailable."""
        return ServedModel(self.engine, await self.engine.start(), self.template, self.tokenizer)
