"""What the made-up people of a crowd are called and say, by language."""

from collections.abc import Mapping, Sequence
from typing import Final

NAMES: Final[Sequence[tuple[str, str]]] = (
    ("Ann", "en"),
    ("晓明", "zh"),
    ("Ben", "en"),
    ("Chloe", "en"),
    ("丽华", "zh"),
    ("Dan", "en"),
    ("Eve", "en"),
    ("建国", "zh"),
)

LINES: Final[Mapping[str, Sequence[str]]] = {
    "en": (
        "Hello!",
        "My parcel has not arrived. What can I do?",
        "Can I send back shoes that I have worn once?",
        "Write me a short note that says thank you.",
        "What is the difference between tea and coffee?",
        "How do I clean a keyboard? 🙂",
        "I paid twice by mistake.",
        "Explain in one sentence what a refund is.",
        "Thanks, that helps.",
    ),
    "zh": (
        "你好！",
        "我的包裹还没有到，怎么办？",
        "请用一句话解释什么是退款。",
        "帮我写一句感谢的话。",
        "茶和咖啡有什么不同？",
        "我不小心付了两次钱。",
        "谢谢，明白了。",
    ),
}

GROUP_LINES: Final[Mapping[str, Sequence[str]]] = {
    "en": ("when do you open?", "what can you do?", "is the shop closed on Sunday?"),
    "zh": ("你们几点开门？", "你会做什么？", "星期天营业吗？"),
}

COMMANDS: Final[Mapping[str, Sequence[str]]] = {
    "en": ("/help", "/memory", "/remember I like short answers", "/status", "/new", "/privacy", "/translate zh Good morning"),
    "zh": ("/help", "/memory", "/remember 我喜欢简短的回答", "/status", "/new", "/privacy", "/translate en 早上好"),
}
