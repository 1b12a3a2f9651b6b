"""Takes secrets out of text that is shown to people or written to logs."""

import re
from collections.abc import Iterable
from urllib.parse import quote

HIDDEN = "***"
_SHORTEST = 4  # a shorter "secret" would blank ordinary words

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<!\d)\d{6,12}(:|%3[Aa])[A-Za-z0-9_-]{30,}"), HIDDEN),  # a Telegram bot token, also inside a file URL
    (
        re.compile(r"(?i)((?:proxy-)?authorization['\"]?\s*[:=,]\s*(?:b?['\"])?(?:bearer|basic|digest|token)?\s*)[^\s'\",;)]+"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@'\"]*@"), rf"\1{HIDDEN}@"),  # user and password of a URL
    (re.compile(r"(?i)([?&](?:access_token|api_key|apikey|key|token|password|secret)=)[^&\s'\"]+"), rf"\1{HIDDEN}"),
)


class Redactor:
    """Replaces known secrets, and whatever is shaped like one, by `***`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {form for secret in secrets if len(secret) >= _SHORTEST for form in (secret, quote(secret, safe=""))}
        ordered = sorted(known, key=len, reverse=True)  # a secret that contains another one goes first
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """Return `text` without secrets. Idempotent."""
        text = self.known(text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def known(self, text: str) -> str:
        """Return `text` without the known secrets: enough for letters and digits alone, which no shape fits."""
        return text if self._known is None else self._known.sub(HIDDEN, text)
