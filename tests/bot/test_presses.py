"""What pressed buttons do, on both databases."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from bot.channels.base import PressOutcome
from bot.housekeeping import Scrubber
from bot.presses import PressHandler
from bot.rating import BAD, GOOD
from dialogue.messages import ButtonPress, ConversationKey, Sender
from storage.database import Database
from storage.errors import ClaimLost
from storage.records import Claim, FeedbackRecord, InboxRecord, InboxState, NewInboxItem, TurnRecord, UserRecord
from tests.bot.rig import Rig, build_rig

NOTHING = PressOutcome()


class CountingScrubber(Scrubber):
    """Counts how often something was erased."""

    requests = 0

    def request(self) -> None:
        self.requests += 1


@dataclass
class Buttons:
    """A platform on which messages come through the whole program, and presses straight to their handler."""

    rig: Rig
    handler: PressHandler
    scrubber: CountingScrubber
    pressed: int = field(default=0)

    @property
    def database(self) -> Database:
        return self.rig.database

    async def answer(self, text: str = "hello", *, sender: str = "ann", chat: str = "chat", is_private: bool = True) -> TurnRecord:
        """Somebody writes; return the turn that answers."""
        await self.rig.say(text, sender=sender, chat=chat, is_private=is_private)
        await self.rig.work()
        return (await self.rig.turns(chat))[-1]

    async def press(
        self, data: str, *, sender: str = "ann", chat: str = "chat", is_private: bool = True, language: str = "en"
    ) -> PressOutcome:
        """Somebody presses a button; return what changes on the screen."""
        claim = await self.claim(chat, is_private=is_private)
        outcome = await self.handler.handle(claim, _press(data, sender, chat, is_private, language), _ids(claim))
        await self.database.write(lambda unit: unit.inbox.release(claim))
        assert outcome is not None
        return outcome

    async def claim(self, chat: str = "chat", *, is_private: bool = True) -> Claim:
        """Accept the event of a press and claim its conversation."""
        self.pressed += 1
        item = NewInboxItem(f"press-{self.pressed}", chat, b"{}", is_private=is_private)
        await self.database.write(lambda unit: unit.inbox.accept("fake", "bot", [item]))
        claim = await self.database.write(lambda unit: unit.inbox.claim("w"))
        assert claim is not None
        return claim

    async def opinions(self) -> list[tuple[int, str]]:
        """Return rating and reason of everything that was rated."""
        return [(one.rating, one.reason) for one in await self.feedback()]

    async def feedback(self) -> tuple[FeedbackRecord, ...]:
        return await self.database.read(lambda unit: unit.feedback.list())

    async def user(self, name: str) -> UserRecord | None:
        return await self.database.read(lambda unit: unit.users.find("fake", "bot", name))

    async def notes(self, name: str = "ann") -> tuple[str, ...]:
        user = await self.user(name)
        assert user is not None
        return (await self.database.read(lambda unit: unit.users.profile(user.id))).notes


@pytest.fixture
async def buttons(database: Database) -> Buttons:
    scrubber = CountingScrubber(database)
    return Buttons(await build_rig(database), PressHandler(database, scrubber), scrubber)


def _press(data: str, sender: str, chat: str, is_private: bool, language: str) -> ButtonPress:
    return ButtonPress(ConversationKey("fake", "bot", chat), Sender(sender, sender.title(), language), data, is_private, "1", "p")


def _ids(claim: Claim) -> list[str]:
    return [item.id for item in claim.items]


def _marked(outcome: PressOutcome) -> Sequence[str]:
    assert outcome.buttons is not None
    return [button.data for row in outcome.buttons for button in row if button.label.startswith("✓ ")]


async def test_a_face_stores_the_opinion_and_is_marked(buttons: Buttons) -> None:
    """The event of the press is done with the opinion, and the message above stays as it is."""
    turn = await buttons.answer()
    outcome = await buttons.press(f"rate:1:{turn.id}")
    assert (outcome.text, _marked(outcome)) == (None, [f"rate:1:{turn.id}"])
    assert await buttons.opinions() == [(GOOD, "")]
    assert (await buttons.rig.item_states())[-1] is InboxState.DONE


async def test_pressing_again_changes_and_never_doubles(buttons: Buttons) -> None:
    """Down, why, why again, down again, up: one opinion all the time, the last one; a reason stays until the face changes."""
    turn = await buttons.answer()
    seen: list[tuple[int, str]] = []
    for data in ("rate:-1", "why:wrong", "why:tone", "why:tone", "rate:-1", "rate:1", "rate:1", "rate:-1"):
        await buttons.press(f"{data}:{turn.id}")
        seen += await buttons.opinions()
    assert seen == [(BAD, ""), (BAD, "wrong"), (BAD, "tone"), (BAD, "tone"), (BAD, "tone"), (GOOD, ""), (GOOD, ""), (BAD, "")]


async def test_a_reason_is_a_bad_opinion_by_itself(buttons: Buttons) -> None:
    """Who presses a reason under an answer that somebody else rated has an opinion, too."""
    turn = await buttons.answer(chat="room", is_private=False)
    await buttons.press(f"rate:-1:{turn.id}", chat="room", is_private=False)
    outcome = await buttons.press(f"why:unsafe:{turn.id}", sender="bob", chat="room", is_private=False)
    assert sorted(await buttons.opinions()) == [(BAD, ""), (BAD, "unsafe")]
    assert _marked(outcome) == [f"rate:-1:{turn.id}", f"why:unsafe:{turn.id}"]


async def test_in_a_private_chat_nobody_else_rates(buttons: Buttons) -> None:
    """Data can be forged: whoever names somebody else's answer changes nothing."""
    turn = await buttons.answer()
    await buttons.answer(sender="bob", chat="other")
    assert await buttons.press(f"rate:1:{turn.id}", sender="bob", chat="other") == NOTHING
    assert await buttons.opinions() == []


async def test_nobody_becomes_known_by_an_old_button(buttons: Buttons) -> None:
    """Who was erased stays erased when they press what still stands on their screen, in private and in a group."""
    turn = await buttons.answer()
    await buttons.press("forget:all:ann")
    for is_private in (True, False):
        chat = "chat" if is_private else "room"
        assert await buttons.press(f"rate:1:{turn.id}", chat=chat, is_private=is_private) == NOTHING
        assert await buttons.user("ann") is None


async def test_data_that_means_nothing_is_done_with(buttons: Buttons) -> None:
    """An unknown button, or a stop that came too late, changes nothing and blocks nothing."""
    await buttons.answer()
    for data in ("stop", "", "rate:7:x", "forget:universe:ann"):
        assert await buttons.press(data) == NOTHING
    assert set(await buttons.rig.item_states()) == {InboxState.DONE}


async def test_a_lost_claim_leaves_no_effect(buttons: Buttons) -> None:
    """The effect and the end of its event are one transaction: who lost the conversation has done nothing."""
    turn = await buttons.answer()
    claim = await buttons.claim()
    await buttons.database.write(lambda unit: unit.inbox.release(claim))
    await buttons.database.write(lambda unit: unit.inbox.claim("somebody else"))
    for data in (f"rate:1:{turn.id}", "forget:all:ann"):
        with pytest.raises(ClaimLost):
            await buttons.handler.handle(claim, _press(data, "ann", "chat", True, "en"), _ids(claim))
    assert await buttons.opinions() == []
    assert await buttons.user("ann") is not None
    assert buttons.scrubber.requests == 0


async def test_the_same_press_handed_out_twice_is_done_once(buttons: Buttons) -> None:
    """A second run of the same claim finds the opinion and stores no other."""
    turn = await buttons.answer()
    claim = await buttons.claim()
    first, second = [
        await buttons.handler.handle(claim, _press(f"rate:-1:{turn.id}", "ann", "chat", True, "en"), _ids(claim)) for _ in "ab"
    ]
    assert first == second
    assert await buttons.opinions() == [(BAD, "")]


async def test_everything_is_erased_and_counted(buttons: Buttons) -> None:
    """Turns, notes and ratings go; the person is told how many, the operator finds a line without words, the bytes are to leave."""
    for text in ("hello", "/remember my canary", "again"):
        turn = await buttons.answer(text)
    await buttons.press(f"rate:1:{turn.id}")
    user = await buttons.user("ann")
    outcome = await buttons.press("forget:all:ann")
    assert outcome == PressOutcome("Erased: 3 messages with their answers, 1 notes, 1 ratings.", ())
    assert await buttons.user("ann") is None
    assert await buttons.rig.items() == ()
    assert user is not None
    (line,) = await buttons.database.read(lambda unit: unit.audit.list())
    assert (line.actor, line.action, line.subject, line.detail) == ("user", "user.erase", user.id, "all")
    assert buttons.scrubber.requests == 1


async def test_erasing_again_finds_nothing_and_leaves_nothing(buttons: Buttons) -> None:
    """The chat that the second press made goes as well."""
    await buttons.answer()
    await buttons.press("forget:all:ann")
    assert await buttons.press("forget:all:ann") == PressOutcome("There is nothing left that I could erase.", ())
    assert await buttons.database.read(lambda unit: unit.conversations.list()) == ()
    assert await buttons.user("ann") is None


async def test_only_the_memory_is_erased(buttons: Buttons) -> None:
    """Notes go, what was said stays."""
    await buttons.answer("/remember tea")
    await buttons.answer()
    outcome = await buttons.press("forget:memory:ann")
    assert outcome == PressOutcome("I have forgotten what you told me to remember.", ())
    assert await buttons.notes() == ()
    assert len(await buttons.rig.turns()) == 2


async def test_cancelling_erases_nothing(buttons: Buttons) -> None:
    """The question is answered, and nothing else has changed."""
    await buttons.answer("/remember tea")
    assert await buttons.press("forget:cancel:ann") == PressOutcome("Nothing was erased.", ())
    assert await buttons.notes() == ("tea",)
    assert buttons.scrubber.requests == 0


async def test_in_a_group_only_the_asker_erases_and_only_their_own(buttons: Buttons) -> None:
    """Others press in vain; the asker's words of this group go, those of others, of other chats and the memory stay."""
    await buttons.answer("/remember tea")
    for name in ("ann", "bob"):
        await buttons.answer(f"{name} speaks", sender=name, chat="room", is_private=False)
    for data in ("forget:here:ann", "forget:cancel:ann"):
        assert await buttons.press(data, sender="bob", chat="room", is_private=False) == NOTHING
    assert len(await buttons.rig.turns("room")) == 2
    outcome = await buttons.press("forget:here:ann", chat="room", is_private=False)
    assert outcome == PressOutcome("Erased: 1 messages with their answers, 0 notes, 0 ratings.", ())
    assert [turn.user_text for turn in await buttons.rig.turns("room")] == ["bob speaks"]
    assert await buttons.notes() == ("tea",)
    assert len(await buttons.rig.turns()) == 1


@pytest.mark.parametrize(("scope", "is_private"), [("all", False), ("memory", False), ("here", True)])
async def test_a_wish_is_only_granted_where_it_is_offered(buttons: Buttons, scope: str, is_private: bool) -> None:
    """Forged data erases no more in a group than the group's button would."""
    await buttons.answer("/remember tea")
    chat = "chat" if is_private else "room"
    await buttons.answer(chat=chat, is_private=is_private)
    assert await buttons.press(f"forget:{scope}:ann", chat=chat, is_private=is_private) == NOTHING
    assert await buttons.notes() == ("tea",)
    assert buttons.scrubber.requests == 0


async def test_words_on_buttons_are_in_the_language_of_who_presses(buttons: Buttons) -> None:
    """In a private chat the language that was chosen; in a group, where that is nobody's business, the platform's."""
    await buttons.answer("/language zh")
    assert (await buttons.press("forget:cancel:ann")).text != "Nothing was erased."
    await buttons.answer(chat="room", is_private=False)
    assert (await buttons.press("forget:cancel:ann", chat="room", is_private=False)).text == "Nothing was erased."
    chinese = await buttons.press("forget:cancel:bob", sender="bob", chat="room", is_private=False, language="zh-hans")
    assert chinese.text == (await buttons.press("forget:cancel:ann")).text


async def test_an_opinion_belongs_to_the_conversation_of_its_answer(buttons: Buttons) -> None:
    """A press that comes in beside the thread of its message counts in its chat, and in no other one."""
    turn = await buttons.answer(chat="room/7", is_private=False)
    outcome = await buttons.press(f"rate:1:{turn.id}", chat="room", is_private=False)
    assert _marked(outcome) == [f"rate:1:{turn.id}"]
    assert await buttons.press(f"rate:-1:{turn.id}", chat="roomy", is_private=False) == NOTHING
    assert await buttons.opinions() == [(GOOD, "")]


async def test_nothing_is_shown_where_a_person_has_the_conversation(buttons: Buttons) -> None:
    """The opinion on an answer in another thread is kept; its buttons stay as they are while somebody else speaks there."""
    turn = await buttons.answer(chat="room/7", is_private=False)
    await buttons.database.write(lambda unit: unit.conversations.take(turn.conversation_id, "agent"))
    claim = await buttons.claim("room", is_private=False)
    press = _press(f"rate:1:{turn.id}", "ann", "room", False, "en")
    assert await buttons.handler.handle(claim, press, _ids(claim)) is None
    assert await buttons.opinions() == [(GOOD, "")]


@dataclass
class Screen:
    """Lets a worker of the fake channel do one press, and notes what is shown of it."""

    pressed: ButtonPress
    shown: list[PressOutcome] = field(default_factory=list[PressOutcome])

    def parse(self, _item: InboxRecord) -> ButtonPress:
        return self.pressed

    async def show_outcome(self, _press: ButtonPress, outcome: PressOutcome) -> None:
        self.shown.append(outcome)

    async def serve(self, rig: Rig, claim: Claim, monkeypatch: pytest.MonkeyPatch) -> list[PressOutcome]:
        """Let the worker go on with its claim; return what was shown."""
        monkeypatch.setattr(rig.channel, "parse", self.parse)
        monkeypatch.setattr(rig.channel, "show_outcome", self.show_outcome)
        await rig.pool.serve(rig.channel, claim)
        return self.shown


@pytest.mark.parametrize("moment", ["none", "take", "take and release"])
async def test_a_takeover_between_claim_and_press_shows_nothing(buttons: Buttons, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """The opinion is kept; whoever took the conversation since the worker looked has it for themselves."""
    turn = await buttons.answer()
    claim = await buttons.claim()
    if moment != "none":
        await buttons.database.write(lambda unit: unit.conversations.take(turn.conversation_id, "agent"))
    if moment == "take and release":
        await buttons.database.write(lambda unit: unit.conversations.release(turn.conversation_id, "agent"))
    shown = await Screen(_press(f"rate:1:{turn.id}", "ann", "chat", True, "en")).serve(buttons.rig, claim, monkeypatch)
    assert len(shown) == (moment == "none")
    assert await buttons.opinions() == [(GOOD, "")]


async def test_a_wish_is_not_answered_after_a_takeover(buttons: Buttons, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was to be forgotten is forgotten, in silence."""
    turn = await buttons.answer("/remember tea")
    claim = await buttons.claim()
    await buttons.database.write(lambda unit: unit.conversations.take(turn.conversation_id, "agent"))
    screen = Screen(_press("forget:memory:ann", "ann", "chat", True, "en"))
    assert await screen.serve(buttons.rig, claim, monkeypatch) == []
    assert await buttons.notes() == ()


async def test_what_was_erased_is_said_although_the_conversation_is_gone(buttons: Buttons, monkeypatch: pytest.MonkeyPatch) -> None:
    """The press that erased the conversation still tells what it did."""
    await buttons.answer()
    claim = await buttons.claim()
    screen = Screen(_press("forget:all:ann", "ann", "chat", True, "en"))
    (shown,) = await screen.serve(buttons.rig, claim, monkeypatch)
    assert shown.text == "Erased: 1 messages with their answers, 0 notes, 0 ratings."
