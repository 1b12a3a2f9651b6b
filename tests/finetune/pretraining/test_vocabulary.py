"""A trained vocabulary is that of a chat model: every text has ids and comes back, and no text forges a role."""

from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from dialogue.chat_template import ChatTemplate
from dialogue.engine.models import load_template, load_tokenizer, pull
from dialogue.messages import ChatMessage, Role
from dialogue.tokenizer import Tokenizer
from finetune.pretraining.config import CONTROL_TOKENS, SMALLEST_VOCABULARY
from finetune.pretraining.vocabulary import save_text_vocabulary, train_vocabulary
from tests.finetune.pretraining.recipes import sentences


@pytest.fixture(scope="module")
def chat(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, ChatTemplate]:
    """Tokenizer and template of a trained model, loaded as the chat loads them."""
    files = pull(str(small_run / "model"), tmp_path_factory.mktemp("cache"))
    tokenizer = load_tokenizer(files)
    return tokenizer, load_template(files, tokenizer)


def test_a_chat_model(chat: tuple[Tokenizer, ChatTemplate], small_run: Path) -> None:
    """The saved model has a chat template whose ids are those of transformers, and whose turns are marked by control tokens."""
    tokenizer, template = chat
    messages = [
        ChatMessage(Role.SYSTEM, "Be brief."),
        ChatMessage(Role.USER, "Where is order 12?"),
        ChatMessage(Role.ASSISTANT, "On its way."),
    ]
    reference: Any = transformers.AutoTokenizer.from_pretrained(small_run / "model")
    theirs = reference.apply_chat_template(
        [{"role": message.role.value, "content": message.content} for message in messages], tokenize=True
    )
    assert list(template.render_chat(messages, add_generation_prompt=False).ids) == list(theirs["input_ids"])
    assert template.marks_turns_by_tokens
    assert {tokenizer.decode([number]) for number in tokenizer.eos_ids} == {"<|im_end|>", "<|endoftext|>"}


@given(st.text(max_size=60))
def test_every_text_comes_back(text: str) -> None:
    """Decoding the ids of any text gives the text."""
    assert TRAINED.decode(TRAINED.encode(text).ids) == text


def test_no_text_is_a_control_token(chat: tuple[Tokenizer, ChatTemplate]) -> None:
    """The names of control tokens in a text are text."""
    tokenizer, _ = chat
    ids = tokenizer.encode("".join(CONTROL_TOKENS))
    assert tokenizer.control_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == "".join(CONTROL_TOKENS)


def test_size() -> None:
    """A vocabulary has the size that was asked for, or fewer pieces where the text holds no more; control tokens come first."""
    assert TRAINED.get_vocab_size() == 320
    assert [TRAINED.token_to_id(token) for token in CONTROL_TOKENS] == [0, 1, 2, 3]
    assert train_vocabulary(["ab"], 5000).get_vocab_size() == SMALLEST_VOCABULARY


def test_the_same_text_gives_the_same_vocabulary() -> None:
    """Training twice gives the same file, so that a run can go on."""
    assert train_vocabulary(sentences(40), 320).to_str() == TRAINED.to_str()


def test_a_text_side_ends_with_the_end_of_text(tmp_path: Path) -> None:
    """The tokenizer of a side of an encoder–decoder ends every text, and knows how many tokens its side takes."""
    save_text_vocabulary(TRAINED, tmp_path, positions=7)
    loaded: Any = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = loaded("order parcel")["input_ids"]
    assert ids == [*TRAINED.encode("order parcel").ids, 0]
    assert (loaded.model_max_length, loaded.pad_token_id, loaded.eos_token_id) == (7, 3, 0)
    assert Tokenizer.load(tmp_path / "tokenizer.json").encode("order parcel") == ids[:-1]


TRAINED = train_vocabulary(sentences(40), 320)
