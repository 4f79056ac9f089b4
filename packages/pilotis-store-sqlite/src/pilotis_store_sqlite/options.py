"""What can be set about a store in SQLite, and what its URL says."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
from pilotis.durations import seconds
from pilotis.errors import InvalidInputError
from pilotis.settings.secrets import mask_url

FORM = "sqlite:///folder/shop.db, or sqlite:////srv/shop.db for a path that begins at the root"


class SqliteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options that every store in SQLite has. Durations are seconds.

    Raises `InvalidInputError` for a URL that does not name a file, and for numbers out of range.
    """

    url: str
    """`sqlite:///shop.db` is a file in the working directory, `sqlite:////srv/shop.db` one at an absolute path."""
    timeout: float = 5
    """How long a change waits for those of other processes. SQLite makes one at a time."""

    def __post_init__(self) -> None:
        read_url(self.url)
        seconds(self.timeout, "timeout", minimum=0.001)


def read_url(url: str) -> Path:
    """Return the absolute path of the file that a URL names. A relative one begins in the working directory."""
    parts = urlsplit(url)
    path = unquote(parts.path.removeprefix("/"))
    if parts.scheme != "sqlite" or parts.netloc or parts.query or parts.fragment or not path or "\0" in path:
        raise InvalidInputError(f"url: expected {FORM}, got {mask_url(url)!r}")
    if path == ":memory:":
        raise InvalidInputError(f"url: expected a file ({FORM}); a database in memory ends with its connection")
    return Path(path).absolute()
