"""Every sentence that the dialogue itself says to a user, in the language of the user. Prompts are not here."""

from typing import Final

from dialogue.catalogue import Catalogue

CATALOGUE: Final = Catalogue("dialogue", "dialogue")

say = CATALOGUE.say


def assistant_language(language: str) -> str:
    """Return the language that the assistant's prompts have for a user of `language`: "zh" or "en"."""
    return "zh" if language.lower().replace("_", "-").split("-")[0] == "zh" else "en"
