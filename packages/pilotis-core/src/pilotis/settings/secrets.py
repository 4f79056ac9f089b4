"""Keeping secrets out of what people read: reprs, log lines and errors."""

from __future__ import annotations

import re

MASK = "***"

_URL = re.compile(r"\S+://\S+")
_SENSITIVE = r"[^=&;#?]*(?:password|passwd|secret|token|key|credential)[^=&;#]*"
_SECRET_PARAMETER = re.compile(rf"[?&;]{_SENSITIVE}=(?P<value>[^&;#]*)", re.IGNORECASE)


class Secret(str):
    """Text that does not show in a repr. As the type of an option: `api_key: Secret`.

    Everything else works as with any text, so that it can be handed to an SDK as it is.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(mask_text(self))


class Masked(dict[str, object]):
    """A dict that does not show its texts in a repr, except for what is left of URLs without their secrets."""

    def __repr__(self) -> str:
        shown = (f"{key!r}: {mask_value(value)!r}" for key, value in self.items())
        return f"{{{', '.join(shown)}}}"


def mask_url(url: str) -> str:
    """Return `url` without its password and without the values of query parameters that sound secret.

    A password that was not percent-encoded, with `/`, `?` or `@` in it, is masked too. Where more than one reading is
    possible, what is a secret in any of them is masked.
    """
    shown, position = "", 0
    for begin, end in sorted(_secret_spans(url)):
        if begin >= position:
            shown += url[position:begin] + MASK
        position = max(position, end)
    return shown + url[position:]


def _secret_spans(url: str) -> list[tuple[int, int]]:
    spans = [found.span("value") for found in _SECRET_PARAMETER.finditer(url)]
    scheme, mark, _ = url.partition("://")
    colon, at = url.find(":", len(scheme + mark) if mark else 0), url.rfind("@")
    return [*spans, (colon + 1, at)] if 0 <= colon < at else spans


def mask_text(text: str) -> str:
    """Return what may be shown of a text: a URL without its secrets, of anything else nothing."""
    return mask_url(text) if "://" in text else MASK


def mask_urls(text: str) -> str:
    """Return a text, such as a driver's message, with the secrets in its URLs masked."""
    return _URL.sub(lambda url: mask_url(url[0]), text)


def mask_value(value: object) -> object:
    """Return what may be shown of a value: numbers as they are, of a text what `mask_text` leaves."""
    if isinstance(value, bool | int | float | None):
        return value
    return mask_text(value) if isinstance(value, str) else MASK
