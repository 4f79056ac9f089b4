"""What can be set about files on S3, and what a URL says of it."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from pilotis.durations import seconds
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.modules.file.checks import check_prefix
from pilotis.settings.secrets import Secret, mask_url
from pilotis.settings.text import LooseText

MIB = 1024 * 1024
SMALLEST_PART = 5 * MIB
LARGEST_PART = 5 * 1024 * MIB

_WORD = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_HEADER = re.compile(r"[!-~]+( [!-~]+)*")

Addressing = Literal["auto", "path", "virtual"]


class S3FilesOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the S3 provider. Durations are seconds, sizes bytes.

    Raises `InvalidInputError` for a missing bucket, half a pair of keys, and numbers out of range.
    """

    bucket: str = ""
    """The bucket, which exists already. Needed."""
    prefix: str = ""
    """A folder in the bucket that holds everything; nothing outside of it is read, listed or swept."""
    region: str | None = None
    """By default the one of the environment; at an `endpoint_url`, `us-east-1`."""
    endpoint_url: str | None = None
    """Where the server is, if it is not Amazon's: MinIO, R2, Spaces."""
    addressing: Addressing = "auto"
    """Whether the bucket stands in the path or in the host. "auto": in the path at an `endpoint_url`."""
    public_url: str | None = None
    """How links that never expire begin, such as the address of a CDN before the bucket."""
    acl: bool | str = True
    """True: public files have the ACL `public-read`. False: no ACLs. Text: every file has that canned ACL."""
    cache_control: str | None = None
    """What every file says of caches, such as `public, max-age=31536000`. By default nothing."""
    access_key_id: str | None = None
    """By default boto3 finds credentials: in the environment, in its files, in the role of the machine."""
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    profile: str | None = None
    """A profile of the AWS configuration files."""
    role_arn: str | None = None
    """A role to be assumed with the credentials, and again before it expires."""
    part_size: int = 8 * MIB
    """Larger files are sent in parts of this size. At least 5 MiB."""
    concurrency: int = 3
    """How many parts of one file are sent at once. With `part_size` it bounds what a writer keeps in memory."""
    max_connections: int = 50
    """Of a process, kept open."""
    connect_timeout: float = 5
    timeout: float = 30
    """How long the server may be silent."""
    attempts: int = 4
    """How often a request is sent before it has failed."""

    def __post_init__(self) -> None:
        if not self.bucket:
            raise InvalidInputError("bucket: expected the name of a bucket")
        check_prefix(self.prefix)
        self._check_keys()
        for name in ("endpoint_url", "public_url"):
            _check_url(getattr(self, name), name)
        if self.region is not None and not _WORD.fullmatch(self.region):
            raise InvalidInputError(f"region: expected one such as eu-west-3, got {self.region!r}")
        if self.acl in ("true", "false"):  # as a URL or a variable of the environment says it
            msgspec.structs.force_setattr(self, "acl", self.acl == "true")
        if isinstance(self.acl, str) and not _WORD.fullmatch(self.acl):
            raise InvalidInputError(
                "acl: expected true, false or the name of a canned ACL such as 'authenticated-read'"
            )
        if self.cache_control is not None and not _HEADER.fullmatch(self.cache_control):
            raise InvalidInputError("cache_control: expected what a header holds, such as 'public, max-age=31536000'")
        if not SMALLEST_PART <= self.part_size <= LARGEST_PART:
            raise InvalidInputError(
                f"part_size: expected {SMALLEST_PART} to {LARGEST_PART} (5 MiB to 5 GiB), got {self.part_size}"
            )
        for name in ("concurrency", "max_connections", "attempts"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        for name in ("connect_timeout", "timeout"):
            seconds(getattr(self, name), name, minimum=0.001)

    def _check_keys(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise InvalidInputError("access_key_id: expected it together with secret_access_key, or neither of them")
        if self.session_token is not None and self.access_key_id is None:
            raise InvalidInputError("session_token: expected access_key_id and secret_access_key beside it")
        if self.profile is not None and self.access_key_id is not None:
            raise InvalidInputError("profile: expected either a profile or access_key_id, not both")
        for name in ("access_key_id", "secret_access_key", "session_token"):
            _check_key(getattr(self, name), name)
        for name in ("secret_access_key", "session_token"):
            if (value := getattr(self, name)) is not None:
                msgspec.structs.force_setattr(self, name, Secret(value))  # shows in no repr

    @property
    def folder(self) -> str:
        """What stands before every key."""
        return f"{self.prefix.rstrip('/')}/" if self.prefix else ""

    @property
    def canned(self) -> str | None:
        """The ACL that every file has."""
        return None if isinstance(self.acl, bool) else self.acl

    @classmethod
    def from_url(cls, url: str) -> dict[str, object]:
        """Return the options in `s3://bucket/prefix?region=eu-west-3&acl=false`."""
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise ConfigurationError(
                "url: expected s3://bucket/prefix, and access_key_id and secret_access_key as options"
            )
        place = {"bucket": parts.netloc, "prefix": unquote(parts.path.strip("/"))}
        said = {name: LooseText(value) for name, value in parse_qsl(parts.query, keep_blank_values=True)}
        return {**{name: text for name, text in place.items() if text}, **said}


def _check_key(key: str | None, at: str) -> None:
    """Refuse what no header can hold: errors of the HTTP library would show it."""
    if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
        raise InvalidInputError(f"{at}: expected ASCII text without spaces and line breaks")


def _check_url(url: str | None, at: str) -> None:
    """Refuse what is no address, and passwords in it, which errors of boto3's would show."""
    if url is None:
        return
    parts = urlsplit(url)
    is_plain = not (parts.query or parts.fragment or parts.username or parts.password)
    is_written = url.isprintable() and " " not in url
    if not (parts.scheme in ("http", "https") and parts.hostname and is_plain and is_written):
        raise InvalidInputError(f"{at}: expected a URL such as https://s3.example.com, got {mask_url(url)!r}")
