"""Whether the server keeps to `If-None-Match`, without which `if_absent` is a look and then a write."""

from __future__ import annotations

from typing import NoReturn

from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]
from pilotis.errors import UnsupportedError
from pilotis.providers import run_blocking

from pilotis_file_s3.bucket import Bucket
from pilotis_file_s3.errors import is_code
from pilotis_file_s3.records import RESERVED

PROBE = f"{RESERVED}/if-absent"
"""An empty object that is created only, again and again."""


class Conditions:
    """Found out with the first file of a process that is created only: by one request, as a rule."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._are_kept = False

    async def check(self) -> None:
        """Raise `UnsupportedError` where the server would replace a file that was to be created only."""
        if not self._are_kept:
            await run_blocking(self._create_twice)

    def _create_twice(self) -> None:
        """The second time at the latest it is there, and to create it has to be refused."""
        for _ in range(2):
            try:
                self._create()
            except ClientError as error:
                self._are_kept = is_code(error, "PreconditionFailed", "412", "ConditionalRequestConflict", "409")
                if self._are_kept:
                    return
                if is_code(error, "NotImplemented", "501"):
                    _refuse()
                raise
        _refuse()

    def _create(self) -> None:
        name = self._bucket.folder + PROBE
        self._bucket.connection.ask_now("put_object", Key=name, Body=b"", IfNoneMatch="*")


def _refuse() -> NoReturn:
    error = UnsupportedError("CREATE_ONLY", "s3")
    error.add_note("this server does not keep to If-None-Match, and would replace a file that was to be created only")
    raise error
