"""What tells of processes that are ill-treated can be trusted."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from pilotis_testing.chaos import AnswerCutter, Journal, Note, eventually, extra_runs, overlaps, team

PROGRAM = """
import sys, time
from pathlib import Path
from pilotis_testing.chaos import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(200):
    journal.note("done", "stock", f"{sys.argv[2]}-{number}", 1, "x" * 500)
print("ready", flush=True)
time.sleep(60)
"""


def run(what: str, id: str, pid: int = 1) -> Note:
    return Note(pid, 0.0, what, "stock", id, 1)


def test_many_processes_write_one_journal(tmp_path: Path) -> None:
    """Every note is whole, and those of a process are in order; who was killed is known."""
    journal = Journal(tmp_path / "journal")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "journal")]
    with team(command, tmp_path / "printed", {}) as workers:
        first, second = workers.start("a"), workers.start("b")
        eventually(lambda: workers.printed.count("ready") == 2)
        for name, worker in (("a", first), ("b", second)):
            expected = [f"{name}-{number}" for number in range(200)]
            assert expected == [note.id for note in journal.of("stock", "done") if note.pid == worker.pid]
        workers.kill(first)
        assert ([second], [first]) == (workers.members, workers.lost)
        workers.pause(second)
        assert 0 == workers.count_out()
    assert [first, second] == workers.lost
    journal.close()


def test_runs_in_vain_are_found() -> None:
    """Those before the last one, of the same event and subscription."""
    runs = [run("done", "a", 1), run("done", "b", 1), run("done", "a", 2), run("done", "a", 3)]
    assert [runs[0], runs[2]] == extra_runs(runs)
    assert [] == extra_runs(runs[1:3])


def test_runs_side_by_side_are_found() -> None:
    """Not so a run over again of what a dead process had begun."""
    runs = [run("began", "a"), run("began", "a", 2), run("done", "a", 2), run("began", "b"), run("began", "c")]
    assert [(runs[3], runs[4])] == overlaps(runs, lambda _: "lane")
    assert [] == overlaps(runs, lambda note: note.id)


def test_what_does_not_come_is_a_failure() -> None:
    """After the time that it is given."""
    with pytest.raises(AssertionError, match=r"within 0\.1 s"):
        eventually(lambda: False, 0.1)


def test_an_answer_is_cut_off_when_it_is_there() -> None:
    """What was asked has reached the server; those before and after it pass."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        AnswerCutter(server.getsockname()[1]) as cutter,
        socket.create_connection(("127.0.0.1", cutter.port)) as client,
    ):
        client.settimeout(10)
        behind, _ = server.accept()
        with behind:
            client.sendall(b"one")
            assert b"one" == behind.recv(10)
            behind.sendall(b"1")
            assert b"1" == client.recv(10)
            cutter.cut_next()
            client.sendall(b"two")
            assert b"two" == behind.recv(10)
            behind.sendall(b"2")
            assert b"" == client.recv(10)
