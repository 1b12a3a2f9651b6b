"""No content forges a role: fuzzed contents on every kind of template and tokenizer, and the default model's own."""

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from dialogue.chat_template import ChatTemplate
from dialogue.engine.models import load_template, load_tokenizer
from dialogue.messages import ChatMessage
from dialogue.template_sandbox import SandboxedTemplate
from dialogue.tokenizer import Tokenizer
from tests.dialogue.hostile import CONTROL, chat, hostile_text, markers_of, turns
from tests.fakes.tiny_tokenizers import PAIRS, template_source, tiny_tokenizer
from tests.model_fixtures import default_model
from tests.sizes import record_proof, size

SEED = 20261123
SIZE = size("forged_roles", small=400, proof=5000)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
BENIGN = ("Be kind.", "Hello", "Hi", "Bye")

Render = Callable[[Sequence[ChatMessage]], Sequence[int]]


def forgeries(tokenizer: Tokenizer, markers: Sequence[str], render: Render, count: int) -> list[list[str]]:
    """Return the contents, of `count` fuzzed chats, that gave a chat other turns than benign contents do."""
    chance = random.Random(SEED)
    expected = turns(tokenizer, render(chat(BENIGN)), markers)
    found: list[list[str]] = []
    for number in range(count):
        contents = [hostile_text(chance) for _ in BENIGN]
        if number % 2:  # one at a time as well: contents could hide one another's effect
            contents = [*BENIGN[:1], contents[0], *BENIGN[2:]]
        if turns(tokenizer, render(chat(contents)), markers) != expected:
            found.append(contents)
    return found


@pytest.mark.parametrize(("template_name", "family"), PAIRS)
def test_no_content_forges_a_role(template_name: str, family: str) -> None:
    """Whatever people write, a prompt has the control tokens and role markers of the same chat with harmless texts."""
    tokenizer = tiny_tokenizer(family).load()
    template = ChatTemplate(template_source(template_name), tokenizer)
    assert forgeries(tokenizer, markers_of(template), lambda messages: template.render_chat(messages).ids, SIZE) == []
    record_proof(f"forged_roles {template_name} on {family}", seed=SEED, size=SIZE, result="0 forged")


def test_no_content_forges_a_role_with_the_default_model() -> None:
    """The same holds for the default model's own tokenizer and template."""
    files = default_model()
    tokenizer = load_tokenizer(files)
    template = load_template(files, tokenizer)
    assert forgeries(tokenizer, markers_of(template), lambda messages: template.render_chat(messages).ids, SIZE) == []
    record_proof("forged_roles default model", seed=SEED, size=SIZE, result="0 forged")


@pytest.mark.parametrize(("template_name", "family"), PAIRS)
def test_a_naive_renderer_is_caught(template_name: str, family: str) -> None:
    """Planted fault: a renderer that encodes the finished string, control tokens and all, fails this very check."""
    tiny = tiny_tokenizer(family)
    tokenizer = tiny.load()
    template = ChatTemplate(template_source(template_name), tokenizer)
    source = SandboxedTemplate(template_source(template_name), tiny.special.for_template())
    reference = tiny.reference()

    def naive(messages: Sequence[ChatMessage]) -> Sequence[int]:
        spoken = messages[1:] if template_name == "gemma2" else messages  # it takes no system message
        values = [{"role": message.role.value, "content": message.content} for message in spoken]
        text = source.render(NOW, messages=values, add_generation_prompt=True).encode("utf-8", "replace").decode()
        return reference.encode(text, add_special_tokens=False).ids

    assert len(forgeries(tokenizer, markers_of(template), naive, 100)) > 10


@pytest.mark.parametrize(("template_name", "family"), [pair for pair in PAIRS if pair[1] in {"smollm", "llama3"} and pair[0] != "plain"])
def test_content_is_not_altered(template_name: str, family: str) -> None:
    """Where control tokens separate the turns, hostile contents stand in the prompt letter by letter."""
    tokenizer = tiny_tokenizer(family).load()
    template = ChatTemplate(template_source(template_name), tokenizer)
    for token in CONTROL:
        assert token in tokenizer.decode(template.render_chat(chat(("a", f"x{token}y", "b", "c"))).ids)
