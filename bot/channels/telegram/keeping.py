"""Whether everything that somebody wrote is still there after it was rendered."""

import html
import re
from typing import Final

from bot.channels.telegram.clean import clean

# What can be markup, so that nobody misses it. Signs that only look like markup are kept too, but that is for the tests to show.
_MARKUP: Final = re.compile(r"""[\s\\`*_~#>|\-\[\]()!<:"']+""")


def keeps_all(original: str, shown: str) -> bool:
    """Return whether each character that is no markup is still there, in order. More may have been added."""
    rest = iter(_content(shown))
    return all(character in rest for character in _content(original))


def _content(text: str) -> str:
    return _MARKUP.sub("", clean(html.unescape(text)))
