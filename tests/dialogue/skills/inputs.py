"""Short ways to ask a skill in tests."""

from typing import Any

from dialogue.skills.base import PromptPlan, Skill, SkillInput
from storage.records import TurnRecord, TurnStatus


def asked(text: str, language: str = "en", **more: Any) -> SkillInput:
    """Return the input of a skill."""
    return SkillInput(text=text, language=language, **more)


def plan_of(skill: Skill, text: str, language: str = "en", **more: Any) -> PromptPlan:
    """Return the plan of a skill that must not refuse."""
    plan = skill.plan(asked(text, language, **more))
    assert isinstance(plan, PromptPlan)
    return plan


def turn(user: str, reply: str, status: TurnStatus = TurnStatus.ANSWERED) -> TurnRecord:
    """Return an old turn."""
    return TurnRecord("t", "c", 1, "u", "chat", status, user, reply, "", "", 0, 0, 0)
