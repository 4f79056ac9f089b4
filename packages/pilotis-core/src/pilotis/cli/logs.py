"""Log lines that programs can read: logfmt, or JSON."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Literal

import msgspec

LogFormat = Literal["logfmt", "json"]

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes that every record has. What else it has came with `extra`."""

_PLAIN = re.compile(r"[^\s\"=\x00-\x1f]+")


class Structured(logging.Formatter):
    """Formats a record as one line: time (UTC), level, logger, pid, msg, what came with `extra`, traceback."""

    def __init__(self, style: LogFormat) -> None:
        super().__init__()
        self._write = _logfmt if style == "logfmt" else _json

    def format(self, record: logging.LogRecord) -> str:
        return self._write(self._fields(record))

    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "msg": record.getMessage(),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return fields


def set_up(style: LogFormat | None) -> None:
    """Have logs go to stderr, unless the app has set up logging and no style was asked for."""
    root = logging.getLogger()
    if root.handlers and style is None:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(Structured(style or "logfmt"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _json(fields: dict[str, object]) -> str:
    return msgspec.json.encode(fields, enc_hook=str).decode()


def _logfmt(fields: dict[str, object]) -> str:
    return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
