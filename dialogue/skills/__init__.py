"""Ways of answering: each a pure function from a message to the plan of a prompt.

base.py         Skill, SkillInput, PromptPlan, Refusal, Passage
registry.py     which skills there are; the entry-point group `kefu.skills`
chat.py support.py translate.py summarize.py write.py
languages.py    names of languages, and which one a text is in
texts.py        reads prompts/NAME.LANGUAGE.txt
prompts/        the texts, English and Chinese
"""
