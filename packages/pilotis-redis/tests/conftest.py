"""What tests of lanes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.providers import Context
from pilotis_redis import RedisLink, RedisOptions
from pilotis_redis.lanes import Lanes

BUS = "test:bus"


@pytest.fixture
def runtime_context() -> Iterator[Context]:
    """Where lanes keep what is staged alive."""
    context = Context()
    yield context
    context.runtime.stop()


@pytest.fixture
def make_lanes(runtime_context: Context) -> Iterator[Callable[..., Lanes]]:
    """What makes the lanes of one more process, for a URL."""
    with ExitStack() as stack:

        def make(url: str, *, kept: float = 60, link: type[RedisLink] = RedisLink, **options: Any) -> Lanes:
            made = link(RedisOptions(url=url, **options))
            lanes = Lanes(made, BUS, runtime=lambda: runtime_context.runtime, groups_kept=kept)
            stack.callback(lambda: drive(made.close()))
            stack.callback(lambda: drive(lanes.close()))
            return lanes

        yield make


@pytest.fixture
def lanes(make_lanes: Callable[..., Lanes], redis_url: str) -> Lanes:
    """Lanes on an empty database."""
    return make_lanes(redis_url)
