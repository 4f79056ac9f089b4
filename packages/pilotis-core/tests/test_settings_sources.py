"""Settings: where they come from, and which of them wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pilotis.errors import ConfigurationError
from pilotis.settings import CacheSettings, EventSettings, ModuleSettings, Settings, find_file, load, read_toml
from pilotis.settings.reader import SettingsReader


def cache(settings: Settings, instance: str = "default") -> ModuleSettings:
    """Return the settings of a cache."""
    return settings.modules["cache"][instance]


def portable(settings: Settings, instance: str = "default") -> CacheSettings:
    """Return the portable settings of a cache."""
    found = cache(settings, instance).portable
    assert isinstance(found, CacheSettings)
    return found


def refused(
    source: dict[str, Any] | None = None, *, env: dict[str, str] | None = None, start: Path | None = None
) -> str:
    """Return the message of the error that loading raises."""
    with pytest.raises(ConfigurationError) as caught:
        load(source, env=env, files=start is not None, start=start)
    return str(caught.value)


# Files


def test_nothing_at_all_is_the_embedded_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file or an environment being read."""
    monkeypatch.setenv("PILOTIS_CACHE", "redis://elsewhere")
    settings = load()
    providers = {module: instances["default"].provider for module, instances in settings.modules.items()}
    assert providers == {
        "cache": "memory",
        "event": "local",
        "file": "local",
        "locking": "memory",
        "notification": "local",
        "workflow": "memory",
    }
    assert (settings.name, settings.role, settings.blocking_in_loop) == (None, "all", "error")
    assert portable(settings).default_ttl == 30


def test_a_file_is_found_from_below(tmp_path: Path) -> None:
    """The nearest directory upwards that has one."""
    (tmp_path / "pilotis.toml").write_text('name = "shop"\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    settings = load(files=True, start=below)
    assert settings.name == "shop"
    assert settings.file == tmp_path / "pilotis.toml"


def test_the_working_directory_is_where_the_search_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else is said."""
    (tmp_path / "pilotis.toml").write_text('name = "shop"\n')
    monkeypatch.chdir(tmp_path)
    assert load(files=True).name == "shop"


def test_a_pyproject_counts_if_it_has_the_table(tmp_path: Path) -> None:
    """One without it is passed by, be it valid or not."""
    (tmp_path / "pyproject.toml").write_text('[tool.pilotis]\nname = "shop"\n[tool.pilotis.cache]\ndefault_ttl = 5\n')
    below, broken = tmp_path / "a", tmp_path / "a" / "b"
    broken.mkdir(parents=True)
    (below / "pyproject.toml").write_text('[project]\nname = "uses-pilotis"\n')
    (broken / "pyproject.toml").write_text("not toml")
    settings = load(files=True, start=broken)
    assert settings.name == "shop"
    assert portable(settings).default_ttl == 5


def test_a_file_of_our_own_comes_before_the_pyproject_beside_it(tmp_path: Path) -> None:
    """And the nearer directory before the farther one."""
    (tmp_path / "pilotis.toml").write_text('name = "own"\n')
    (tmp_path / "pyproject.toml").write_text('[tool.pilotis]\nname = "shared"\n')
    assert find_file(tmp_path) == tmp_path / "pilotis.toml"
    nearer = tmp_path / "a"
    nearer.mkdir()
    (nearer / "pyproject.toml").write_text('[tool.pilotis]\nname = "nearer"\n')
    assert find_file(nearer) == nearer / "pyproject.toml"


def test_no_file_is_no_error(tmp_path: Path) -> None:
    """The defaults hold."""
    assert load(files=True, start=tmp_path).file is None


def test_a_variable_names_the_file(tmp_path: Path) -> None:
    """And then it has to be there."""
    (tmp_path / "staging.toml").write_text('name = "staging"\n')
    assert load(files=True, env={"PILOTIS_CONFIG": str(tmp_path / "staging.toml")}).name == "staging"
    with pytest.raises(ConfigurationError, match=r"cannot read .*absent\.toml: No such file"):
        load(files=True, env={"PILOTIS_CONFIG": str(tmp_path / "absent.toml")})


def test_a_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    """With the line, and without what stands there."""
    (tmp_path / "pilotis.toml").write_text('name = "shop"\n[cache]\npassword = hunter2\n')
    message = refused(start=tmp_path)
    assert message == f"{tmp_path / 'pilotis.toml'} is not valid TOML: see line 3, column 12"
    (tmp_path / "pilotis.toml").write_bytes(b'name = "\xff"\n')
    assert refused(start=tmp_path) == f"{tmp_path / 'pilotis.toml'} is not UTF-8 text"


def test_a_directory_cannot_be_read_as_a_file(tmp_path: Path) -> None:
    """The reason is the system's."""
    with pytest.raises(ConfigurationError, match=r"cannot read .*: Is a directory"):
        read_toml(tmp_path)


# Environment


def test_the_environment_comes_over_the_file(tmp_path: Path) -> None:
    """One value at a time, and text becomes what its field is."""
    (tmp_path / "pilotis.toml").write_text('name = "shop"\n[cache]\ndefault_ttl = 5\nnamespace = "a"\n')
    settings = load(files=True, start=tmp_path, env={"PILOTIS_CACHE__DEFAULT_TTL": "60.5", "OTHER": "x"})
    assert portable(settings).default_ttl == 60.5
    assert portable(settings).namespace == "a"


def test_a_mapping_comes_over_both(tmp_path: Path) -> None:
    """As an override of what was loaded does."""
    (tmp_path / "pilotis.toml").write_text('[cache]\nurl = "redis://file"\ndefault_ttl = 5\n')
    env = {"PILOTIS_CACHE__NAMESPACE": "env"}
    settings = load({"cache": "memory"}, files=True, start=tmp_path, env=env)
    assert (cache(settings).provider, cache(settings).options) == ("memory", {})
    assert (portable(settings).default_ttl, portable(settings).namespace) == (5, "env")


def test_mappings_are_laid_one_over_the_other() -> None:
    """Each by the same rules, with its own references."""
    env = {"CACHE": "redis://env"}
    settings = load({"cache": {"url": "redis://a", "pool": 5, "default_ttl": 5}}, None, {"cache": "${CACHE}"}, env=env)
    assert cache(settings).options == {"url": "redis://env"}
    assert portable(settings).default_ttl == 5


def test_a_reader_lays_an_override_over_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """And reads once."""
    monkeypatch.setenv("SPACE", "mine")
    reader = SettingsReader({"cache": {"url": "redis://a", "namespace": "$${a}"}}, files=False)
    over = reader.over({"cache": "${ABSENT:-memory}", "event": "local"})
    assert not over.done
    assert cache(over.read()).provider == "memory"
    assert portable(over.read()).namespace == "${a}"
    assert over.read() is over.read()
    assert (over.mentions("event"), reader.mentions("event")) == (True, False)


def test_a_mapping_alone_reads_no_file_and_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for `${VAR}` in its texts."""
    (tmp_path / "pilotis.toml").write_text('name = "file"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PILOTIS_NAME", "env")
    monkeypatch.setenv("SPACE", "mine")
    settings = load({"cache": {"namespace": "${SPACE}"}})
    assert settings.name is None
    assert portable(settings).namespace == "mine"


FILE = """
[cache]
provider = "redis"
url = "redis://file"
pool = 5
default_ttl = 5
[cache.instances.sessions]
max_entries = 7
"""


@pytest.mark.parametrize(
    ("value", "provider", "options"),
    [("redis://env", "redis", {"url": "redis://env"}), ("memory", "memory", {}), ("s3://b", "s3", {"url": "s3://b"})],
)
def test_a_variable_for_a_module_replaces_provider_and_options(
    tmp_path: Path, value: str, provider: str, options: dict[str, object]
) -> None:
    """And leaves the portable settings and the instances."""
    (tmp_path / "pilotis.toml").write_text(FILE)
    settings = load(files=True, start=tmp_path, env={"PILOTIS_CACHE": value})
    assert (cache(settings).provider, cache(settings).options) == (provider, options)
    assert portable(settings).default_ttl == 5
    assert cache(settings, "sessions").options == {"max_entries": 7}


def test_a_variable_for_a_module_comes_before_those_inside_it() -> None:
    """Whatever their order in the environment."""
    env = {"PILOTIS_CACHE__POOL": "9", "PILOTIS_CACHE__DEFAULT_TTL": "1", "PILOTIS_CACHE": "redis://env"}
    settings = load(env=env)
    assert cache(settings).options == {"url": "redis://env", "pool": "9"}
    assert portable(settings).default_ttl == 1


@pytest.mark.parametrize(
    ("over", "options"),
    [
        ({"url": "redis://over"}, {"url": "redis://over", "pool": 5}),
        ({"provider": "redis", "pool": 6}, {"url": "redis://file", "pool": 6}),
        ({"provider": "memory"}, {}),
        ({"provider": "memory", "max_entries": 3}, {"max_entries": 3}),
    ],
)
def test_naming_another_provider_drops_the_options_of_the_first(
    tmp_path: Path, over: dict[str, object], options: dict[str, object]
) -> None:
    """Naming the same one, or none, goes on with them."""
    (tmp_path / "pilotis.toml").write_text(FILE)
    settings = load({"cache": over}, files=True, start=tmp_path)
    assert cache(settings).options == options
    assert portable(settings).default_ttl == 5


@pytest.mark.parametrize(("over", "kept"), [("local", {"root": "a"}), ("s3", {})])
def test_the_default_provider_counts_as_named(over: str, kept: dict[str, object], tmp_path: Path) -> None:
    """So that naming it keeps its options."""
    (tmp_path / "pilotis.toml").write_text('[file]\nroot = "a"\n')
    settings = load({"file": {"provider": over}}, files=True, start=tmp_path)
    assert settings.modules["file"]["default"].options == kept


def test_variables_reach_instances_parts_and_channels() -> None:
    """With `__` for every step."""
    settings = load(
        env={
            "PILOTIS_CACHE__INSTANCES__SESSIONS__MAX_ENTRIES": "10",
            "PILOTIS_CONNECTIONS__MAIN": "redis://env",
            "PILOTIS_EVENT__OUTBOX": "postgresql://env",
            "PILOTIS_EVENT__OUTBOX__POLL": "1",
            "PILOTIS_NOTIFICATION__CHANNELS__EMAIL": "sendgrid",
            "PILOTIS_NOTIFICATION__CHANNELS__EMAIL__API_KEY": "k",
        }
    )
    outbox = settings.modules["event"]["default"].outbox
    [email] = settings.modules["notification"]["default"].channels["email"]
    assert cache(settings, "sessions").options == {"max_entries": "10"}
    assert settings.connections == {"main": "redis://env"}
    assert outbox is not None
    assert (outbox.provider, outbox.options) == ("postgresql", {"url": "postgresql://env"})
    assert (email.provider, email.options) == ("sendgrid", {"api_key": "k"})


def test_a_variable_finds_the_name_that_it_cannot_spell(tmp_path: Path) -> None:
    """Variables have neither capitals nor hyphens."""
    (tmp_path / "pilotis.toml").write_text("[cache.instances.User-Data]\ndefault_ttl = 1\n")
    settings = load(files=True, start=tmp_path, env={"PILOTIS_CACHE__INSTANCES__USER_DATA__DEFAULT_TTL": "2"})
    assert set(settings.modules["cache"]) == {"default", "User-Data"}
    assert portable(settings, "User-Data").default_ttl == 2


@pytest.mark.parametrize("listed", ["a, b", '["a", "b"]'])
def test_lists_in_variables_have_commas_or_are_json(listed: str) -> None:
    """Both ways."""
    assert load(env={"PILOTIS_INCLUDE": listed}).include == ["a", "b"]


def test_tables_in_variables_are_json() -> None:
    """Where a field is a struct of its own."""
    settings = load(env={"PILOTIS_EVENT__BACKOFF": '{"first": 2, "factor": 3}'})
    found = settings.modules["event"]["default"].portable
    assert isinstance(found, EventSettings)
    assert (found.backoff.first, found.backoff.factor) == (2, 3)
    assert refused(env={"PILOTIS_EVENT__BACKOFF": "{oops"}) == (
        "event.backoff: expected JSON (set by PILOTIS_EVENT__BACKOFF)"
    )


@pytest.mark.parametrize(
    "variable",
    ["PILOTIS_APP", "PILOTIS_PROVIDERS", "PILOTIS_CONFIG", "PILOTIS_CAMPAIGN", "PILOTIS_TEST_REDIS_URL", "PILOTISH"],
)
def test_reserved_variables_are_no_settings(variable: str) -> None:
    """They mean something else."""
    assert load(env={variable: "anything"}) == load()


@pytest.mark.parametrize(
    ("variable", "advice"),
    [
        ("PILOTIS_CAHCE", "Did you mean PILOTIS_CACHE?"),
        ("PILOTIS_CAHCE__DEFAULT_TTL", "Did you mean PILOTIS_CACHE__DEFAULT_TTL?"),
        ("PILOTIS_PROVIDER", "Did you mean PILOTIS_PROVIDERS?"),
    ],
)
def test_a_misspelt_variable_says_the_nearest(variable: str, advice: str) -> None:
    """It would be ignored silently otherwise."""
    assert refused(env={variable: "1"}) == f"the environment variable {variable} stands for no setting. {advice}"


@pytest.mark.parametrize("variable", ["PILOTIS_QQQQ", "PILOTIS_", "PILOTIS_CACHE__"])
def test_a_variable_like_no_other_says_which_there_are(variable: str) -> None:
    """In the words of the environment."""
    assert "Expected one of: PILOTIS_APP, PILOTIS_BLOCKING_IN_LOOP, PILOTIS_CACHE, " in refused(env={variable: "1"})


def test_an_error_in_a_variable_names_it() -> None:
    """Beside the place in the settings; the value is not shown."""
    assert refused(env={"PILOTIS_CACHE__DEFAULT_TTL": "hunter2"}) == (
        "cache.default_ttl: expected a number from 0 up to 3.1536e+09 or nothing (set by PILOTIS_CACHE__DEFAULT_TTL)"
    )
    assert refused(env={"PILOTIS_ROLE": "wrok"}) == ("role: expected 'all' or 'emit' or 'work' (set by PILOTIS_ROLE)")


def test_settings_are_a_mapping() -> None:
    """And not a path, as one might try."""
    with pytest.raises(ConfigurationError, match="settings are a mapping of names to values, got str"):
        load("pilotis.toml")  # pyright: ignore[reportArgumentType]
