"""The entry point: imports the provider when it is chosen."""

from __future__ import annotations

from pilotis.providers import FileProvider, hookimpl


@hookimpl
def pilotis_provider() -> type[FileProvider]:
    """Return the provider class."""
    from pilotis_file_local.provider import LocalFiles

    return LocalFiles
