"""The S3 file provider of Pilotis."""

from __future__ import annotations

from pilotis_file_s3.options import S3FilesOptions
from pilotis_file_s3.provider import S3Files

__all__ = ["S3Files", "S3FilesOptions"]
