"""The local provider does what every file provider must do."""

from __future__ import annotations

from pathlib import Path

import pytest
from pilotis_file_local import LocalFiles, LocalFilesOptions
from pilotis_testing.file import FileConformance


class TestLocalFiles(FileConformance):
    @pytest.fixture
    def provider(self, tmp_path: Path) -> LocalFiles:
        return LocalFiles(LocalFilesOptions(root=str(tmp_path / "files"), fsync=False))
