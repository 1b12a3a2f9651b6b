"""Tokenizers of GGUF files."""

from pathlib import Path


def convert_gguf_tokenizer(gguf_path: Path, out_path: Path) -> None:
    """Write the tokenizer of `gguf_path` to `out_path` (`.../tokenizer.json`), and beside it `tokenizer_config.json`.

    The second file holds the special tokens and the chat template. `out_path` is written last and at once: where it
    exists, both are whole. Takes seconds; done once when a model is pulled. Raises ModelError for a tokenizer that is
    not known.
    """
    raise NotImplementedError
