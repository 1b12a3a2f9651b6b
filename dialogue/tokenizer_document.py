"""What stands in a `tokenizer.json`, and how its control tokens are put out of reach of text.

Such a file lists control tokens twice: as added tokens, which the library looks for in any text, and as pieces of the
vocabulary, which ordinary merges may spell and which a unigram model matches as they stand. `hide_control_tokens` closes
both ways: nothing is registered, and the pieces get names that nobody can guess. Ids stay what they are.

Whitespace that a tokenizer lists as an added token (Gemma's "\\n\\n") is ordinary text and stays registered.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]  # a parsed tokenizer.json

# Names that end a turn in the published chat models; a file that lists one as an ordinary piece is corrected.
END_OF_TURN_TOKENS = frozenset(
    {
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<end_of_turn>",
        "<|end|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|return|>",
        "<end_of_utterance>",
        "</s>",
        "<eos>",
        "<EOT>",
    }
)
_LOOKS_LIKE_CONTROL = re.compile(r"<[|｜][^|｜\s<>]{1,64}[|｜]>|<start_of_turn>")
_SPACE_PIECE = "\u2581"  # how SentencePiece writes a space
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_BYTE_PIECE_START = "<(?=0x[0-9A-F]{2}>)"


@dataclass(frozen=True, slots=True)
class ControlToken:
    """A token that only the structure of a prompt may contain."""

    text: str
    id: int
    strips_left: bool = False  # whitespace before it belongs to it
    strips_right: bool = False  # whitespace after it belongs to it


@dataclass(frozen=True, slots=True)
class HiddenNames:
    """The names under which the control tokens of one loaded tokenizer stand."""

    nonce: str  # 128 random bits; names are the nonce, the id and a full stop
    texts: Mapping[int, str]  # id → the text to show for it

    def name(self, token_id: int) -> str:
        """Return the name under which the token `token_id` is hidden."""
        return f"{self.nonce}{token_id}."

    def reveal(self, text: str) -> str:
        """Replace every hidden name in `text` by what it stands for."""
        return re.sub(f"{self.nonce}([0-9]+)\\.", lambda match: self.texts[int(match[1])], text)


def find_control_tokens(document: Document, named: frozenset[str]) -> dict[str, ControlToken]:
    """Return the control tokens of `document` by text: the added ones, those in `named`, and those with a telling name."""
    found = {
        token["content"]: ControlToken(token["content"], token["id"], bool(token.get("lstrip")), bool(token.get("rstrip")))
        for token in document.get("added_tokens", ())
        if not is_plain_whitespace(token)
    }
    for piece, token_id in vocabulary(document).items():
        if piece in named or piece in END_OF_TURN_TOKENS or (piece.startswith("<") and _LOOKS_LIKE_CONTROL.fullmatch(piece)):
            found.setdefault(piece, ControlToken(piece, token_id))
    return found


def is_plain_whitespace(added_token: Mapping[str, Any]) -> bool:
    """Say whether an added token is nothing but spaces or line breaks, which people may of course write."""
    return not added_token.get("special") and not added_token["content"].replace(_SPACE_PIECE, " ").strip()


def vocabulary(document: Document) -> dict[str, int]:
    """Return the pieces of the model with their ids."""
    vocab = document["model"]["vocab"]
    return vocab if isinstance(vocab, dict) else {piece: index for index, (piece, _) in enumerate(vocab)}


def unknown_piece(document: Document) -> str | None:
    """Return the piece that stands for characters the model has no piece for; None when there is none."""
    model = document["model"]
    if model["type"] == "Unigram":
        return None if model.get("unk_id") is None else model["vocab"][model["unk_id"]][0]
    return model.get("unk_token") or None


def hide_control_tokens(document: Document, control: Mapping[str, ControlToken], unknown: str | None) -> HiddenNames:
    """Change `document` in place so that no text is ever encoded to an id in `control`, or to `unknown` by its name.

    `unknown` keeps its work: it stands for unknown characters; with None, unknown characters are dropped where the model
    type allows it.
    """
    ids = {token.text: token.id for token in control.values()}
    if unknown is not None:
        ids[unknown] = vocabulary(document)[unknown]
    hidden = HiddenNames(secrets.token_hex(16), {token_id: text for text, token_id in ids.items()})
    model = document["model"]
    kept = [token for token in document.get("added_tokens", ()) if is_plain_whitespace(token)]
    if isinstance(model["vocab"], dict):
        _hide_in_mapping(model, ids, hidden, {token["content"]: token["id"] for token in kept})
        model["unk_token"] = None if unknown is None else hidden.name(ids[unknown])
    else:
        _hide_in_list(model, ids, hidden)
        _isolate_byte_pieces(document)
    document["added_tokens"] = kept
    document["post_processor"] = document["truncation"] = document["padding"] = None
    return hidden


def _hide_in_mapping(model: Document, ids: Mapping[str, int], hidden: HiddenNames, kept: Mapping[str, int]) -> None:
    vocab = {piece: token_id for piece, token_id in model["vocab"].items() if piece not in ids}
    model["vocab"] = {**vocab, **kept, **{hidden.name(token_id): token_id for token_id in ids.values()}}
    if model["type"] == "BPE":
        unreachable = set(ids)
        if model.get("byte_fallback"):
            # "<0x0A>" in a text is six characters, not a line break
            unreachable |= {piece for piece in vocab if _BYTE_PIECE.fullmatch(piece)}
        pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [
            (left, right) for left, right in pairs if not (left + right in unreachable or left in unreachable or right in unreachable)
        ]


def _hide_in_list(model: Document, ids: Mapping[str, int], hidden: HiddenNames) -> None:
    entries = [list(entry) for entry in model["vocab"]]
    missing = range(len(entries), max(ids.values(), default=-1) + 1)
    entries.extend([f"{hidden.nonce}-{index}", 0.0] for index in missing)
    for token_id in ids.values():
        entries[token_id][0] = hidden.name(token_id)
    model["vocab"] = entries


def _isolate_byte_pieces(document: Document) -> None:
    """Keep a unigram model, which matches pieces as they stand, from reading "<0x0A>" in a text as a line break."""
    split = {"type": "Split", "pattern": {"Regex": _BYTE_PIECE_START}, "behavior": "Isolated", "invert": False}
    before = [document["pre_tokenizer"]] if document.get("pre_tokenizer") else []
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*before, split]}


def without_first_prefix(document: Document) -> Document | None:
    """Return `document` as it encodes text that is not the first of its input; None when that makes no difference.

    SentencePiece-like files put a space before the very first word of an input only.
    """
    pre_tokenizer = document.get("pre_tokenizer")
    changed = _never_prepend(pre_tokenizer)
    return None if changed == pre_tokenizer else document | {"pre_tokenizer": changed}


def _never_prepend(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Sequence":
        return part | {"pretokenizers": [_never_prepend(inner) for inner in part["pretokenizers"]]}
    if part.get("type") == "Metaspace" and part.get("prepend_scheme") == "first":
        return part | {"prepend_scheme": "never"}
    return part
