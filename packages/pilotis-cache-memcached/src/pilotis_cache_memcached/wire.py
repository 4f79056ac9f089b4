"""The protocol of Memcached, as far as it is needed here: any number of commands of a kind in one round trip.

pymemcache makes connections and names errors. Its own verbs take several times as long for what they do with text, and
it has none that adds or replaces several items at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymemcache import (  # pyright: ignore[reportMissingTypeStubs]
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
    MemcacheUnknownError,
)

CHUNK = 65_536

DONE = frozenset((b"STORED", b"DELETED"))
"""The replies to a command that changed something."""

_ERRORS = {
    b"ERROR": MemcacheUnknownCommandError,
    b"CLIENT_ERROR": MemcacheClientError,
    b"SERVER_ERROR": MemcacheServerError,
}

NOT_DONE = frozenset((b"NOT_STORED", b"EXISTS", b"NOT_FOUND"))

Item = tuple[bytes, int]
"""The data of an item, and the number of its store."""


def set_command(name: str, data: bytes, expires: int) -> bytes:
    return b"set %b 0 %d %d\r\n%b\r\n" % (name.encode(), expires, len(data), data)


def add_command(name: str, data: bytes, expires: int) -> bytes:
    return b"add %b 0 %d %d\r\n%b\r\n" % (name.encode(), expires, len(data), data)


def cas_command(name: str, data: bytes, expires: int, number: int) -> bytes:
    return b"cas %b 0 %d %d %d\r\n%b\r\n" % (name.encode(), expires, len(data), number, data)


def delete_command(name: str) -> bytes:
    return b"delete %b\r\n" % name.encode()


def fetch(client: Any, names: Sequence[str]) -> dict[str, Item]:
    """Return those items that there are."""
    sock = _socket(client)
    sock.sendall(b"gets %b\r\n" % " ".join(names).encode())
    data = _received(sock)
    while (found := _items(data)) is None:
        data = _more(sock, data)
    return found


def change(client: Any, commands: Sequence[bytes]) -> list[bool]:
    """Have the server follow commands, and tell of each whether it changed something."""
    sock = _socket(client)
    sock.sendall(b"".join(commands))
    data = _received(sock)
    while data.count(b"\n") < len(commands):
        data = _more(sock, data)
    return [_is_done(line) for line in data.splitlines()]


def _items(data: bytes) -> dict[str, Item] | None:
    """Read the reply to `gets`; None if there is more to come."""
    found: dict[str, Item] = {}
    start = 0
    while (end := data.find(b"\r\n", start)) >= 0:
        words = data[start:end].split()
        if len(words) != 5 or words[0] != b"VALUE":
            if words == [b"END"]:
                return found
            raise _error(data[start:end])
        begin = end + 2
        end = begin + int(words[3])
        found[words[1].decode()] = (data[begin:end], int(words[4]))
        start = end + 2
    return None


def _is_done(line: bytes) -> bool:
    if line in DONE:
        return True
    if line in NOT_DONE:
        return False
    raise _error(line)


def _socket(client: Any) -> Any:
    if client.sock is None:
        client.version()  # which connects
    return client.sock


def _received(sock: Any) -> bytes:
    data = sock.recv(CHUNK)
    if not data:
        raise MemcacheUnexpectedCloseError
    return data


def _more(sock: Any, data: bytes) -> bytes:
    """Return the data with what comes after it, up to the end of a line."""
    chunks = [data, _received(sock)]
    while not chunks[-1].endswith(b"\n"):
        chunks.append(_received(sock))
    return b"".join(chunks)


def _error(line: bytes) -> Exception:
    word, _, text = line.partition(b" ")
    return _ERRORS.get(word, MemcacheUnknownError)(text or line[:32])
