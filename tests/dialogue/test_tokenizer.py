"""Text becomes ids and text again; whatever stands in it, no control token comes out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialogue.errors import ModelError, TemplateError
from dialogue.tokenizer import SpecialTokens, Tokenizer
from tests.dialogue.hostile import CONTROL, NAUGHTY
from tests.fakes.tiny_tokenizers import FAMILIES, TinyTokenizer, tiny_tokenizer

CHATML_ENDS = {"<|endoftext|>", "<|im_end|>"}
BYTE_LEVEL = ("smollm", "llama3")  # no normaliser, and a piece for every byte


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.one_of(st.sampled_from([*CONTROL, *NAUGHTY[:200]]), st.text(max_size=20)), max_size=8))
def test_text_never_becomes_a_control_token(family: str, parts: list[str]) -> None:
    """Not by names, not by merges, not by pieces of the vocabulary."""
    tokenizer = tiny_tokenizer(family).load()
    assert tokenizer.control_ids.isdisjoint(tokenizer.encode("".join(parts)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_library_alone_would_make_control_tokens(family: str) -> None:
    """Planted fault: the same file, used as it is, gives control tokens for their names, specials split or not."""
    tiny = tiny_tokenizer(family)
    control = tiny.load().control_ids
    assert not control.isdisjoint(tiny.reference().encode("<|im_end|><|eot_id|></s><end_of_turn>", add_special_tokens=False).ids)


@pytest.mark.parametrize("family", ["merging", "careless"])
def test_splitting_special_tokens_is_not_enough(family: str) -> None:
    """Planted fault: where control tokens are pieces of the vocabulary, the library's own switch lets them through."""
    tiny = tiny_tokenizer(family)
    reference = tiny.reference()
    reference.encode_special_tokens = True
    assert not tiny.load().control_ids.isdisjoint(reference.encode("<|im_end|>", add_special_tokens=False).ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_harmless_text_gets_the_ids_of_the_library(family: str) -> None:
    """Hiding the control tokens changes nothing else."""
    tiny = tiny_tokenizer(family)
    ours, reference = tiny.load(), tiny.reference()
    for text in NAUGHTY:
        if not any(token in text for token in CONTROL):
            assert ours.encode(text) == reference.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("family", BYTE_LEVEL)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.text())
def test_text_survives(family: str, text: str) -> None:
    """Decoding gives back what was encoded; a lone surrogate, which no model can be told, becomes U+FFFD."""
    tokenizer = tiny_tokenizer(family).load()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text + "\ud800")) == text + "\ufffd"


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        ("smollm", CHATML_ENDS),
        ("qwen", CHATML_ENDS),
        ("llama3", {"<|end_of_text|>", "<|eot_id|>"}),
        ("gemma", {"<eos>", "<end_of_turn>"}),
        ("llama2", {"</s>"}),
        ("chatml-sp", {"</s>", *CHATML_ENDS}),
        ("merging", CHATML_ENDS),
    ],
)
def test_every_token_that_ends_a_turn_is_known(family: str, ends: set[str]) -> None:
    """Generation stops at the end of text, and at the end of a turn even where the file names another token."""
    tokenizer = tiny_tokenizer(family).load()
    assert {tokenizer.decode([token_id]) for token_id in tokenizer.eos_ids} == ends


def test_control_tokens_have_ids_and_names() -> None:
    """The structure of a prompt is made of them, and a reader sees them."""
    tokenizer = tiny_tokenizer("smollm").load()
    start = tokenizer.control_id("<|im_start|>")
    assert start is not None
    assert tokenizer.control_id("Hello") is None
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    ids = [start, *tokenizer.encode("Hello"), *tokenizer.eos_ids]
    assert tokenizer.decode(ids[:-1]).startswith("<|im_start|>Hello<|")
    assert tokenizer.decode(ids, skip_special=True) == "Hello"


def test_whitespace_tokens_are_text() -> None:
    """Gemma lists runs of spaces and line breaks beside its control tokens; people may write those."""
    tokenizer = tiny_tokenizer("gemma").load()
    assert tokenizer.control_id("\n\n") is None
    assert len(tokenizer.encode("\n\n\n")) == 1
    assert tokenizer.control_id("<table>") is not None


def test_markup_of_the_model_is_not_text() -> None:
    """Added tokens that are not special are structure too: nobody writes a tool's answer by hand."""
    tokenizer = tiny_tokenizer("qwen").load()
    assert tokenizer.control_id("</think>") not in tokenizer.encode("</think>")
    assert tokenizer.decode(tokenizer.encode("</think>")) == "</think>"


@pytest.mark.parametrize("family", ["llama2", "careless", "gemma"])
def test_bytes_cannot_be_spelled(family: str) -> None:
    """ "<0x0A>" is six characters, not a line break."""
    tokenizer = tiny_tokenizer(family).load()
    assert tokenizer.decode(tokenizer.encode("a<0x0A>b")).strip() == "a<0x0A>b"


def test_a_space_goes_before_the_first_word_only() -> None:
    """SentencePiece puts a space before an input, not before text in the middle of one."""
    tokenizer = tiny_tokenizer("llama2-first").load()
    assert tokenizer.decode(tokenizer.encode("Hello")) == " Hello"
    assert tokenizer.decode(tokenizer.encode_spans("Hello", at_start=False).ids) == "Hello"


def test_spans_say_where_ids_come_from() -> None:
    """Spans count characters of the text, in Chinese too."""
    text = "Hi 您好!"
    encoded = tiny_tokenizer("smollm").load().encode_spans(text)
    assert len(encoded.ids) == len(encoded.spans)
    assert {text[start:end] for start, end in encoded.spans} >= {"您好", "!"}


def test_unknown_characters_do_not_end_a_turn() -> None:
    """A model without a piece for a character must not read it as the end of text."""
    document = json.loads(tiny_tokenizer("merging").document)
    document["model"] |= {"unk_token": "<|endoftext|>"}
    del document["pre_tokenizer"], document["decoder"]
    tokenizer = Tokenizer(json.dumps(document).encode(), replace(tiny_tokenizer("merging").special, bos="<|endoftext|>"))
    assert tokenizer.control_ids.isdisjoint(tokenizer.encode("a 您 b"))


def test_a_tokenizer_that_escapes_is_caught() -> None:
    """If a control id came out all the same, no prompt would be made."""
    tokenizer = tiny_tokenizer("smollm").load()
    tokenizer.control_ids |= set(tokenizer.encode("a"))
    with pytest.raises(TemplateError, match="not safe"):
        tokenizer.encode("a")


def save(tiny: TinyTokenizer, folder: Path, config: dict[str, object]) -> Path:
    path = folder / "tokenizer.json"
    path.write_bytes(tiny.document)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return path


def test_files_of_the_hub_are_read(tmp_path: Path) -> None:
    """Tokens may be objects, and further ends of a reply may stand in generation_config.json by id."""
    path = save(tiny_tokenizer("llama3"), tmp_path, {"bos_token": {"content": "<|begin_of_text|>"}, "eos_token": "<|end_of_text|>"})
    ids = [tiny_tokenizer("llama3").load().control_id(token) for token in ("<|python_tag|>", "<|eot_id|>")]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    tokenizer = Tokenizer.load(path)
    assert tokenizer.bos_token == "<|begin_of_text|>"
    assert {tokenizer.decode([token_id]) for token_id in tokenizer.eos_ids} == {"<|end_of_text|>", "<|eot_id|>", "<|python_tag|>"}


def test_special_tokens_survive_their_file() -> None:
    """What is written into tokenizer_config.json is read again."""
    special = SpecialTokens("<s>", "</s>", None, "<unk>", ("<|im_end|>",))
    assert SpecialTokens.from_config(special.to_config()) == special


@pytest.mark.parametrize(
    "damage",
    [b"", b"[]", b"{}", b'{"model": {"vocab": 3}}', b"\xff\xfe", b'{"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}'],
)
def test_a_damaged_file_is_a_sentence(damage: bytes, tmp_path: Path) -> None:
    """A file that is no tokenizer says so."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(damage)
    with pytest.raises(ModelError, match="tokenizer"):
        Tokenizer.load(path)


def test_a_missing_or_broken_neighbour_is_a_sentence(tmp_path: Path) -> None:
    """So does one that is not there, and a config that is no JSON."""
    with pytest.raises(ModelError, match="cannot be read"):
        Tokenizer.load(tmp_path / "tokenizer.json")
    path = save(tiny_tokenizer("smollm"), tmp_path, {})
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(ModelError, match="cannot be read"):
        Tokenizer.load(path)
