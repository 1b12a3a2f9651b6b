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
        """Return the language of the catalogue that a user of `language` (an IETF tag) is spoken to in: the very one, a kin, English."""
        wanted = _tag(language)
        kin = (there for there in self._translations if _primary(there) == _primary(language))
        return next((there for there in self._translations if _tag(there) == wanted), next(kin, FALLBACK))

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that there are, English first."""
        return tuple(sorted(self._translations, key=lambda language: (language != FALLBACK, language)))

    @cached_property
    def _translations(self) -> Mapping[str, GNUTranslations]:
        found: dict[str, GNUTranslations] = {}
        for folder in sorted(files(self._package).joinpath("locale").iterdir(), key=lambda folder: folder.name):
            compiled = folder.joinpath("LC_MESSAGES", f"{self._domain}.mo")
            if compiled.is_file():
                with compiled.open("rb") as file:
                    found[folder.name] = GNUTranslations(file)
        return found


def _tag(language: str) -> str:
    return language.lower().replace("_", "-")


def _primary(language: str) -> str:
    return _tag(language).split("-")[0]
