"""The options of a provider, made of what its settings hold beside the portable ones."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pilotis.errors import ConfigurationError
from pilotis.settings import ModuleSettings, Secret, convert_options, load


class Mode(Enum):
    """A choice."""

    ADVISORY = "advisory"
    TABLE = "table"


class Pool(msgspec.Struct, frozen=True):
    """A table inside the options."""

    size: int = 10


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of many kinds."""

    url: str
    api_key: Secret | None = None
    max_entries: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    timeout: float = 5.0
    sandbox: bool = False
    acl: Literal["private", "public"] | None = None
    mode: Mode = Mode.ADVISORY
    hosts: list[str] = msgspec.field(default_factory=list[str])
    sizes: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    root: Path | None = None
    pool: Pool | None = None
    kept_as: str = msgspec.field(default="", name="keep")

    def __post_init__(self) -> None:
        if self.sandbox and self.acl == "public":
            msg = "a sandbox cannot be public"
            raise ValueError(msg)


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """Options without an address."""

    max_entries: int = 10
    label: str = ""


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """Options that a URL is taken apart into."""

    bucket: str
    region: str = "eu"

    @classmethod
    def from_url(cls, url: str) -> dict[str, object]:
        """Read `s3://bucket`."""
        return {"bucket": url.removeprefix("s3://"), "region": "from-url"}


def options_of(settings: ModuleSettings, kind: type[msgspec.Struct] = Options) -> Any:
    """Convert as an app does."""
    return convert_options(settings.options, kind, settings.path)


def written(**options: object) -> Any:
    """Convert options that were written in a mapping."""
    return options_of(load({"cache": {"url": "redis://h", **options}}).modules["cache"]["default"])


def from_environment(name: str, value: str) -> Any:
    """Convert one option from the environment."""
    env = {"PILOTIS_CACHE": "redis://h", f"PILOTIS_CACHE__{name.upper()}": value}
    return options_of(load(env=env).modules["cache"]["default"])


def refused(**options: object) -> str:
    """Return the message of the error that conversion raises."""
    with pytest.raises(ConfigurationError) as caught:
        written(**options)
    return str(caught.value)


def test_options_become_the_struct_of_the_provider() -> None:
    """Each with its type; the defaults are the provider's."""
    found = written(
        max_entries=5, timeout=2, acl="private", mode="table", hosts=["a"], root="data", pool={"size": 2}, keep="x"
    )
    assert found == Options(
        url="redis://h",
        max_entries=5,
        timeout=2.0,
        acl="private",
        mode=Mode.TABLE,
        hosts=["a"],
        root=Path("data"),
        pool=Pool(2),
        kept_as="x",
    )


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_entries", "5", 5),
        ("timeout", "2.5", 2.5),
        ("sandbox", "true", True),
        ("sandbox", "0", False),
        ("acl", "private", "private"),
        ("acl", "null", None),
        ("mode", "table", Mode.TABLE),
        ("hosts", "a,b", ["a", "b"]),
        ("hosts", '["a", "b"]', ["a", "b"]),
        ("sizes", '{"a": 1}', {"a": 1}),
        ("root", "/data", Path("/data")),
        ("pool", '{"size": 3}', Pool(3)),
        ("api_key", "{braces}", "{braces}"),
        ("url", "redis://[::1]/0", "redis://[::1]/0"),
    ],
)
def test_text_from_the_environment_becomes_what_its_field_is(name: str, text: str, value: object) -> None:
    """Whatever can be read in one way only."""
    found = from_environment(name, text)
    assert getattr(found, name) == value
    assert type(getattr(found, name)) in (type(value), Secret)


def test_text_options_are_plain_text() -> None:
    """An SDK gets what it expects, and no class of ours."""
    assert type(from_environment("keep", "x").kept_as) is str


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_entires": 5}, "cache.max_entires: there is no such option. Did you mean 'max_entries'?"),
        ({"defualt_ttl": 5}, "cache.defualt_ttl: there is no such option. Did you mean 'default_ttl'?"),
        (
            {"xyzzy": 5},
            "cache.xyzzy: there is no such option. Expected one of: acl, api_key, breaker_failures,",
        ),
        ({"kept_as": "x"}, "cache.kept_as: there is no such option."),
        ({"max_entries": "5"}, "cache.max_entries: expected a whole number from 1, got another text"),
        ({"max_entries": 0}, "cache.max_entries: expected a whole number from 1, got int"),
        ({"sandbox": "yes"}, "cache.sandbox: expected true or false, got another text"),
        ({"acl": "pubic"}, "cache.acl: expected 'private' or 'public' or nothing, got another text"),
        ({"mode": "tabel"}, "cache.mode: expected 'advisory' or 'table', got another text"),
        ({"hosts": ["a", 5]}, "cache.hosts[1]: expected str, got int"),
        ({"sizes": {"a": "x"}}, "cache.sizes: expected int, got str"),
        ({"pool": {"sise": 1}}, "cache.pool.sise: there is no such setting. Did you mean 'size'?"),
        ({"pool": {"size": "x"}}, "cache.pool.size: expected a whole number, got another text"),
        ({"pool": 5}, "cache.pool: "),
        ({"api_key": 5}, "cache.api_key: expected text or nothing, got int"),
        ({"timeout": float("nan")}, "cache.timeout: expected a number, got a number that is not finite"),
        ({"sandbox": True, "acl": "public"}, "cache: a sandbox cannot be public"),
    ],
)
def test_a_mistake_says_place_expectation_and_nearest_name(options: dict[str, object], message: str) -> None:
    """Names of portable settings count among the nearest."""
    assert refused(**options).startswith(message)


def test_a_missing_option_is_named() -> None:
    """With what it should be."""
    with pytest.raises(ConfigurationError) as caught:
        convert_options({}, Options, "cache.instances.sessions")
    assert str(caught.value) == "cache.instances.sessions.url: is missing: expected text"


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    """In its own words."""
    with pytest.raises(ConfigurationError) as caught:
        from_environment("max_entires", "5")
    assert str(caught.value) == (
        "cache.max_entires: there is no such option (set by PILOTIS_CACHE__MAX_ENTIRES). Did you mean 'max_entries'?"
    )


def test_a_channel_in_a_list_has_its_portable_names() -> None:
    """The place is that of the entry."""
    with pytest.raises(ConfigurationError) as caught:
        convert_options({"reqiure": []}, Embedded, "notification.channels.email[1]")
    assert str(caught.value) == (
        "notification.channels.email[1].reqiure: there is no such option. Did you mean 'require'?"
    )


# URLs


def test_a_bare_url_says_no_more_than_the_name() -> None:
    """For providers without an address; its query holds options."""
    assert options_of(load({"cache": "memory://"}).modules["cache"]["default"], Embedded) == Embedded()
    found = options_of(load({"cache": "memory://?max_entries=5&label=a%20b"}).modules["cache"]["default"], Embedded)
    assert found == Embedded(max_entries=5, label="a b")


def test_what_is_set_beside_a_url_wins() -> None:
    """Over what the URL says."""
    source = {"cache": {"url": "memory://?max_entries=5", "max_entries": 6}}
    assert options_of(load(source).modules["cache"]["default"], Embedded) == Embedded(max_entries=6)


def test_an_address_for_a_provider_without_one_is_an_error() -> None:
    """It is not shown."""
    with pytest.raises(ConfigurationError) as caught:
        convert_options({"url": "memory://u:hunter2@h/p"}, Embedded, "cache")
    assert str(caught.value) == (
        "cache.url: expected 'memory://' alone, as this provider has no address. Its options: max_entries, label"
    )


def test_a_provider_may_take_a_url_apart() -> None:
    """Into options, over which those beside it win."""
    assert convert_options({"url": "s3://assets"}, Bucket, "file") == Bucket(bucket="assets", region="from-url")
    found = convert_options({"url": "s3://assets", "region": "us"}, Bucket, "file")
    assert found == Bucket(bucket="assets", region="us")


@pytest.mark.parametrize("lease", [0, 1e-9, 0.009])
def test_a_lease_that_cannot_be_renewed_is_an_error(lease: float) -> None:
    """A cache that renews its claims all the time would do nothing else."""
    with pytest.raises(ConfigurationError, match=r"^cache\.lease: expected a number from 0\.01 "):
        load({"cache": {"lease": lease}})
