"""The tokenizer of a GGUF file as a `tokenizer.json`, so that a chat needs neither transformers nor torch.

A GGUF file names its pre-tokenizer by a word (`tokenizer.ggml.pre`). The words below are those whose rules are known here
and that were compared with llama.cpp's own ids; any other is refused, because a wrong rule changes ids silently. Two
differences are meant, both towards what the model was trained with: Qwen's text is composed (NFC) first, and the words of
gpt-4o and tekken count combining marks as letters.

    gpt2    byte-level BPE: merges in the file, pre-tokenizer by its word
    llama   SentencePiece: the merges follow from the scores; spaces are "▁", unknown characters fall back to bytes
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf

from dialogue.errors import ModelError
from dialogue.tokenizer import CONFIG_NAME, SpecialTokens
from dialogue.tokenizer_document import END_OF_TURN_TOKENS, Document

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_SLASH_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_TAIL}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_TAIL}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT4O = rf"{_CASED}{_CONTRACTIONS}?|{_UPPER}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_SLASH_TAIL}"
_TEKKEN = rf"{_CASED}|{_UPPER}|\p{{N}}|{_SLASH_TAIL}"

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
_GPT2_WORDS = [_BYTE_LEVEL | {"use_regex": True}]
_DIGIT_WORDS = [{"type": "Digits", "individual_digits": True}, *_GPT2_WORDS]


def _words(pattern: str) -> list[Document]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [split, _BYTE_LEVEL | {"use_regex": False}]


# tokenizer.ggml.pre → how text is cut into words
PRE_TOKENIZERS: Mapping[str, list[Document]] = {
    "gpt-2": _GPT2_WORDS,
    "phi-2": _GPT2_WORDS,
    "olmo": _GPT2_WORDS,
    "smollm": _DIGIT_WORDS,
    "starcoder": _DIGIT_WORDS,
    "refact": _DIGIT_WORDS,
    "llama-bpe": _words(_LLAMA3),
    "llama3": _words(_LLAMA3),
    "llama-v3": _words(_LLAMA3),
    "falcon3": _words(_LLAMA3),
    "lfm2": _words(_LLAMA3),
    "smaug-bpe": _words(_LLAMA3),
    "qwen2": _words(_QWEN2),
    "deepseek-r1-qwen": _words(_QWEN2),
    "qwen35": _words(_QWEN35),
    "gpt-4o": _words(_GPT4O),
    "llama4": _words(_GPT4O),
    "tekken": _words(_TEKKEN),
}
# A word that is a piece as it stands is taken whole, before any merge.
_IGNORES_MERGES = frozenset({"llama-bpe", "llama3", "llama-v3", "falcon3", "lfm2", "tekken"})
# These models were trained on composed characters; llama.cpp leaves that to the caller.
COMPOSES = frozenset({"qwen2", "deepseek-r1-qwen", "qwen35"})

_SPACE = "\u2581"


def convert_gguf_tokenizer(gguf_path: Path, out_path: Path) -> None:
    """Write the tokenizer of `gguf_path` to `out_path` (`.../tokenizer.json`), and beside it `tokenizer_config.json`.

    The second file holds the special tokens and the chat template. `out_path` is written last and at once: where it
    exists, both are whole. Takes seconds; done once when a model is pulled. Raises ModelError for a file that is no GGUF
    or whose tokenizer is not known.
    """
    fields = _read_tokenizer_fields(gguf_path)
    try:
        document, special = _document(fields), _special_tokens(fields)
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(f"The tokenizer in {gguf_path} is not complete: {error!r}.") from error
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **special.to_config(),
        "chat_template": fields.get("chat_template"),
    }
    _write(out_path.with_name(CONFIG_NAME), config)
    _write(out_path, document)


def _write(path: Path, value: Document) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    partial.replace(path)


def _read_tokenizer_fields(path: Path) -> dict[str, Any]:
    """Return the file's `tokenizer.*` values by their last names (`tokens`, `merges`, `pre`, `chat_template`, …)."""
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError, LookupError) as error:
        raise ModelError(f"{path} cannot be read as a GGUF file: {error}.") from error
    prefix = "tokenizer."
    fields = {name.removeprefix(prefix).removeprefix("ggml."): f.contents() for name, f in reader.fields.items() if name.startswith(prefix)}
    if "model" not in fields or "tokens" not in fields:
        raise ModelError(f"{path} holds no tokenizer.")
    return fields


def _document(fields: Mapping[str, Any]) -> Document:
    kind = fields["model"]
    if kind == "gpt2":
        parts = _byte_level_parts(fields)
    elif kind == "llama":
        parts = _sentence_piece_parts(fields)
    else:
        raise ModelError(f'The model\'s tokenizer is of the kind "{kind}"; Kefu knows "gpt2" and "llama". Name another model.')
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": _added_tokens(fields), "post_processor": None, **parts}


def _byte_level_parts(fields: Mapping[str, Any]) -> Document:
    word = fields.get("pre", "")
    if word not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise ModelError(f'The model\'s pre-tokenizer "{word}" is not known to Kefu, so its ids would be wrong. Known are: {known}.')
    return {
        "normalizer": {"type": "NFC"} if word in COMPOSES else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS[word]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _bpe(_vocab(fields), [merge.split(" ", 1) for merge in fields["merges"]]) | {"ignore_merges": word in _IGNORES_MERGES},
    }


def _sentence_piece_parts(fields: Mapping[str, Any]) -> Document:
    prefix = bool(fields.get("add_space_prefix", True))
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    steps = [{"type": "Prepend", "prepend": _SPACE}, spaces] if prefix else [spaces]
    back = [{"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    unknown = fields["tokens"][fields.get("unknown_token_id", 0)]
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [*back, *strip]},
        "model": _bpe(_vocab(fields), _merges_by_score(fields)) | {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True},
    }


def _vocab(fields: Mapping[str, Any]) -> dict[str, int]:
    return {piece: index for index, piece in enumerate(fields["tokens"])}


def _bpe(vocab: Mapping[str, int], merges: Sequence[Sequence[str]]) -> Document:
    return {"type": "BPE", "vocab": vocab, "merges": merges, "unk_token": None, "byte_fallback": False}


def _merges_by_score(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the merges that a SentencePiece vocabulary implies: the pair that makes the best-scored piece goes first."""
    texts = (gguf.TokenType.NORMAL, gguf.TokenType.USER_DEFINED)
    rows = zip(fields["tokens"], fields["scores"], fields["token_type"], strict=True)
    scores = {piece: score for piece, score, kind in rows if kind in texts}
    pairs = [
        (-score, len(piece), piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    pairs.sort(key=lambda pair: pair[:2])
    return [(left, right) for _, _, left, right in pairs]


def _added_tokens(fields: Mapping[str, Any]) -> list[Document]:
    """Return what is looked for in a prompt's structure: control tokens, and pieces that the model's makers put in whole."""
    special = (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN)
    named = _special_tokens(fields).named()
    rows = zip(fields["tokens"], fields["token_type"], strict=True)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": index, "content": piece, "special": kind in special or piece in named, **flags}
        for index, (piece, kind) in enumerate(rows)
        if kind in special or kind == gguf.TokenType.USER_DEFINED or piece in named
    ]


def _special_tokens(fields: Mapping[str, Any]) -> SpecialTokens:
    tokens = fields["tokens"]

    def named(key: str) -> str | None:
        index = fields.get(f"{key}_token_id")
        return tokens[index] if index is not None and index < len(tokens) else None

    vocab = set(tokens)
    ends = [text for text in (named("eot"), named("eom")) if text is not None]
    return SpecialTokens(
        named("bos"), named("eos"), named("padding"), named("unknown"), (*ends, *sorted((END_OF_TURN_TOKENS & vocab) - set(ends)))
    )
