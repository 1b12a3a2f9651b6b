"""Which language a reply is in."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dialogue.skills.languages import Detector
from finetune.samples import Sample

_ENOUGH_LETTERS: Final = 20  # a guess on less is often wrong, except for scripts that one language has to itself


def identify(sample: Sample, wanted: Sequence[str], detect: Detector) -> tuple[Sample, str]:
    """Return the sample with its language, and why it does not stay ("" = it does).

    A language that the source states is believed, unless the replies are clearly in another one that is not wanted.
    """
    replies = "\n".join(turn.content for turn in sample.turns[1::2])
    found = detect(replies) if not sample.language or wanted else None
    if not sample.language:
        if found is None:
            return sample, "language unknown"
        sample = replace(sample, language=found)
    if not wanted:
        return sample, ""
    is_clear = found is not None and sum(map(str.isalpha, replies)) >= _ENOUGH_LETTERS
    spoken = found if is_clear else sample.language
    return sample, "" if (spoken or "").partition("-")[0] in wanted else "another language"
