"""The rules of SendGrid's mail send endpoint, as its documentation gives them: what a request has to be like.

Written from https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send and the page on its errors.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

MOST_PERSONALIZATIONS = 1000
MOST_RECIPIENTS = 1000
MOST_BYTES = 30 * 1024 * 1024
MOST_CATEGORIES = 10
MOST_ARGUMENT_BYTES = 10_000
LATEST_SECONDS = 72 * 3600

Problem = dict[str, Any]
Rule = Callable[[dict[str, Any]], Iterator[Problem]]

_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_PARAMETERS = {
    *("personalizations", "from", "reply_to", "reply_to_list", "subject", "content", "attachments", "template_id"),
    *("headers", "categories", "custom_args", "send_at", "batch_id", "asm", "ip_pool_name", "mail_settings"),
    "tracking_settings",
}
_PERSONAL = {
    *("from", "to", "cc", "bcc", "subject", "headers", "substitutions", "dynamic_template_data", "custom_args"),
    "send_at",
}
_RESERVED = {
    *("x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding"),
    *("to", "from", "subject", "reply-to", "cc", "bcc"),
}


def problem(message: str, field: str | None = None) -> Problem:
    """Return an error as answers have it."""
    return {"message": message, "field": field, "help": None}


def problems_of(body: object, now: float, templates: set[str]) -> list[Problem]:
    """Return what is wrong with the body of a request, in the order of the documentation; nothing if it is right."""
    if not isinstance(body, dict):
        return [problem("Bad Request")]
    mail: dict[str, Any] = body  # pyright: ignore[reportUnknownVariableType]
    found = [found for rule in _RULES for found in rule(mail)]
    return found + list(_template_problems(mail, templates)) + list(_time_problems(mail, now))


def people_of(mail: dict[str, Any]) -> list[str]:
    """Return the addresses of all recipients."""
    return [person["email"] for one in mail["personalizations"] for person in _people(one)]


def _people(one: dict[str, Any]) -> list[dict[str, Any]]:
    return [person for kind in ("to", "cc", "bcc") for person in one.get(kind, [])]


# Recipients


def _personalizations(mail: dict[str, Any]) -> Iterator[Problem]:
    all_of_them: list[dict[str, Any]] = mail.get("personalizations", [])
    if not all_of_them:
        yield problem("You must have at least one personalization.", "personalizations")
    if len(all_of_them) > MOST_PERSONALIZATIONS:
        yield problem(
            f"The personalization block is limited to {MOST_PERSONALIZATIONS} personalizations per API request. "
            f"You have provided {len(all_of_them)} personalizations.",
            "personalizations",
        )
    for index, one in enumerate(all_of_them):
        yield from _personalization(one, f"personalizations.{index}")
    yield from _repeated(all_of_them)


def _personalization(one: dict[str, Any], at: str) -> Iterator[Problem]:
    yield from _unknown(one, _PERSONAL, at)
    if not one.get("to"):
        yield problem(
            "The to array is required for all personalization objects, and must have at least one email object "
            "with a valid email address.",
            f"{at}.to",
        )
    for kind in ("to", "cc", "bcc"):
        for index, person in enumerate(one.get(kind, [])):
            yield from _person(person, f"{at}.{kind}.{index}")
    if "subject" in one:
        yield from _text(one["subject"], f"{at}.subject")
    yield from _headers(one.get("headers", {}), f"{at}.headers")


def _repeated(all_of_them: list[dict[str, Any]]) -> Iterator[Problem]:
    addresses = [str(person.get("email")).lower() for one in all_of_them for person in _people(one)]
    if len(addresses) > MOST_RECIPIENTS:
        yield problem(
            f"There is a limit of {MOST_RECIPIENTS} total recipients (to + cc + bcc) per request.", "personalizations"
        )
    for address, count in Counter(addresses).items():
        if count > 1:
            yield problem(
                "Each unique email address in the personalizations array should only be included once. "
                f"You have included [{address}] more than once.",
                "personalizations",
            )


def _person(person: object, at: str) -> Iterator[Problem]:
    fields: dict[str, Any] = person if isinstance(person, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    email = fields.get("email")
    if not isinstance(email, str) or _EMAIL.fullmatch(email) is None:
        yield problem("Does not contain a valid address.", f"{at}.email")
    if not isinstance(fields.get("name", ""), str):
        yield problem("The name parameter must be a string.", f"{at}.name")
    yield from _unknown(fields, {"email", "name"}, at)


# What is said


def _sender(mail: dict[str, Any]) -> Iterator[Problem]:
    if "from" not in mail:
        yield problem(
            "The from object must be provided for every email send. It is an object that requires the email "
            "parameter, but may also contain a name parameter.",
            "from",
        )
    for field in ("from", "reply_to"):
        if field in mail:
            yield from _person(mail[field], field)


def _subject(mail: dict[str, Any]) -> Iterator[Problem]:
    personalizations: list[dict[str, Any]] = mail.get("personalizations", [])
    everywhere = all("subject" in one for one in personalizations)
    if "subject" in mail:
        yield from _text(mail["subject"], "subject")
    elif "template_id" not in mail and not everywhere:
        yield problem(
            "The subject is required. You can get around this requirement if you use a template with a subject "
            "defined or if every personalization has a subject defined.",
            "subject",
        )


def _content(mail: dict[str, Any]) -> Iterator[Problem]:
    parts: list[dict[str, Any]] = mail.get("content", [])
    if not parts and "template_id" not in mail:
        yield problem(
            "Unless a valid template_id is provided, the content parameter is required. There must be at least one "
            "defined content block.",
            "content",
        )
    for index, part in enumerate(parts):
        yield from _text(part.get("value"), f"content.{index}.value", breaks=True)
        yield from _text(part.get("type"), f"content.{index}.type")
    kinds = [part.get("type") for part in parts]
    if kinds != sorted(kinds, key=lambda kind: {"text/plain": 0, "text/html": 1}.get(str(kind), 2)):
        yield problem(
            "If present, text/plain and text/html may only be provided once, and text/plain must be first, followed "
            "by text/html, followed by any other content.",
            "content",
        )


def _attachments(mail: dict[str, Any]) -> Iterator[Problem]:
    for index, file in enumerate(mail.get("attachments", [])):
        at = f"attachments.{index}"
        yield from _unknown(file, {"content", "type", "filename", "disposition", "content_id"}, at)
        yield from _text(file.get("filename"), f"{at}.filename")
        if not _is_base64(file.get("content")):
            yield problem("The attachment content must be base64 encoded.", f"{at}.content")
        if file.get("disposition", "attachment") not in ("inline", "attachment"):
            yield problem('The disposition must be "inline" or "attachment".', f"{at}.disposition")
        if file.get("disposition") == "inline" and not file.get("content_id"):
            yield problem("An inline attachment needs a content_id.", f"{at}.content_id")


def _is_base64(content: object) -> bool:
    try:
        return isinstance(content, str) and bool(b64decode(content, validate=True))
    except binascii.Error:
        return False


def _template_problems(mail: dict[str, Any], templates: set[str]) -> Iterator[Problem]:
    template = mail.get("template_id")
    if template is not None and template not in templates:
        yield problem("The template_id must be that of an active template.", "template_id")
    for index, one in enumerate(mail.get("personalizations", [])):
        if "dynamic_template_data" in one and template is None:
            yield problem(
                "The dynamic_template_data needs a template_id of a dynamic template.",
                f"personalizations.{index}.dynamic_template_data",
            )


# What goes along


def _labels(mail: dict[str, Any]) -> Iterator[Problem]:
    categories: list[object] = mail.get("categories", [])
    if len(categories) > MOST_CATEGORIES:
        yield problem(f"You cannot have more than {MOST_CATEGORIES} categories per request.", "categories")
    if len(set(map(str, categories))) != len(categories):
        yield problem("Each category must be unique.", "categories")
    for index, category in enumerate(categories):
        yield from _text(category, f"categories.{index}")
        if len(str(category)) > 255:
            yield problem("Each category is limited to 255 characters.", f"categories.{index}")


def _arguments(mail: dict[str, Any]) -> Iterator[Problem]:
    for index, one in enumerate(mail.get("personalizations", [])):
        given: dict[str, Any] = {**mail.get("custom_args", {}), **one.get("custom_args", {})}
        at = f"personalizations.{index}.custom_args"
        if not all(isinstance(value, str) for value in given.values()):
            yield problem("The custom_args must be an object of strings.", at)
        if sum(len(f"{name}{value}".encode()) for name, value in given.items()) > MOST_ARGUMENT_BYTES:
            yield problem(f"The custom_args may not exceed {MOST_ARGUMENT_BYTES} bytes.", at)


def _headers(headers: dict[str, Any], at: str = "headers") -> Iterator[Problem]:
    for name, value in headers.items():
        yield from _text(value, f"{at}.{name}")
        if name.lower() in _RESERVED:
            yield problem(f"The {name} header is reserved and cannot be used.", f"{at}.{name}")
        if not name.isascii() or not name.isprintable() or " " in name:
            yield problem("A header cannot contain spaces, line breaks or anything but ASCII.", f"{at}.{name}")


def _settings(mail: dict[str, Any]) -> Iterator[Problem]:
    yield from _unknown(mail, _PARAMETERS, None)
    yield from _headers(mail.get("headers", {}))
    if "asm" in mail and not isinstance(mail["asm"].get("group_id"), int):
        yield problem("The asm.group_id must be an integer.", "asm.group_id")
    if "ip_pool_name" in mail and not 2 <= len(mail["ip_pool_name"]) <= 64:
        yield problem("The ip_pool_name must have 2 to 64 characters.", "ip_pool_name")
    sandbox = mail.get("mail_settings", {}).get("sandbox_mode", {"enable": False})
    if not isinstance(sandbox.get("enable"), bool):
        yield problem("The enable parameter must be a boolean.", "mail_settings.sandbox_mode.enable")


def _time_problems(mail: dict[str, Any], now: float) -> Iterator[Problem]:
    places = [
        ("", mail),
        *((f"personalizations.{i}.", one) for i, one in enumerate(mail.get("personalizations", []))),
    ]
    for at, place in places:
        if "send_at" in place and not isinstance(place["send_at"], int):
            yield problem("The send_at parameter must be an integer.", f"{at}send_at")
        elif place.get("send_at", now) > now + LATEST_SECONDS:
            yield problem("The send_at parameter cannot be more than 72 hours in the future.", f"{at}send_at")


# Any field


def _text(value: object, at: str, *, breaks: bool = False) -> Iterator[Problem]:
    if not isinstance(value, str) or not value:
        yield problem("The value must be a string at least one character in length.", at)
    elif not breaks and ("\r" in value or "\n" in value):
        yield problem("The value cannot contain line breaks.", at)


def _unknown(fields: dict[str, Any], known: set[str], at: str | None) -> Iterator[Problem]:
    for name in fields:
        if name not in known:
            yield problem(f"The {name} parameter is not known.", name if at is None else f"{at}.{name}")


_RULES: tuple[Rule, ...] = (
    *(_personalizations, _sender, _subject, _content, _attachments, _labels, _arguments, _settings),
)
