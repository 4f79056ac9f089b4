"""Replies that no Memcached gives: of something else behind the port, or of a line that mixes answers up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pilotis_cache_memcached.wire import change, delete_command, fetch
from pymemcache import MemcacheUnknownError  # pyright: ignore[reportMissingTypeStubs]


@pytest.fixture
def ends() -> Iterator[tuple[Any, socket.socket]]:
    """What has the connection of a client, and the server's end of it."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    yield SimpleNamespace(sock=ours), theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"VALUE k 0 -19 1\r\nxx", id="a length that leads back to the same line"),
        pytest.param(b"VALUE k 0 -2 1\r\nEND\r\n", id="a length below nothing"),
        pytest.param(b"END\r\nEND\r\n", id="a second answer"),
        pytest.param(b"VALUE k 0 1 1\r\na\r\nEND\r\nSTORED\r\n", id="an answer to something else"),
    ],
)
def test_items_that_cannot_be_are_an_error(ends: tuple[Any, socket.socket], reply: bytes) -> None:
    """After which the connection is not used again."""
    client, server = ends
    server.sendall(reply)
    with pytest.raises(MemcacheUnknownError):
        fetch(client, ["k"])


def test_more_answers_than_commands_are_an_error(ends: tuple[Any, socket.socket]) -> None:
    """Nobody knows which of them is the answer."""
    client, server = ends
    server.sendall(b"DELETED\r\nDELETED\r\n")
    with pytest.raises(MemcacheUnknownError):
        change(client, [delete_command("k")])


def test_items_arrive_byte_by_byte(ends: tuple[Any, socket.socket]) -> None:
    """Wherever a packet ends, also in the middle of a line and in what looks like the end."""
    client, server = ends
    reply = b"VALUE k 0 7 1\r\na\r\nEND\r\r\nVALUE l 0 0 2\r\n\r\nEND\r\n"
    for cut in range(1, len(reply)):
        server.sendall(reply[:cut])
        rest = threading.Timer(0.002, server.sendall, (reply[cut:],))
        rest.start()
        assert fetch(client, ["k", "l"]) == ({"k": (b"a\r\nEND\r", 1), "l": (b"", 2)}, False)
        rest.join()
