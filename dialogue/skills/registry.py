"""Which skills there are: those of this package and those that installed packages name in the group `kefu.skills`.

An owner's skill is a class that takes a `DialogueConfig` and has the members of `dialogue.skills.base.Skill`:

    [project.entry-points."kefu.skills"]
    opening_hours = "my_shop.hours:OpeningHoursSkill"
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from dialogue.config import DialogueConfig
from dialogue.errors import SkillInvalid
from dialogue.skills.base import Skill
from dialogue.skills.chat import ChatSkill
from dialogue.skills.summarize import SummarizeSkill
from dialogue.skills.support import SupportSkill
from dialogue.skills.translate import TranslateSkill
from dialogue.skills.write import WriteSkill

GROUP: Final = "kefu.skills"
BUILT_IN: Final[tuple[Callable[[DialogueConfig], Skill], ...]] = (ChatSkill, SupportSkill, TranslateSkill, SummarizeSkill, WriteSkill)
_MEMBERS: Final = ("name", "commands", "sticky", "retrieves", "describe", "plan")


def load_skills(config: DialogueConfig, installed: Iterable[EntryPoint] | None = None) -> Mapping[str, Skill]:
    """Return every skill by its name, those of this package first.

    Raises SkillInvalid when an installed one cannot be loaded, lacks a member, takes a name or command that is taken
    already, or when the default skill does not exist.
    """
    found = entry_points(group=GROUP) if installed is None else installed
    skills: dict[str, Skill] = {}
    for skill in (*(build(config) for build in BUILT_IN), *(_load(point, config) for point in found)):
        _add(skills, skill)
    if config.default_skill not in skills:
        raise SkillInvalid(f"There is no skill {config.default_skill!r} to be the default; there are: {', '.join(skills)}.")
    return skills


def _load(point: EntryPoint, config: DialogueConfig) -> Skill:
    try:
        skill: Skill = point.load()(config)
    except Exception as error:  # whatever foreign code raises becomes one sentence that names it
        raise SkillInvalid(f"The skill {point.name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}") from error
    missing = [member for member in _MEMBERS if not hasattr(skill, member)]
    if missing:
        raise SkillInvalid(f"The skill {point.name!r} ({point.value}) lacks {', '.join(missing)}; see dialogue/skills/base.py.")
    return skill


def _add(skills: dict[str, Skill], skill: Skill) -> None:
    if skill.name in skills:
        raise SkillInvalid(f"Two skills are called {skill.name!r}.")
    taken = {command: other.name for other in skills.values() for command in other.commands}
    for command in skill.commands:
        if command in taken:
            raise SkillInvalid(f"The skills {taken[command]!r} and {skill.name!r} both want the command /{command}.")
    skills[skill.name] = skill
