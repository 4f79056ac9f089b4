"""The entry point: found by discovery, imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.providers import hookimpl

if TYPE_CHECKING:
    from pilotis.providers import FileProvider


@hookimpl
def pilotis_provider() -> type[FileProvider]:
    """Return the provider class."""
    from pilotis_file_s3.provider import S3Files

    return S3Files
