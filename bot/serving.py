"""From the settings and the model's files to an engine, its tokenizer and its template."""

import asyncio

from bot.settings import Settings
from bot.unstarted_model import UnstartedModel
from dialogue.byte_chat import ByteTemplate, ByteTokenizer, echo_user
from dialogue.engine.factory import build_engine
from dialogue.engine.models import ModelFiles, load_template, load_tokenizer
from dialogue.engine.scripted import ScriptedEngine

SCRIPTED_TOKEN_S = 0.01  # about as fast as a small model, so that a stream looks like one


async def open_model(settings: Settings, files: ModelFiles | None) -> UnstartedModel:
    """Read tokenizer and template, build the engine. Raises ModelError, TemplateError and EngineUnavailable."""
    config = settings.engine_config()
    if files is None:
        engine = ScriptedEngine(echo_user, slots=config.slots, context_tokens=config.context_tokens, token_delay_s=SCRIPTED_TOKEN_S)
        return UnstartedModel(engine, ByteTemplate(), ByteTokenizer(), "scripted", "")
    tokenizer = await asyncio.to_thread(load_tokenizer, files)
    template = await asyncio.to_thread(load_template, files, tokenizer)
    return UnstartedModel(build_engine(config, files), template, tokenizer, settings.model.reference, files.sha256, files)
