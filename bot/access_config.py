"""Whom the assistant answers, and how much: frozen values. Made by `bot.settings`; `bot.access` judges by them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """People are named by their id on the platform, or by "channel:id" where ids of two platforms could meet."""

    owners: frozenset[str] = frozenset()  # see how the program itself is doing, and have no limits
    allow: frozenset[str] = frozenset()  # nobody else is answered; empty = everybody is
    block: frozenset[str] = frozenset()  # are never answered
    messages_per_minute: int = 20  # 0 = no limit
    tokens_per_day: int = 0  # prompt and reply; 0 = no limit
