"""Providers that fail as they are told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from enum import Flag
from typing import ClassVar

from pilotis.providers import Latch, NotificationCapability, NotificationProvider, OutgoingMessage, Receipt, new_id

Act = Receipt | Exception | Latch | Callable[[OutgoingMessage], Receipt | Exception]


class ScriptedNotification(NotificationProvider):
    """A notification provider that acts out a script, one act per message, and then accepts everything.

    An act is a receipt or an error to answer with, a function that makes one of the message, or a latch: then the
    call hangs until the latch is set, and accepts. An error in `raises` is raised by that call as a whole.
    """

    capabilities: ClassVar[Flag] = NotificationCapability(0)

    def __init__(self, *acts: Act, raises: Sequence[Exception] = (), name: str = "scripted") -> None:
        super().__init__()
        self.name = name
        self.calls: list[list[OutgoingMessage]] = []
        """The messages of each call, so far."""
        self.life: list[str] = []
        """Which of open, ping and close were called."""
        self._acts = list(acts)
        self._raises = list(raises)
        self._lock = threading.Lock()

    @property
    def seen(self) -> list[OutgoingMessage]:
        """All messages, in the order in which they came."""
        return [message for call in self.calls for message in call]

    async def open(self) -> None:
        self.life.append("open")

    async def ping(self) -> None:
        self.life.append("ping")

    async def close(self) -> None:
        self.life.append("close")

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[Receipt | Exception]:
        with self._lock:
            self.calls.append(list(messages))
            error = self._raises.pop(0) if self._raises else None
        if error is not None:
            raise error
        return [await self._act(message) for message in messages]

    async def _act(self, message: OutgoingMessage) -> Receipt | Exception:
        with self._lock:
            act = self._acts.pop(0) if self._acts else Receipt(external_id=new_id(self.context.clock))
        if isinstance(act, Latch):
            await act.wait()
            return Receipt(external_id=new_id(self.context.clock))
        return act(message) if callable(act) and not isinstance(act, Exception) else act
