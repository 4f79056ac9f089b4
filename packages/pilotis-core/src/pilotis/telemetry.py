"""The seam for telemetry: every portable verb is one span and one counter, or nothing at all."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, runtime_checkable


class Telemetry(Protocol):
    """What sees every verb. Implementations must be cheap, thread-safe and must not raise."""

    def operation(self, module: str, verb: str, provider: str) -> AbstractContextManager[Any]:
        """Return a context that spans one call of a verb. It sees the exception, if there is one."""
        ...


@runtime_checkable
class Tracing(Telemetry, Protocol):
    """Telemetry that follows messages to where they are handled."""

    def carrier(self) -> Mapping[str, str]:
        """Return what a message takes along, so that its handling can be linked to here; nothing outside of a trace."""
        ...

    def handling(self, module: str, handler: str, carriers: Sequence[Mapping[str, Any]]) -> AbstractContextManager[Any]:
        """Return a context that spans one run of a handler, linked to the carriers of what it handles.

        Carriers may hold other things besides, of any kind. The context sees the exception, if there is one.
        """
        ...


class OpenTelemetry:
    """Spans named `pilotis.cache.get` and the counter `pilotis.operations`, through the OpenTelemetry API."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace  # pyright: ignore  # an extra  # noqa: PGH003
        from opentelemetry.trace.propagation import tracecontext  # pyright: ignore  # an extra  # noqa: PGH003

        self._propagator: Any = tracecontext.TraceContextTextMapPropagator()
        self._trace: Any = trace
        self._tracer: Any = trace.get_tracer("pilotis")  # pyright: ignore[reportUnknownMemberType]
        self._counter: Any = metrics.get_meter("pilotis").create_counter(  # pyright: ignore[reportUnknownMemberType]
            "pilotis.operations", description="Calls of Pilotis verbs"
        )

    @contextmanager
    def operation(self, module: str, verb: str, provider: str) -> Generator[None, None, None]:
        facts = {"pilotis.module": module, "pilotis.operation": verb, "pilotis.provider": provider}
        with self._span(f"pilotis.{module}.{verb}", facts):
            yield

    def carrier(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    @contextmanager
    def handling(self, module: str, handler: str, carriers: Sequence[Mapping[str, Any]]) -> Generator[None, None, None]:
        facts = {"pilotis.module": module, "pilotis.operation": "handle", "pilotis.handler": handler}
        links = [link for carrier in carriers if (link := self._link(carrier)) is not None]
        with self._span(f"pilotis.{module}.handle", facts, links=links, kind=self._trace.SpanKind.CONSUMER):
            yield

    @contextmanager
    def _span(self, name: str, facts: dict[str, str], **options: Any) -> Generator[None, None, None]:
        outcome = "error"
        with self._tracer.start_as_current_span(name, attributes=facts, **options):
            try:
                yield
                outcome = "ok"
            finally:
                self._counter.add(1, {**facts, "pilotis.outcome": outcome})

    def _link(self, carrier: Mapping[str, Any]) -> Any:
        """Return a link to what a W3C `traceparent` names; None where there is none, or none that can be read."""
        fields = {key: value for key in self._propagator.fields if isinstance(value := carrier.get(key), str)}
        nowhere = self._trace.set_span_in_context(self._trace.INVALID_SPAN)
        cause = self._trace.get_current_span(self._propagator.extract(fields, nowhere)).get_span_context()
        return self._trace.Link(cause) if cause.is_valid else None


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
