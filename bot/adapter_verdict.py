"""What `kefu finetune evaluate` says about an adapter, as far as promotion reads it: passed or not, why, and which adapter was judged."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bot.errors import CliError

MAX_VERDICT_BYTES: Final = 512 * 1024  # it goes through the control socket

Sentence = Annotated[str, Field(max_length=2000)]


class Provenance(BaseModel):
    """What was compared."""

    model_config = ConfigDict(frozen=True)

    adapter_sha256: str


class Verdict(BaseModel):
    """A verdict. Everything else that stands in it is for people and reports."""

    model_config = ConfigDict(frozen=True)

    passed: Annotated[bool, Field(strict=True)]
    reasons: Annotated[tuple[Sentence, ...], Field(max_length=1000)] = ()
    provenance: Provenance


def parse_verdict(text: str) -> Verdict:
    """Return the verdict in a verdict.json. Raises CliError."""
    try:
        if len(text.encode("utf-8", "replace")) <= MAX_VERDICT_BYTES:
            return Verdict.model_validate_json(text)
    except ValidationError:
        pass
    raise CliError("This is no verdict.", hint="`kefu finetune evaluate` writes one to RUN/evaluation/verdict.json.")


def reasons_in(text: str) -> tuple[str, ...]:
    """Return the sentences of a stored verdict; none where there is no verdict, or one of another version."""
    try:
        return Verdict.model_validate_json(text).reasons if text else ()
    except ValidationError:
        return ()
