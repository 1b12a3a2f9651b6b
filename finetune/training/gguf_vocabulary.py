"""The tokenizer of a transformers' folder as the fields of a GGUF file: the way back of `dialogue.gguf_tokenizer`.

A GGUF file names its pre-tokenizer by a word, so a tokenizer can be written only if one of the known words means its rules. What was
written is read back and compared on texts of many kinds: a wrong rule changes ids silently.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf

from dialogue.engine.model_files import TOKENIZER_NAME
from dialogue.errors import ModelError
from dialogue.gguf_tokenizer import COMPOSES, PRE_TOKENIZERS, convert_gguf_tokenizer
from dialogue.tokenizer import Tokenizer
from dialogue.tokenizer_document import Document, vocabulary
from finetune.errors import FinetuneError

_SPACE = "\u2581"
_PROBES = (
    "Hello, how are you? I'd like to return order 12345; it didn't fit.\n\n\tThanks  ",
    "您好，我想退货。订单号是 20240117，谢谢！ 客服",
    "été naïve Straße ｆｕｌｌ e\u0301 Привет мир नमस्ते สวัสดี 🙂👍🏽",
    "def f(x):\r\n    return {'a': 1.5e-3} # <b>&amp;</b> https://example.org/?q=1",
)


def write_vocabulary(writer: gguf.GGUFWriter, folder: Path, size: int, template: str) -> None:
    """Write tokens, merges and special tokens; `size` is that of the model's vocabulary, which may be bigger. Raises FinetuneError."""
    document: Document = json.loads((folder / TOKENIZER_NAME).read_bytes())
    model = document["model"]
    if model["type"] != "BPE":
        raise FinetuneError(f"A tokenizer of the kind {model['type']} cannot be written as GGUF; BPE can.")
    pieces, kinds = _tokens(document, size)
    writer.add_tokenizer_model("llama" if model.get("byte_fallback") else "gpt2")
    writer.add_tokenizer_pre("default" if model.get("byte_fallback") else _pre_tokenizer(document))
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    if model.get("byte_fallback"):
        writer.add_token_scores(_scores(model["merges"], pieces))
        writer.add_add_space_prefix(_adds_space(document))
    else:
        writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    _write_special(writer, Tokenizer.load(folder / TOKENIZER_NAME), pieces)
    if template:
        writer.add_chat_template(template)


def check_vocabulary(written: Path, folder: Path) -> None:
    """Raise FinetuneError unless the tokenizer in the GGUF file `written` gives the ids of the folder's."""
    wanted = Tokenizer.load(folder / TOKENIZER_NAME)
    with tempfile.TemporaryDirectory() as place:
        try:
            convert_gguf_tokenizer(written, Path(place) / TOKENIZER_NAME)
            found = Tokenizer.load(Path(place) / TOKENIZER_NAME)
        except ModelError as error:
            raise FinetuneError(f"The tokenizer cannot be written as GGUF: {error}") from error
    if any(found.encode(text) != wanted.encode(text) for text in _PROBES) or found.eos_ids != wanted.eos_ids:
        raise FinetuneError("The tokenizer cannot be written as GGUF: what is read back gives other ids.")


def _tokens(document: Document, size: int) -> tuple[list[str], list[gguf.TokenType]]:
    """Return every piece by its id, with its kind; places of the model without a piece get a name that no text gives."""
    added = {token["content"]: token for token in document.get("added_tokens", ())}
    ids = {**vocabulary(document), **{text: token["id"] for text, token in added.items()}}
    by_id = {number: piece for piece, number in ids.items()}
    pieces = [by_id.get(number, f"[PAD{number}]") for number in range(max(size, max(by_id) + 1))]
    unknown = document["model"].get("unk_token")
    falls_back = bool(document["model"].get("byte_fallback"))
    return pieces, [_kind(piece, added, unknown, falls_back=falls_back, used=piece in ids) for piece in pieces]


def _kind(piece: str, added: Mapping[str, Any], unknown: str | None, *, falls_back: bool, used: bool) -> gguf.TokenType:
    if not used:
        return gguf.TokenType.UNUSED
    if falls_back and piece == unknown:
        return gguf.TokenType.UNKNOWN
    if piece in added:
        return gguf.TokenType.CONTROL if added[piece]["special"] else gguf.TokenType.USER_DEFINED
    is_byte = falls_back and len(piece) == len("<0x00>") and piece.startswith("<0x")
    return gguf.TokenType.BYTE if is_byte else gguf.TokenType.NORMAL


def _pre_tokenizer(document: Document) -> str:
    """Return the word for a byte-level tokenizer's rules."""
    rules = _rules(document.get("pre_tokenizer"))
    composes = (document.get("normalizer") or {}).get("type") == "NFC"
    for word, known in PRE_TOKENIZERS.items():
        if rules == [_rule(each) for each in known] and composes == (word in COMPOSES):
            return word
    raise FinetuneError("The tokenizer cuts words by rules that GGUF has no name for, so its ids would be wrong.")


def _rules(value: Document | None) -> list[Document]:
    if not value:
        return []
    parts = value["pretokenizers"] if value["type"] == "Sequence" else [value]
    return [_rule(part) for part in parts]


def _rule(part: Document) -> Document:
    """Return what of a rule has an effect on ids."""
    return {name: value for name, value in part.items() if name not in {"trim_offsets"}}


def _scores(merges: Sequence[str | Sequence[str]], pieces: Sequence[str]) -> list[float]:
    """Return scores that imply the merges: a piece that is made earlier has the higher one."""
    made = ["".join(merge.split(" ")) if isinstance(merge, str) else "".join(merge) for merge in merges]
    rank = {piece: float(-place) for place, piece in reversed(list(enumerate(made)))}
    lowest = -float(len(made))
    return [rank.get(piece, lowest - place) for place, piece in enumerate(pieces)]


def _adds_space(document: Document) -> bool:
    rules = json.dumps([document.get("normalizer"), document.get("pre_tokenizer")], ensure_ascii=False)
    return f'"prepend": "{_SPACE}"' in rules or '"prepend_scheme": "first"' in rules


def _write_special(writer: gguf.GGUFWriter, tokenizer: Tokenizer, pieces: Sequence[str]) -> None:
    special = tokenizer.special
    ends = [token for token in special.ends if token != special.eos]
    for token, add in (
        (special.bos, writer.add_bos_token_id),
        (special.eos, writer.add_eos_token_id),
        (special.pad, writer.add_pad_token_id),
        (special.unk, writer.add_unk_token_id),
        (ends[0] if ends else None, writer.add_eot_token_id),
    ):
        if token is not None and token in pieces:
            add(pieces.index(token))
    writer.add_add_bos_token(value=False)  # prompts are ids, and the template has written it
