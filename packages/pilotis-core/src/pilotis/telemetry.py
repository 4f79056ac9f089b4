"""The seam for telemetry: every portable verb is one span and one counter, or nothing at all."""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import msgspec

from pilotis.bridge import reset_after_fork


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


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A number that telemetry may ask for whenever it likes."""

    name: str
    """Such as `pilotis.cache.hits`."""
    description: str
    unit: str = "1"
    """In the spelling of UCUM: `1`, `s`, `By`."""
    kind: Literal["own", "told", "gauge"]
    """What this process counts itself, so that equal ones are added up, and kept when their source ends; what a backend
    counts, the same for whoever asks; what rises and falls. Of equal ones of these two, the greatest holds."""


Read = Callable[[], Iterable[tuple[float, Mapping[str, str]]]]
"""Returns the values of a figure at this moment, each with its attributes. Does no I/O and does not raise."""


@runtime_checkable
class Measuring(Telemetry, Protocol):
    """Telemetry that asks for figures."""

    def observe(self, figure: Figure, read: Read) -> Callable[[], None]:
        """Read a figure from now on, from any thread, and return what ends that. A figure may have many sources."""
        ...


class OpenTelemetry:
    """Spans named `pilotis.cache.get`, the counter `pilotis.operations` and figures, through the OpenTelemetry API."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace  # pyright: ignore  # an extra  # noqa: PGH003
        from opentelemetry.trace.propagation import tracecontext  # pyright: ignore  # an extra  # noqa: PGH003

        self._propagator: Any = tracecontext.TraceContextTextMapPropagator()
        self._trace: Any = trace
        self._tracer: Any = trace.get_tracer("pilotis")  # pyright: ignore[reportUnknownMemberType]
        self._board = _board(metrics)

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

    def observe(self, figure: Figure, read: Read) -> Callable[[], None]:
        return self._board.observe(figure, read)

    @contextmanager
    def _span(self, name: str, facts: dict[str, str], **options: Any) -> Generator[None, None, None]:
        outcome = "error"
        with self._tracer.start_as_current_span(name, attributes=facts, **options):
            try:
                yield
                outcome = "ok"
            finally:
                self._board.operations.add(1, {**facts, "pilotis.outcome": outcome})

    def _link(self, carrier: Mapping[str, Any]) -> Any:
        """Return a link to what a W3C `traceparent` names; None where there is none, or none that can be read."""
        fields = {key: value for key in self._propagator.fields if isinstance(value := carrier.get(key), str)}
        nowhere = self._trace.set_span_in_context(self._trace.INVALID_SPAN)
        cause = self._trace.get_current_span(self._propagator.extract(fields, nowhere)).get_span_context()
        return self._trace.Link(cause) if cause.is_valid else None


class _Board:
    """The instruments of one provider of meters.

    One of a name may be made once, has its callbacks from the beginning, and never ends: so all apps share it.
    """

    def __init__(self, metrics: Any) -> None:
        self._metrics = metrics
        self._meter: Any = metrics.get_meter("pilotis")
        self.operations: Any = self._meter.create_counter("pilotis.operations", description="Calls of Pilotis verbs")
        self._shown: dict[str, _Shown] = {}
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def observe(self, figure: Figure, read: Read) -> Callable[[], None]:
        with self._lock:
            shown = self._shown.get(figure.name)
            if shown is None:
                shown = self._shown[figure.name] = self._make(figure)
            shown.add(read)
        return functools.partial(self._end, shown, read)

    def _end(self, shown: _Shown, read: Read) -> None:
        with self._lock:
            shown.remove(read)

    def _make(self, figure: Figure) -> _Shown:
        shown = _Shown(figure, self._metrics.Observation)
        create = (
            self._meter.create_observable_gauge if figure.kind == "gauge" else self._meter.create_observable_counter
        )
        create(figure.name, callbacks=[shown.values], unit=figure.unit, description=figure.description)
        return shown


_Totals = dict[tuple[tuple[str, str], ...], float]


class _Shown:
    """What one instrument shows."""

    def __init__(self, figure: Figure, observation: Any) -> None:
        self._observation = observation
        self._is_own = figure.kind == "own"
        # Replaced as a whole, so that `values` waits for nobody: it is called under locks of the SDK that making an
        # instrument, under the lock of the board, asks for.
        self._state: tuple[_Totals, tuple[Read, ...]] = ({}, ())

    def add(self, read: Read) -> None:
        kept, reads = self._state
        self._state = kept, (*reads, read)

    def remove(self, read: Read) -> None:
        """End a source. What it counted stays: a counter that falls would be taken for one that began anew."""
        kept, reads = self._state
        if read in reads:
            kept = self._joined(kept, [read]) if self._is_own else kept
            self._state = kept, tuple(it for it in reads if it is not read)

    def values(self, _options: Any) -> list[Any]:
        """Answer the SDK, when it collects."""
        return [self._observation(value, dict(facts)) for facts, value in self._joined(*self._state).items()]

    def _joined(self, kept: _Totals, reads: Iterable[Read]) -> _Totals:
        totals = dict(kept)
        for read in reads:
            for value, attributes in read():
                facts = tuple(sorted(attributes.items()))
                before = totals.get(facts, 0)
                totals[facts] = before + value if self._is_own else max(before, value)
        return totals


_boards: WeakKeyDictionary[Any, _Board] = WeakKeyDictionary()


def _board(metrics: Any) -> _Board:
    provider = metrics.get_meter_provider()
    board = _boards.get(provider)
    return _boards.setdefault(provider, _Board(metrics)) if board is None else board


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
