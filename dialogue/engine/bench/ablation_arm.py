"""Kefu's engine on torch without one of its parts, to see what that is worth. It runs in the arm's own process, not in a child of it."""

from dialogue.engine.bench.engine_arm import EngineArm
from dialogue.engine.bench.settings import ArmSettings
from dialogue.engine.cpu_cores import usable_cores
from dialogue.engine.local.decoder import DecoderEngine, DecoderSettings
from dialogue.engine.local.slot_table import Slot, SlotTable
from dialogue.errors import EngineUnavailable


class ForgetfulTable(SlotTable):
    """Keeps nothing of a request that has ended."""

    def release(self, slot: Slot) -> None:
        super().release(slot)
        if slot in self.slots:
            self.drop(slot)


def build(settings: ArmSettings) -> EngineArm:
    """Return the arm without the part that its options name: cache, graphs or overlap. Raises EngineUnavailable."""
    lacks = settings.options["without"]
    engine, files = settings.engine, settings.files
    if files is None:
        raise EngineUnavailable("The engine local needs a model.")
    terms = DecoderSettings(
        files=files,
        cache_dir=engine.cache_dir,
        context_tokens=min(engine.context_tokens, files.context_tokens),
        slots=engine.slots,
        threads=engine.threads or usable_cores(),
        cache_ram_mib=engine.cache_ram_mib,
        graphs=lacks != "graphs",
        overlap=lacks != "overlap",
    )
    return EngineArm(DecoderEngine(terms, make_table=ForgetfulTable if lacks == "cache" else SlotTable))
