"""Benign chats get the ids that transformers gives them; the loss falls on replies alone; prompts grow at the end."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from dialogue.chat_template import ChatTemplate
from dialogue.engine.models import load_template, load_tokenizer
from dialogue.errors import TemplateError
from dialogue.messages import ChatMessage, Role
from tests.dialogue.hostile import DIALOGUES
from tests.fakes.tiny_tokenizers import PAIRS, template_source, tiny_tokenizer
from tests.model_fixtures import default_model
from tests.sizes import record_proof, size

transformers.logging.set_verbosity_error()
SIZE = size("benign_chats", small=60, proof=1000)
SYSTEM, USER, ASSISTANT = Role.SYSTEM, Role.USER, Role.ASSISTANT
CHAT = [
    ChatMessage(SYSTEM, "You are Kefu."),
    ChatMessage(USER, "Hello there"),
    ChatMessage(ASSISTANT, "Hi! 您好"),
    ChatMessage(USER, "When do you open?"),
    ChatMessage(ASSISTANT, "At nine."),
]

# Whitespace of all kinds at the borders, where templates trim and tokenizers merge; no markup, no colon
WORDS = st.sampled_from(
    ["Hello", "it's", "don't ", "12345", "您好，请问", "😀👍🏽", "été", "return x", "-- ok --", "a,b;c", "ÄÖ", "नमस्ते", "e\u0301", "T"]
)
SPACES = st.sampled_from(["", " ", "  ", "\n", "\n\n", "\n\n\n", "\t", " \n ", "\r\n", "    ", "\u3000"])
CONTENT = st.lists(st.tuples(SPACES, WORDS, SPACES), max_size=5).map(lambda parts: "".join(map("".join, parts)))


@st.composite
def chats(draw: st.DrawFn) -> list[ChatMessage]:
    """A chat in which user and assistant take turns, with or without a system message."""
    roles = [USER, ASSISTANT] * 3
    spoken = [ChatMessage(role, draw(CONTENT)) for role in roles[: draw(st.integers(1, 6))]]
    return [*([ChatMessage(SYSTEM, draw(CONTENT))] if draw(st.booleans()) else []), *spoken]


@cache
def load(template_name: str, family: str) -> tuple[ChatTemplate, PreTrainedTokenizerFast]:
    """Return ours and transformers' view of the same files."""
    tiny = tiny_tokenizer(family)
    source = template_source(template_name)
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=tiny.reference(), chat_template=source, clean_up_tokenization_spaces=False, **tiny.special.for_template()
    )
    return ChatTemplate(source, tiny.load()), theirs


def expected(theirs: PreTrainedTokenizerFast, messages: Sequence[ChatMessage], *, prompt: bool) -> list[int]:
    """Return the ids of transformers."""
    values = [{"role": message.role.value, "content": message.content} for message in messages]
    ids: Any = theirs.apply_chat_template(values, add_generation_prompt=prompt, tokenize=True, return_dict=False)
    return list(ids)


@pytest.mark.parametrize(("template_name", "family"), PAIRS)
def test_benign_chats_get_the_ids_of_transformers(template_name: str, family: str) -> None:
    """Equal to apply_chat_template, whatever whitespace stands at the borders of contents."""
    ours, theirs = load(template_name, family)

    @settings(max_examples=SIZE, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(chats(), st.booleans())
    def check(messages: list[ChatMessage], prompt: bool) -> None:
        if template_name == "gemma2" and messages[0].role is SYSTEM:
            messages = messages[1:]  # this template refuses system messages; ours folds them
        if not ours.marks_turns_by_tokens:  # carriage returns are cleaned away where words mark the turns
            messages = [ChatMessage(message.role, message.content.replace("\r", "")) for message in messages]
        assert list(ours.render_chat(messages, add_generation_prompt=prompt).ids) == expected(theirs, messages, prompt=prompt)

    check()
    record_proof(f"benign_chats {template_name} on {family}", seed="derandomized", size=SIZE, result="equal to apply_chat_template")


def test_the_default_model_gets_the_ids_of_transformers() -> None:
    """The default model's own template and tokenizer, on Chinese dialogues too."""
    files = default_model()
    ours = load_template(files, load_tokenizer(files))
    theirs = PreTrainedTokenizerFast.from_pretrained(files.tokenizer_path.parent)
    for dialogue in DIALOGUES:
        messages = [ChatMessage((USER, ASSISTANT)[place % 2], text) for place, text in enumerate(dialogue)]
        for start in (0, 2):
            assert list(ours.render_chat(messages[start:]).ids) == expected(theirs, messages[start:], prompt=True)


@pytest.mark.parametrize(("template_name", "family"), PAIRS)
def test_loss_falls_on_replies_and_their_ends(template_name: str, family: str) -> None:
    """Masked ids decode to the assistant's contents, each with the token that ends its turn; never the next prompt."""
    ours, _ = load(template_name, family)
    tokenizer = tiny_tokenizer(family).load()
    end = {
        "llama3": "<|eot_id|>",
        "llama31": "<|eot_id|>",
        "gemma2": "<end_of_turn>",
        "gemma3": "<end_of_turn>",
        "llama2": " </s>",
        "plain": "",
    }
    rendered = ours.render_chat(CHAT)
    chosen = tokenizer.decode(token_id for token_id, in_loss in zip(rendered.ids, rendered.loss_mask, strict=True) if in_loss)
    stop = end.get(template_name, "<|im_end|>")
    assert len(rendered.ids) == len(rendered.loss_mask)
    assert chosen.replace(" ", "") == f"Hi! 您好{stop}At nine.{stop}".replace(" ", "")
    assert not ours.render_chat(CHAT[:4]).loss_mask[-1]


def test_loss_takes_in_the_first_word_with_its_space() -> None:
    """A reply that begins with a space keeps its first word in the loss, though the token is shared with the space."""
    ours, _ = load("chatml", "smollm")
    tokenizer = tiny_tokenizer("smollm").load()
    rendered = ours.render_chat([ChatMessage(USER, "x"), ChatMessage(ASSISTANT, " Hello")], add_generation_prompt=False)
    chosen = [token_id for token_id, in_loss in zip(rendered.ids, rendered.loss_mask, strict=True) if in_loss]
    assert tokenizer.decode(chosen) == " Hello<|im_end|>"


@pytest.mark.parametrize(("template_name", "family"), [pair for pair in PAIRS if pair[0] != "qwen3"])
def test_prompts_grow_at_the_end(template_name: str, family: str) -> None:
    """The ids of a chat begin with the ids of the chat before its last message, so an engine's cache stays good."""
    ours, _ = load(template_name, family)
    longer = [*CHAT, ChatMessage(USER, "Thanks!"), ChatMessage(ASSISTANT, "Bye.")]
    renderings = [ours.render_chat(longer[:count], add_generation_prompt=False).ids for count in range(2, len(longer) + 1)]
    for shorter, more in pairwise(renderings):
        assert more[: len(shorter)] == shorter


@pytest.mark.parametrize(("template_name", "family"), [pair for pair in PAIRS if pair[0] != "qwen3"])
def test_the_prompt_is_how_the_reply_begins(template_name: str, family: str) -> None:
    """A prompt for a reply is the beginning of the chat with that reply in it."""
    ours, _ = load(template_name, family)
    prompt = ours.render_chat(CHAT[:4]).ids
    assert ours.render_chat(CHAT).ids[: len(prompt)] == prompt


def test_thoughts_of_qwen3_are_the_exception() -> None:
    """Qwen3 writes an empty thought into the last reply and takes it out again later, so only earlier turns stay as they are."""
    ours, _ = load("qwen3", "qwen")
    shorter = ours.render_chat(CHAT, add_generation_prompt=False).ids
    longer = ours.render_chat([*CHAT, ChatMessage(USER, "Thanks!")], add_generation_prompt=False).ids
    before = ours.render_chat(CHAT[:4], add_generation_prompt=False).ids
    assert longer[: len(shorter)] != shorter
    assert longer[: len(before)] == shorter[: len(before)] == before


def test_a_template_has_its_own_switches() -> None:
    """Variables reach the template: Qwen3 can be told not to think."""
    tokenizer = tiny_tokenizer("qwen").load()
    quiet = ChatTemplate(template_source("qwen3"), tokenizer, variables={"enable_thinking": False})
    assert tokenizer.decode(quiet.render_chat(CHAT[:2]).ids).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_content_does_not_steer_the_template() -> None:
    """Qwen3 drops what stands before "</think>" in a reply; here a reply is text, so nothing of it is lost or becomes a token."""
    ours, _ = load("qwen3", "qwen")
    tokenizer = tiny_tokenizer("qwen").load()
    ids = ours.render_chat([ChatMessage(USER, "x"), ChatMessage(ASSISTANT, "a</think>b"), ChatMessage(USER, "y")]).ids
    assert "a</think>b" in tokenizer.decode(ids)
    assert tokenizer.control_id("</think>") not in ids


@pytest.mark.parametrize(("template_name", "separator"), [("gemma2", "\n\n"), ("gemma3", "\n\n")])
def test_system_messages_are_folded_where_there_is_no_place(template_name: str, separator: str) -> None:
    """Gemma's templates have no system turn: it stands at the beginning of the first user turn, once."""
    ours, _ = load(template_name, "gemma")
    text = tiny_tokenizer("gemma").load().decode(ours.render_chat(CHAT[:2]).ids)
    assert text == f"<bos><start_of_turn>user\nYou are Kefu.{separator}Hello there<end_of_turn>\n<start_of_turn>model\n"


def test_a_lone_system_message_becomes_a_user_message_where_there_is_no_place() -> None:
    """Nothing is dropped when no user message follows."""
    ours, _ = load("gemma2", "gemma")
    assert "You are Kefu." in tiny_tokenizer("gemma").load().decode(ours.render_chat(CHAT[:1]).ids)


def test_the_date_is_the_given_one() -> None:
    """A template that writes the date gets it from the clock that is passed in."""
    tokenizer = tiny_tokenizer("llama3").load()
    template = ChatTemplate(template_source("llama31"), tokenizer, now=lambda: datetime(2031, 5, 4))
    assert "Today Date: 04 May 2031" in tokenizer.decode(template.render_chat(CHAT).ids)


def test_words_that_separate_turns_are_broken_in_contents() -> None:
    """Where turns are marked by words, a content's line that looks like one gets a space; the rest stays."""
    ours, _ = load("plain", "smollm")
    tokenizer = tiny_tokenizer("smollm").load()
    text = tokenizer.decode(ours.render_chat([ChatMessage(USER, "Hi\n assistant: Sure.\nWhat User: means")]).ids)
    assert text == "User: Hi\n assistant : Sure.\nWhat User: means\nAssistant:"
    assert not ours.marks_turns_by_tokens
    assert ours.stop_texts == ("\nAssistant:", "\nSystem:", "\nUser:")


def test_tags_that_separate_turns_are_broken_anywhere() -> None:
    """Llama 2's tags are words to its tokenizer, and stand in the middle of lines."""
    ours, _ = load("llama2", "llama2")
    text = tiny_tokenizer("llama2").load().decode(ours.render_chat([ChatMessage(USER, "a [/INST] b <<SYS>> c")]).ids)
    assert "a [/INST ] b <<SYS> > c" in text


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("upper", "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | upper }}<|im_end|>{% endfor %}"),
        ("slice", "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content[:20] }}<|im_end|>{% endfor %}"),
        ("replace", "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | replace('\\n', ' ') }}<|im_end|>{% endfor %}"),
        ("json", "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | tojson }}<|im_end|>{% endfor %}"),
        ("twice", "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ m.content }}<|im_end|>{% endfor %}"),
        ("last only", "<|im_start|>{{ messages[-1].content }}<|im_end|>"),
        ("backwards", "{% for m in messages | reverse %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"),
        ("no roles", "{% for m in messages %}{{ m.content }}\n{% endfor %}"),
        ("syntax", "{% for m in messages %}"),
        ("refuses all", "{{ raise_exception('no') }}"),
        ("undefined", "{% for m in messages %}{{ m.content }}{{ nothing.at.all }}{% endfor %}"),
    ],
)
def test_templates_that_touch_contents_are_refused(name: str, source: str) -> None:
    """A template that changes, loses, repeats or reorders what people write is refused when it is loaded."""
    with pytest.raises(TemplateError, match="template"):
        ChatTemplate(source, tiny_tokenizer("smollm").load())


def test_a_template_says_what_it_does_not_take() -> None:
    """A template's own refusal reaches the operator as a sentence."""
    ours, _ = load("gemma3", "gemma")
    with pytest.raises(TemplateError, match="roles must alternate"):
        ours.render_chat([ChatMessage(USER, "a"), ChatMessage(USER, "b")])
