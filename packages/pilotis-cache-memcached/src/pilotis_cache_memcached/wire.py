"""The protocol of Memcached, as far as it is needed here: any number of commands of a kind in one round trip.

pymemcache makes connections and names errors. Its own verbs take several times as long for what they do with text, and
it has none that adds or replaces several items at once.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any

from pymemcache import (  # pyright: ignore[reportMissingTypeStubs]
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
    MemcacheUnknownError,
)

ON_LINUX = sys.platform == "linux"
CHUNK = 65_536
NOTHING = b"\0"
"""How no reply begins."""

Item = tuple[bytes, int]
"""The data of an item, and the number of its store."""

_CHANGED = {b"STORED": True, b"DELETED": True, b"NOT_STORED": False, b"EXISTS": False, b"NOT_FOUND": False}
"""Whether a command changed something, by the reply to it."""

_ERRORS = {
    b"ERROR": MemcacheUnknownCommandError,
    b"CLIENT_ERROR": MemcacheClientError,
    b"SERVER_ERROR": MemcacheServerError,
}

_TOO_MUCH = "more was answered than asked for"


def set_command(name: str, data: bytes, expires: int) -> bytes:
    return b"".join((f"set {name} 0 {expires} {len(data)}\r\n".encode(), data, b"\r\n"))


def add_command(name: str, data: bytes, expires: int) -> bytes:
    return b"".join((f"add {name} 0 {expires} {len(data)}\r\n".encode(), data, b"\r\n"))


def cas_command(name: str, data: bytes, expires: int, number: int) -> bytes:
    return b"".join((f"cas {name} 0 {expires} {len(data)} {number}\r\n".encode(), data, b"\r\n"))


def delete_command(name: str) -> bytes:
    return f"delete {name}\r\n".encode()


def item_text(name: str, data: bytes, number: int) -> bytes:
    """Return how an item stands in the reply to `gets`."""
    return b"".join((f"VALUE {name} 0 {len(data)} {number}\r\n".encode(), data, b"\r\n"))


def fetch(client: Any, names: Sequence[str], known: bytes = NOTHING) -> tuple[dict[str, Item], bool]:
    """Return those items that there are, and whether the reply begins with `known`, which is not read again then."""
    sock = client.sock or _connected(client)
    sock.sendall(f"gets {' '.join(names)}\r\n".encode())
    data = sock.recv(CHUNK)
    while True:
        begins = data.startswith(known)
        found = _items(data, len(known) if begins else 0)
        if found is not None:
            return found, begins
        data = _more(sock, data)


def change(client: Any, commands: Sequence[bytes]) -> list[bool]:
    """Have the server follow commands, and tell of each whether it changed something."""
    sock = client.sock or _connected(client)
    sock.sendall(b"".join(commands))
    data = sock.recv(CHUNK)
    while data.count(b"\n") < len(commands):
        data = _more(sock, data)
    try:
        changed = list(map(_CHANGED.__getitem__, data.splitlines()))
    except KeyError as unknown:
        raise _error(unknown.args[0]) from None
    if len(changed) > len(commands):
        raise MemcacheUnknownError(_TOO_MUCH)
    return changed


def _items(data: bytes, start: int) -> dict[str, Item] | None:
    """Read the reply to `gets`; None if there is more to come."""
    found: dict[str, Item] = {}
    while data.startswith(b"VALUE ", start) and (end := data.find(b"\r\n", start)) >= 0:
        _, name, _, size, number = data[start:end].split()
        begin = end + 2
        end = begin + int(size)
        if end < begin:
            raise _error(size)
        found[name.decode()] = (data[begin:end], int(number))
        start = end + 2
    rest = data[start:]
    if rest == b"END\r\n":
        return found
    line, is_whole, _ = rest.partition(b"\r\n")
    if not is_whole:
        return None
    raise MemcacheUnknownError(_TOO_MUCH) if line == b"END" else _error(line)


def _connected(client: Any) -> Any:
    client.version()  # which connects
    if ON_LINUX:
        _have_kernel_time(client.sock)
    return client.sock


def _have_kernel_time(sock: Any) -> None:
    """Have the kernel mind the time-out: else each sending and each receiving begins with a `poll`.

    What takes too long is a `BlockingIOError` then.
    """
    lasting = sock.gettimeout()
    packed = struct.pack("ll", int(lasting), int(lasting % 1 * 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, packed)
    sock.settimeout(None)


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
