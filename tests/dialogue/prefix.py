"""Whether each prompt of a conversation begins with the one before it: checked after every test that uses the harness."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dialogue.budget import common_prefix, prefix_is_stable
from dialogue.chat_template import ChatTemplate
from dialogue.document import TurnDocument
from dialogue.messages import ChatMessage, Role
from dialogue.tokenizer import Tokenizer

_HEAD = ("system", "profile", "summary")
_EXTRAS = ("quote", "passages", "date")
_SEAM = 2  # tokens that may merge over the end of a text into what follows it


@dataclass(frozen=True)
class SentPrompt:
    """A prompt as an engine got it, and what may make the next one differ."""

    cache_key: str
    ids: tuple[int, ...]
    window_start: int
    head: tuple[str, ...]  # system, profile, summary
    volatile: int  # ids at its end that stand in no later prompt


def sent_prompt(cache_key: str, window_start: int, document: TurnDocument, template: ChatTemplate, tokenizer: Tokenizer) -> SentPrompt:
    """Return what has to be known of a prompt, from the document of its turn."""
    head = tuple(section.text for section in document.sections if section.name in _HEAD)
    extras = [section.text for section in document.sections if section.name in _EXTRAS]
    volatile = _opening(template) + _SEAM + sum(len(tokenizer.encode("\n\n" + text)) + _SEAM for text in extras)
    return SentPrompt(cache_key, document.prompt, window_start, head, volatile)


def _opening(template: ChatTemplate) -> int:
    """Return how many ids follow the text of the last user message at most."""
    chat = [ChatMessage(Role.SYSTEM, "x"), ChatMessage(Role.USER, "x")]
    end = [*chat, ChatMessage(Role.ASSISTANT, "x"), ChatMessage(Role.USER, "x")]
    return len(template.render_chat(end).ids) - len(template.render_chat(chat).ids)


def check_prefixes(prompts: Sequence[SentPrompt]) -> None:
    """Raise AssertionError when a prompt does not begin with the one before it, although nothing was cut or changed."""
    latest: dict[str, SentPrompt] = {}
    for prompt in prompts:
        before = latest.get(prompt.cache_key)
        if before is not None and (before.window_start, before.head) == (prompt.window_start, prompt.head):
            shared = common_prefix(before.ids, prompt.ids)
            told = f"only {shared} of {len(before.ids)} ids are shared, {before.volatile} may differ"
            assert prefix_is_stable(before.ids, prompt.ids, before.volatile), told
        latest[prompt.cache_key] = prompt


def hit_rate(prompts: Sequence[SentPrompt]) -> float:
    """Return which part of all prompt ids after the first prompt an engine need not compute again."""
    pairs = list(pairwise(prompts))
    return sum(common_prefix(before.ids, after.ids) for before, after in pairs) / sum(len(after.ids) for _, after in pairs)


def cuts(prompts: Sequence[SentPrompt]) -> int:
    """Return how often the window moved."""
    return sum(before.window_start != after.window_start for before, after in pairwise(prompts))
