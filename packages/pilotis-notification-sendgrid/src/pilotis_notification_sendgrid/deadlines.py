"""HTTP whose calls end in time, as a whole.

The time limit of a socket is one for each wait: whoever sends a byte now and then is never silent for long, and a name
of many addresses has one for each of them.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any
from urllib.request import HTTPHandler, HTTPSHandler, Request


class Deadline:
    """The end of a call."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return how many seconds are left. Raises `TimeoutError` when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the call was not over within {self._seconds:g} s")
        return left

    def connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        """Connect to the first address of a name that answers. Raises what the last one raised."""
        refusal = OSError(f"{address[0]} has no address")
        for found in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            left = self.left()
            try:
                connected = socket.create_connection((str(found[4][0]), address[1]), left)
            except OSError as error:
                refusal = error
            else:
                connected.settimeout(self.left())  # for a TLS handshake, which has it for all of its waits together
                return connected
        raise refusal


class _TimedSocket:
    """What HTTP does with a socket, before a deadline."""

    def __init__(self, own: socket.socket, deadline: Deadline) -> None:
        self._own = own
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._own.settimeout(self._deadline.left())
            rest = rest[self._own.send(rest) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._own, self._deadline))

    def close(self) -> None:
        self._own.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, own: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._own = own
        self._deadline = deadline
        self._reader = own.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._own.settimeout(self._deadline.left())
        return self._reader.readinto(buffer)

    def close(self) -> None:
        self._reader.close()
        super().close()


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        library: Any = self
        deadline = Deadline(library.timeout)
        library._create_connection = deadline.connect  # http.client has it replaced in this way
        super().connect()
        library.sock = _TimedSocket(library.sock, deadline)


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    pass


class TimedHttp(HTTPHandler):
    """Takes the `timeout` of a call as one for all of it."""

    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class TimedHttps(HTTPSHandler):
    """The same, by TLS."""

    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req)
