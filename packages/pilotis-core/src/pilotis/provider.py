"""What every provider is: the small class behind a portable one, for one backend."""

from __future__ import annotations

from abc import ABC
from collections.abc import Hashable, MutableMapping
from enum import Flag
from typing import Any, ClassVar, Literal

import msgspec

from pilotis.context import Context
from pilotis.errors import (
    ConnectionFailedError,
    NotFoundError,
    OperationError,
    OperationTimeoutError,
    PermissionDeniedError,
)
from pilotis.sharing import Shared


class NoOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a provider that has none."""


class Provider(ABC):
    """The obligations of every provider.

    The constructor only assigns: no I/O, no thread, no import of an SDK that is slow to import. Verbs are
    `async def`, may be called from many threads and event loops at once, and wait only with what
    `pilotis.providers` offers (`run_blocking`, `pause`, `Latch`, ...). They raise their SDK's own errors,
    which `classify` explains; the portable class wraps them once. They do not retry: the portable class does,
    where a verb says that it is idempotent.
    """

    Options: ClassVar[type[msgspec.Struct]] = NoOptions
    """The provider's options. Every field has a default or is required by name; secrets are masked in errors."""

    capabilities: ClassVar[Flag]
    """What the provider guarantees. The portable class raises `UnsupportedError` for the rest."""

    asyncio_only: ClassVar[bool] = False
    """Whether the verbs need an event loop. Then they all run on the app's background loop."""

    shared: ClassVar[bool] = False
    """Whether other processes see the same data. Then the app must have a `name`."""

    name: str = ""
    """The name in settings, such as `redis`. Set by the app; the class name where it is empty."""

    def __init__(
        self,
        options: msgspec.Struct | None = None,
        *,
        client: object | None = None,
        async_client: object | None = None,
    ) -> None:
        """Keep the options, and clients of the caller's, which are never closed by us."""
        self.options: Any = self.Options() if options is None else options
        self.client = client
        self.async_client = async_client
        self.context = Context()

    @property
    def address(self) -> str:
        """Where the backend is, without its password: for messages."""
        return "in this process"

    def share(self, shared: MutableMapping[Hashable, Shared[Any]], connection: str) -> None:
        """Have things in common with other providers of the app whose url is the same name under `[connections]`.

        Called right after the constructor, where the url is such a name, and not in other cases. A provider takes from
        `shared`, or puts there, what it would make for itself alone: `shared.setdefault(key, mine)`, where `key`
        contains the name and all options that matter. No I/O. By default nothing is shared.
        """

    async def open(self) -> None:
        """Make ready: connect, start what is needed. Called once before the first verb, and again after `close`."""

    async def ping(self) -> None:
        """Raise if the backend cannot be used now. Takes seconds at most."""

    async def migrate(self) -> list[str]:
        """Make what the provider keeps in its backend, such as tables, and return a sentence for each change.

        Idempotent, also where several do it at once, and a change is made whole or not at all. Called before `open` as
        well, which may refuse a backend without it. A provider that needs nothing changes nothing.
        """
        return []

    async def close(self) -> None:
        """Give back what `open` took. Idempotent; also called after a failed `open`, and never closes lent clients."""

    def classify(self, error: Exception) -> type[OperationError] | None:
        """Tell which error of ours a native error is, or None where it is none of the known ones."""
        return next((ours for native, ours in _BUILTIN_ERRORS if isinstance(error, native)), None)

    def outcome(self, error: Exception) -> Literal["unknown"] | None:
        """Tell whether a native error leaves open what became of the verb: its answer was lost."""
        return None

    def native(self, kind: type) -> object | None:
        """Return the native client of the given type, or None where there is no such client."""
        return next((client for client in (self.client, self.async_client) if isinstance(client, kind)), None)


_BUILTIN_ERRORS: tuple[tuple[type[Exception], type[OperationError]], ...] = (
    (TimeoutError, OperationTimeoutError),
    (ConnectionError, ConnectionFailedError),
    (FileNotFoundError, NotFoundError),
    (PermissionError, PermissionDeniedError),
)
