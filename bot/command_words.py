"""What the direct commands of the program say, in English and Simplified Chinese."""

from string import Template
from typing import Final

from dialogue.words import Words, assistant_language

SENTENCES: Final[dict[str, Words]] = {
    "start": Words(
        "Hello, I am $name. Write me what you want to know; /help shows what else I can do.",
        "您好，我是$name。请直接输入您的问题；/help 可查看其他功能。",
    ),
    "help": Words("Write to me as you would to a person. I also understand:\n$list", "像和人聊天一样输入即可。我还支持以下命令：\n$list"),
    "new": Words("We begin anew: I leave aside what was said so far.", "新的对话已开始：之前的内容我不再参考。"),
    "nothing_to_stop": Words("There is nothing to stop: the answer was finished.", "没有可停止的内容：回答已经完成。"),
    "privacy": Words(
        "What you write here and what I answer is stored in the database of whoever runs this assistant, and nowhere else. "
        "It makes up my memory of our conversation. /memory shows what you told me to remember, /forget erases that, "
        "/export gives you everything that is stored about you. To have all of it erased, ask the operator.",
        "您在这里输入的内容和我的回答只保存在本助手运营者的数据库中，用于记住我们的对话。"
        "/memory 查看您让我记住的内容，/forget 删除这些内容，/export 导出与您有关的全部数据。如需全部删除，请联系运营者。",
    ),
    "export_elsewhere": Words(
        "I cannot send files here. Whoever runs this assistant can export everything that is stored about you: please ask there.",
        "我无法在此发送文件。请联系本助手的运营者，由其导出与您有关的全部数据。",
    ),
    "export_saved": Words("Everything that is stored about you is in this file:\n$path", "与您有关的全部数据已保存到此文件：\n$path"),
    "status": Words(
        "$state Model: $model. Answers being made: $running, waiting: $waiting.",
        "$state模型：$model。正在生成：$running，等待中：$waiting。",
    ),
    "status_ready": Words("I am ready.", "一切正常。"),
    "status_not_ready": Words("I cannot answer at the moment ($detail).", "暂时无法回答（$detail）。"),
    "describe_help": Words("/help – what I can do", "/help – 查看功能"),
    "describe_new": Words("/new – begin anew, without what was said before", "/new – 开始新的对话"),
    "describe_stop": Words("/stop – stop the answer that I am writing", "/stop – 停止正在生成的回答"),
    "describe_privacy": Words("/privacy – what is stored about you", "/privacy – 查看保存了哪些数据"),
    "describe_export": Words("/export – everything that is stored about you, as a JSON file", "/export – 将您的数据导出为 JSON 文件"),
    "describe_status": Words("/status – how I am doing", "/status – 查看运行状态"),
}


def say(key: str, language: str, **values: object) -> str:
    """Return the sentence `key` for a user of `language`; `$name` stands for values["name"]."""
    words = SENTENCES[key]
    return Template(words.zh if assistant_language(language) == "zh" else words.en).substitute(values)
