"""Options, credentials, the client, and links of S3's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.client import BaseClient  # pyright: ignore[reportMissingTypeStubs]
from pilotis import ConfigurationError, Pilotis
from pilotis.errors import AuthenticationError, ConnectionFailedError, InvalidInputError, NotFoundError, OperationError
from pilotis_file_s3 import S3Files, S3FilesOptions
from pilotis_file_s3.connection import make_client
from pilotis_testing.s3 import Keys, S3Space

BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "bucket"),
    ({"bucket": ""}, "bucket"),
    ({"prefix": "../up"}, "prefix"),
    ({"prefix": "a\\b"}, "prefix"),
    ({"acl": ""}, "acl"),
    ({"access_key_id": "AKIA"}, "access_key_id: expected it together with secret_access_key"),
    ({"secret_access_key": "hidden"}, "access_key_id"),
    ({"session_token": "hidden"}, "session_token"),
    ({"profile": "work", "access_key_id": "AKIA", "secret_access_key": "hidden"}, "profile"),
    ({"part_size": 1024}, "part_size: expected 5242880"),
    ({"part_size": 6 * 1024**3}, "part_size"),
    ({"concurrency": 0}, "concurrency"),
    ({"max_connections": 0}, "max_connections"),
    ({"attempts": 0}, "attempts"),
    ({"timeout": 0}, "timeout"),
    ({"connect_timeout": -1}, "connect_timeout"),
    ({"endpoint_url": "minio:9000"}, "endpoint_url: expected a URL"),
    ({"endpoint_url": "http://mi nio:9000"}, "endpoint_url"),
    ({"endpoint_url": "https://user:hidden@minio.example"}, r"endpoint_url: .*\*\*\*@minio"),
    ({"public_url": "cdn.example"}, "public_url: expected a URL"),
    ({"region": "eu west"}, "region"),
    ({"acl": "private\r\nX: y"}, "acl"),
    ({"cache_control": "private\r\nX: y"}, "cache_control: expected"),
    ({"cache_control": ""}, "cache_control"),
    ({"access_key_id": "AKIA\r\nX: y", "secret_access_key": "hidden"}, "access_key_id: expected ASCII"),
    ({"access_key_id": "AKIA", "secret_access_key": "hidden\n"}, "secret_access_key: expected ASCII"),
    (
        {"access_key_id": "AKIA", "secret_access_key": "hidden", "session_token": "hidden\r\n"},
        "session_token: expected ASCII",
    ),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    """Each is refused when the options are made, by its name, and no secret is in the message."""
    whole: dict[str, Any] = options if "bucket" in options or not options else {"bucket": "b", **options}
    with pytest.raises(InvalidInputError, match=message) as raised:
        S3FilesOptions(**whole)
    assert "hidden" not in str(raised.value)


def test_an_unknown_option_is_told() -> None:
    """With the one that was meant."""
    with pytest.raises(ConfigurationError, match=r"file\.buckets?.*'bucket'"):
        Pilotis({"file": {"provider": "s3", "buckets": "b"}}).file.open()


def test_secrets_show_nowhere() -> None:
    """Neither in the options nor in the address."""
    options = S3FilesOptions(
        bucket="b", access_key_id="AKIA", secret_access_key="hidden", session_token="hidden",  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    assert "hidden" not in f"{options.secret_access_key!r} {options.session_token!r}"
    assert "hidden" not in S3Files(options).address


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://assets", {"bucket": "assets"}),
        ("s3://assets/shop/a%20b/", {"bucket": "assets", "prefix": "shop/a b"}),
        ("s3://assets?region=eu-west-3&acl=false&part_size=6000000", {
            "bucket": "assets", "region": "eu-west-3", "acl": False, "part_size": 6_000_000,
        }),
        ("s3://assets?acl=bucket-owner-full-control", {"bucket": "assets", "acl": "bucket-owner-full-control"}),
    ],
)  # fmt: skip
def test_urls(url: str, options: dict[str, Any]) -> None:
    """Bucket and prefix, and options in the query."""
    app = Pilotis({"file": url})
    assert S3FilesOptions(**options) == app.file._provider.options  # pyright: ignore[reportPrivateUsage]


def test_a_url_with_a_password() -> None:
    """It has no place there: what would be the password of a bucket?"""
    with pytest.raises(ConfigurationError, match="access_key_id") as raised:
        Pilotis({"file": "s3://key:hidden@assets"}).file.open()
    assert "hidden" not in str(raised.value)


def test_settings(s3: S3Space, s3_url: str) -> None:
    """An app reaches its bucket by the URL alone."""
    with Pilotis({"file": s3_url}) as app:
        app.file.put("a", b"1")
        assert b"1" == app.file.read("a")
        client: Any = app.file.native(BaseClient)
        assert "PutObject" in client.meta.service_model.operation_names


# Beginning


def test_what_is_wrong_is_told_when_it_opens(s3: S3Space) -> None:
    """A bucket that is not there, a wrong secret and a server that is not there; no secret is in the message."""
    for wrong, error in (
        ({"bucket": "nothing-here"}, NotFoundError),
        ({"secret_access_key": "hidden-and-wrong"}, AuthenticationError),
        ({"access_key_id": "AKIANOBODY"}, AuthenticationError),
        ({"endpoint_url": "http://127.0.0.1:9"}, ConnectionFailedError),
    ):
        with (
            pytest.raises(error) as raised,
            Pilotis({"file": {"provider": "s3", "attempts": 1, **s3.options, **wrong}}),
        ):
            pass
        assert "hidden" not in str(raised.value)
        assert s3.secret not in str(raised.value)


def test_no_credentials(s3: S3Space, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where boto3 finds none, that is an `AuthenticationError`."""
    alone(monkeypatch, tmp_path)
    with pytest.raises(AuthenticationError), Pilotis({"file": without_keys(s3)}):
        pass


def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **variables: str) -> None:
    """Have boto3 find nothing but what the test says."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nowhere = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    for name, value in {**nowhere, **variables}.items():
        monkeypatch.setenv(name, value)


def without_keys(s3: S3Space, **options: Any) -> dict[str, Any]:
    kept = {name: value for name, value in s3.options.items() if "access" not in name}
    return {"provider": "s3", **kept, **options}


def test_a_profile(s3: S3Space, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials are taken from the profile that is named."""
    alone(monkeypatch, tmp_path)
    (tmp_path / "credentials").write_text(
        f"[shop]\naws_access_key_id = {s3.key}\naws_secret_access_key = {s3.secret}\n"
    )
    with Pilotis({"file": without_keys(s3, profile="shop")}) as app:
        app.file.put("a", b"1")


def test_an_unknown_profile(s3: S3Space, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is an `AuthenticationError` that names it."""
    alone(monkeypatch, tmp_path)
    with pytest.raises(AuthenticationError, match="nobody"), Pilotis({"file": without_keys(s3, profile="nobody")}):
        pass


def test_a_session_token(s3: S3Space) -> None:
    """Temporary keys come with a token, which goes with every request and into every link."""
    s3.proxy.known["ASIATEMPORARY"] = Keys("temporary", "the-token")
    terms = {**s3.options, "access_key_id": "ASIATEMPORARY", "secret_access_key": "temporary"}
    with Pilotis({"file": {"provider": "s3", **terms, "session_token": "the-token"}}) as app:
        app.file.put("a", b"1")
        assert ["the-token"] == parse_qs(urlsplit(app.file.url("a")).query)["X-Amz-Security-Token"]
        assert "the-token" == app.file.signed_upload("a", max_size=1).fields["x-amz-security-token"]
    with pytest.raises(AuthenticationError), Pilotis({"file": {"provider": "s3", **terms}}):
        pass


def test_a_role(s3: S3Space, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The role is assumed with the credentials, and its own are used from then on."""
    alone(monkeypatch, tmp_path, AWS_ENDPOINT_URL_STS=s3.proxy.url)
    role = "arn:aws:iam::123456789012:role/shop"
    with Pilotis({"file": {"provider": "s3", **s3.options, "role_arn": role}}) as app:
        app.file.put("a", b"1")
        assert b"1" == app.file.read("a")
    (put,) = [seen.headers for seen in s3.proxy.seen if seen.operation == "PutObject"]
    assert s3.key not in put["Authorization"]
    assert put["X-Amz-Security-Token"]


def test_a_role_of_a_profile(s3: S3Space, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The credentials that it is assumed with may be those of a profile."""
    alone(monkeypatch, tmp_path, AWS_ENDPOINT_URL_STS=s3.proxy.url)
    (tmp_path / "credentials").write_text(
        f"[shop]\naws_access_key_id = {s3.key}\naws_secret_access_key = {s3.secret}\n"
    )
    role = "arn:aws:iam::123456789012:role/shop"
    with Pilotis({"file": without_keys(s3, profile="shop", role_arn=role)}) as app:
        app.file.put("a", b"1")
    (put,) = [seen.headers for seen in s3.proxy.seen if seen.operation == "PutObject"]
    assert s3.key not in put["Authorization"]


def test_a_role_that_nobody_can_assume(s3: S3Space, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without credentials there is no role either: it is an `AuthenticationError`."""
    alone(monkeypatch, tmp_path)
    role = "arn:aws:iam::123456789012:role/shop"
    with pytest.raises(AuthenticationError), Pilotis({"file": without_keys(s3, role_arn=role)}):
        pass


def test_a_lent_client(s3: S3Space) -> None:
    """It is used, handed out, and left open."""
    client = make_client(S3FilesOptions(**s3.options))
    app = Pilotis({"file": S3Files(S3FilesOptions(bucket=s3.bucket), client=client)})
    with app:
        app.file.put("a", b"1")
        assert app.file.native(BaseClient) is client
    assert client.get_object(Bucket=s3.bucket, Key="a")["Body"].read() == b"1"
    client.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_has_a_client_of_its_own(s3: S3Space) -> None:
    """After a fork both go on with connections of their own."""
    with Pilotis({"file": {"provider": "s3", **s3.options}}) as app:
        app.file.put("a", b"1")
        before = app.file.native(BaseClient)
        child = os.fork()
        if child == 0:
            is_good = app.file.read("a") == b"1" and app.file.native(BaseClient) is not before
            os._exit(0 if is_good else 1)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert b"1" == app.file.read("a")
        assert before is app.file.native(BaseClient)


# Links


async def test_lasting_links_of_a_cdn(store: Any) -> None:
    """They begin with `public_url`, and each segment of the name is percent-encoded; signed ones go to S3."""
    files = store(public_url="https://cdn.example/assets/", prefix="shop")
    key = "a b/ä?#%&+=.png"
    lasting = await files.url(key, expires=None)
    assert "https://cdn.example/assets/shop/a%20b/%C3%A4%3F%23%25%26%2B%3D.png" == lasting
    assert not (await files.url(key)).startswith("https://cdn.example")


@pytest.mark.parametrize("verb", ["url", "signed_upload"])
async def test_no_link_is_good_for_more_than_a_week(files: Any, verb: str) -> None:
    """S3 does not serve them; better to be told now."""
    await getattr(files, verb)("a", expires=7 * 86_400)
    with pytest.raises(InvalidInputError, match="week"):
        await getattr(files, verb)("a", expires=7 * 86_400 + 60)


async def test_a_name_that_a_form_could_change(files: Any) -> None:
    """In the key of a form S3 puts a name of the sender's for `${filename}`, and so any key could be written."""
    with pytest.raises(InvalidInputError, match="filename"):
        await files.signed_upload("in/${filename}", max_size=10)
    assert "PUT" == (await files.signed_upload("in/${filename}")).method


async def test_uploads_with_a_canned_acl(store: Any) -> None:
    """What every file has, signed uploads have too."""
    files = store(acl="bucket-owner-full-control")
    assert {"x-amz-acl": "bucket-owner-full-control"} == (await files.signed_upload("a")).headers
    assert "bucket-owner-full-control" == (await files.signed_upload("a", max_size=1)).fields["acl"]


def test_the_bucket_in_the_host() -> None:
    """Where the server has it so, and at Amazon's by default."""
    keys: dict[str, Any] = {
        "bucket": "assets",
        "access_key_id": "AKIA",
        "secret_access_key": "s",
    }
    addresses: tuple[tuple[dict[str, Any], str], ...] = (
        ({"region": "eu-west-3"}, "https://assets.s3.eu-west-3.amazonaws.com/a"),
        ({"endpoint_url": "https://s3.example"}, "https://s3.example/assets/a"),
        ({"endpoint_url": "https://s3.example", "addressing": "virtual"}, "https://assets.s3.example/a"),
    )
    for options, address in addresses:
        files = Pilotis({"file": S3Files(S3FilesOptions(**keys, **options))}).file
        assert address == _link(files)


def _link(files: Any) -> str:
    from pilotis_file_s3.linking import lasting

    return lasting(files._provider._bucket, "a")


def test_errors_name_the_bucket(s3: S3Space) -> None:
    """And the server, so that whoever reads a log knows where to look."""
    with (
        pytest.raises(OperationError, match=f"s3://nothing-here/ at {s3.proxy.url}"),
        Pilotis({"file": {"provider": "s3", **s3.options, "bucket": "nothing-here"}}),
    ):
        pass
