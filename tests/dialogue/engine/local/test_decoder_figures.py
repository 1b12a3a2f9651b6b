"""What a decoder counts."""

from dialogue.engine.local.decoder_figures import WINDOW_S, DecoderFigures
from dialogue.engine.local.scheduler import Bounds, Scheduler, Sequence
from dialogue.engine.local.slot_table import SlotTable


def test_figures() -> None:
    """Batch, speed over the last seconds, hit rate and memory are those of the steps that were made."""
    scheduler = Scheduler(SlotTable(100), Bounds(tokens=16, sequences=4))
    figures = DecoderFigures(bytes_per_token=10)
    sequences = [Sequence([1, 2, 3], room=10), Sequence([4, 5], room=10)]
    for sequence in sequences:
        scheduler.submit(sequence)
        figures.note_beginning(len(sequence.tokens), 1)
    for second in range(2):
        step = scheduler.plan()
        figures.note_step(len(step.chunks), len(sequences), float(second))
        scheduler.commit(step)
        for sequence in sequences:
            sequence.tokens.append(7)
    figures.note_shortage()
    assert figures.snapshot(scheduler, 1.0) == {
        "batch": 2,
        "tokens_per_second": 4 / WINDOW_S,
        "cache_hit_rate": 2 / 5,
        "kv_bytes": (4 + 3) * 10,
        "step_tokens_allowed": 16,
        "memory_shortages": 1,
    }
    assert figures.snapshot(scheduler, WINDOW_S + 0.5)["tokens_per_second"] == 2 / WINDOW_S
    for sequence in sequences:
        scheduler.end(sequence)
    assert figures.snapshot(scheduler, 2.0)["batch"] == 0
