"""What servers say of themselves, and what that means."""

import pytest

from dialogue.engine.remote_servers import ServerKind, facts_from, is_old, retry_seconds, words_of
from dialogue.errors import EngineUnavailable

# As a llama.cpp server of xllamacpp 2026.10 answered, shortened.
LLAMA_MODELS = {"data": [{"id": "/m/a.gguf", "owned_by": "llamacpp", "meta": {"n_vocab": 49152, "n_ctx": 2048, "n_params": 134515008}}]}
LLAMA_PROPS = {"default_generation_settings": {"n_ctx": 1024}, "total_slots": 2, "build_info": "b0-unknown"}


def test_llama_facts() -> None:
    """A llama.cpp server tells its slots and the context of one slot; the name of the model does not matter there."""
    facts = facts_from(LLAMA_MODELS, "anything", LLAMA_PROPS, {}, [])
    assert (facts.kind, facts.slots, facts.context_tokens) == (ServerKind.LLAMACPP, 2, 1024)
    assert "134515008" in facts.identity


def test_llama_without_props() -> None:
    """Where /props is closed, the context comes from the model's card and one slot is assumed."""
    facts = facts_from(LLAMA_MODELS, "anything", {}, {}, [])
    assert (facts.slots, facts.context_tokens) == (1, 2048)


def test_names_of_llama_adapters() -> None:
    """An adapter is known by its file or by its folder; a name that could mean two is nobody's."""
    loras = [
        {"id": 0, "path": "/releases/r7.gguf", "scale": 1.0},
        {"id": 1, "path": "/releases/r8.gguf", "scale": 1.0},
        {"id": 2, "path": "/more/r9/adapter.gguf", "scale": 1.0},
    ]
    facts = facts_from(LLAMA_MODELS, "m", LLAMA_PROPS, {}, loras)
    assert facts.lora_numbers == {"r7": 0, "r8": 1, "r9": 2, "adapter": 2}


def test_sglang_facts() -> None:
    """SGLang's adapters are the cards with a parent."""
    cards = [
        {"id": "base", "owned_by": "sglang", "root": "base", "max_model_len": 4096},
        {"id": "r7", "owned_by": "sglang", "root": "/r7", "parent": "base"},
    ]
    facts = facts_from({"data": cards}, "base", {}, {}, [])
    assert (facts.kind, facts.context_tokens, facts.loras) == (ServerKind.SGLANG, 4096, {"r7": "/r7"})


@pytest.mark.parametrize("models", [{}, {"data": []}, {"data": [7]}, {"data": [{"id": "gpt"}]}, {"data": [{"owned_by": "system"}]}])
def test_unknown_servers(models: dict[str, object]) -> None:
    """A server that is none of the three is refused, whatever its page holds."""
    with pytest.raises(EngineUnavailable):
        facts_from(models, "gpt", {}, {}, [])


@pytest.mark.parametrize(("version", "old"), [("0.32.9", True), ("v0.9.1", True), ("0.33.0", False), ("0.100.0", False), ("dev", False)])
def test_old_versions(version: str, old: bool) -> None:
    """Versions compare as numbers; one that is no number is not called old."""
    card = {"id": "m", "owned_by": "vllm", "max_model_len": 10}
    assert is_old(facts_from({"data": [card]}, "m", {}, {"version": version}, [])) is old


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("", 5), ("Wed, 21 Oct 2026 07:28:00 GMT", 5), ("999999", 3600), ("-1", 5)])
def test_retry_after(header: str, seconds: float) -> None:
    """Seconds are believed up to an hour; anything else stands for a few."""
    assert retry_seconds(header) == seconds


def test_words() -> None:
    """Of an error the message is shown: short, printable, without the key."""
    assert words_of(b'{"error": {"message": "bad key sk-1", "code": 500}}', "sk-1") == "bad key [key]"
    assert words_of(b'{"detail":"Not Found"}', "") == "Not Found"
    assert words_of(b"\x1b[31m" + b"x" * 500, "").startswith(" [31mxxx")
    assert len(words_of(b"y" * 5000, "")) == 200
