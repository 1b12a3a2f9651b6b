"""From the settings to an engine that answers: built quickly, started slowly."""

import asyncio
from dataclasses import dataclass

from dialogue.engine.factory import build_engine

from bot.settings import Settings
from dialogue.engine.base import Engine
from dialogue.engine.byte_chat import ByteTemplate, ByteTokenizer, echo_user
from dialogue.engine.models import ModelFiles, load_template, load_tokenizer
from dialogue.engine.scripted import ScriptedEngine
from dialogue.ports import HashedTemplate, ServedModel, TextEncoder

SCRIPTED_TOKEN_S = 0.01  # about as fast as a small model, so that a stream looks like one


@dataclass(frozen=True, slots=True)
class UnstartedModel:
    """An engine and what goes with it. Owns the engine: `start` once, `engine.close` in any case."""

    engine: Engine
    template: HashedTemplate
    tokenizer: TextEncoder
    reference: str  # what the settings call the model
    sha256: str  # of the weights; adapters belong to these

    async def start(self) -> ServedModel:
        """Load the weights. Raises EngineUnavailable."""
        return ServedModel(self.engine, await self.engine.start(), self.template, self.tokenizer)


async def open_model(settings: Settings, files: ModelFiles | None) -> UnstartedModel:
    """Read tokenizer and template, build the engine. Raises ModelError, TemplateError and EngineUnavailable."""
    config = settings.engine_config()
    if files is None:
        engine = ScriptedEngine(echo_user, slots=config.slots, context_tokens=config.context_tokens, token_delay_s=SCRIPTED_TOKEN_S)
        return UnstartedModel(engine, ByteTemplate(), ByteTokenizer(), "scripted", "")
    tokenizer = await asyncio.to_thread(load_tokenizer, files)
    template = await asyncio.to_thread(load_template, files, tokenizer)
    return UnstartedModel(build_engine(config, files), template, tokenizer, settings.model.reference, files.sha256)
