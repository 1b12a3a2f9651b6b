"""A device that fails takes its child process along, and the next child answers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dialogue.config import EngineConfig
from dialogue.engine.base import GenerationFinished, GenerationRequest, SamplingParams
from dialogue.engine.factory import local_spec, seq2seq_spec
from dialogue.engine.local.device_failure import EXIT_DEVICE_ERROR
from dialogue.engine.models import pull
from dialogue.engine.process import ProcessEngine, ProcessLimits
from dialogue.engine.spec import EngineSpec
from dialogue.errors import EngineUnavailable
from tests.fakes.failing_device import write_plugin
from tests.fakes.tiny_decoder import write_tiny_decoder
from tests.fakes.tiny_gguf import tiny_model
from tests.fakes.tiny_seq2seq import write_tiny


def decoder_spec(folder: Path) -> EngineSpec:
    files = pull(str(write_tiny_decoder(tiny_model(), folder / "model")), folder)
    return local_spec(EngineConfig(cache_dir=folder, context_tokens=64, slots=1, threads=1), files)


def encoder_decoder_spec(folder: Path) -> EngineSpec:
    files = pull(str(write_tiny("t5", folder / "model")), folder)
    return seq2seq_spec(EngineConfig(cache_dir=folder, context_tokens=64, slots=1, threads=1), files)


@pytest.mark.parametrize("make_spec", [decoder_spec, encoder_decoder_spec])
async def test_a_failed_device_ends_the_child(
    make_spec: Callable[[Path], EngineSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that met it may be tried again, which the caller is told by EngineUnavailable; the second child answers it."""
    write_plugin(tmp_path, monkeypatch)
    spec = make_spec(tmp_path)
    engine = ProcessEngine(replace(spec, kind=f"failing-{spec.kind}"), ProcessLimits(start_timeout_s=120, backoff_s=(0.0,)))
    asked = GenerationRequest("r", (5, 6, 7), SamplingParams(max_tokens=4, temperature=0, ignore_eos=True), deadline_s=120)
    try:
        await engine.start()
        with pytest.raises(EngineUnavailable, match=f"exit status {EXIT_DEVICE_ERROR}"):
            await anext(engine.generate(asked))
        events = [event async for event in engine.generate(asked)]
        assert isinstance(events[-1], GenerationFinished)
        assert engine.health().restarts == 1
    finally:
        await engine.close()
