"""The seam for telemetry: every portable verb is one span and one counter, or nothing at all."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


class Telemetry(Protocol):
    """What sees every verb. Implementations must be cheap, thread-safe and must not raise."""

    def operation(self, module: str, verb: str, provider: str) -> AbstractContextManager[Any]:
        """Return a context that spans one call of a verb. It sees the exception, if there is one."""
        ...


class OpenTelemetry:
    """Spans named `pilotis.cache.get` and the counter `pilotis.operations`, through the OpenTelemetry API."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace  # pyright: ignore  # an extra  # noqa: PGH003

        self._tracer: Any = trace.get_tracer("pilotis")  # pyright: ignore[reportUnknownMemberType]
        self._counter: Any = metrics.get_meter("pilotis").create_counter(  # pyright: ignore[reportUnknownMemberType]
            "pilotis.operations", description="Calls of Pilotis verbs"
        )

    @contextmanager
    def operation(self, module: str, verb: str, provider: str) -> Generator[None, None, None]:
        facts = {"pilotis.module": module, "pilotis.operation": verb, "pilotis.provider": provider}
        outcome = "error"
        with self._tracer.start_as_current_span(f"pilotis.{module}.{verb}", attributes=facts):
            try:
                yield
                outcome = "ok"
            finally:
                self._counter.add(1, {**facts, "pilotis.outcome": outcome})


def default_telemetry() -> Telemetry | None:
    """Return OpenTelemetry where the application has set it up by now, else None.

    The API alone, which other libraries bring along, tells nobody anything; without a provider of tracers or meters,
    asking it at every verb would be wasted.
    """
    return OpenTelemetry() if importlib.util.find_spec("opentelemetry") is not None and _is_set_up() else None


def _is_set_up() -> bool:
    from opentelemetry import metrics, trace  # pyright: ignore  # an extra  # noqa: PGH003

    return not (_is_idle(trace.get_tracer_provider()) and _is_idle(metrics.get_meter_provider()))  # pyright: ignore[reportUnknownMemberType]


def _is_idle(provider: Any) -> bool:
    """Tell whether a provider is one of those that the API has by itself, in place of a real one."""
    kind: type = provider.__class__
    return kind.__module__.startswith("opentelemetry.") and kind.__name__.lstrip("_").startswith(("Proxy", "NoOp"))
