"""Kefu's engine on torch without one of its parts, to see what that is worth. It runs in the arm's own process, not in a child of it."""

from dataclasses import replace

from dialogue.engine.bench.engine_arm import EngineArm
from dialogue.engine.bench.settings import ArmSettings
from dialogue.engine.factory import local_spec
from dialogue.engine.local.decoder import DecoderEngine, settings_of
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
    if settings.files is None:
        raise EngineUnavailable("The engine local needs a model.")
    whole = settings_of(local_spec(settings.engine, settings.files).arguments)
    terms = replace(whole, graphs=lacks != "graphs", overlap=lacks != "overlap")
    return EngineArm(DecoderEngine(terms, make_table=ForgetfulTable if lacks == "cache" else SlotTable))
