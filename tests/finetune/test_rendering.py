"""A row is what the chat would have sent to the engine, with the reply behind it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from dialogue.chat_template import ChatTemplate
from dialogue.config import DialogueConfig
from dialogue.errors import TemplateError
from dialogue.messages import ChatMessage, Role
from dialogue.ports import Retriever
from dialogue.skills.base import Passage
from finetune.rendering import RowRenderer, Unrenderable, build_renderer, day_of, history, windows
from finetune.samples import Kind, Sample, decode_sample, encode_sample
from tests.dialogue.harness import TODAY, dialogue
from tests.fakes.tiny_tokenizers import template_source, tiny_tokenizer

CONFIG = DialogueConfig(seed=7, organisation="Blue Parcel", instructions="Use short sentences.", history_tokens=4096)
PASSAGES = (Passage("Parcels take two days.", "help/parcels", "Parcels"), Passage("Shops open at nine.", "help/shops", "Shops"))
TALK = ("Where is my parcel?", "On its way.", "When will it come?", "Tomorrow, I think.", "Thank you!", "You are welcome.")
MODELS = [("chatml", "smollm"), ("qwen25", "qwen"), ("llama3", "llama3"), ("gemma3", "gemma")]


def sample(*texts: str, kind: Kind = Kind.DIALOGUE, skill: str = "support", **more: object) -> Sample:
    """Return a sample whose turns alternate."""
    roles = (Role.USER, Role.ASSISTANT)
    turns = tuple(ChatMessage(roles[number % 2], text) for number, text in enumerate(texts))
    given = Sample(id="shop:1", kind=kind, skill=skill, language="en", group="1", source="shop", turns=turns)
    return replace(given, **more)  # type: ignore[arg-type]


def renderer(model: tuple[str, str] = ("chatml", "smollm"), row_tokens: int = 8192) -> RowRenderer:
    """Return the renderer of a tiny model."""
    tokenizer = tiny_tokenizer(model[1]).load()
    return build_renderer(ChatTemplate(template_source(model[0]), tokenizer), tokenizer, CONFIG, row_tokens)


class Shelf(Retriever):
    """Always finds the same passages."""

    async def retrieve(self, question: str, *, language: str) -> tuple[Passage, ...]:
        return PASSAGES


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model[0])
async def test_every_turn_of_a_row_is_what_the_chat_sends(model: tuple[str, str]) -> None:
    """Up to each reply, the ids of a row are those that the dialogue manager gives to the engine when the turns are played."""
    row = renderer(model).row(sample(*TALK))
    async with dialogue(CONFIG, model=model) as kefu:
        await kefu.say("/support")
        kefu.engine.scripts = [(reply,) for reply in TALK[1::2]]
        for text in TALK[::2]:
            await kefu.say(text)
    assert len(kefu.engine.requests) == 3
    for request in kefu.engine.requests:
        assert row.ids[: len(request.prompt)] == request.prompt
        assert not row.loss_mask[len(request.prompt) - 1]
        assert row.loss_mask[len(request.prompt)]


async def test_passages_stand_where_the_chat_puts_them() -> None:
    """A grounded sample is trained with the passages in the place, order and words of the chat's own prompt."""
    row = renderer().row(sample("When?", "Two days [1].", kind=Kind.GROUNDED, passages=PASSAGES, answer_passage=1))
    async with dialogue(CONFIG, retriever=Shelf()) as kefu:
        await kefu.say("/support When?")
    prompt = kefu.engine.requests[0].prompt
    assert row.ids[: len(prompt)] == prompt


@pytest.mark.parametrize(
    ("skill", "text"),
    [
        ("chat", "Hello!"),
        ("translate", "en>de Good morning"),
        ("summarize", "short A long text. It says much."),
        ("write", "email: Thanks"),
    ],
)
async def test_each_skill_trains_with_its_own_prompt(skill: str, text: str) -> None:
    """Whatever the skill, a row begins with the prompt that its command would make."""
    row = renderer().row(sample(text, "Reply.", skill=skill))
    async with dialogue(CONFIG) as kefu:
        await kefu.say(f"/{skill} {text}")
    prompt = kefu.engine.requests[0].prompt
    assert row.ids[: len(prompt)] == prompt


def test_a_prompt_that_speaks_of_time_has_a_date() -> None:
    """A sample that speaks of today is given a day, always the same one, as the chat gives it today's."""
    given = sample("Are you open today?", "Yes.")
    prompt = renderer().prompt(given)
    assert [section.name for section in prompt.sections][-1] == "date"
    assert renderer().prompt(given).ids == prompt.ids
    assert abs(day_of(given) - TODAY) < timedelta(days=5 * 365)


def test_every_reply_is_learned_and_nothing_else() -> None:
    """The loss counts each reply with its end of turn, and no word of the system, the user or the passages."""
    made = renderer()
    row = made.row(sample(*TALK))
    learned = made.tokenizer.decode([token for token, counts in zip(row.ids, row.loss_mask, strict=True) if counts])
    assert learned == "".join(f"{reply}<|im_end|>" for reply in TALK[1::2])
    assert row.trained_tokens == sum(row.loss_mask)


def test_what_does_not_fit_is_refused_not_shortened() -> None:
    """A sample that would lose a turn, words or a passage has no row."""
    long = sample("Where is it? " * 200, "Here.")
    with pytest.raises(Unrenderable, match="too long"):
        renderer(row_tokens=400).row(long)
    with pytest.raises(Unrenderable, match="too long"):
        renderer(row_tokens=900).row(sample("Q?", "A [1].", passages=(Passage("x " * 500, "s"),)))
    with pytest.raises(Unrenderable, match="no skill"):
        renderer().row(sample("Hello", "Hi", skill="juggle"))


def test_a_long_dialogue_is_cut_at_turn_borders() -> None:
    """Each window fits, begins with the user, and together they hold every turn once, in order."""
    made = renderer(row_tokens=1400)
    given = sample(*(word for number in range(12) for word in (f"Question {number}? " * 6, f"Answer {number}. " * 6)))
    pieces = windows(given, made)
    assert len(pieces) > 1
    assert tuple(turn for piece in pieces for turn in piece.turns) == given.turns
    assert all(piece.turns[0].role is Role.USER and len(made.row(piece).ids) <= 1400 for piece in pieces)
    assert len({piece.id for piece in pieces}) == len(pieces)


def test_a_dialogue_that_fits_stays_whole() -> None:
    """What fits is returned as it is."""
    assert list(windows(sample(*TALK), renderer())) == [sample(*TALK)]


def test_old_turns_are_the_history() -> None:
    """The history holds the turns before the last one, in order."""
    turns = history(sample(*TALK))
    assert [(turn.seq, turn.user_text, turn.reply_text) for turn in turns] == [(1, TALK[0], TALK[1]), (2, TALK[2], TALK[3])]


def test_a_sample_survives_its_file() -> None:
    """A sample read back from its line is the same sample."""
    given = sample(*TALK, passages=PASSAGES, facts=("two days",), references=("Soon.",), extra={"mr": "name[X]"})
    assert decode_sample(encode_sample(given)) == given
    assert "\n" not in encode_sample(sample("a\nb", "c\u2028d"))


def test_a_template_that_rewrites_old_replies_gets_a_row_for_each_turn() -> None:
    """Where old replies stand otherwise than new ones, each reply is learned once, behind exactly the prompt that asks for it."""
    tokenizer = tiny_tokenizer("qwen").load()
    template = ChatTemplate(template_source("qwen3"), tokenizer, variables={"enable_thinking": False})
    made = build_renderer(template, tokenizer, CONFIG, 8192)
    rows = made.rows(sample(*TALK))
    learned = [made.tokenizer.decode([token for token, counts in zip(row.ids, row.loss_mask, strict=True) if counts]) for row in rows]
    assert learned == [f"{reply}<|im_end|>" for reply in TALK[1::2]]
    assert rows[-1].ids[: len(made.prompt(sample(*TALK)).ids)] == made.prompt(sample(*TALK)).ids


def test_a_dialogue_is_one_row_elsewhere() -> None:
    """Where a chat's ids only grow, a dialogue is one row."""
    assert len(renderer().rows(sample(*TALK))) == 1


def test_a_template_that_asks_otherwise_than_it_writes_is_refused() -> None:
    """A template whose opening of a reply is not how it writes a reply cannot be trained with."""
    tokenizer = tiny_tokenizer("smollm").load()
    source = template_source("chatml").replace(
        "add_generation_prompt %}{{ '<|im_start|>assistant\n", "add_generation_prompt %}{{ '<|im_start|>assistant:"
    )
    assert source != template_source("chatml")
    with pytest.raises(TemplateError, match="asks for it"):
        build_renderer(ChatTemplate(source, tokenizer), tokenizer, CONFIG, 8192)
