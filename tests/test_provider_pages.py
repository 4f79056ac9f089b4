"""The pages of providers are what the code says."""

from __future__ import annotations

from pathlib import Path

import provider_pages
import pytest


def test_the_pages_tell_what_the_code_declares(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has changed one without the other."""
    assert (0, "") == (provider_pages.main(["--check"]), capsys.readouterr().err)


def test_every_package_with_a_provider_has_a_page() -> None:
    """With its README, all of its options and capabilities, and what its native client is."""
    pages = provider_pages.pages()
    assert set(provider_pages.NATIVE) == set(pages) - {"index"}
    page = pages["pilotis-file-s3"]
    assert "packages/pilotis-file-s3/README.md" in page
    assert "| `part_size` | whole number | `8388608` |" in page
    assert "| `SERVED_LINKS` | no |" in page
    assert "botocore.client.BaseClient" in page


def test_checking_finds_drift_and_writing_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A page that is missing, changed, or about a package that is gone."""
    assert 1 == provider_pages.main(["--check"], tmp_path)
    assert 0 == provider_pages.main([], tmp_path)
    assert 0 == provider_pages.main(["--check"], tmp_path)
    changed = tmp_path / "pilotis-file-s3.md"
    changed.write_text(changed.read_text().replace("whole number", "number"))
    assert 1 == provider_pages.main(["--check"], tmp_path)
    assert "pilotis-file-s3.md" in capsys.readouterr().err
    provider_pages.main([], tmp_path)
    (tmp_path / "pilotis-gone.md").write_text("")
    assert 1 == provider_pages.main(["--check"], tmp_path)
