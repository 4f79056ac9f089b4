"""References in settings: `${VAR}`, `${VAR:-default}`, `${file:/path}`."""

from __future__ import annotations

from pathlib import Path

import pytest
from pilotis.errors import ConfigurationError
from pilotis.settings import load
from pilotis.settings.expand import expand

ENV = {"HOST": "db.example", "PORT": "6379", "EMPTY": "", "NESTED": "${HOST}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$HOST {HOST} $", "$HOST {HOST} $"),
        ("${HOST}", "db.example"),
        ("redis://${HOST}:${PORT}/0", "redis://db.example:6379/0"),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("${ABSENT:-x}", "x"),
        ("${ABSENT:-}", ""),
        ("${ABSENT:-redis://localhost:6379/0}", "redis://localhost:6379/0"),
        ("${HOST:-x}", "db.example"),
        ("$${HOST}", "${HOST}"),
        ("$${HOST", "${HOST"),
        ("$$${HOST}", "$${HOST}"),
        ("${NESTED}", "${HOST}"),
    ],
)
def test_references_are_replaced_once(text: str, expected: str) -> None:
    """What was put in is not looked at again."""
    assert expand(text, ENV, "cache.url") == expected


def test_a_file_is_read_without_its_last_line_end(tmp_path: Path) -> None:
    """As secrets are mounted."""
    secret = tmp_path / "key"
    secret.write_text("  s3cr3t ${HOST}\r\n\n")
    assert expand(f"<${{file:{secret}}}>", ENV, "x") == "<  s3cr3t ${HOST}>"


def test_tables_and_lists_are_gone_through() -> None:
    """What is no text stays as it is."""
    thing = object()
    value = {"a": ["${HOST}", {"b": "${PORT}"}], "c": thing, "d": 5}
    assert expand(value, ENV, "") == {"a": ["db.example", {"b": "6379"}], "c": thing, "d": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${ABSENT}", "the environment has no variable ABSENT. Set it, or write ${ABSENT:-default}"),
        ("${HOST", "a '${' is not closed. Write '$${' for the characters themselves"),
        ("${}", "expected ${VAR}, ${VAR:-default} or ${file:/path}"),
        ("${A B}", "expected ${VAR}, ${VAR:-default} or ${file:/path}"),
        ("${HOST:?oops}", "expected ${VAR}, ${VAR:-default} or ${file:/path}"),
        ("${file:/nowhere/key}", "cannot read /nowhere/key: No such file or directory"),
    ],
)
def test_an_error_has_its_place(text: str, message: str) -> None:
    """Inside lists and tables too."""
    with pytest.raises(ConfigurationError) as caught:
        expand({"notification": {"channels": [{"api_key": text}]}}, ENV, "")
    assert str(caught.value) == f"notification.channels[0].api_key: {message}"
    assert caught.value.path == "notification.channels[0].api_key"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Without a word of what is in it."""
    (tmp_path / "key").write_bytes(b"\xff\xfehunter2")
    with pytest.raises(ConfigurationError) as caught:
        expand(f"${{file:{tmp_path / 'key'}}}", ENV, "x")
    assert str(caught.value) == f"x: cannot read {tmp_path / 'key'}: it is not UTF-8 text"


def test_a_reference_may_stand_for_a_whole_provider_or_a_number() -> None:
    """Text that was expanded is converted, text that was written is not."""
    env = {"CACHE": "redis://env", "TTL": "5"}
    settings = load({"cache": "${CACHE}", "locking": {"ttl": "${TTL}", "wait": "${WAIT:-2.5}"}}, env=env)
    locking = settings.modules["locking"]["default"].portable
    assert settings.modules["cache"]["default"].provider == "redis"
    assert (getattr(locking, "ttl", None), getattr(locking, "wait", None)) == (5, 2.5)
    with pytest.raises(ConfigurationError, match=r"^locking\.ttl: expected a number .*, got another text$"):
        load({"locking": {"ttl": "5"}})


def test_a_variable_of_the_environment_may_refer_to_a_file(tmp_path: Path) -> None:
    """As container platforms mount secrets."""
    (tmp_path / "url").write_text("redis://:pw@h/0\n")
    settings = load(env={"PILOTIS_CACHE": f"${{file:{tmp_path / 'url'}}}"})
    assert settings.modules["cache"]["default"].options == {"url": "redis://:pw@h/0"}
