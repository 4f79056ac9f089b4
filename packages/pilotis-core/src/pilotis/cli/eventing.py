"""Events in words, for people."""

from __future__ import annotations

from typing import Any

import msgspec

from pilotis.modules.event import DeadLetterRecord, Event


def line_of(event: Event[Any]) -> str:
    """Return an event on one line."""
    time = event.emitted_at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    return f"{time} {event.name} {event.id} {_json(event.data)}"


def describe(letter: DeadLetterRecord) -> str:
    """Return all that is known of a dead letter, on many lines."""
    facts = {
        "event": f"{letter.name} {letter.id}, emitted at {letter.emitted_at.isoformat()}",
        "subscription": f"{letter.subscription or 'the handlers without an id'}, for {letter.pattern}",
        "data": _json(letter.data),
        "metadata": _json(letter.metadata),
        "cause": f"{letter.cause}, after {letter.attempts} attempts and {letter.crashes} crashes",
        "first failed": letter.first_at.isoformat(),
        "died": f"{letter.died_at.isoformat()}{f', in {letter.worker}' if letter.worker else ''}",
        "error": letter.error,
    }
    lines = [f"{name + ':':14}{value}" for name, value in facts.items()]
    return "\n".join([*lines, *([letter.traceback.rstrip()] if letter.traceback else [])])


def _json(data: object) -> str:
    return msgspec.json.encode(data, enc_hook=str).decode()
