"""The parameters of a call, whatever body they came in: JSON values, or strings that hold JSON."""

import json
from typing import Any

from bot.channels.telegram.fake_body import Upload
from bot.channels.telegram.fake_chats import Json, bad_request


class Params:
    """Reads parameters as the Bot API server does: numbers and flags may be strings, objects may be JSON in a string."""

    def __init__(self, values: Json, uploads: dict[str, Upload]) -> None:
        self.values = values
        self.uploads = uploads

    def get(self, name: str) -> Any:
        return self.values.get(name)

    def text(self, name: str) -> str:
        """Return a string; "" if it is missing."""
        value = self.values.get(name)
        return "" if value is None else value if isinstance(value, str) else json.dumps(value)

    def integer(self, name: str, default: int = 0) -> int:
        """Return a number; `default` if there is none or it is not one."""
        try:
            return int(self.values.get(name, default))
        except (TypeError, ValueError):
            return default

    def flag(self, name: str) -> bool:
        return self.values.get(name) in {True, "true", "True", "yes", "1"}

    def structure(self, name: str, complaint: str) -> Any:
        """Return an object or array, or None if it is missing; raise ApiRefused with `complaint` if it is no JSON."""
        value = self.values.get(name)
        if not isinstance(value, str):
            return value
        if not value:
            return None
        try:
            return json.loads(value)
        except ValueError:
            raise bad_request(complaint) from None

    def entities(self, name: str) -> list[Any]:
        """Return entities; those that are no JSON array are ignored, as Telegram does."""
        value = self.values.get(name)
        try:
            parsed = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            return []
        return parsed if isinstance(parsed, list) else []

    def for_transcript(self) -> Json:
        """Return the parameters with files as their sizes."""
        if not self.uploads:
            return self.values
        return {**self.values, **{name: f"{upload.name}: {len(upload.content)} bytes" for name, upload in self.uploads.items()}}
