"""The servers of a RemoteEngine: examined before use, given the adapters, looked after, left alone after a failure, examined again."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx2
import structlog

from dialogue.config import RemoteConfig
from dialogue.engine.adapters import inspect_adapter
from dialogue.engine.base import AdapterRef, EngineInfo
from dialogue.engine.remote_call import RemoteTimeouts
from dialogue.engine.remote_examine import Encode, ServerProbe, check_health, load_adapter_there
from dialogue.engine.remote_servers import ServerFacts, ServerKind, adapter_handle
from dialogue.engine.replicas import Replica
from dialogue.errors import AdapterRejected, EngineError, EngineOverloaded, EngineUnavailable

log = structlog.get_logger(__name__)


class Fleet:
    """Equal servers behind one engine. `encode` cuts plain text into ids, to compare with theirs; None = nothing is compared."""

    def __init__(
        self,
        config: RemoteConfig,
        client: httpx2.AsyncClient,
        encode: Encode | None,
        timeouts: RemoteTimeouts,
        clock: Callable[[], float],
    ) -> None:
        self.replicas = [replica_at(url) for url in config.base_urls]
        self.adapters: dict[str, AdapterRef] = {}
        self._config = config
        self._client = client
        self._encode = encode
        self._timeouts = timeouts
        self._clock = clock
        self._examining = {replica.url: asyncio.Lock() for replica in self.replicas}

    async def start(self) -> EngineInfo:
        """Examine all; one that can serve is enough. Raises EngineUnavailable with what is wrong with the first."""
        errors = await self._examine_all(self.replicas)
        facts = [replica.facts for replica in self.replicas if replica.facts]
        if not facts:
            raise errors[0] if errors else EngineUnavailable("remote.base_urls is empty")
        smallest = min(facts, key=lambda fact: fact.slots)
        said = "\n".join([self._config.model, *sorted({fact.identity for fact in facts})])
        return EngineInfo(
            engine=f"remote({'+'.join(sorted({str(fact.kind) for fact in facts}))})",
            model=self._config.model,
            model_sha256=hashlib.sha256(said.encode()).hexdigest(),  # of what they say: the weights cannot be seen from here
            context_tokens=min(fact.context_tokens for fact in facts),
            slots=sum(self._slots(replica.facts or smallest) for replica in self.replicas),  # those that come later count already
        )

    async def examine(self, replica: Replica) -> ServerFacts:
        """Look at a server and give it the adapters, unless that has been done. Raises EngineUnavailable."""
        async with self._examining[replica.url]:
            if replica.facts is not None:
                return replica.facts
            try:
                async with asyncio.timeout(self._timeouts.examine_s):
                    facts = await self._probe(replica).examine(self._encode)
                    handles = await self._equipped(replica, facts, tuple(self.adapters.values()))
            except (AdapterRejected, TimeoutError) as error:
                raise EngineUnavailable(str(error) or "answers too slowly") from None
            replica.examined(facts, self._slots(facts), handles)
            return facts

    async def look(self) -> None:
        """Ask idle servers how they are; examine those that failed and have been left alone for long enough."""
        now = self._clock()
        failed = [replica for replica in self.replicas if replica.facts is None and replica.not_before <= now]
        idle = [replica for replica in self.replicas if replica.facts is not None and not replica.running]
        await asyncio.gather(self._examine_all(failed), *(self._ask_health(replica) for replica in idle))

    async def _ask_health(self, replica: Replica) -> None:
        try:
            async with asyncio.timeout(self._timeouts.health_s):
                await check_health(self._client, replica.url)
        except (EngineUnavailable, TimeoutError) as error:
            if replica.facts is not None:  # no request has found out meanwhile
                self.noted(replica, EngineUnavailable(str(error) or f"did not say within {self._timeouts.health_s:g} s how it is"))

    def _slots(self, facts: ServerFacts) -> int:
        """Return how many of our requests may run at once on such a server. llama.cpp has no more slots than it says."""
        wanted = self._config.slots or facts.slots
        return min(wanted, facts.slots) if facts.kind is ServerKind.LLAMACPP else wanted

    async def _examine_all(self, replicas: Sequence[Replica]) -> list[EngineError]:
        """Examine at the same time; return what is wrong with whom."""
        results = await asyncio.gather(*(self.examine(replica) for replica in replicas), return_exceptions=True)
        return [self.noted(replica, result) for replica, result in zip(replicas, results, strict=True) if isinstance(result, EngineError)]

    def noted(self, replica: Replica, error: EngineError) -> EngineError:
        """Remember how a server failed; return the error with the server's name in it."""
        named = f"{replica.label} {error}"
        if isinstance(error, EngineOverloaded):
            replica.refused(str(error), self._clock() + error.retry_after_s)
            return EngineOverloaded(named, error.retry_after_s)
        replica.failed(str(error), self._clock())
        log.warning("remote_server_failed", server=replica.label, detail=str(error), failures=replica.failures)
        return type(error)(named)

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """Make sure that every server that answers has these adapters. None is unloaded: others may use it.

        A server that fails now gets them when it is examined again. Raises AdapterRejected, EngineUnavailable when all fail.
        """
        answering = [(replica, replica.facts) for replica in self.replicas if replica.facts]
        tasks = (self._equipped(replica, facts, adapters) for replica, facts in answering)
        outcomes = list(zip(answering, await asyncio.gather(*tasks, return_exceptions=True), strict=True))
        for _, outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, EngineError):
                raise outcome
        errors = [self.noted(replica, outcome) for (replica, _), outcome in outcomes if isinstance(outcome, EngineError)]
        if errors and len(errors) == len(outcomes):
            raise errors[0]
        self.adapters = {adapter.name: adapter for adapter in adapters}
        for (replica, _), outcome in outcomes:
            if not isinstance(outcome, BaseException):
                replica.adapters = outcome

    async def _equipped(self, replica: Replica, facts: ServerFacts, adapters: Sequence[AdapterRef]) -> dict[str, object]:
        """Return what the server calls each adapter, after loading those that it lacks. Raises AdapterRejected."""
        if any(adapter.name not in facts.loras for adapter in adapters):
            facts = await self._probe(replica).facts()  # somebody else may have loaded it since
        handles: dict[str, object] = {}
        for adapter in adapters:
            root = self._config.adapter_root
            path = str(PurePosixPath(root) / Path(adapter.path).name) if root else ""
            handle = adapter_handle(facts, adapter, path)
            if handle is None:
                await self._load(replica, facts, adapter, path)
                handle = adapter_handle(replace(facts, loras={adapter.name: path}), adapter, path)
            handles[adapter.name] = handle
        return handles

    def _probe(self, replica: Replica) -> ServerProbe:
        return ServerProbe(self._client, replica.url, replica.label, self._config.model)

    async def _load(self, replica: Replica, facts: ServerFacts, adapter: AdapterRef, path: str) -> None:
        if facts.kind is ServerKind.LLAMACPP:
            raise AdapterRejected(f"{replica.label} lacks the adapter {adapter.name}: llama.cpp loads adapters only at its start (--lora).")
        if not path:
            raise AdapterRejected(
                f"{replica.label} lacks the adapter {adapter.name}, and remote.adapter_root does not say where it finds one."
            )
        await asyncio.to_thread(inspect_adapter, Path(adapter.path))
        if not await load_adapter_there(self._client, replica.url, facts.kind, adapter.name, path):
            raise AdapterRejected(f"{replica.label} did not load the adapter {adapter.name}; does it allow that at run time?")


def replica_at(url: str) -> Replica:
    """Return the server at a configured address. Raises EngineUnavailable for one that cannot be used."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password or parts.query:
        raise EngineUnavailable("remote.base_urls takes http(s)://host:port without user, password and query; the key is remote.api_key")
    root = url.rstrip("/").removesuffix("/v1")
    return Replica(root, urlsplit(root).netloc)
