"""What is checked of a request before anything else happens."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from pilotis.errors import InvalidInputError
from pilotis.keys import check_text
from pilotis.modules.notification.addresses import (
    EMAIL,
    check_address,
    check_content_id,
    check_content_type,
    check_filename,
    check_line,
)
from pilotis.modules.notification.model import Attachment, Content, NotificationRequest

UNKNOWN_CONTENT_TYPE = "application/octet-stream"


def as_requests(messages: object) -> list[NotificationRequest]:
    """Return what `send_many` is given as requests."""
    if not isinstance(messages, Iterable) or isinstance(messages, str | bytes | Mapping):
        got = type(cast("object", messages)).__name__
        raise InvalidInputError(f"messages: expected a sequence of messages, got {got}")
    items = enumerate(cast("Iterable[object]", messages))
    return [as_request(item, f"messages[{index}]") for index, item in items]


def as_request(item: object, at: str) -> NotificationRequest:
    """Return an item of `send_many`, which may be a mapping of the arguments of `send`, as a request."""
    if isinstance(item, NotificationRequest):
        return item
    if not isinstance(item, Mapping):
        raise InvalidInputError(
            f"{at}: expected a NotificationRequest or a mapping of the arguments of send, got {type(item).__name__}"
        )
    arguments = cast("Mapping[str, Any]", item)
    fields = NotificationRequest.__struct_fields__
    for name in arguments:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(fields)}"
            raise InvalidInputError(f"{at}: send has no argument {name!r}; {hint}")
    for name in ("to", "channel"):
        if name not in arguments:
            raise InvalidInputError(f"{at}: expected the argument {name!r}")
    return NotificationRequest(**arguments)


def check_request(request: NotificationRequest) -> None:
    """Refuse what cannot be sent, naming the argument. Attachments and contents are checked on their own."""
    check_line(request.channel, "channel", maximum=100)
    check_address(request.to, request.channel, "to")
    if request.sender is not None:
        check_address(request.sender, request.channel, "sender")
    if request.template is not None:
        check_line(request.template, "template")
    for name in ("idempotency_key", "trigger"):
        value = getattr(request, name)
        if value is not None:
            check_text(value, name)
    if request.resource is not None:
        check_resource(request.resource)
    for name in ("data", "provider_data"):
        if not isinstance(getattr(request, name), Mapping):
            raise InvalidInputError(f"{name}: expected a mapping, got {type(getattr(request, name)).__name__}")
    if (request.template is None) == (request.content is None):
        raise InvalidInputError("content: expected either a content or a template, and not both")


def check_resource(resource: object) -> tuple[str, str]:
    """Return a resource if it is a pair of texts: a kind and an id."""
    if not isinstance(resource, (tuple, list)) or len(cast("list[object]", resource)) != 2:
        raise InvalidInputError('resource: expected a pair of texts, such as ("order", "42")')
    kind, id = cast("list[object]", resource)
    return check_text(kind, "resource[0]"), check_text(id, "resource[1]")


def check_headers(headers: object) -> dict[str, str]:
    """Return the headers of a webhook: texts by name, in any case, as any web framework has them."""
    items = getattr(headers, "items", None)
    if not callable(items):
        raise InvalidInputError(f"headers: expected texts by name, got {_kind(headers)}")
    found = dict(cast("Iterable[tuple[object, object]]", items()))
    if not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise InvalidInputError("headers: expected texts by name; decode what is bytes, as Latin-1")
    return cast("dict[str, str]", found)


def check_body(body: object) -> bytes:
    """Return the body of a webhook: raw, for that is what was signed."""
    if not isinstance(body, bytes):
        raise InvalidInputError(f"body: expected the raw bytes of the request, got {_kind(body)}")
    return body


def check_content(content: object, channel: str) -> Content:
    """Return a content that the channel can carry."""
    if not isinstance(content, Content):
        raise InvalidInputError(f"content: expected a Content, got {type(content).__name__}")
    for name in ("text", "html"):
        if not isinstance(getattr(content, name), str | None):
            raise InvalidInputError(f"content.{name}: expected text")
    if content.subject is not None:
        check_line(content.subject, "content.subject")
    if not (content.text or (content.html and channel == EMAIL)):
        expected = "a text or an html" if channel == EMAIL else f"a text, which is what channel {channel!r} carries"
        raise InvalidInputError(f"content: expected {expected}")
    return content


def check_attachments(attachments: object, maximum_bytes: int) -> tuple[Attachment, ...]:
    """Return attachments, each with a content type. Raises InvalidInputError when all together are too large."""
    if not isinstance(attachments, (list, tuple)):
        raise InvalidInputError(f"attachments: expected a list of Attachment, got {_kind(attachments)}")
    files = tuple(
        _checked_attachment(file, f"attachments[{index}]")
        for index, file in enumerate(cast("list[object]", attachments))
    )
    size = sum(len(file.content) for file in files)
    if size > maximum_bytes:
        raise InvalidInputError(f"attachments: expected at most {maximum_bytes} bytes together, got {size}")
    return files


def _kind(value: object) -> str:
    return type(value).__name__


def _checked_attachment(file: object, at: str) -> Attachment:
    if not isinstance(file, Attachment):
        raise InvalidInputError(f"{at}: expected an Attachment, got {type(file).__name__}")
    check_filename(file.filename, f"{at}.filename")
    if not isinstance(cast("object", file.content), bytes):
        raise InvalidInputError(f"{at}.content: expected bytes, got {type(file.content).__name__}")
    if file.content_id is not None:
        check_content_id(file.content_id, f"{at}.content_id")
    if file.content_type is not None:
        check_content_type(file.content_type, f"{at}.content_type")
        return file
    import mimetypes

    guess, encoding = mimetypes.guess_type(file.filename)
    return msgspec.structs.replace(file, content_type=guess if guess and not encoding else UNKNOWN_CONTENT_TYPE)
