"""What the program counts about itself, in its own Prometheus registry. Labels hold names of our own, never user data."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bot.adapter_watch import Serving
from dialogue.engine.base import EngineHealth
from dialogue.messages import ReplyCommitted
from storage.records import OutboxState

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one process, and gauges that are set when somebody asks (`scrape`)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.accepted = Counter("kefu_inbox_accepted", "Events made durable", ["channel"], registry=self.registry)
        self.quarantined = Counter("kefu_inbox_quarantined", "Events that cannot be read", ["channel"], registry=self.registry)
        self.turns = Counter("kefu_turns", "Turns committed", ["status", "skill"], registry=self.registry)
        self.turn_errors = Counter("kefu_turn_errors", "Turns that ended in a defect of the program", registry=self.registry)
        self.claims_lost = Counter("kefu_claims_lost", "Turns dropped because somebody else took over", registry=self.registry)
        self.deliveries = Counter("kefu_deliveries", "Attempts to deliver an answer", ["channel", "outcome"], registry=self.registry)
        self.tokens = Counter("kefu_tokens", "Tokens; cached = prompt tokens that cost nothing", ["kind"], registry=self.registry)
        self.first_token = self._seconds("kefu_first_token_seconds", "From submission to the first text")
        self.queue_wait = self._seconds("kefu_queue_wait_seconds", "Waiting for a place in the engine")
        self.reply = self._seconds("kefu_reply_seconds", "From submission to the committed answer")
        self.prefix_hit_ratio = Gauge(
            "kefu_prefix_hit_ratio", "Cached prompt tokens / prompt tokens since the start", registry=self.registry
        )
        self.inbox_pending = Gauge("kefu_inbox_pending", "Events without an answer", registry=self.registry)
        self.inbox_oldest = Gauge("kefu_inbox_oldest_seconds", "Age of the oldest event without an answer", registry=self.registry)
        self.inbox_set_aside = Gauge("kefu_inbox_set_aside", "Events that are quarantined for people to look at", registry=self.registry)
        self.outbox_rows = Gauge("kefu_outbox_rows", "Answers by state", ["state"], registry=self.registry)
        self.outbox_orphans = Gauge(
            "kefu_outbox_orphans", "Placeholders that may stand on screens without ever getting a text", registry=self.registry
        )
        self.engine_ready = Gauge("kefu_engine_ready", "1 = the engine takes requests", registry=self.registry)
        self.engine_running = Gauge("kefu_engine_running", "Requests that are computed", registry=self.registry)
        self.engine_waiting = Gauge("kefu_engine_waiting", "Requests that wait", registry=self.registry)
        self.engine_restarts = Gauge("kefu_engine_restarts", "How often the engine was lost and started again", registry=self.registry)
        self.engine_figures = Gauge("kefu_engine_figure", "What an engine counts besides, by name", ["name"], registry=self.registry)
        self.adapter = Gauge(
            "kefu_adapter_info", 'Always 1; the adapter that answers, "" = the base model', ["release", "name"], registry=self.registry
        )
        self.adapter_refused = Gauge(
            "kefu_adapter_refused", "1 = the engine refuses the adapter that should answer", registry=self.registry
        )
        self.tasks = Gauge("kefu_tasks", "Tasks of the event loop", registry=self.registry)
        self.database_connections = Gauge("kefu_database_connections", "Open connections to the database", registry=self.registry)
        self._prompt_tokens = 0
        self._cached_tokens = 0

    def turn_committed(self, event: ReplyCommitted) -> None:
        """Count one turn."""
        timings = event.timings
        self.turns.labels(event.turn.status.value, event.turn.skill).inc()
        if not timings.prompt_tokens:  # a command or a canned answer: no engine was asked
            return
        self.tokens.labels("prompt").inc(timings.prompt_tokens)
        self.tokens.labels("cached").inc(timings.cached_tokens)
        self.tokens.labels("completion").inc(timings.completion_tokens)
        self.queue_wait.observe(timings.queue_ms / 1000)
        self.first_token.observe(timings.first_token_ms / 1000)
        self.reply.observe(timings.total_ms / 1000)
        self._prompt_tokens += timings.prompt_tokens
        self._cached_tokens += timings.cached_tokens
        self.prefix_hit_ratio.set(self._cached_tokens / self._prompt_tokens)

    def set_storage(
        self, pending: int, oldest_ms: int | None, outbox: dict[OutboxState, int], *, quarantined: int = 0, orphans: int = 0
    ) -> None:
        """Take what the database says now."""
        self.inbox_set_aside.set(quarantined)
        self.outbox_orphans.set(orphans)
        self.inbox_pending.set(pending)
        self.inbox_oldest.set((oldest_ms or 0) / 1000)
        for state in OutboxState:
            self.outbox_rows.labels(state.value).set(outbox.get(state, 0))

    def set_process(self, tasks: int, connections: int) -> None:
        """Take what the process holds now."""
        self.tasks.set(tasks)
        self.database_connections.set(connections)

    def set_adapter(self, serving: Serving) -> None:
        """Take what answers now."""
        self.adapter.clear()
        self.adapter.labels(serving.adapter, serving.name).set(1)
        self.adapter_refused.set(int(bool(serving.refused)))

    def set_engine(self, health: EngineHealth) -> None:
        """Take what the engine says now."""
        self.engine_ready.set(int(health.ready))
        self.engine_running.set(health.running)
        self.engine_waiting.set(health.waiting)
        self.engine_restarts.set(health.restarts)
        for name, value in health.figures.items():
            self.engine_figures.labels(name).set(value)

    def scrape(self) -> bytes:
        """Return everything in the Prometheus text format."""
        return generate_latest(self.registry)

    def _seconds(self, name: str, help_text: str) -> Histogram:
        return Histogram(name, help_text, buckets=_SECONDS, registry=self.registry)
