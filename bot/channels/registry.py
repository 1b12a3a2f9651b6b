"""Find channels by name: those that ship with Kefu and those of other packages (entry-point group `kefu.channels`).

An entry point names a factory: it takes the `Settings` and returns the channel, or None when the settings do not turn it on.
The terminal is the exception: it belongs to the person at `kefu chat`.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from bot.channels.base import Channel

GROUP = "kefu.channels"


class ChannelUnknown(Exception):
    """No installed package offers a channel of this name. `str(error)` is a sentence for the operator."""


def channel_names() -> tuple[str, ...]:
    """Return the names of all installed channels, sorted. Loads none of them."""
    return tuple(sorted(point.name for point in entry_points(group=GROUP)))


def load_channel(name: str) -> Callable[..., Channel | None]:
    """Import and return the factory of channel `name`. Raises ChannelUnknown."""
    for point in entry_points(group=GROUP):
        if point.name == name:
            return _load(point)
    raise ChannelUnknown(f"There is no channel named {name!r}; installed are: {', '.join(channel_names()) or 'none'}.")


def _load(point: EntryPoint) -> Callable[..., Channel | None]:
    factory = point.load()
    if not callable(factory):
        raise ChannelUnknown(f"The entry point {GROUP}:{point.name} ({point.value}) is not callable.")
    return factory
