"""Skills that have a model of their own: from the settings to the turn's record."""

import json
from pathlib import Path

import pytest

from bot.app import App
from bot.channels.fake import FakeChannel
from bot.channels.fake_platform import FakePlatform
from bot.errors import SettingsError, describe
from bot.settings import Settings, load_settings
from bot.settings_sections import EngineSection, SkillModelSection, SkillsSection
from bot.skill_models import fetch_skill_models, open_skill_models
from bot.unstarted_model import UnstartedModel
from dialogue.byte_chat import ByteTemplate, ByteTokenizer, echo_user
from dialogue.engine import factory
from dialogue.engine.scripted import ScriptedEngine
from dialogue.errors import EngineUnavailable
from storage.database import open_database
from storage.records import TurnRecord
from tests.bot.apps import app_settings, running
from tests.bot.cli.program import make_program
from tests.fakes.tiny_seq2seq import write_tiny
from tests.sizes import size

START_S = 170.0  # torch loads for seconds, and for a minute on a machine that others use as well


def _settings(folder: Path, **skills: SkillModelSection) -> Settings:
    settings = app_settings(folder)
    engine = EngineSection(kind="scripted", threads=1, slots=2, start_timeout_s=START_S)
    return settings.model_copy(update={"skills": SkillsSection(**skills), "engine": engine})


def _app(settings: Settings) -> App:
    files = fetch_skill_models(settings)

    async def open_model() -> UnstartedModel:
        return UnstartedModel(ScriptedEngine(echo_user), ByteTemplate(), ByteTokenizer(), "scripted", "0" * 64)

    return App(settings, open_model, open_skill_models=lambda: open_skill_models(settings, files))


async def _turns(settings: Settings) -> list[TurnRecord]:
    database = await open_database(settings.storage_config(), owner="test")
    try:
        conversations = await database.read(lambda work: work.conversations.list(limit=10))
        return [turn for each in conversations for turn in await database.read(lambda work, each=each: work.turns.list(each.id, limit=10))]
    finally:
        await database.close()


async def test_translate_is_answered_by_its_own_model(tmp_path: Path) -> None:
    """A model that the settings name for /translate answers it in a child process, and the turn says so; chats stay where they were."""
    model = write_tiny("mbart50", tmp_path / "model")
    settings = _settings(tmp_path, translate=SkillModelSection(model=str(model)))
    platform = FakePlatform()
    channel = FakeChannel(platform)
    async with running(_app(settings), [channel]):
        for text, shown in (("/translate en>de Where is my parcel?", 1), ("hello", 2), ("/translate la>de Salve", 3)):
            platform.say(text)
            while len(platform.shown()) < shown:
                await platform.changed()
        assert platform.shown()[1] == "You said: hello"
        assert platform.shown()[2] == "I cannot translate from Latin to German here."
    engines = {turn.user_text: turn.engine for turn in await _turns(settings)}
    assert engines["/translate en>de Where is my parcel?"] == f"seq2seq:{model}"
    assert engines["hello"].startswith("scripted:")
    assert engines["/translate la>de Salve"] == ""


@pytest.mark.skipif(not size("skill_model_program", small=0, proof=1), reason="loads torch twice more; make proof runs it")
def test_the_program_translates_and_replays(tmp_path: Path) -> None:
    """A variable is enough to give /translate a model of its own; `kefu replay` makes the same answer with it again."""
    model = write_tiny("t5", tmp_path / "model")
    program = make_program(
        tmp_path,
        KEFU_ENGINE__KIND="scripted",
        KEFU_ENGINE__THREADS="1",
        KEFU_ENGINE__START_TIMEOUT_S=str(START_S),
        KEFU_SKILLS__TRANSLATE=str(model),
    )
    told = json.loads(program.call("ask", "/translate en>de Where is my parcel?", "--json").stdout)
    assert (told["engine"], bool(told["answer"])) == (f"seq2seq:{model}", True)
    again = json.loads(program.call("replay", told["turn_id"], "--generate", "--json").stdout)
    assert again["generated"] == {"text": told["answer"], "identical": True}


def test_a_reference_alone_is_enough(tmp_path: Path) -> None:
    """`translate = "hf:…"` means the same as the table, and a table with an unknown engine is refused in words."""
    file = tmp_path / "kefu.toml"
    file.write_text('[skills]\ntranslate = "hf:a/b"\n[skills.summarize]\nengine = "seq2seq"\nmodel = "hf:c/d"\n', encoding="utf-8")
    named = load_settings(config=file).skill_models()
    assert {skill: model.model for skill, model in named.items()} == {"translate": "hf:a/b", "summarize": "hf:c/d"}
    file.write_text('[skills.translate]\nengine = "magic"\nmodel = "hf:a/b"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match="translate"):
        load_settings(config=file)


def test_without_torch_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra nothing is fetched, and what is said names the command that installs it."""
    monkeypatch.setattr(factory, "TORCH_LIBRARIES", ("no_such_library",))
    with pytest.raises(EngineUnavailable) as caught:
        fetch_skill_models(_settings(tmp_path, translate=SkillModelSection(model="hf:a/b")))
    assert "pip install 'kefu[torch]'" in describe(caught.value).hint
