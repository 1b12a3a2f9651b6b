"""Words for users, from gettext catalogues: `locale/LANGUAGE/LC_MESSAGES/DOMAIN.po` in the package that says them.

The msgid is our key of a sentence, English included; `$name` stands for a value. A new language is a new folder: nothing else has to
change. The compiled `.mo` files lie beside their sources, so that an install compiles nothing.
"""

from collections.abc import Mapping
from functools import cached_property
from gettext import GNUTranslations
from importlib.resources import files
from string import Template
from typing import Final

FALLBACK: Final = "en"


class Catalogue:
    """The sentences of one package."""

    def __init__(self, package: str, domain: str) -> None:
        self._package = package
        self._domain = domain

    def say(self, key: str, language: str, **values: object) -> str:
        """Return the sentence `key` for a user of `language`. Values are not expanded again. Raises KeyError for an unknown key."""
        sentence = self._translations[self.choose(language)].gettext(key)
        if sentence == key:
            raise KeyError(f"no sentence {key!r} in {self._package}")
        return Template(sentence).substitute(values)

    def choose(self, language: str) -> str:
        """Return the language of the catalogue that a user of `language` (an IETF tag) is spoken to in."""
        wanted = _primary(language)
        return next((there for there in self._translations if _primary(there) == wanted), FALLBACK)

    @cached_property
    def _translations(self) -> Mapping[str, GNUTranslations]:
        found: dict[str, GNUTranslations] = {}
        for folder in files(self._package).joinpath("locale").iterdir():
            with folder.joinpath("LC_MESSAGES", f"{self._domain}.mo").open("rb") as file:
                found[folder.name] = GNUTranslations(file)
        return found


def _primary(tag: str) -> str:
    return tag.lower().replace("_", "-").split("-")[0]
