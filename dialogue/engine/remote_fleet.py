"""The servers of a RemoteEngine: examined before use, given the adapters, looked after, left alone after a failure, examined again."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
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
        self._examinations: dict[str, asyncio.Task[str]] = {}  # by address, the latest: what is wrong; empty = nothing

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

    async def examine(self, replica: Replica) -> None:
        """Look at a server and give it the adapters, unless that has been done. Raises EngineUnavailable, which has been noted.

        Who asks meanwhile shares the examination and what comes of it; it goes on when somebody gives up.
        """
        if replica.facts is not None:
            return
        task = self._examinations.get(replica.url)
        if task is None or task.done():
            task = self._examinations[replica.url] = asyncio.create_task(self._examine(replica))
        await asyncio.wait([task])  # leaves it running when we are cancelled
        if trouble := "the engine is closed" if task.cancelled() else task.result():
            raise EngineUnavailable(trouble)

    async def close(self) -> None:
        """Break off the examinations. Idempotent."""
        for task in self._examinations.values():
            task.cancel()
        await asyncio.gather(*self._examinations.values(), return_exceptions=True)

    async def _examine(self, replica: Replica) -> str:
        """Return what is wrong with a server, which is noted; empty = it can serve."""
        try:
            async with self._in_time():
                facts = await self._probe(replica).examine(self._encode)
                handles = await self._equipped(replica, facts, tuple(self.adapters.values()))
        except (AdapterRejected, EngineUnavailable) as error:
            return self._failed(replica, str(error))
        except Exception as error:  # a defect, or a server that says what nobody expects: the others are looked at all the same
            log.exception("remote_examination_broke", server=replica.label)
            return self._failed(replica, f"cannot be examined ({type(error).__name__})")
        replica.examined(facts, self._slots(facts), handles)
        return ""

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Give a server so much time for all that is asked in the block. Raises EngineUnavailable."""
        try:
            async with asyncio.timeout(self._timeouts.examine_s):
                yield
        except TimeoutError:
            raise EngineUnavailable("answers too slowly") from None

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
        return [result for result in results if isinstance(result, EngineError)]

    def noted(self, replica: Replica, error: EngineError) -> EngineError:
        """Remember how a server failed, once for all whom it took along; return the error with the server's name in it."""
        named = f"{replica.label} {error}"
        if isinstance(error, EngineOverloaded):
            replica.refused(str(error), self._clock() + error.retry_after_s)
            return EngineOverloaded(named, error.retry_after_s)
        if replica.facts is not None:
            self._failed(replica, str(error))
        return type(error)(named)

    def _failed(self, replica: Replica, detail: str) -> str:
        """Remember a failure; return it with the server's name in it."""
        replica.failed(detail, self._clock())
        log.warning("remote_server_failed", server=replica.label, detail=detail, failures=replica.failures)
        return f"{replica.label} {detail}"

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """Make sure that every server that answers has these adapters. None is unloaded: others may use it.

        One that fails or says nothing now gets them when it is examined again. Raises AdapterRejected, EngineUnavailable when all fail.
        """
        answering = [(replica, replica.facts) for replica in self.replicas if replica.facts]
        tasks = (self._equipped_in_time(replica, facts, adapters) for replica, facts in answering)
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

    async def _equipped_in_time(self, replica: Replica, facts: ServerFacts, adapters: Sequence[AdapterRef]) -> dict[str, object]:
        async with self._in_time():
            return await self._equipped(replica, facts, adapters)

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
