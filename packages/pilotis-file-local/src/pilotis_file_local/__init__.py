"""The local file system provider of Pilotis."""

from __future__ import annotations

from pilotis_file_local.provider import LocalFiles, LocalFilesOptions

__all__ = ["LocalFiles", "LocalFilesOptions"]
