"""The forms in which one base model is served, each known by its hash.

An adapter that was trained on a dequantised model fits the quantised file, the dequantised folder and the float32 GGUF alike.
"""

from pathlib import Path

from dialogue.engine.download import file_sha256
from finetune.training.base_model import BaseFiles, described
from finetune.training.gguf_model import float_gguf

FOLDER, FLOAT_GGUF = "dequantised folder", "float32 GGUF"
MAX_BYTES = 8 << 30  # a float32 copy of a bigger model is not written unasked


def other_forms(base: BaseFiles, cache_dir: Path) -> dict[str, str]:
    """Return name and sha256 of the forms besides the one that is served; made if they are not there yet. Takes seconds once."""
    if base.files.path.is_dir():
        return {}
    folder = described(base.folder, cache_dir)
    forms = {FOLDER: folder.sha256}
    if sum(path.stat().st_size for path in base.folder.glob("*.safetensors")) <= MAX_BYTES:
        forms[FLOAT_GGUF] = _noted_sha256(float_gguf(base.files, cache_dir))
    return forms


def _noted_sha256(path: Path) -> str:
    """Return the sha256 of a file that is never changed, hashed once."""
    note = path.with_name(f"{path.name}.sha256")
    if not note.is_file():
        note.write_text(file_sha256(path), encoding="ascii")
    return note.read_text(encoding="ascii")
