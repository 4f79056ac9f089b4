"""The S3 provider does what every file provider must do."""

from __future__ import annotations

from typing import Any

import pytest
from pilotis_file_s3 import S3Files, S3FilesOptions
from pilotis_testing.file import FileConformance
from pilotis_testing.s3 import S3Clock, S3Space


class TestS3Files(FileConformance):
    @pytest.fixture
    def provider(self, s3: S3Space, shared_client: Any) -> S3Files:
        return S3Files(S3FilesOptions(**s3.options), client=shared_client)

    @pytest.fixture
    def clock(self, s3: S3Space) -> S3Clock:
        return S3Clock(s3.proxy)
