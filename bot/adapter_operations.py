"""What the operator may do with adapter releases, as operations of the control socket.

    import ─► candidate | rejected ─► promote ─► active ─► rollback | the next promotion ─► retired ─► activate ─► active

A release is loaded by the strict loader before it is activated; that it has a passed verdict, or a reason to do without, the
database itself insists on. In the process that serves, every change is followed at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

from bot.adapter_folders import AdapterFolders
from bot.adapter_verdict import Verdict, parse_verdict, reasons_in
from bot.adapter_watch import AdapterWatch
from bot.arguments import Arguments, optional, text
from bot.desk_operations import ACTOR
from bot.errors import CliError, ExitCode
from dialogue.errors import AdapterRejected
from storage.database import Database
from storage.ids import new_id
from storage.records import ADAPTED_SKILLS, AdapterReleaseRecord, AuditRecord, ReleaseStatus
from storage.unit_of_work import UnitOfWork

_LIST_HINT: Final = "`kefu adapters list` shows what there is."

T = TypeVar("T")


def adapter_operations(
    database: Database, folders: AdapterFolders, watch: AdapterWatch | None = None
) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
    """Return the operations by name. Without a `watch`, nothing is served by this process."""
    operations = AdapterOperations(database, folders, watch)
    return {
        "adapters.list": operations.list,
        "adapters.show": operations.show,
        "adapters.import": operations.take_in,
        "adapters.promote": operations.promote,
        "adapters.activate": operations.activate,
        "adapters.rollback": operations.roll_back,
    }


class AdapterOperations:
    """Each method takes the arguments of one operation and returns a JSON value. All raise StorageError and CliError."""

    def __init__(self, database: Database, folders: AdapterFolders, watch: AdapterWatch | None) -> None:
        self._database = database
        self._folders = folders
        self._watch = watch

    async def list(self, _arguments: Arguments) -> Any:
        """Return every release, newest first, and what this process answers with."""
        releases = await self._database.read(lambda unit: unit.adapters.list())
        return {"releases": [_plain(release) for release in releases], "serving": self._serving()}

    async def show(self, arguments: Arguments) -> Any:
        """Return release `id`, its whole verdict and what became of it."""
        release = await self._find(arguments)
        history = await self._database.read(lambda unit: unit.adapters.history(release.id))
        return {
            "release": {**_plain(release), "verdict": release.verdict},
            "history": [_event(line) for line in history],
            "serving": self._serving(),
        }

    async def take_in(self, arguments: Arguments) -> Any:
        """Register the adapter in the folder `path` under `name`, with the text of its `verdict`; for `skills`."""
        source, name = Path(text(arguments, "path")), text(arguments, "name")
        written = optional(arguments, "verdict")
        verdict = None if written is None else parse_verdict(written)
        skills = _skills(arguments)
        release_id = new_id()
        folder, checked = await self._safely(source.name, lambda: self._folders.keep(source, release_id))
        release = AdapterReleaseRecord(
            id=release_id,
            name=name,
            base_model_sha256=next(iter(checked.pins.bases), ""),
            path=str(folder),
            sha256=checked.sha256,
            status=ReleaseStatus.CANDIDATE,
            verdict="",
            created_at=0,
            base_forms=checked.pins.bases[1:],
            skills=skills,
        )
        try:
            _check_judged(verdict, release)
            return {"release": _plain(await self._database.write(lambda unit: _add(unit, release, verdict, written or "")))}
        except BaseException:
            await asyncio.to_thread(self._folders.forget, release_id)
            raise

    async def promote(self, arguments: Arguments) -> Any:
        """Make candidate `id` the active release. `force` does without a passed verdict, for a `reason`."""
        release = await self._find(arguments)
        reason, force = optional(arguments, "reason") or "", bool(arguments.get("force"))
        if force and not reason.strip():
            raise CliError("Who forces a release says why.", hint='Add --reason "…".', code=ExitCode.USAGE)
        if release.status in {ReleaseStatus.ACTIVE, ReleaseStatus.RETIRED}:
            words = "is active already" if release.status is ReleaseStatus.ACTIVE else "was active before"
            raise CliError(f"The release {release.name} {words}.", hint=f"`kefu adapters activate {release.id}` lets it answer again.")
        if not release.passed and not force:
            raise _not_passed(release)
        return await self._activate(release, reason, forced_reason="" if release.passed else reason)

    async def activate(self, arguments: Arguments) -> Any:
        """Let release `id` answer again that was active before, or one that is but was refused. Why, `reason` says."""
        release = await self._find(arguments)
        if release.status is ReleaseStatus.ACTIVE:
            await self._check(release)
            return await self._followed(release)
        if release.status is not ReleaseStatus.RETIRED:
            raise CliError(f"The release {release.name} was never active.", hint="`kefu adapters promote` is the way of a candidate.")
        return await self._activate(release, optional(arguments, "reason") or "")

    async def roll_back(self, arguments: Arguments) -> Any:
        """Go back to the release that was active before, or with `to_base` to the base model. Why, `reason` says."""
        reason = optional(arguments, "reason") or ""
        base = await asyncio.to_thread(self._folders.base_sha256)
        left = await self._database.read(lambda unit: unit.adapters.active(base))
        if left is None:
            raise CliError("No release is active: there is nothing to roll back.", hint=_LIST_HINT)
        earlier = None if arguments.get("to_base") else await self._earlier(left)
        if earlier is not None:
            await self._check(earlier, hint="`kefu adapters rollback --to-base` lets no release answer.")

        async def change(unit: UnitOfWork) -> AdapterReleaseRecord | None:
            if (await unit.adapters.get(left.id)).status is not ReleaseStatus.ACTIVE:
                raise CliError("Somebody else changed the active release meanwhile.", hint=_LIST_HINT, code=ExitCode.TEMPORARY)
            return await unit.adapters.roll_back(left.id, None if earlier is None else earlier.id, ACTOR, reason)

        return await self._followed(await self._database.write(change), left=left)

    async def _earlier(self, left: AdapterReleaseRecord) -> AdapterReleaseRecord:
        earlier = await self._database.read(lambda unit: unit.adapters.before(left))
        if earlier is None:
            raise CliError(f"No release was active before {left.name}.", hint="`kefu adapters rollback --to-base` lets no release answer.")
        return earlier

    async def _activate(self, release: AdapterReleaseRecord, reason: str, *, forced_reason: str = "") -> Any:
        await self._check(release)
        activated = await self._database.write(lambda unit: unit.adapters.activate(release.id, ACTOR, reason, forced_reason=forced_reason))
        return await self._followed(activated)

    async def _followed(self, release: AdapterReleaseRecord | None, *, left: AdapterReleaseRecord | None = None) -> Any:
        """Let this process follow a change, and tell what it answers with then."""
        if self._watch is not None:
            await self._watch.look(again=True)
        return {
            "release": None if release is None else _plain(release),
            "left": None if left is None else _plain(left),
            "serving": self._serving(),
        }

    async def _check(self, release: AdapterReleaseRecord, hint: str = "") -> None:
        """Load the release as the engine would. Raises CliError."""
        await self._safely(release.name, lambda: self._folders.check_release(release), hint)

    async def _safely(self, name: str, look: Callable[[], T], hint: str = "") -> T:
        try:
            return await asyncio.to_thread(look)
        except AdapterRejected as error:
            raise CliError(f"The adapter {name} cannot be served: {error}", hint=hint) from None

    async def _find(self, arguments: Arguments) -> AdapterReleaseRecord:
        named = text(arguments, "id")
        found = await self._database.read(lambda unit: unit.adapters.find(named))
        if len(found) > 1:
            ids = ", ".join(one.id for one in found[:5])
            raise CliError(f"{len(found)} releases are called {named}.", hint=f"Name one by its id: {ids}.")
        if not found:
            raise CliError(f"There is no release {named}.", hint=_LIST_HINT)
        return found[0]

    def _serving(self) -> dict[str, Any] | None:
        return None if self._watch is None else self._watch.serving.as_json()


async def _add(unit: UnitOfWork, release: AdapterReleaseRecord, verdict: Verdict | None, written: str) -> AdapterReleaseRecord:
    added = await unit.adapters.add(release, ACTOR)
    return added if verdict is None else await unit.adapters.set_verdict(release.id, written, passed=verdict.passed, actor=ACTOR)


def _check_judged(verdict: Verdict | None, release: AdapterReleaseRecord) -> None:
    if verdict is not None and verdict.provenance.adapter_sha256 != release.sha256:
        raise CliError("The verdict is about another adapter.", hint="Give the verdict.json that was written for this one.")


def _not_passed(release: AdapterReleaseRecord) -> CliError:
    force = 'or activate it all the same: --force --reason "…"'
    if not release.verdict:
        return CliError(f"The release {release.name} has no verdict yet.", hint=f"Evaluate it with `kefu finetune evaluate`, {force}.")
    reasons = " ".join(reasons_in(release.verdict)) or "it says no more."
    return CliError(f"The verdict of {release.name} is against it: {reasons}", hint=f"Train a better one, {force}.")


def _skills(arguments: Arguments) -> tuple[str, ...]:
    names = tuple((optional(arguments, "skills") or ",".join(ADAPTED_SKILLS)).split(","))
    if not all(name.isidentifier() for name in names):
        raise CliError("skills must be names, separated by commas.", code=ExitCode.USAGE)
    return names


def _plain(release: AdapterReleaseRecord) -> dict[str, Any]:
    """Return the release as JSON; of its verdict only what it comes to."""
    values = {name: value for name, value in asdict(release).items() if name != "verdict"}
    lists = {"base_forms": list(release.base_forms), "skills": list(release.skills)}
    return {**values, **lists, "has_verdict": bool(release.verdict), "reasons": list(reasons_in(release.verdict))}


def _event(line: AuditRecord) -> dict[str, Any]:
    change, _, reason = line.detail.partition(": ")
    before, _, after = change.partition(" -> ")
    return {"at": line.at, "actor": line.actor, "from": before, "to": after, "reason": reason}
