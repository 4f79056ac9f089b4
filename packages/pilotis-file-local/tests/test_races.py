"""Many processes at the same files, and folders that vanish while somebody looks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pilotis import FileStore
from pilotis_file_local import LocalFiles, LocalFilesOptions
from pilotis_file_local.drafts import Draft
from pilotis_file_local.shelf import Shelf
from pilotis_file_local.sweeping import sweep
from pilotis_testing.chaos import size

WORKER = Path(__file__).parent / "files_worker.py"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def files(root: Path) -> FileStore:
    return FileStore(LocalFiles(LocalFilesOptions(root=str(root), fsync=False)))


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_processes_that_do_everything_at_once(files: FileStore, root: Path) -> None:
    """They write, copy, delete, list and sweep whatever is not held: no verb fails for it, and no record is lost."""
    command = [sys.executable, str(WORKER), str(root)]
    workers = [
        subprocess.Popen([*command, str(seed), str(size(400, 5000))], stderr=subprocess.PIPE, text=True)
        for seed in range(3)
    ]
    assert [""] * 3 == [worker.communicate()[1] for worker in workers]
    files.sweep(older_than=0)
    keys = [info.key for info in files.list()]
    assert all(files.stat(key).sha256 is not None for key in keys)
    left = [path for path in root.rglob("*") if path.is_file()]
    assert 2 * len(keys) == len(left), left


def test_what_vanishes_while_it_is_listed(files: FileStore, root: Path, tmp_path: Path) -> None:
    """Files and folders that are gone when their turn comes are not listed, nor what a link in their place leads to."""
    for number in range(100):  # a page of a listing
        files.put(f"a/{number:03}", b"1")
    for key in ("b/gone", "c/replaced", "d.txt", "e.txt", "f/last"):
        files.put(key, b"1")
    listing = files.list()
    assert "a/000" == next(listing).key
    shutil.rmtree(root / "b")
    shutil.rmtree(root / "c")
    (root / "c").symlink_to(tmp_path)
    (root / "d.txt").unlink()
    (root / "e.txt").unlink()
    (root / "e.txt").symlink_to(WORKER)
    assert ["f/last"] == [info.key for info in listing][99:]
    assert 0 == files.sweep()


def test_a_file_that_is_placed_while_its_record_is_swept(
    files: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record without a file is not taken for left while its writer is about to place the file."""
    is_about_to, goes_on = threading.Event(), threading.Event()
    place = Draft.place

    def wait_and_place(draft: Draft, name: str, **options: bool) -> object:
        if name == "a":
            is_about_to.set()
            goes_on.wait(30)
        return place(draft, name, **options)

    monkeypatch.setattr(Draft, "place", wait_and_place)
    writer = threading.Thread(target=files.put, args=("a", b"1"), kwargs={"metadata": {"n": "1"}})
    writer.start()
    assert is_about_to.wait(30)
    shelf = Shelf(root, durable=False)
    look = shelf.version

    def look_and_let_it_go_on(key: str) -> object:
        found = look(key)
        goes_on.set()
        writer.join()
        return found

    monkeypatch.setattr(shelf, "version", look_and_let_it_go_on)
    assert 0 == sweep(shelf, time.time() + 60)
    goes_on.set()
    writer.join()
    assert {"n": "1"} == files.stat("a").metadata
