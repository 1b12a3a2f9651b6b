"""Facts that an answer must keep, and slots that a text must tell."""

import pytest

from finetune.evaluation.facts import count_kept, find_facts, keeps
from finetune.evaluation.slots import parse_slots, slot_errors


def test_links_numbers_and_names_are_found() -> None:
    """Links, numbers and names inside a sentence are facts; the first word of a sentence is none."""
    text = "Your order 4711 ships on 12/05. Ask Maria Lopez at help@shop.example or see https://shop.example/faq?id=3. Thanks, I'm off."
    assert find_facts(text) == ("help@shop.example", "https://shop.example/faq?id=3", "4711", "12/05", "Maria Lopez")


def test_chinese_facts_are_numbers_and_links() -> None:
    """Chinese has no capitals: its numbers and links are the facts."""
    assert find_facts("人均消费100-150元，详见https://a.example/b。") == ("https://a.example/b", "100-150")


@pytest.mark.parametrize(
    ("answer", "fact", "kept"),
    [
        ("It costs 1,250 euros.", "1250", True),
        ("It costs 12500 euros.", "1250", False),
        ("It costs 0.1250 euros.", "1250", False),
        ("Ask maria  lopez.", "Maria Lopez", True),
        ("Annabel will call.", "Anna", False),
        ("订单4711已发货", "4711", True),
        ("Room 12, floor 3.", "12", True),
        ("The card of Anna's.", "Anna", True),
    ],
)
def test_a_fact_is_kept_as_a_whole(answer: str, fact: str, kept: bool) -> None:
    """Case, spaces and thousands do not matter; a number inside a longer one or a name inside a word is not it."""
    assert keeps(answer, fact) is kept


def test_kept_facts_are_counted() -> None:
    """Two of three facts kept are two of three; no facts are none of none."""
    assert count_kept("Room 12 for Anna", ["12", "Anna", "18:00"]) == (2, 3)
    assert count_kept("anything", []) == (0, 0)


ORDER = "name[The Vaults], eatType[pub], priceRange[more than £30], customer rating[5 out of 5], near[Café Adriatic], familyFriendly[no]"


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("The Vaults, a pub near Café Adriatic, is rated 5 out of 5, costs over £30 and is not family-friendly.", (0, 0)),
        ("The Vaults pub near Café Adriatic has five stars: a 5 star place, over £30. No kids.", (0, 0)),
        ("The Vaults pub near Café Adriatic has a 5 star rating and is family friendly, over £30.", (0, 1)),
        ("The Vaults is a cheap pub near Café Adriatic with a 1 star rating, no children.", (0, 2)),
        ("A nice place.", (6, 0)),
    ],
)
def test_slots_are_told_left_out_or_wrong(text: str, errors: tuple[int, int]) -> None:
    """A slot that the text gives another value is wrong, one that it does not mention is missing, and usual phrases count."""
    found = slot_errors(text, parse_slots(ORDER))
    assert (found.missing, found.wrong) == errors
    assert found.total == 6


def test_both_ways_of_writing_an_order_are_read() -> None:
    """An order as the data has it and one as a person hands it in have the same slots and the same errors; plain words have none."""
    said = (
        "name: The Vaults; eat type: pub; price range: more than £30; customer rating: 5 out of 5; near: Café Adriatic; family friendly: no"
    )
    text = "The Vaults is a cheap pub near Café Adriatic with a 1 star rating, no children."
    assert slot_errors(text, parse_slots(said)) == slot_errors(text, parse_slots(ORDER)) == (0, 2, 6)
    assert parse_slots("thanks for the help") == parse_slots("") == ()


def test_a_friendly_place_is_not_taken_for_an_unfriendly_one() -> None:
    """ "Family friendly" stands in "not family friendly": only the right one of the two is told."""
    slots = parse_slots("familyFriendly[yes]")
    assert slot_errors("A family friendly pub.", slots) == (0, 0, 1)
    assert slot_errors("It is not family friendly.", slots) == (0, 1, 1)
