"""Answer for an organisation: from its passages where it has some, and honestly where it has none."""

from typing import Final

from dialogue.config import DialogueConfig
from dialogue.skills.base import PromptPlan, SamplingChange, SkillInput
from dialogue.skills.texts import paragraphs, prompt_text, speaks_of_time
from dialogue.words import say

TEMPERATURE: Final = 0.3  # facts are wanted here, not variety


class SupportSkill:
    """The customer service of the owner's organisation."""

    name = "support"
    commands = ("support",)
    sticky = True
    retrieves = True

    def __init__(self, config: DialogueConfig) -> None:
        self._config = config

    def describe(self, language: str) -> str:
        if self._config.organisation:
            return say("skill_support_of", language, organisation=self._config.organisation)
        return say("skill_support", language)

    def plan(self, given: SkillInput) -> PromptPlan:
        persona = prompt_text(
            "support",
            given.language,
            assistant=self._config.assistant_name,
            organisation=self._config.organisation or prompt_text("support_us", given.language),
            unknown=prompt_text("support_unknown", given.language),
        )
        return PromptPlan(
            system=paragraphs([persona, self._config.instructions]),
            user_text=given.text,
            language=given.language,
            profile=given.profile,
            quoted_text=given.quoted_text,
            passages=given.passages,
            wants_date=speaks_of_time(given.text),
            sampling=SamplingChange(temperature=min(TEMPERATURE, self._config.temperature)),
        )
