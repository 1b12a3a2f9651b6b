"""The map of the room in its `__init__.py`."""

import re
from fnmatch import fnmatch
from pathlib import Path

from bot.channels import telegram

NAMES = re.compile(r"^ *((?:[\w*]+, )*[\w*]+)  +\S", re.MULTILINE)


def test_the_map_names_every_module_and_no_other() -> None:
    """Whoever looks for something finds its file on the map, and whatever stands there exists."""
    modules = {path.stem for path in Path(telegram.__file__).parent.glob("*.py")} - {"__init__"}
    named = [name for names in NAMES.findall(telegram.__doc__ or "") for name in names.split(", ")]
    assert [module for module in modules if not any(fnmatch(module, name) for name in named)] == []
    assert [name for name in named if not any(fnmatch(module, name) for module in modules)] == []
