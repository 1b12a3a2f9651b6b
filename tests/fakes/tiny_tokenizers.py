"""Tokenizers of a few hundred pieces, trained in milliseconds, one for each kind that chat models have.

Each carries the control tokens of its family at the place where that family has them: before the pieces (SmolLM), after
them (Llama 3), or as ordinary pieces of the vocabulary that merges may spell (`careless`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from dialogue.gguf_tokenizer import PRE_TOKENIZERS
from dialogue.tokenizer import SpecialTokens, Tokenizer

TEMPLATES = Path(__file__).parent / "templates"
SPACE = "\u2581"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
CORPUS = (
    "user assistant system model You are a helpful AI assistant named Kefu. User: Assistant: System: [INST] <<SYS>> Human: Bot:",
    "Hello! How are you today? I would like to return the shoes that I bought last week, they don't fit; order 12345.",
    "您好，我想预订一个房间。请问附近有什么好吃的餐馆吗？人均消费100-150元，评分4.5分以上。谢谢！",
    "def main():\n    return {'a': 1, \"b\": [2, 3]}\n\n\tif x != 0:\n        print('it''s  done')\r\n",
    "<b>bold</b> & <i>italic</i> | ** ## ``` https://example.org/?q=1&r=2 😀👍🏽 été naïve Straße Привет мир नमस्ते สวัสดี",
    "the the the and and of to in that is was for on are with as his they be at one have this from or had by hot word but",
    "im_end im_start eot_id start_header_id end_header_id end_of_turn start_of_turn endoftext begin_of_text think tool_call",
)


@dataclass(frozen=True, slots=True)
class TinyTokenizer:
    """A tokenizer file and what its model says about its tokens."""

    document: bytes  # a tokenizer.json
    special: SpecialTokens

    def load(self) -> Tokenizer:
        """Return ours."""
        return Tokenizer(self.document, self.special)

    def reference(self) -> tokenizers.Tokenizer:
        """Return the library's, which recognises every added token in any text."""
        return tokenizers.Tokenizer.from_str(self.document.decode())


def byte_level(
    pre: str, control: tuple[str, ...], special: SpecialTokens, *, control_first: bool, words: tuple[str, ...] = ()
) -> TinyTokenizer:
    """Return a byte-level BPE with the pre-tokenizer that GGUF files name `pre`; `words` are added tokens that are not special."""
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=pre in {"llama-bpe", "tekken"}))
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        min_frequency=1,
        show_progress=False,
        special_tokens=list(control) if control_first else [],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    document = json.loads(tokenizer.to_str()) | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS[pre]}}
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(document))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(list(control))
    tokenizer.add_tokens([tokenizers.AddedToken(word, normalized=False) for word in words])
    return TinyTokenizer(tokenizer.to_str().encode(), special)


def sentence_piece(control: tuple[str, ...], special: SpecialTokens, *, prefix: str, words: tuple[str, ...] = ()) -> TinyTokenizer:
    """Return a BPE over whole texts with byte fallback. `prefix`: "always", "first" or "never" a space before the text."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    trainer = trainers.BpeTrainer(vocab_size=900, min_frequency=1, show_progress=False, special_tokens=["<unk>", *control, *BYTES, *words])
    tokenizer.train_from_iterator(CORPUS, trainer)
    document = json.loads(tokenizer.to_str())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    ids = document["model"]["vocab"]
    document["added_tokens"] = [
        {"id": ids[text], "content": text, "special": text not in words, **flags} for text in ("<unk>", *control, *words)
    ]
    spaces = [normalizers.Replace(" ", SPACE)]
    steps = [normalizers.Prepend(SPACE), *spaces] if prefix == "always" else spaces
    loaded = tokenizers.Tokenizer.from_str(json.dumps(document))
    if prefix == "first":
        loaded.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        loaded.normalizer = normalizers.Sequence(steps)
        loaded.pre_tokenizer = None  # type: ignore[assignment]
    loaded.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return TinyTokenizer(loaded.to_str().encode(), special)


def careless(control: tuple[str, ...], special: SpecialTokens) -> TinyTokenizer:
    """Return a unigram model in whose vocabulary the control tokens are pieces like any other, with good scores."""
    characters = sorted(set("".join(CORPUS)) - {" "})
    pieces = [("<unk>", 0.0), *((token, 0.0) for token in control), *((byte, -1.0) for byte in BYTES), (SPACE, -3.0)]
    tokenizer = tokenizers.Tokenizer(models.Unigram([*pieces, *((character, -4.0) for character in characters)], 0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(list(control))
    return TinyTokenizer(tokenizer.to_str().encode(), special)


def merging(control: tuple[str, ...], special: SpecialTokens) -> TinyTokenizer:
    """Return a byte-level BPE that lists no added token and whose merges spell the control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: index for index, character in enumerate(alphabet)}
    merges: list[list[str]] = []
    for token in control:
        for cut in range(1, len(token)):
            pair = [token[:cut], token[cut]]
            if token[: cut + 1] not in vocab:
                vocab[token[: cut + 1]] = len(vocab)
                merges.append(pair)
    document: dict[str, Any] = json.loads(tokenizers.Tokenizer(models.BPE()).to_str())
    document["model"] |= {"vocab": vocab, "merges": merges}
    document["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    document["decoder"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return TinyTokenizer(json.dumps(document).encode(), special)


_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHATML_SPECIAL = SpecialTokens(bos="<|im_start|>", eos="<|im_end|>", pad="<|im_end|>", unk="<|endoftext|>")
_LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>")
_LLAMA3_SPECIAL = SpecialTokens(bos="<|begin_of_text|>", eos="<|eot_id|>")
_QWEN_WORDS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_GEMMA = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
_GEMMA_WORDS = ("\n", "\n\n", "\n\n\n", SPACE * 2, SPACE * 3, SPACE * 4, "<table>", "</table>")
_LLAMA2_SPECIAL = SpecialTokens(bos="<s>", eos="</s>", unk="<unk>")

FAMILIES: Mapping[str, Callable[[], TinyTokenizer]] = {
    "smollm": lambda: byte_level("smollm", _CHATML, _CHATML_SPECIAL, control_first=True),
    "llama3": lambda: byte_level("llama-bpe", _LLAMA3, _LLAMA3_SPECIAL, control_first=False),
    "qwen": lambda: byte_level(
        "qwen2", _CHATML, SpecialTokens(eos="<|im_end|>", pad="<|endoftext|>"), control_first=False, words=_QWEN_WORDS
    ),
    "gemma": lambda: sentence_piece(
        _GEMMA, SpecialTokens(bos="<bos>", eos="<eos>", pad="<pad>", unk="<unk>"), prefix="never", words=_GEMMA_WORDS
    ),
    "llama2": lambda: sentence_piece(("<s>", "</s>"), _LLAMA2_SPECIAL, prefix="always"),
    "llama2-first": lambda: sentence_piece(("<s>", "</s>"), _LLAMA2_SPECIAL, prefix="first"),
    "chatml-sp": lambda: sentence_piece(("<s>", "</s>", *_CHATML), SpecialTokens(bos="<s>", eos="<|im_end|>"), prefix="first"),
    "careless": lambda: careless(("<s>", "</s>", *_CHATML), SpecialTokens(bos="<s>", eos="</s>", unk="<unk>")),
    "merging": lambda: merging(_CHATML, _CHATML_SPECIAL),
}


@cache
def tiny_tokenizer(family: str) -> TinyTokenizer:
    """Return the tokenizer of a family, made once."""
    return FAMILIES[family]()


def template_source(name: str) -> str:
    """Return the chat template of that name."""
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


# A template and the kind of tokenizer that such models have
PAIRS = (
    ("chatml", "smollm"),
    ("chatml", "chatml-sp"),
    ("chatml", "careless"),
    ("chatml", "merging"),
    ("llama3", "llama3"),
    ("llama31", "llama3"),
    ("qwen25", "qwen"),
    ("qwen3", "qwen"),
    ("gemma2", "gemma"),
    ("gemma3", "gemma"),
    ("llama2", "llama2"),
    ("plain", "llama2-first"),
    ("plain", "smollm"),
)
