"""What settings become: one struct for the app, and the portable settings of each module.

Durations are seconds; where settings are given in Python, a timedelta will do as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from pilotis.backoff import Backoff
from pilotis.durations import LONGEST
from pilotis.settings.secrets import Masked, Secret

Seconds = Annotated[float, Meta(ge=0, le=LONGEST)]
Count = Annotated[int, Meta(ge=1)]
Role = Literal["all", "emit", "work"]
BlockingInLoop = Literal["error", "thread"]


class PortableSettings(msgspec.Struct, kw_only=True, frozen=True):
    """What can be set for every module, whatever its provider."""

    require: list[str] = field(default_factory=list[str])
    """Names of capabilities that the provider must have, or the app does not start."""


class NearSettings(msgspec.Struct, kw_only=True, frozen=True):
    """The settings of `[cache.near]`: of what each process keeps at hand of a backend that it shares."""

    max_entries: Count = 10_000
    """How many entries there may be before the least recently used one is dropped."""
    ttl: Annotated[float, Meta(ge=0.001, le=LONGEST)] = 5
    """How long an entry may be served without asking the backend, if its own ttl is not over before that."""


class CacheSettings(PortableSettings, kw_only=True, frozen=True):
    """The portable settings of `[cache]`."""

    default_ttl: Seconds | None = 30
    """For entries set without a ttl. None, written "never" where there is no None, keeps them; 0 stores nothing."""
    namespace: str | None = None
    """Put before every key, after the name of the app."""
    on_error: Literal["miss", "raise"] = "miss"
    """What get*, set* and get_or_set* do when the backend is down."""
    max_value_bytes: Count | None = None
    """How long values may be as they are stored: encoded, and compressed if they are."""
    on_too_long: Literal["raise", "miss"] = "raise"
    """What set* and get_or_set* do with longer ones. "miss" keeps nothing, and removes what was there."""
    lease: Annotated[float, Meta(ge=0.01, le=LONGEST)] = 30
    """How long a factory that died may keep others waiting."""
    ttl_jitter: Annotated[float, Meta(ge=0, le=1)] = 0
    """0.1 shortens the ttl of each value that is set or computed by up to 10%, so that they do not all end at once."""
    serializer: Literal["messagepack", "pickle"] = "messagepack"
    """Pickle keeps any object, and whoever can write it can run code here: it needs a `secret`."""
    secret: Secret | None = None
    """Values are signed with it, and those without a good signature are misses. At least 16 characters."""
    compress_above: Count | None = None
    """Values that are longer when encoded, in bytes, are compressed where that makes them shorter."""
    breaker_failures: Count = 3
    """After so many lost connections in a row, or one time-out, the backend is not asked for a while."""
    breaker_pause: Seconds = 1
    """For how long. Then one call tries whether it is back. 0 asks it always."""
    near: NearSettings | bool = False
    """Whether each process keeps at hand what it reads, until it is told of a change. True: as `NearSettings` says."""

    def __post_init__(self) -> None:
        if self.secret is not None:
            msgspec.structs.force_setattr(self, "secret", Secret(self.secret))  # shows in no repr


class EventSettings(PortableSettings, kw_only=True, frozen=True):
    """The portable settings of `[event]`: defaults for subscriptions and events that do not say."""

    attempts: Count = 1
    """How often a handler runs before the event is a dead letter."""
    backoff: Backoff = Backoff.exponential(1, maximum=60, jitter=0.1)
    """The wait between attempts: seconds, or a table of first, factor, maximum and jitter."""
    handler_timeout: Seconds | None = None
    """How long one run of a handler may take. Not `timeout`, which is what providers call the wait for an answer."""
    concurrency: Count = 10
    """How many handlers of one subscription run at once, in each process."""
    worker_concurrency: Count | None = None
    """How many handlers run at once in one process, of all subscriptions together. None is no limit but theirs."""
    mode: Literal["background", "inline"] = "background"
    unrouted: Literal["drop", "error"] = "drop"
    """What becomes of an event that nobody subscribes to."""
    lag: Seconds = 60
    """For how long what waits may have been due before `status` speaks of it."""
    max_crashes: Count = 3
    """How many workers may die of a message before it is a dead letter."""
    dedupe_ttl: Seconds = 86_400
    """How long a `dedupe` value is remembered."""
    max_bytes: Count = 1_048_576
    """Events that are longer when encoded are refused."""
    grace: Seconds = 10
    """How long closing waits for handlers, and for what they have not begun where that would be lost."""


class FileSettings(PortableSettings, kw_only=True, frozen=True):
    """The portable settings of `[file]`."""


class LockingSettings(PortableSettings, kw_only=True, frozen=True):
    """The portable settings of `[locking]`."""

    ttl: Annotated[float, Meta(ge=0.01, le=LONGEST)] = 30
    """How long a lease lasts unless it is renewed."""
    wait: Seconds = 10
    """How long to wait for other holders: for `hold` and `locked`."""
    execute_wait: Seconds = 5
    """The same, for `execute`."""


class NotificationSettings(PortableSettings, kw_only=True, frozen=True):
    """The portable settings of `[notification]`."""

    templates: Path | None = None
    """The directory of the templates."""
    sender: str | None = None
    """Of mails that name none. Without it, the provider's own."""
    attempts: Count = 3
    """How often a provider is tried when the error is a passing one."""
    backoff: Backoff = Backoff.exponential(1, maximum=60, jitter=0.1)
    timeout: Seconds = 30
    """How long a provider may take for one call. After that the outcome is unknown."""
    lease: Seconds = 60
    """How long after a crash a notification that was being sent counts as unknown. Longer than the timeout."""
    on_unknown: Literal["resend", "hold"] = "resend"
    """Whether a notification whose outcome is unknown is sent again."""
    max_attachment_bytes: Count = 25 * 1024 * 1024
    """The most that the attachments of one notification may have together."""


class WorkflowSettings(PortableSettings, kw_only=True, frozen=True):
    """The portable settings of `[workflow]`."""

    retention: Seconds | None = 30 * 86_400
    """How long finished runs are kept. None keeps them for good."""
    concurrency: Count = 10
    """How many runs are worked on at once."""
    grace: Seconds = 5
    """How long closing waits for steps that are under way, in real seconds."""


class OutboxSettings(PortableSettings, kw_only=True, frozen=True):
    """The portable settings of `[event.outbox]`."""

    poll: Annotated[float, Meta(ge=0.01, le=LONGEST)] = 3
    """The safety net of the relay, which is woken by commits."""
    attempts: Count = 10
    """How often a row is tried before it is set aside."""
    backoff: Backoff = Backoff.exponential(1, maximum=60, jitter=0.1)
    """The wait between attempts. An outage of the bus or the database is no attempt."""
    batch: Count = 500
    """How many rows are handed over at once."""


class LedgerSettings(PortableSettings, kw_only=True, frozen=True):
    """The portable settings of `[notification.ledger]`."""


class ChannelSettings(PortableSettings, kw_only=True, frozen=True):
    """The portable settings of a provider in `[notification.channels]`."""


class ModuleSettings(msgspec.Struct, kw_only=True):
    """One configured provider: of a module, of an instance of it, or of a part that has providers of its own."""

    module: str
    """The group its provider is looked for in: a module, `outbox` or `ledger`."""
    name: str
    """The instance: `default`, or the name under `instances`; of a channel, the channel."""
    path: str
    """Its place in the settings, for errors: `cache.instances.sessions`."""
    provider: str | None
    """The name of the provider, None where `instance` is given."""
    instance: object | None = None
    """A provider object that stood in the settings."""
    portable: PortableSettings
    """The settings that every provider understands: `CacheSettings` and its like."""
    options: Masked = field(default_factory=Masked)
    """What is left: for `convert_options` and the provider's `Options`."""
    connection: str | None = None
    """The name under `[connections]` that the url came from. Whoever has the same may share a pool."""
    outbox: ModuleSettings | None = None
    """Of the event module: `[event.outbox]`."""
    ledger: ModuleSettings | None = None
    """Of the notification module: `[notification.ledger]`. None keeps it in memory."""
    channels: dict[str, list[ModuleSettings]] = field(default_factory=dict[str, "list[ModuleSettings]"])
    """Of the notification module: the providers of a channel, in the order in which they are tried."""


class Settings(msgspec.Struct, kw_only=True):
    """The settings of an app, checked as far as can be done without its providers."""

    name: str | None = None
    """The service: key namespace and consumer group. Required where a provider's backend is shared."""
    app: str | None = None
    """Where the command line finds the app, as `module:attribute`."""
    include: list[str] = field(default_factory=list[str])
    """Modules that are imported before work begins."""
    connections: Masked = field(default_factory=Masked)
    """URLs by the name that `url = "name"` refers to."""
    role: Role = "all"
    blocking_in_loop: BlockingInLoop = "error"
    modules: dict[str, dict[str, ModuleSettings]] = field(default_factory=dict[str, dict[str, ModuleSettings]])
    """By module, then by instance. All six modules have a `default`."""
    mentioned: frozenset[str] = frozenset()
    """The modules that the settings say anything about; the others are at their default."""
    file: Path | None = None
    """The file they were read from."""
