"""What /metrics says about things that a person should look at."""

from bot.metrics import Metrics
from storage.records import OutboxState


def test_what_needs_a_person_is_measured() -> None:
    """Unknown and failed messages, quarantined events and orphans are gauges that an alert can stand on."""
    metrics = Metrics()
    metrics.set_storage(0, None, {OutboxState.UNKNOWN: 1, OutboxState.FAILED: 2}, quarantined=3, orphans=4)
    text = metrics.scrape().decode()
    for line in (
        'kefu_outbox_rows{state="unknown"} 1.0',
        'kefu_outbox_rows{state="failed"} 2.0',
        "kefu_inbox_set_aside 3.0",
        "kefu_outbox_orphans 4.0",
        "kefu_inbox_oldest_seconds 0.0",
    ):
        assert line in text.splitlines()


def test_what_a_process_holds_is_measured() -> None:
    """Tasks and connections are gauges, so that one that is never given back shows."""
    metrics = Metrics()
    metrics.set_process(7, 3)
    assert {"kefu_tasks 7.0", "kefu_database_connections 3.0"} <= set(metrics.scrape().decode().splitlines())
