"""Write a text: `/write KIND [tone=…] [length=…] about …`, or in the order of speech: `/write a short formal email about …`."""

import re
from typing import Final, NamedTuple

from dialogue.config import DialogueConfig
from dialogue.skills.base import PromptPlan, Refusal, SamplingChange, SkillInput, TaskFields
from dialogue.skills.texts import paragraphs, prompt_text
from dialogue.words import assistant_language, say

TEMPERATURE: Final = 0.8  # variety is wanted here; an owner who wants none (0) gets none


class Choice(NamedTuple):
    """One thing that can be chosen: how it stands in the prompt, and the words that choose it (the first is shown)."""

    en: str
    zh: str
    words_en: tuple[str, ...]
    words_zh: tuple[str, ...]


KINDS: Final[dict[str, Choice]] = {
    "email": Choice("an email with a subject line", "一封带主题的邮件", ("email", "mail", "e-mail"), ("邮件", "电子邮件")),
    "letter": Choice("a letter", "一封信", ("letter",), ("信", "信件")),
    "post": Choice("a post for social media", "一条社交媒体帖子", ("post", "tweet"), ("帖子", "朋友圈", "微博")),
    "ad": Choice("an advertisement", "一则广告", ("ad", "advert", "advertisement"), ("广告",)),
    "reply": Choice("a reply to the quoted message", "一条对所引用消息的回复", ("reply", "answer"), ("回复",)),
    "product": Choice("a product description", "一段产品描述", ("product", "product description"), ("产品描述", "产品介绍")),
    "story": Choice("a story", "一个故事", ("story", "tale"), ("故事",)),
    "poem": Choice("a poem", "一首诗", ("poem",), ("诗", "诗歌")),
    "speech": Choice("a speech", "一篇演讲稿", ("speech",), ("演讲稿", "演讲")),
    "announcement": Choice("an announcement", "一则公告", ("announcement", "notice"), ("公告", "通知")),
    "text": Choice("a text", "一段文字", ("text",), ("文字", "文章")),
}
TONES: Final[dict[str, Choice]] = {
    "formal": Choice("formal", "正式", ("formal",), ("正式",)),
    "friendly": Choice("friendly", "亲切", ("friendly", "warm"), ("亲切", "友好")),
    "neutral": Choice("neutral", "中性", ("neutral", "plain"), ("中性",)),
    "casual": Choice("casual", "轻松", ("casual", "informal"), ("轻松", "随意")),
    "funny": Choice("funny", "幽默", ("funny", "humorous"), ("幽默", "搞笑")),
    "persuasive": Choice("persuasive", "有说服力", ("persuasive", "convincing"), ("有说服力", "说服力")),
    "polite": Choice("polite", "礼貌", ("polite",), ("礼貌",)),
}
LENGTHS: Final[dict[str, Choice]] = {
    "short": Choice("short, at most 60 words", "短，不超过 80 字", ("short", "brief"), ("短", "简短")),
    "medium": Choice("medium, about 120 words", "中等，约 200 字", ("medium",), ("中等",)),
    "long": Choice("long, about 300 words", "长，约 500 字", ("long",), ("长", "详细")),
}
_REPLY_TOKENS: Final = {"short": 160, "medium": 320, "long": 800}
_KEYS: Final = {"kind": "kind", "tone": "tone", "length": "length", "种类": "kind", "语气": "tone", "长度": "length"}
_OPTION: Final = re.compile(r"(kind|tone|length|种类|语气|长度)\s*[=＝]\s*([^\s,，;；]+)[,，;；]?", re.IGNORECASE)
_ABOUT: Final = re.compile(r"(?:^|\s)(?:about|on|that says|saying)\s+|[,，]?(?:关于|内容是|内容为)\s*[:：]?|[:：]", re.IGNORECASE)
_FILLERS: Final = frozenset({"a", "an", "the", "me", "some", "in", "and", "tone", "with", "for"})
_CHINESE_FILLERS: Final = re.compile(r"[\s,，、的]|一(?:封|篇|条|则|个|首|段|份)?|写|请|语气|长度")


class WriteOrder(NamedTuple):
    """What the user asked for; "" where nothing was said."""

    topic: str
    kind: str = ""
    tone: str = ""
    length: str = ""


def _words(choices: dict[str, Choice]) -> dict[str, str]:
    return {word: key for key, choice in choices.items() for word in (key, *choice.words_en, *choice.words_zh)}


_FIELDS: Final = {"kind": _words(KINDS), "tone": _words(TONES), "length": _words(LENGTHS)}
_ALL_WORDS: Final = {word: (field, key) for field, words in _FIELDS.items() for word, key in words.items()}
_CHINESE_WORDS: Final = sorted((word for word in _ALL_WORDS if not word.isascii()), key=len, reverse=True)


def parse_order(argument: str) -> WriteOrder:
    """Read the argument of /write. What is neither a known word nor an option belongs to the topic."""
    chosen: dict[str, str] = {}
    text = _OPTION.sub(lambda match: _take_option(match, chosen), argument).strip()
    about = _ABOUT.search(text)
    if about is not None:
        head = _read_head(text[: about.start()])
        if head is not None:
            return WriteOrder(topic=text[about.end() :].strip(), **(head | chosen))
    head, topic = _read_start(text)
    return WriteOrder(topic=topic, **(head | chosen))


def _take_option(match: re.Match[str], chosen: dict[str, str]) -> str:
    field = _KEYS[match[1].lower()]
    key = _FIELDS[field].get(match[2].lower())
    if key is None and field == "length":
        return " "
    chosen[field] = key or match[2]  # kinds and tones of the user's own are taken as they are
    return " "


def _read_head(head: str) -> dict[str, str] | None:
    """Return what the words before "about" choose, None when one of them chooses nothing."""
    chosen: dict[str, str] = {}
    rest = head.casefold()
    for word in _CHINESE_WORDS:
        if word in rest:
            chosen.setdefault(*_ALL_WORDS[word])
            rest = rest.replace(word, " ", 1)
    for word in _CHINESE_FILLERS.sub(" ", rest.replace("product description", "product")).split():
        if word in _ALL_WORDS:
            chosen.setdefault(*_ALL_WORDS[word])
        elif word not in _FILLERS:
            return None
    return chosen


def _read_start(text: str) -> tuple[dict[str, str], str]:
    """Take known words from the start of a text that has no "about"; the rest is the topic."""
    chosen: dict[str, str] = {}
    words = text.split(" ")
    for index, word in enumerate(words):
        known = _ALL_WORDS.get(word.casefold().strip(",，"))
        if known is not None and known[0] not in chosen:
            chosen[known[0]] = known[1]
        elif word.casefold() not in _FILLERS or "kind" in chosen:
            return chosen, " ".join(words[index:]).strip()
    return chosen, ""


def _phrase(choices: dict[str, Choice], key: str, language: str) -> str:
    choice = choices.get(key)
    if choice is None:
        return key
    return choice.zh if assistant_language(language) == "zh" else choice.en


def _shown(choices: dict[str, Choice], language: str) -> str:
    if assistant_language(language) == "zh":
        return "、".join(choice.words_zh[0] for choice in choices.values())
    return ", ".join(choices)


class WriteSkill:
    """Writes one text; old turns stay out of the prompt."""

    name = "write"
    commands = ("write",)
    sticky = False
    retrieves = False

    def __init__(self, config: DialogueConfig) -> None:
        self._config = config

    def describe(self, language: str) -> str:
        return say("skill_write", language)

    def plan(self, given: SkillInput) -> PromptPlan | Refusal:
        order = parse_order(given.text)
        topic = order.topic or given.quoted_text.strip()
        if not topic:
            shown = {name: _shown(choices, given.language) for name, choices in (("kinds", KINDS), ("tones", TONES), ("lengths", LENGTHS))}
            return Refusal(say("write_usage", given.language, **shown))
        own_tone = given.profile.tone if given.profile else ""
        length = order.length or "medium"
        temperature = TEMPERATURE if self._config.temperature > 0 else 0.0
        task = prompt_text(
            "write_task",
            given.language,
            kind=_phrase(KINDS, order.kind or "text", given.language),
            tone=_phrase(TONES, order.tone or own_tone or "neutral", given.language),
            length=_phrase(LENGTHS, length, given.language),
        )
        return PromptPlan(
            system=paragraphs([prompt_text("write", given.language), self._config.instructions]),
            user_text=f"{task}\n{topic}",
            language=given.language,
            history=False,
            quoted_text=given.quoted_text if order.topic else "",
            sampling=SamplingChange(temperature=temperature, max_tokens=max(self._config.max_reply_tokens, _REPLY_TOKENS[length])),
            fields=TaskFields(task, topic),
        )
