"""tools/guarantees.py keeps the table on the page of each module."""

from pathlib import Path

import guarantees
import pytest
from pilotis.providers import CacheCapability, EventCapability

PAGE = f"before\n{guarantees.BEGIN}| old |\n{guarantees.END}after\n"
MODULES = ("cache", "event", "file", "locking", "notification", "workflow")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Pages with a table that is out of date."""
    for module in MODULES:
        (tmp_path / f"{module}.md").write_text(PAGE)
    return tmp_path


def test_the_pages_tell_what_the_code_declares() -> None:
    """Mend them with: python tools/guarantees.py."""
    assert 0 == guarantees.main(["--check"])


def test_a_table_has_a_line_for_each_capability_and_a_column_for_each_provider() -> None:
    """The provider of a bare app comes first; those with several names have one column."""
    head, _, *lines = guarantees.table("cache").splitlines()
    assert "| guarantee | `memory` | `memcached` | `redis` | what it says |" == head
    assert [f"`{flag.name}`" for flag in CacheCapability] == [line.split(" | ")[0].removeprefix("| ") for line in lines]
    (bounded,) = [line for line in lines if "`BOUNDED`" in line]
    assert bounded.startswith("| `BOUNDED` | yes | no | no | It never holds more entries than")


def test_every_capability_says_what_it_is() -> None:
    """In one line, whatever the source looks like; a member that is no flag needs no words."""
    for module in MODULES:
        assert "|  |" not in guarantees.table(module)
    assert "Events can be emitted with a delay." == guarantees.meanings(EventCapability)["DELAY"]


def test_checking_finds_drift_and_writing_mends_it(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Checking changes nothing; text around the table stays as it is."""
    assert 1 == guarantees.main(["--check"], docs)
    assert "python tools/guarantees.py" in capsys.readouterr().err
    assert PAGE == (docs / "cache.md").read_text()
    assert 0 == guarantees.main([], docs)
    expected = f"before\n{guarantees.BEGIN}{guarantees.table('cache')}{guarantees.END}after\n"
    assert expected == (docs / "cache.md").read_text()
    assert 0 == guarantees.main(["--check"], docs)


@pytest.mark.parametrize("page", ["", guarantees.BEGIN, guarantees.END, PAGE * 2])
def test_a_page_without_its_two_comments_is_refused(page: str) -> None:
    """Rather than guessed at."""
    with pytest.raises(guarantees.PageError, match="once each"):
        guarantees.splice(page, "")
