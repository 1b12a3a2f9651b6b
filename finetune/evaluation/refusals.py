"""Whether an answer is none: it says that it does not know, or declines. Pure.

The support skill has its own sentence for that; models say it in other words too. The patterns are of the first person, so that
"if you do not know your number" is no refusal.
"""

import re
from typing import Final

from dialogue.skills.texts import prompt_text

_UNKNOWN: Final = (
    r"\bi (?:really )?(?:do not|don't) know\b",
    r"\bi (?:do not|don't) have (?:that|this|any|the|enough) (?:information|details|answer)",
    r"\bi(?:'m| am) (?:not sure|unsure|afraid i)\b.*\b(?:know|find|have|say|answer)",
    r"\bi (?:can ?not|can't|could not|couldn't|was unable to|am unable to) (?:find|tell|answer|say|see)\b",
    r"\bnot (?:in|covered by|mentioned in|described in|part of) (?:any of )?(?:our|the|these|my) "
    r"(?:help|passages|articles|pages|documentation|material|information)",
    r"\b(?:passages|help pages|articles) (?:do not|don't) (?:say|mention|cover|contain|answer)",
    r"\b(?:shall|should|can|may|would you like me to|do you want me to) (?:i )?"
    r"(?:ask|check with|put you through to|connect you (?:to|with)) (?:a|one of (?:our|my)) colleague",
    r"我?(?:不太?清楚|不知道|无法确定|没有(?:找到|查到|相关))",
    r"(?:帮助|资料|文档)(?:页面|文章|中心)?[里中内]?(?:没有|未)",
    r"请(?:我的|我)?同事|联系同事|转给同事",
)
_DECLINED: Final = (
    r"\bi(?:'m| am) (?:sorry|afraid),?(?: but)?(?: i)? (?:can ?not|can't|am (?:not able|unable)|unable)",
    r"\bi (?:can ?not|can't|am not able to|am unable to|won't|will not) (?:help|assist|answer|provide|do that|discuss)",
    r"\bas an? (?:ai|language model)\b",
    r"(?:抱歉|对不起)[，,]?我?(?:不能|无法)|我(?:不能|无法)(?:回答|帮|提供)",
)
_ADMITS: Final = re.compile("|".join(_UNKNOWN), re.IGNORECASE)
_DECLINES: Final = re.compile("|".join(_DECLINED), re.IGNORECASE)
_SPACES: Final = re.compile(r"\s+")


def admits_unknown(answer: str) -> bool:
    """Whether an answer says that it does not know, or offers to ask a colleague: the skill's own sentence or a close variant."""
    plain = _flat(answer)
    own = (_flat(prompt_text("support_unknown", language)) for language in ("en", "zh"))
    return any(sentence in plain for sentence in own) or _ADMITS.search(plain) is not None


def refuses(answer: str) -> bool:
    """Whether an answer is none: unknown, declined or empty."""
    return not answer.strip() or admits_unknown(answer) or _DECLINES.search(_flat(answer)) is not None


def _flat(text: str) -> str:
    return _SPACES.sub(" ", text.casefold().replace("’", "'")).strip()
