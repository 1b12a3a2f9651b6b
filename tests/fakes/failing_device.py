"""Engines on torch whose device fails once, at the first token that is asked for: hosted in a child by entry points of `write_plugin`."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from dialogue.engine.base import Engine
from dialogue.engine.local import decoder, decoder_worker, seq2seq, seq2seq_model
from dialogue.engine.spec import ENTRY_POINTS

ROOT = Path(__file__).resolve().parents[2]
MARKER = "KEFU_TEST_DEVICE_FAILED"  # names a file that exists once the device has failed


def write_plugin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let children find the engines `failing-local` and `failing-seq2seq`."""
    described = folder / "failing_device-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: failing-device\nVersion: 1\n", encoding="utf-8")
    lines = [f"failing-{kind} = {__name__}:build_{kind}" for kind in ("local", "seq2seq")]
    (described / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINTS}]", *lines]), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    monkeypatch.setenv(MARKER, str(folder / "failed"))


def build_local(arguments: Mapping[str, Any]) -> Engine:
    """Build the engine `local`."""
    decoder_worker.choose_tokens = failing_once(decoder_worker.choose_tokens)
    return decoder.build(arguments)


def build_seq2seq(arguments: Mapping[str, Any]) -> Engine:
    """Build the engine `seq2seq`."""
    setattr(seq2seq_model.Batch, "logits", failing_once(seq2seq_model.Batch.logits))  # noqa: B010 - a method cannot be assigned
    return seq2seq.build(arguments)


def failing_once(real: Callable[..., Any]) -> Callable[..., Any]:
    """Return what `real` does, but for the first call of all processes."""

    def call(*arguments: Any) -> Any:
        marker = Path(os.environ[MARKER])
        if not marker.exists():
            marker.touch()
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return real(*arguments)

    return call
