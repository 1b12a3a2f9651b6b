"""Channels are found by name, loaded only when they are wanted."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from bot.channels import registry
from bot.channels.registry import GROUP, ChannelUnknown, channel_names, load_channel
from bot.channels.terminal import TerminalChannel


def _install(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    def installed(*, group: str) -> EntryPoints:
        return EntryPoints(points).select(group=group)

    monkeypatch.setattr(registry, "entry_points", installed)


def test_the_terminal_ships() -> None:
    """The channel of this package is there without anything being installed."""
    assert "terminal" in channel_names()
    assert load_channel("terminal") is TerminalChannel


def test_a_channel_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point of the group is all that a package needs; listing names loads nothing."""
    _install(monkeypatch, EntryPoint("mine", "bot.channels.fake:FakeChannel", GROUP), EntryPoint("broken", "no.such:thing", GROUP))
    assert channel_names() == ("broken", "mine")
    assert load_channel("mine").__name__ == "FakeChannel"


def test_an_unknown_name_is_told_with_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads what could have been written instead."""
    _install(monkeypatch, EntryPoint("mine", "bot.channels.fake:FakeChannel", GROUP))
    with pytest.raises(ChannelUnknown, match="mine"):
        load_channel("other")


def test_something_that_is_no_factory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point that names a constant is a mistake of its package, and named."""
    _install(monkeypatch, EntryPoint("odd", "bot.channels.registry:GROUP", GROUP))
    with pytest.raises(ChannelUnknown, match="odd"):
        load_channel("odd")
