"""What the program itself says to users: its direct commands, buttons, limits and menus."""

from typing import Final

from dialogue.catalogue import Catalogue

CATALOGUE: Final = Catalogue("bot", "bot")

say = CATALOGUE.say
