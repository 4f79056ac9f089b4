"""The entries behind a cache: read and judged, or written, with misses and drops while the backend is down."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any, Protocol, TypeVar

import msgspec

from pilotis.clock import Clock
from pilotis.codec import MESSAGEPACK
from pilotis.errors import InvalidInputError, OperationError, TypeMismatchError
from pilotis.modules.base import Guard
from pilotis.modules.cache.breaker import OUTAGE, Breaker
from pilotis.modules.cache.envelope import HEADED, PLAIN, Head, compressed, is_broken, plain_values, split
from pilotis.modules.cache.epochs import NEVER, Epochs, epoch_entry, epoch_of, is_current, new_epoch
from pilotis.modules.cache.forms import serializer_of, signer_of
from pilotis.modules.cache.near import Near
from pilotis.modules.cache.provider import CacheCapability, CacheProvider, Entry, now_reader
from pilotis.modules.cache.stats import Tally
from pilotis.settings.model import CacheSettings

R = TypeVar("R")

_ABSENCE = "absence"

_value_of = attrgetter("value")
_read_any = MESSAGEPACK.decoder(Any)
UNCLEAR = object()
"""No value: what was read is absent, has a head or does not fit."""


class Host(Protocol):
    """The portable class, as the store sees it."""

    hot: bool
    breaker: Breaker

    @property
    def is_open(self) -> bool: ...
    @property
    def provider_name(self) -> str: ...
    def calling(self, operation: str) -> Guard: ...
    async def aopen(self) -> None: ...


class Found(msgspec.Struct, frozen=True):
    """An entry that can be read. Whether it is fresh is for the reader to say."""

    sealed: bytes
    value: Any
    expires: float
    """Seconds since 1970; infinite where the provider's ttl alone decides."""
    cost: float


class Sight(msgspec.Struct, frozen=True):
    """What was seen in one reading: the entries by key, and the epochs of the tags asked about."""

    found: dict[str, Found]
    epochs: dict[str, int | None]
    seen: dict[str, bytes]
    """Every entry that was there, as the provider has it, unless its signature is bad. It need not do."""


class Store:
    """The provider, with the manners of a cache. Shared by all namespaces of a portable class."""

    def __init__(
        self,
        host: Host,
        provider: CacheProvider,
        settings: CacheSettings,
        clock: Clock,
        tally: Tally,
        *,
        near: Near | None = None,
    ) -> None:
        self.tally = tally
        self._provider = near or provider
        self._read_now = now_reader(self._provider)
        self._host = host
        self._clock = clock
        self._forgives = settings.on_error == "miss"
        self._longest = settings.max_value_bytes or math.inf
        self._drops_long = settings.on_too_long == "miss"
        self._compress_above = settings.compress_above or math.inf
        self._jitter = settings.ttl_jitter
        self._signer = signer_of(settings.secret)
        self._seal, self.unseal = serializer_of(settings)
        self._reading = host.calling("read")
        self._writing = host.calling("write")
        self._claiming = host.calling("claim")
        self.has_claims = CacheCapability.SINGLE_FLIGHT in provider.capabilities
        self._ailing: set[str] = set()

    # Calls of the provider

    def at_hand(self, keys: Sequence[str]) -> Sequence[bytes | None] | None:
        """Return what the provider has, if it tells at once; else None, and `asked` has to be."""
        if self._read_now is None or not (self._host.hot or self._host.is_open):
            return None
        data = self._read_now(keys)
        return data if data is None or self._signer is None else self._authenticated(keys, data)

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Return what the provider has; while it is down, nothing."""
        return self.at_hand(keys) or await self.asked(keys)

    async def asked(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Return what the provider has when it is asked; while it is down, nothing."""
        try:
            if not self._host.hot:
                await self.opened()
            with self._reading:
                data = await self._provider.read(keys)
        except OperationError as error:
            self._forgive(error, "read")
            return [None] * len(keys)
        if self._ailing:
            self._recover("read")
        return data if self._signer is None else self._authenticated(keys, data)

    def _authenticated(self, keys: Sequence[str], data: Sequence[bytes | None]) -> Sequence[bytes | None]:
        return list(map(self.authentic, keys, data))

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        """Have the provider keep entries; while it is down, none of them."""
        try:
            if not self._host.hot:
                await self.opened()
            with self._writing:
                stored = await self._provider.write(self._signed(entries), only_absent=only_absent)
        except OperationError as error:
            self._forgive(error, "write")
            return [False] * len(entries)
        if self._ailing:
            self._recover("write")
        return stored

    async def claim(self, keys: Mapping[str, bytes | None], mark: bytes, ttl: float) -> list[Entry | None] | None:
        """Claim keys, as the provider does; while it is down, None."""
        return await self._claimed(lambda provider: provider.claim(keys, mark, ttl))

    async def settle(self, results: Mapping[str, Entry | None], mark: bytes) -> list[bool]:
        """Replace or remove claims, as the provider does; while it is down, none of them."""
        settled = await self._claimed(lambda provider: provider.settle(results, mark))
        return [False] * len(results) if settled is None else settled

    async def await_change(self, key: str, mark: bytes, timeout: float) -> bool:
        """Wait for a claim to be settled, at most `timeout` seconds; False where nobody can tell."""
        return await self._claimed(lambda provider: provider.await_change(key, mark, timeout)) is not None

    async def _claimed(self, call: Callable[[CacheProvider], Awaitable[R]]) -> R | None:
        try:
            provider = await self.opened()
            with self._claiming:
                answer = await call(provider)
        except OperationError as error:
            self._forgive(error, "claim")
            return None
        if self._ailing:
            self._recover("claim")
        return answer

    async def opened(self) -> CacheProvider:
        """Return the provider, ready for use: for verbs that raise where it cannot."""
        if not self._host.hot:
            if not self._host.is_open and self._host.breaker.is_open:
                self._host.breaker.admit()
            await self._host.aopen()
        return self._provider

    async def write_strictly(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        """Have the provider keep entries, and raise where it cannot."""
        provider = await self.opened()
        with self._writing:
            return await provider.write(self._signed(entries), only_absent=only_absent)

    def signed(self, key: str, data: bytes) -> bytes:
        """Return what is to be stored under a key: for whoever writes past this store."""
        return data if self._signer is None else self._signer.signed(key, data)

    def authentic(self, key: str, data: bytes | None) -> bytes | None:
        """Return what was stored under a key, None unless its signature is good: for whoever reads past this store."""
        return data if self._signer is None or data is None else self._signer.opened(key, data)

    def _signed(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        if self._signer is None:
            return entries
        return [Entry(entry.key, self.signed(entry.key, entry.value), entry.ttl) for entry in entries]

    def _forgive(self, error: OperationError, operation: str) -> None:
        if isinstance(error, InvalidInputError) or not self._forgives:
            raise error
        self.tally.errors += 1
        ailment = _ABSENCE if isinstance(error, OUTAGE) else operation
        if ailment not in self._ailing:
            self._ailing.add(ailment)
            self._logger.warning("the cache does without its backend until that is back: %s", error)

    def _recover(self, operation: str) -> None:
        """Note a success. A backend that is full answers who reads, and is not back for who writes."""
        self._ailing.difference_update((_ABSENCE, operation))
        if not self._ailing:
            self._logger.info("the backend of the cache is back")

    @property
    def _logger(self) -> logging.Logger:
        return logging.getLogger(f"pilotis.cache.{self._host.provider_name}")

    # Reading

    async def look(self, keys: Sequence[str], tags: Sequence[str], type: Any) -> Sight:
        """Read entries as a `type`, and the epochs of `tags`, all in one call of the provider, or in two.

        An entry that lacks one of `tags`, or has one that was invalidated since, is not found.
        """
        return await self.sight(await self.read((*keys, *tags)), keys, tags, type)

    async def sight(self, data: Sequence[bytes | None], keys: Sequence[str], tags: Sequence[str], type: Any) -> Sight:
        """Return what `look` does, of what was read."""
        epochs = dict(zip(tags, map(epoch_of, data[len(keys) :]), strict=True))
        seen = {key: entry for key, entry in zip(keys, data[: len(keys)], strict=True) if entry is not None}
        found = await self.judged(seen, tags, epochs, type)
        if self._signer is not None:
            seen = {key: self.signed(key, entry) for key, entry in seen.items()}
        return Sight(found, epochs, seen)

    async def judged(
        self, entries: Mapping[str, bytes], tags: Sequence[str], epochs: Epochs, type: Any
    ) -> dict[str, Found]:
        """Return those entries that can be read as a `type` and have all of `tags`, by their `epochs`."""
        parts = {key: part for key, entry in entries.items() if (part := await self._split(key, entry)) is not None}
        others = {tag for head, _ in parts.values() for tag in head.epochs} - epochs.keys()
        known = {**epochs, **await self._read_epochs(sorted(others))}
        found: dict[str, Found] = {}
        for key, (head, sealed) in parts.items():
            if is_current(head, tags, known) and (entry := await self._found(key, head, sealed, type)) is not None:
                found[key] = entry
        return found

    def plain(self, data: bytes | None, type: Any) -> Any:
        """Return the value of an entry without a head, and count the hit; UNCLEAR where `sight` has to look closer.

        Most entries are of this kind, and most of what a cache does is to read them.
        """
        if not data or data[0] == HEADED:
            return UNCLEAR
        try:
            value = _read_any(data[1:]) if type is Any and data[0] == PLAIN else self.unseal(data, type)
        except Exception:  # whoever looks closer is told
            return UNCLEAR
        tally, size = self.tally, len(data)
        tally.hits += 1
        tally.bytes_read += size
        return value

    async def values(
        self, data: Sequence[bytes | None], keys: Sequence[str], names: Sequence[str], type: Any
    ) -> dict[str, Any]:
        """Return the fresh values of what was read, by the names of their keys, in order. Counts hits and misses."""
        values = plain_values(data, names, type)
        if len(values) + data.count(None) < len(data):
            values = await self._values_closely(data, keys, names, type)
        else:
            self.tally.bytes_read += sum(map(len, filter(None, data)))
        hits, misses = len(values), len(data) - len(values)
        self.tally.hits += hits
        self.tally.misses += misses
        return values

    async def _values_closely(
        self, data: Sequence[bytes | None], keys: Sequence[str], names: Sequence[str], type: Any
    ) -> dict[str, Any]:
        seen = {key: entry for key, entry in zip(keys, data, strict=True) if entry is not None}
        found, now = await self.judged(seen, (), {}, type), self._clock.time()
        fresh = {key: entry.value for key, entry in found.items() if entry.expires > now}
        return {name: fresh[key] for key, name in zip(keys, names, strict=True) if key in fresh}

    async def reject(self, key: str, data: bytes) -> None:
        """Remove what could not be read, unless somebody who asks for another type can read it."""
        if is_broken(data):
            self._logger.warning("removed a corrupted or foreign entry: %r", key)
            await self.forget([key])

    async def _found(self, key: str, head: Head, sealed: bytes, type: Any) -> Found | None:
        try:
            value = self.unseal(sealed, type)
        except TypeMismatchError:
            await self.reject(key, sealed)
            return None
        self.tally.bytes_read += len(sealed)
        return Found(sealed, value, math.inf if head.expires is None else head.expires, head.cost)

    async def _split(self, key: str, data: bytes) -> tuple[Head, bytes] | None:
        try:
            return split(data)
        except TypeMismatchError:
            await self.reject(key, data)
            return None

    async def forget(self, keys: Sequence[str]) -> None:
        """Remove entries; while the provider is down, none of them."""
        try:
            with self._writing:
                await self._provider.remove(keys)
        except OperationError as error:
            self._forgive(error, "write")

    # Tags

    async def epochs(self, tags: Sequence[str], known: Epochs | None = None) -> dict[str, int]:
        """Return the epochs of tags, and begin those that there are none of: at random, so that none comes back."""
        if not tags:
            return {}
        known = await self._read_epochs(tags) if known is None else known
        epochs = {tag: epoch for tag, epoch in known.items() if epoch is not None}
        missing = [tag for tag in tags if tag not in epochs]
        return epochs | await self._begin(missing) if missing else epochs

    async def _begin(self, tags: Sequence[str]) -> dict[str, int]:
        begun = {tag: new_epoch() for tag in tags}
        stored = await self.write([epoch_entry(tag, epoch) for tag, epoch in begun.items()], only_absent=True)
        taken = [tag for tag, is_ours in zip(tags, stored, strict=True) if not is_ours]
        others = await self._read_epochs(taken)
        return begun | {tag: NEVER if epoch is None else epoch for tag, epoch in others.items()}

    async def _read_epochs(self, tags: Sequence[str]) -> dict[str, int | None]:
        if not tags:
            return {}
        return dict(zip(tags, map(epoch_of, await self.read(tags)), strict=True))

    # Writing

    def sealed(self, value: object, at: str = "value", *, must_fit: bool = False) -> bytes:
        """Return the stored form of a value. Raises `InvalidInputError` if it cannot be encoded, or is too long.

        Where the settings have long values dropped, only what `must_fit` is refused for its length.
        """
        data = self._seal(value, at)
        if len(data) > self._compress_above:
            data = compressed(data)
        if len(data) > self._longest and (must_fit or not self._drops_long):
            raise InvalidInputError(
                f"{at}: expected at most {self._longest} bytes when stored (cache.max_value_bytes), got {len(data)}"
            )
        return data

    def spread(self, ttl: float | None) -> float | None:
        """Return a ttl that ends a little sooner, by chance, where the settings say so."""
        return ttl * (1 - self._jitter * random.random()) if ttl and self._jitter else ttl

    async def keep(self, entries: Sequence[Entry]) -> None:
        """Write entries and count them."""
        fit, too_long = self._sorted(entries)
        if too_long:
            await self.forget(too_long)
        if fit:
            self._count(fit, await self.write(fit))

    async def keep_claimed(self, entries: Sequence[Entry], mark: bytes) -> None:
        """Write entries in the place of their claims, and count them."""
        fit, too_long = self._sorted(entries)
        signed: dict[str, Entry | None] = {entry.key: entry for entry in self._signed(fit)}
        settled = await self.settle(signed | dict.fromkeys(too_long), mark)
        self._count(fit, settled[: len(fit)])

    def _sorted(self, entries: Sequence[Entry]) -> tuple[Sequence[Entry], list[str]]:
        """Return the entries to be kept, and the keys of those that are dropped because they are too long."""
        too_long = [entry.key for entry in entries if len(entry.value) > self._longest] if self._drops_long else []
        if not too_long:
            return entries, too_long
        self.tally.too_long += len(too_long)
        return [entry for entry in entries if len(entry.value) <= self._longest], too_long

    def _count(self, entries: Sequence[Entry], stored: Sequence[bool]) -> None:
        count = sum(stored)
        size = sum(map(len, compress(map(_value_of, entries), stored)))
        self.tally.sets += count
        self.tally.bytes_written += size
