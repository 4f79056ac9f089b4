"""File stores on S3 in the colour of the test, and a look behind their back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis import FileStore
from pilotis_file_s3 import S3Files, S3FilesOptions
from pilotis_file_s3.connection import make_client
from pilotis_testing.colours import Colour
from pilotis_testing.s3 import S3Proxy, S3Space, space

Stores = Callable[..., Any]


class Raw:
    """What is in the bucket, whoever put it there."""

    def __init__(self, s3: S3Space, client: Any) -> None:
        self.bucket = s3.bucket
        self.client = client

    def ask(self, operation: str, **parameters: Any) -> Any:
        return getattr(self.client, operation)(Bucket=self.bucket, **parameters)

    @property
    def names(self) -> list[str]:
        """Of all objects, notes too."""
        return [entry["Key"] for entry in self.ask("list_objects_v2").get("Contents", ())]

    @property
    def files(self) -> list[str]:
        """Of all objects but ours."""
        return [name for name in self.names if not name.startswith(".pilotis/")]

    @property
    def uploads(self) -> list[str]:
        """The names of what is being sent in parts."""
        return [upload["Key"] for upload in self.ask("list_multipart_uploads").get("Uploads", ())]


@pytest.fixture(scope="session")
def shared_client(s3_proxy: S3Proxy) -> Iterator[Any]:
    """A client for all buckets: to make one takes as long as most tests."""
    with space(s3_proxy) as s3:
        client = make_client(S3FilesOptions(**s3.options))
    yield client
    client.close()


@pytest.fixture
def raw(s3: S3Space, shared_client: Any) -> Raw:
    return Raw(s3, shared_client)


@pytest.fixture
def store(s3: S3Space, colour: Colour) -> Iterator[Stores]:
    """Make file stores with small parts and other options, speaking in the colour of the test."""
    made: list[FileStore] = []

    def make(**options: Any) -> Any:
        terms: dict[str, Any] = {"part_size": 5 * 1024 * 1024, "attempts": 1, "timeout": 20}
        files = FileStore(S3Files(S3FilesOptions(**{**s3.options, **terms, **options})))
        made.append(files)
        return colour.voice(files)

    yield make
    for files in made:
        files.close()
        files.context.runtime.stop()


@pytest.fixture
def files(store: Stores) -> Any:
    return store()
