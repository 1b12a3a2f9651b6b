"""Users: who writes on which channel, what they told about themselves, and how all of it leaves again."""

from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, select, update

from storage.errors import NotFound
from storage.ids import new_id
from storage.models import identities, profile_notes, profiles, users
from storage.records import ProfileRecord, UserRecord
from storage.repositories.base import Repository
from storage.repositories.user_data import UserData


def user_record(row: Row[Any]) -> UserRecord:
    """Return the frozen record of a row of `users`."""
    return UserRecord(row.id, row.created_at)


_FIND = (
    select(users, identities.c.display_name, identities.c.language)
    .join(identities)
    .where(
        identities.c.channel == bindparam("of_channel"),
        identities.c.account == bindparam("of_account"),
        identities.c.external_id == bindparam("known_as"),
    )
)

# One row for each note; one row without a note when there is none.
_PROFILE = (
    select(
        func.coalesce(profiles.c.name, "").label("name"),
        func.coalesce(profiles.c.language, "").label("language"),
        func.coalesce(profiles.c.tone, "").label("tone"),
        profile_notes.c.text.label("note"),
    )
    .select_from(
        users.outerjoin(profiles, profiles.c.user_id == users.c.id).outerjoin(profile_notes, profile_notes.c.user_id == users.c.id)
    )
    .where(users.c.id == bindparam("of_user"))
    .order_by(profile_notes.c.seq)
)


class UserRepository(Repository):
    """Rows of `users`, `identities`, `profiles` and `profile_notes`."""

    async def ensure(self, channel: str, account: str, external_id: str, display_name: str = "", language: str | None = None) -> UserRecord:
        """Return the user of this identity; make it when it is new. Name and language follow the platform."""
        found = await self._first(_FIND, _named(channel, account, external_id))
        if found is not None:
            name, spoken = display_name or found.display_name, language or found.language
            if (name, spoken) != (found.display_name, found.language):
                changes = update(identities).where(*_identity(channel, account, external_id))
                await self._run(changes.values(display_name=name, language=spoken))
            return user_record(found)
        user = UserRecord(new_id(), await self._now())
        await self._run(insert(users).values(id=user.id, created_at=user.created_at))
        statement = self._insert(identities).values(
            channel=channel,
            account=account,
            external_id=external_id,
            user_id=user.id,
            display_name=display_name,
            language=language,
            created_at=user.created_at,
        )
        if await self._first(statement.on_conflict_do_nothing().returning(identities.c.user_id)):
            return user
        # Another process was faster.
        await self._run(delete(users).where(users.c.id == user.id))
        return await self.ensure(channel, account, external_id, display_name, language)

    async def find(self, channel: str, account: str, external_id: str) -> UserRecord | None:
        """Return the user of this identity, or None."""
        found = await self._first(_FIND, _named(channel, account, external_id))
        return None if found is None else user_record(found)

    async def list(self, *, after: str = "", limit: int = 100) -> tuple[UserRecord, ...]:
        """Return users in the order of their ids; with `after`, those with a greater one. For the owner's own work on all of them."""
        rows = await self._all(select(users).where(users.c.id > after).order_by(users.c.id).limit(limit))
        return tuple(user_record(row) for row in rows)

    async def profile(self, user_id: str) -> ProfileRecord:
        """Return what the user told about themselves; an empty profile when that is nothing."""
        rows = await self._all(_PROFILE, {"of_user": user_id})
        notes = tuple(row.note for row in rows if row.note is not None)
        return ProfileRecord(user_id, rows[0].name, rows[0].language, rows[0].tone, notes) if rows else ProfileRecord(user_id)

    async def set_profile(self, user_id: str, *, name: str | None = None, language: str | None = None, tone: str | None = None) -> None:
        """Set the given fields; None leaves one as it is, "" clears it. Raises NotFound."""
        given = {"name": name, "language": language, "tone": tone}
        values = {field: value for field, value in given.items() if value is not None}
        await self._check(user_id)
        changes = {**values, "updated_at": await self._now()}
        statement = self._insert(profiles).values(user_id=user_id, **changes)
        await self._run(statement.on_conflict_do_update(index_elements=["user_id"], set_=changes))

    async def add_note(self, user_id: str, text: str) -> int:
        """Remember a sentence; return how many the user has now. Raises NotFound."""
        await self._check(user_id)
        await self._run(insert(profile_notes).values(user_id=user_id, text=text, created_at=await self._now()))
        return len((await self.profile(user_id)).notes)

    async def forget_profile(self, user_id: str) -> int:
        """Delete fields and notes of the profile; return how many there were."""
        before = await self.profile(user_id)
        await self._run(delete(profiles).where(profiles.c.user_id == user_id))
        await self._run(delete(profile_notes).where(profile_notes.c.user_id == user_id))
        return len(before.notes) + sum(1 for value in (before.name, before.language, before.tone) if value)

    async def export(self, user_id: str, conversation_id: str | None = None) -> dict[str, Any]:
        """Return everything about the user, ready for JSON: private chats whole, of groups only the user's own turns. Raises NotFound.

        With a conversation: only what the user did in that one.
        """
        await self._check(user_id)
        return await UserData(self._context).export(user_id, conversation_id)

    async def erase(self, user_id: str, conversation_id: str | None = None) -> dict[str, int]:
        """Delete everything about the user; return how many rows of each table went. Raises NotFound.

        With a conversation: only what the user did in that one; profile, notes, identities and other chats stay.
        The bytes leave the files only with `Database.scrub`, after this unit is committed.
        """
        await self._check(user_id)
        return await UserData(self._context).erase(user_id, conversation_id)

    async def _check(self, user_id: str) -> None:
        if await self._first(select(users.c.id).where(users.c.id == user_id)) is None:
            raise NotFound("no such user")


def _named(channel: str, account: str, external_id: str) -> dict[str, str]:
    return {"of_channel": channel, "of_account": account, "known_as": external_id}


def _identity(channel: str, account: str, external_id: str) -> tuple[Any, ...]:
    c = identities.c
    return (c.channel == channel, c.account == account, c.external_id == external_id)
