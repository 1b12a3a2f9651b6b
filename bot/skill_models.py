"""Models that single skills have for themselves: fetched, built and started beside the one that chats."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from bot.model_files import model_sources
from bot.settings import Settings
from bot.settings_sections import SkillModelSection
from dialogue.engine.base import AdapterRef, Engine
from dialogue.engine.factory import build_engine, check_torch
from dialogue.engine.local.seq2seq_pull import pull_seq2seq
from dialogue.engine.model_files import ModelFiles
from dialogue.ports import AdapterChoice, TaskModel
from dialogue.task_prompt import TaskCodec

ADAPTER_NAME: Final = "settings"  # what such an adapter is called in the turns' records: it is no release


@dataclass(frozen=True, slots=True)
class UnstartedTaskModel:
    """A model between being built and being started: `start` once, `engine.close` in any case."""

    engine: Engine
    codec: TaskCodec
    adapter: AdapterRef | None = None

    async def start(self) -> TaskModel:
        """Load the weights. Raises EngineUnavailable and AdapterRejected."""
        info = await self.engine.start()
        if self.adapter is not None:
            await self.engine.set_adapters([self.adapter])
        return TaskModel(self.engine, info, self.codec)


SkillModels = Mapping[str, UnstartedTaskModel]  # by skill


def fetch_skill_models(settings: Settings, progress: Callable[[int, int], None] | None = None) -> Mapping[str, ModelFiles]:
    """Return the files of each skill's own model, fetched if they are not there yet. Blocks. Raises ModelError and EngineUnavailable."""
    named = settings.skill_models()
    if named:
        check_torch()  # before gigabytes are fetched in vain
    sources = model_sources(settings)
    return {skill: pull_seq2seq(model.model, settings.cache_dir, progress, sources=sources) for skill, model in named.items()}


async def open_skill_models(settings: Settings, files: Mapping[str, ModelFiles]) -> SkillModels:
    """Build the engines; skills that name the same model and adapter share one. Raises ModelError and EngineUnavailable."""
    shared: dict[SkillModelSection, UnstartedTaskModel] = {}
    for skill, section in settings.skill_models().items():
        if section not in shared:
            shared[section] = await open_skill_model(settings, skill, files[skill])
    return {skill: shared[section] for skill, section in settings.skill_models().items()}


def adapter_choice(models: SkillModels, otherwise: AdapterChoice) -> AdapterChoice:
    """Return the choice in which a skill with a model of its own has that model's adapter: releases belong to the model that chats."""

    def choose(conversation_id: str, skill: str) -> str | None:
        if skill not in models:
            return otherwise(conversation_id, skill)
        adapter = models[skill].adapter
        return None if adapter is None else adapter.name

    return choose


async def open_skill_model(settings: Settings, skill: str, files: ModelFiles) -> UnstartedTaskModel:
    """Build the engine of one skill that has a model of its own. Raises ModelError and EngineUnavailable."""
    section = settings.skill_models()[skill]
    config = replace(settings.engine_config(), kind=section.engine, model=section.model)
    adapter = None if section.adapter_folder is None else AdapterRef(ADAPTER_NAME, str(section.adapter_folder))
    codec = await asyncio.to_thread(_load_codec, files, any_pair=adapter is not None)
    return UnstartedTaskModel(build_engine(config, files), codec, adapter)


def _load_codec(files: ModelFiles, *, any_pair: bool) -> TaskCodec:
    check_torch()
    from dialogue.engine.local.seq2seq_codec import Seq2SeqCodec  # noqa: PLC0415 - transformers, which the base install has not

    return Seq2SeqCodec(files.path, any_pair=any_pair)
