"""Talk about anything, personally: the skill that answers when nothing else was asked for."""

from dialogue.config import DialogueConfig
from dialogue.skills.base import PromptPlan, SkillInput
from dialogue.skills.texts import paragraphs, prompt_text, speaks_of_time
from dialogue.words import say


class ChatSkill:
    """A friendly assistant; knows the user's profile in private chats."""

    name = "chat"
    commands = ("chat",)
    sticky = True
    retrieves = False

    def __init__(self, config: DialogueConfig) -> None:
        self._config = config

    def describe(self, language: str) -> str:
        return say("skill_chat", language)

    def plan(self, given: SkillInput) -> PromptPlan:
        who = "chat_for" if self._config.organisation else "chat"
        persona = prompt_text(who, given.language, assistant=self._config.assistant_name, organisation=self._config.organisation)
        return PromptPlan(
            system=paragraphs([persona, self._config.instructions]),
            user_text=given.text,
            language=given.language,
            profile=given.profile,
            quoted_text=given.quoted_text,
            wants_date=speaks_of_time(given.text),
        )
