"""A converted tokenizer gives the ids of llama.cpp's own, for the default model and for every rule that is known."""

import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import gguf
import httpx2
import pytest
from transformers import AutoTokenizer

from dialogue.engine.models import load_tokenizer
from dialogue.errors import ModelError
from dialogue.gguf_tokenizer import COMPOSES, PRE_TOKENIZERS, convert_gguf_tokenizer
from dialogue.tokenizer import SpecialTokens, Tokenizer
from tests.dialogue.hostile import CONTROL, DIALOGUES, NAUGHTY
from tests.fakes.llama_server import llama_server
from tests.fakes.tiny_tokenizers import TinyTokenizer, byte_level, tiny_tokenizer
from tests.fakes.vocabulary_gguf import write_vocabulary_gguf
from tests.model_fixtures import default_model
from tests.sizes import record_proof, size

EDGES = [
    "aaaa  bb   cc\n\n\n\nx\t\t\ty",
    "it's IT'S I'LL  ",
    "e\u0301é ｆｕｌｌ Ⅳ ½ ٣٤٥ 1234567",
    "\r\n\r\n x",
    " ",
    "",
    "\n",
    "HELLOworld camelCase XMLHttp",
]
TEXTS = [text for text in [*NAUGHTY, *chain(*DIALOGUES), *EDGES] if not any(token in text for token in CONTROL)]
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SPECIAL = SpecialTokens(bos="<|im_start|>", eos="<|im_end|>", pad="<|im_end|>", unk="<|endoftext|>")
# One word for each rule first, then the other words for the same rules
RULES = sorted({json.dumps(rule): word for word, rule in PRE_TOKENIZERS.items()}.values())
WORDS = [*RULES, *sorted(PRE_TOKENIZERS.keys() - set(RULES))][: size("tokenizer_rules", small=len(RULES), proof=len(PRE_TOKENIZERS))]


@contextmanager
def llama_tokenize(model: Path) -> Iterator[Callable[[str], list[int]]]:
    """Give llama.cpp's tokenizer of a model: plain text, nothing added."""
    with llama_server(model, slots=1, context=64) as server, httpx2.Client(headers={"Authorization": f"Bearer {server.api_key}"}) as client:

        def tokenize(text: str) -> list[int]:
            response = client.post(f"{server.url}/tokenize", json={"content": text, "add_special": False, "parse_special": False})
            return response.raise_for_status().json()["tokens"]

        yield tokenize


def different(ours: Tokenizer, theirs: Callable[[str], list[int]], texts: Sequence[str]) -> list[str]:
    """Return the texts with other ids."""
    return [text for text in texts if ours.encode(text) != theirs(text)]


def converted(tiny: TinyTokenizer, folder: Path, pre: str) -> tuple[Path, Tokenizer]:
    """Return a GGUF file around `tiny`, and the tokenizer that Kefu makes of it."""
    model = write_vocabulary_gguf(tiny, folder / "model.gguf", pre=pre, template="{{ messages }}")
    convert_gguf_tokenizer(model, folder / "tokenizer.json")
    return model, Tokenizer.load(folder / "tokenizer.json")


def test_the_default_model_has_the_ids_of_llama_cpp() -> None:
    """On naughty strings and on Chinese dialogues, control tokens in the text included."""
    files = default_model()
    with llama_tokenize(files.path) as tokenize:
        assert different(load_tokenizer(files), tokenize, [*TEXTS, *CONTROL]) == []
    record_proof("converted tokenizer of the default model", seed="none", size=len(TEXTS), result="ids equal to llama.cpp's")


@pytest.mark.parametrize("word", WORDS)
def test_byte_level_rules_have_the_ids_of_llama_cpp(word: str, tmp_path: Path) -> None:
    """Each way of cutting words that a GGUF file can name here."""
    texts = [unicodedata.normalize("NFC", text) for text in TEXTS] if word in COMPOSES else TEXTS
    model, ours = converted(byte_level(word, CONTROL_TOKENS, SPECIAL, control_first=True), tmp_path, word)
    with llama_tokenize(model) as tokenize:
        assert different(ours, tokenize, texts) == []


@pytest.mark.parametrize("family", ["llama2", "gemma"])
def test_sentence_pieces_have_the_ids_of_llama_cpp(family: str, tmp_path: Path) -> None:
    """With a space before the text, and without."""
    model, ours = converted(tiny_tokenizer(family), tmp_path, "default")
    with llama_tokenize(model) as tokenize:
        assert different(ours, tokenize, TEXTS) == []


def test_a_wrong_rule_is_noticed(tmp_path: Path) -> None:
    """Planted fault: the words of one model cut by the rule of another do not have llama.cpp's ids."""
    model, _ = converted(byte_level("smollm", CONTROL_TOKENS, SPECIAL, control_first=True), tmp_path, "smollm")
    wrong = byte_level("llama-bpe", CONTROL_TOKENS, SPECIAL, control_first=True).load()
    with llama_tokenize(model) as tokenize:
        assert different(wrong, tokenize, TEXTS)


@pytest.mark.parametrize(
    ("family", "pre"), [("smollm", "smollm"), ("llama3", "llama-bpe"), ("qwen", "qwen2"), ("gemma", "default"), ("llama2", "default")]
)
def test_tokens_with_a_part_in_chats_survive(family: str, pre: str, tmp_path: Path) -> None:
    """Control tokens, ends of turns, and markup are the same before and after."""
    tiny = tiny_tokenizer(family)
    _, ours = converted(tiny, tmp_path, pre)
    original = tiny.load()
    assert (ours.control_ids, ours.eos_ids) == (original.control_ids, original.eos_ids)
    assert (ours.bos_token, ours.eos_token) == (original.bos_token, original.eos_token)
    assert ours.decode(sorted(ours.control_ids)) == original.decode(sorted(ours.control_ids))


def test_transformers_reads_the_files(tmp_path: Path) -> None:
    """The files are what the hub's libraries expect, chat template included, so that training uses them too."""
    _, ours = converted(tiny_tokenizer("smollm"), tmp_path, "smollm")
    theirs: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.chat_template == "{{ messages }}"
    assert theirs.eos_token == ours.eos_token
    assert theirs.encode("Hello 您好", add_special_tokens=False) == ours.encode("Hello 您好")


def test_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    """Rather a sentence than wrong ids."""
    with pytest.raises(ModelError, match='pre-tokenizer "kimi-k2" is not known'):
        converted(tiny_tokenizer("smollm"), tmp_path, "kimi-k2")
    assert not (tmp_path / "tokenizer.json").exists()


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """Unigram and the rest are not guessed at."""
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "t5")
    writer.add_tokenizer_model("t5")
    writer.add_token_list(["a"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match='kind "t5"'):
        convert_gguf_tokenizer(tmp_path / "model.gguf", tmp_path / "tokenizer.json")


def test_an_incomplete_tokenizer_is_a_sentence(tmp_path: Path) -> None:
    """A file without merges is not converted to something that looks whole."""
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["a"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match="not complete"):
        convert_gguf_tokenizer(tmp_path / "model.gguf", tmp_path / "tokenizer.json")


@pytest.mark.parametrize("damage", [b"", b"GGUF", b"GGUF" + bytes(100), b"no model at all, but longer than a header is"])
def test_a_file_that_is_no_model_is_a_sentence(damage: bytes, tmp_path: Path) -> None:
    """Cut off, empty or something else."""
    (tmp_path / "model.gguf").write_bytes(damage)
    with pytest.raises(ModelError, match=r"model\.gguf"):
        convert_gguf_tokenizer(tmp_path / "model.gguf", tmp_path / "tokenizer.json")
