"""Cleaning: what is mended, what is thrown away, and that the reason is said."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.messages import ChatMessage, Role
from finetune.cleaning import turns as turns_module
from finetune.cleaning.languages import identify
from finetune.cleaning.pipeline import Cleaner, Unfit
from finetune.cleaning.text import defect, fold, has_placeholder, mend
from finetune.cleaning.turns import is_cut_off, tidy
from finetune.config import CleanSection
from finetune.sources.grounded import Article
from tests.finetune.making import sample, talk

PLAIN = CleanSection(scrub=False)
PIECES = [*"<>&;{}%#:/ab \n\u00a0\u200b\x00Ã©â€™", "<b>", "</p>", "&lt;", "&amp;", "{%", "%}", "<br>", "<script>", "</script>"]
MARKED_UP = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@pytest.mark.parametrize(
    ("text", "mended", "reasons"),
    [
        ("CafÃ© donâ€™t", "Café don’t", {"encoding mended"}),
        ("a\x00b\u200bc", "abc", {"control characters removed"}),
        ("<p>Hello <b>you</b></p><p>there</p>", "Hello you\nthere", {"HTML removed", "white space trimmed"}),
        ("Tom &amp; Ann &lt;3", "Tom & Ann <3", {"HTML removed"}),
        ("<script>alert('x')</script>Hi<!-- note -->", "Hi", {"HTML removed"}),
        ("{% include list.html %}Take this.{: .help}", "Take this.", {"templating tags removed"}),
        ("one\u00a0two  \r\n\r\n\r\n\r\nthree ", "one two\n\nthree", {"white space trimmed"}),
        ("5 < 6 and a<b, mail <bob@example.com>, {x}", "5 < 6 and a<b, mail <bob@example.com>, {x}", set()),
        ("退款要多久？\n三天。", "退款要多久？\n三天。", set()),
        ("Grüße, señor — naïve ☕️", "Grüße, señor — naïve ☕️", set()),
    ],
)
def test_texts_are_mended(text: str, mended: str, reasons: set[str]) -> None:
    """What nobody wrote for a reader goes, what looks like it stays, and each change has its reason."""
    found, done = mend(text)
    assert found == mended
    assert set(done) == reasons


@given(st.text(max_size=200) | MARKED_UP)
def test_mending_twice_changes_nothing_more(text: str) -> None:
    """A mended text has nothing left to mend, and a reason is named exactly when something changed."""
    once, done = mend(text)
    assert mend(once) == (once, ())
    assert bool(done) == (once != text)


@given(st.text(string.ascii_letters + string.digits + " .,!?'äöüß中文", max_size=100))
def test_plain_words_stay(text: str) -> None:
    """Letters, digits and punctuation come through as they are, but for spaces at the ends."""
    assert mend(text)[0] == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "{{Order Number}}",
        "Dear {customer_name},",
        "Hi {NAME}",
        "Hi {name}",
        "${user.name}",
        "%(total)s",
        "<ORDER_ID>",
        "[Your Name]",
        "[insert date here]",
        "[[link]]",
    ],
)
def test_unfilled_templates_are_known(text: str) -> None:
    """Every usual way to leave a hole for a program is seen inside a sentence."""
    assert has_placeholder(f"Please look: {text}.")


@pytest.mark.parametrize(
    "text",
    [
        "See [1] and [2].",
        "[Your account](https://x.org)",
        "f(x) = {x}",
        "[EMAIL] and [PERSON]",
        "a < b > c",
        "<b>",
        "{1, 2}",
        "100%",
        "Use { and } here",
        "[sic]",
    ],
)
def test_what_is_no_template_stays(text: str) -> None:
    """Citations, links, sets, and placeholders of personal data are no unfilled templates."""
    assert not has_placeholder(text)


def test_broken_characters_are_a_defect() -> None:
    """A text that lost characters cannot be mended, nor one that is no turn for its length."""
    assert defect(mend("caf\ufffd")[0]) == defect(mend("caf\udce9")[0]) == "broken characters"
    assert defect(mend("x" * ((1 << 20) + 1))[0]) == "text too long"
    assert defect("fine") == ""


TURNS = st.lists(st.builds(ChatMessage, st.sampled_from([Role.USER, Role.ASSISTANT]), st.sampled_from(["", "a", "b"])), max_size=8)


@given(TURNS)
def test_tidy_dialogues_alternate(turns: list[ChatMessage]) -> None:
    """A tidy dialogue begins with the customer, ends with the assistant, alternates, has no empty turn, and is tidy."""
    tidied, done = tidy(turns)
    assert [turn.role for turn in tidied] == [Role.USER, Role.ASSISTANT] * (len(tidied) // 2)
    assert all(turn.content for turn in tidied)
    assert tidy(tidied) == (tidied, ())
    assert bool(done) == (tidied != tuple(turns))


def test_what_was_tidied_is_said() -> None:
    """Every change of the turns has a reason, and nothing else that was said is lost."""
    user, assistant = Role.USER, Role.ASSISTANT
    given_turns = [
        ChatMessage(assistant, "Hi!"),
        ChatMessage(user, "One"),
        ChatMessage(user, "two"),
        ChatMessage(assistant, ""),
        ChatMessage(assistant, "Three."),
        ChatMessage(user, "Thanks"),
    ]
    tidied, done = tidy(given_turns)
    assert tidied == talk("One\ntwo", "Three.")
    assert set(done) == {turns_module.EMPTY, turns_module.MERGED, turns_module.LEADING, turns_module.TRAILING}


@pytest.mark.parametrize(
    ("text", "language", "cut"),
    [
        ("Please send it to the", "en", True),
        ("Open the settings, then", "en", False),
        ("Bitte öffnen Sie die Einstellungen und", "de", True),
        ("Sie ist der", "en", False),
        ("First,", "en", True),
        ("请先登录，", "zh", True),
        ("Run ```pip install", "en", True),
        ("Thank you and goodbye", "en", False),
        ("Your parcel (number 5)", "en", False),
    ],
)
def test_cut_off_replies(text: str, language: str, cut: bool) -> None:
    """A reply is called cut off only where no message ends so."""
    assert is_cut_off(text, language) is cut


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (("Hi.", ""), "nothing was answered"),
        (("Hi.", "y"), "reply too short"),
        (("Hi.", "y" * 3000), "reply too long"),
        (("Where?", "Order {{Order Number}} is here."), "unfilled placeholder"),
        (("Where is {{Order Number}}?", "It is here."), "unfilled placeholder"),
        (("Where?", "On the"), "reply cut off"),
        (("Wh\ufffd?", "Here it is."), "broken characters"),
    ],
)
def test_what_does_not_stay(texts: tuple[str, str], reason: str) -> None:
    """A sample that teaches nothing is dropped, with the reason."""
    with pytest.raises(Unfit, match=reason):
        Cleaner(PLAIN).clean(sample(*texts))


def test_a_dialogue_ends_before_a_bad_reply() -> None:
    """What was said before a reply that is of no use is kept; placeholders stay where the recipe keeps them."""
    cleaned, done = Cleaner(PLAIN).clean(sample("One?", "Yes, one.", "Two?", "Order {{Order Number}}.", "Three?", "Yes, three."))
    assert cleaned.turns == talk("One?", "Yes, one.")
    assert done == {"ended early: unfilled placeholder"}
    kept, _ = Cleaner(CleanSection(scrub=False, placeholders="keep")).clean(sample("Two?", "Order {{Order Number}}."))
    assert kept.answer == "Order {{Order Number}}."


def test_personal_data_is_replaced_everywhere() -> None:
    """Turns, references, facts, ids and groups hold no address of anybody; what was replaced is counted by its kind."""
    mail = "bob.miller@gmail.com"
    given_sample = sample(
        f"I am {mail}",
        f"Thanks, {mail} it is.",
        name=f"s:{mail}",
        group=f"s:{mail}",
        references=(f"{mail}!",),
        facts=(mail, "thanks"),
        extra={"slots": mail},
    )
    cleaned, done = Cleaner(CleanSection()).clean(given_sample)
    assert mail not in repr(cleaned)
    assert "personal data replaced: EMAIL" in done
    assert cleaned.answer == "Thanks, [EMAIL] it is."
    assert cleaned.facts == ("thanks",)
    again, _ = Cleaner(CleanSection()).clean(given_sample)
    assert again == cleaned


def test_no_reply_teaches_a_placeholder() -> None:
    """A dialogue ends before a reply with a placeholder out of nowhere, which customers would be shown; alone, it does not stay."""
    talked = sample("Hello?", "How can I help?", "Who is there?", "Write to ann.smith@example.com.", "Thanks.", "You are welcome.")
    cleaned, done = Cleaner(CleanSection()).clean(talked)
    assert cleaned.turns == talked.turns[:2]
    assert "ended early: personal data in the reply" in done
    with pytest.raises(Unfit, match="personal data in the reply"):
        Cleaner(CleanSection()).clean(sample("Who is there?", "Write to ann.smith@example.com."))


def test_languages_are_identified() -> None:
    """Only wanted languages stay; a language that nobody stated is found; what cannot be told is not guessed."""
    german = sample("Wo?", "Ihr Paket liegt seit gestern bei der Post und kann dort abgeholt werden.", language="")
    cleaner = Cleaner(CleanSection(scrub=False, languages=("de",)))
    assert cleaner.clean(german)[0].language == "de"
    with pytest.raises(Unfit, match="another language"):
        cleaner.clean(sample("Where?", "Your parcel has been waiting at the post office since yesterday.", language="de"))
    with pytest.raises(Unfit, match="language unknown"):
        cleaner.clean(sample("?", "123 456", language=""))
    assert cleaner.clean(sample("Wo?", "Da!", language="de"))[0].language == "de"  # too short for a guess, so the source is believed


@given(st.sampled_from(["", "en", "de-AT"]), st.sampled_from([(), ("en",), ("de", "en")]), st.sampled_from([None, "en", "de", "fr"]))
def test_identification_never_invents(stated: str, wanted: tuple[str, ...], found: str | None) -> None:
    """A sample that stays has a language: the stated one, or the detector's where nobody stated any."""
    kept, problem = identify(sample("Q?", "A reply that is long enough for a guess.", language=stated), wanted, lambda _: found)
    if not problem:
        assert kept.language == (stated or found)
        assert not wanted or (found or stated).partition("-")[0] in wanted


def test_articles_are_cleaned_and_keep_their_contact() -> None:
    """Markup leaves a help article; its telephone number, which customers ask for, stays. Empty sections go."""
    article = Article("s:a", "Contact", "How do I <b>call</b> you?", "{% tip %}Call +1 844-875-6446 at any time of the day.", "", "en")
    cleaned, done = Cleaner(CleanSection()).clean_article(article)
    assert (cleaned.heading, cleaned.text) == ("How do I call you?", "Call +1 844-875-6446 at any time of the day.")
    assert done == {"HTML removed", "templating tags removed"}
    for bad in ("", "{% include x %}"):
        with pytest.raises(Unfit, match="empty section"):
            Cleaner(CleanSection()).clean_article(Article("s:a", "T", "H", bad, "", "en"))


@given(st.text(max_size=50))
def test_folding_forgets_case_and_punctuation(text: str) -> None:
    """Folded texts compare by their words."""
    assert fold(fold(text)) == fold(text)
    assert fold(f"{text}!!") == fold(text)
