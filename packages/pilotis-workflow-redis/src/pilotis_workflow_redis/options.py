"""What can be set about workflows in Redis."""

from __future__ import annotations

import re

from pilotis.durations import seconds
from pilotis.errors import InvalidInputError
from pilotis_redis import RedisOptions


class RedisWorkflowsOptions(RedisOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the Redis workflow provider. Durations are seconds.

    Raises `InvalidInputError` naming the option, also for what is wrong with a connection.
    """

    namespace: str | None = None
    """Whoever names the same one has the same runs. Without it, that is the app's name."""
    liveness: float = 15
    """How long a process that works is taken for alive after a sign of life. Then others take over its runs."""
    stall: float = 60
    """How long an event loop of workflows may stand still before its process gives no sign of life any more."""
    max_crashes: int = 3
    """How many workers in a row may die of a run that comes no further, before it is stuck."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.namespace is not None and re.fullmatch(r"[^{}\s]{1,200}", self.namespace) is None:
            raise InvalidInputError(
                "namespace: expected 1 to 200 characters without spaces and braces, such as 'shop', "
                f"got {self.namespace!r}"
            )
        for name, least in (("liveness", 0.5), ("stall", 0.1)):
            seconds(getattr(self, name), name, minimum=least)
        if self.max_crashes < 1:
            raise InvalidInputError(f"max_crashes: expected 1 or more, got {self.max_crashes}")
