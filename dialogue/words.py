"""Every sentence that the dialogue itself says to a user, in English and Simplified Chinese. Prompts are not here.

One place, so that a translator finds all of them and a test can hold the two languages against each other.
"""

from string import Template
from typing import Final, NamedTuple


class Words(NamedTuple):
    """The same sentence in each language that the assistant speaks itself."""

    en: str
    zh: str


SENTENCES: Final[dict[str, Words]] = {
    # router
    "unknown_command": Words(
        "I do not know /$name. What there is:\n$list",
        "我不认识 /$name。可用的命令：\n$list",
    ),
    "skill_chosen": Words("From now on: $what. Just write.", "接下来：$what。请直接输入。"),
    "skill_chat": Words("/chat – talk with me", "/chat – 和我聊天"),
    "skill_support": Words("/support – ask the customer service", "/support – 咨询客服"),
    "skill_support_of": Words("/support – ask the customer service of $organisation", "/support – 咨询$organisation的客服"),
    "skill_translate": Words("/translate – translate a text", "/translate – 翻译文本"),
    "skill_summarize": Words("/summarize – summarise a text or this conversation", "/summarize – 总结文本或本次对话"),
    "skill_write": Words("/write – write an email, a post, an ad …", "/write – 写邮件、帖子、广告等"),
    "command_remember": Words("/remember – something I shall know about you", "/remember – 让我记住关于您的事"),
    "command_memory": Words("/memory – what I remember about you", "/memory – 查看我记住了什么"),
    "command_forget": Words("/forget – erase it, or one note by its number", "/forget – 全部忘记，或按编号忘记一条"),
    "command_name": Words("/name – how I shall call you", "/name – 我该如何称呼您"),
    "command_language": Words("/language – your language, such as en or zh", "/language – 您的语言，例如 zh 或 en"),
    "command_tone": Words("/tone – how I shall talk, such as formal or friendly", "/tone – 我的语气，例如正式或亲切"),
    # memory
    "private_only": Words(
        "What I remember about you stays between us. Please ask me in a private chat.",
        "我记住的内容只属于您。请在私聊中使用此命令。",
    ),
    "remember_usage": Words(
        "What shall I remember? For example: /remember I am allergic to nuts", "要我记住什么？例如：/remember 我对坚果过敏"
    ),
    "remember_too_long": Words(
        "A note may have $limit characters; this one has $length. Please shorten it.",
        "每条备注最多 $limit 个字符，这条有 $length 个。请缩短后重试。",
    ),
    "remember_full": Words(
        "I remember $limit notes about you, more do not fit. Erase one with /forget NUMBER; /memory shows the numbers.",
        "我已记住 $limit 条备注，无法再添加。请用 /forget 编号 删除一条；/memory 可查看编号。",
    ),
    "remembered": Words("I will remember: $note", "我记住了：$note"),
    "memory_empty": Words(
        "I remember nothing about you. Tell me something with /remember.", "我没有记住关于您的任何内容。可用 /remember 告诉我。"
    ),
    "memory_heading": Words("What I remember about you:", "我记住的关于您的内容："),
    "memory_name": Words("Name: $value", "称呼：$value"),
    "memory_language": Words("Language: $value", "语言：$value"),
    "memory_tone": Words("Tone: $value", "语气：$value"),
    "forgotten": Words("I have forgotten everything that you told me to remember.", "您让我记住的内容已全部忘记。"),
    "forgotten_note": Words("I have forgotten: $note", "我已忘记：$note"),
    "forget_unknown": Words("There is no note $number. /memory shows the numbers.", "没有编号为 $number 的备注。/memory 可查看编号。"),
    "forget_usage": Words("/forget erases everything, /forget 2 only the second note.", "/forget 忘记全部内容，/forget 2 只忘记第二条。"),
    "name_usage": Words("How shall I call you? For example: /name Ada", "我该如何称呼您？例如：/name 小王"),
    "name_set": Words("I will call you $value.", "我会称呼您为$value。"),
    "language_usage": Words("Which language? For example: /language en", "使用哪种语言？例如：/language zh"),
    "language_unknown": Words(
        "I do not know the language “$value”. Try a code or a name, such as en, zh or German.",
        "我不认识语言“$value”。请使用代码或名称，例如 zh、en 或 德语。",
    ),
    "language_set": Words("Your language is now $value.", "您的语言已设为$value。"),
    "tone_usage": Words("Which tone? For example: /tone formal, /tone friendly", "使用什么语气？例如：/tone 正式、/tone 亲切"),
    "tone_set": Words("My tone is now: $value.", "我的语气已设为：$value。"),
    "too_long_value": Words("That is too long: at most $limit characters, please.", "内容太长，最多 $limit 个字符。"),
    # skills
    "translate_usage": Words(
        "What shall I translate? Write /translate TEXT, /translate to German TEXT, /translate en>zh TEXT, "
        "or answer to a message with /translate.",
        "要我翻译什么？请发送 /translate 文本、/translate 译成德语 文本、/translate en>zh 文本，或用 /translate 回复一条消息。",
    ),
    "summarize_usage": Words(
        "There is nothing to summarise yet. Write /summarize TEXT, or answer to a message with /summarize.",
        "还没有可总结的内容。请发送 /summarize 文本，或用 /summarize 回复一条消息。",
    ),
    "write_usage": Words(
        "What shall I write? For example: /write email tone=formal length=short about our holiday closing.\n"
        "Kinds: $kinds. Tones: $tones. Lengths: $lengths.",
        "要我写什么？例如：/write 邮件 语气=正式 长度=短 关于假期安排。\n种类：$kinds。语气：$tones。长度：$lengths。",
    ),
    # manager
    "no_answer": Words("I have no answer to that. Please ask in other words.", "我无法回答这个问题，请换一种说法。"),
    "stopped": Words("Stopped.", "已停止。"),
    "unavailable": Words(
        "I cannot answer at the moment, sorry. Your message is kept; please try again in a minute.",
        "抱歉，我暂时无法回答。您的消息已保留，请稍后再试。",
    ),
    "overloaded": Words(
        "I am very busy right now. Your message is kept; please try again in $seconds s.",
        "我现在非常忙。您的消息已保留，请在 $seconds 秒后再试。",
    ),
    "deadline": Words(
        "This took too long, so I stopped. Your message is kept; please try again in a while.",
        "处理时间过长，我已停止。您的消息已保留，请稍后再试。",
    ),
    "poisoned": Words(
        "I cannot process this message, sorry; it is kept for the operator. Please write it in another way.",
        "抱歉，我无法处理这条消息，已为管理员保留。请换一种写法。",
    ),
    "too_long": Words("This is too long for me. Please send a shorter text.", "内容太长，我无法处理。请发送较短的文本。"),
    "shortened": Words(
        "(Your message was too long for me: I have read it without $count characters in its middle.)",
        "（您的消息过长：中间的 $count 个字符我没有读到。）",
    ),
}


def assistant_language(language: str) -> str:
    """Return the language that the assistant itself speaks to a user of `language`: "zh" or "en"."""
    return "zh" if language.lower().replace("_", "-").split("-")[0] == "zh" else "en"


def say(key: str, language: str, **values: object) -> str:
    """Return the sentence `key` for a user of `language`. `$name` stands for values["name"]; values are not expanded again."""
    words = SENTENCES[key]
    return Template(words.zh if assistant_language(language) == "zh" else words.en).substitute(values)
