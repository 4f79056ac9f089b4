"""What is set about SendGrid, and what its start finds out."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pilotis.errors import AuthenticationError, ConnectionFailedError, InvalidInputError, PermissionDeniedError
from pilotis.settings.secrets import Secret
from pilotis_notification_sendgrid import SendGridNotifications, SendGridOptions
from pilotis_testing import Colour
from pilotis_testing.sendgrid import SendGridServer
from pilotis_testing.servers import free_port


def key_of(private: Any, altered: int | None = None) -> str:
    """Return the public key as SendGrid would show it, with one byte altered."""
    encoded = bytearray(private.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo))
    if altered is not None:
        encoded[altered] ^= 3
    return b64encode(bytes(encoded)).decode()


NOBODYS_CURVE = ec.generate_private_key(ec.SECP256R1())
"""Its name is altered where it is used."""

Make = Callable[..., SendGridNotifications]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"api_key": ""}, "api_key: expected ASCII text"),
        ({"api_key": "SG.a\r\nX: y"}, "api_key: expected ASCII text"),
        ({"sender": "shop"}, "sender: expected one mail address"),
        ({"sender": "shop@example.com\nBcc: eve@example.com"}, "sender: expected a single line"),
        ({"base_url": "api.sendgrid.com"}, r"base_url: expected a URL such as https://api\.sendgrid\.com"),
        ({"base_url": "ftp://api.sendgrid.com"}, "base_url: expected a URL"),
        ({"base_url": "https://user:secret@mail.example.com"}, r"base_url: .*\*\*\*@mail"),
        ({"base_url": "https://mail.example.com/?a=b"}, "base_url: expected a URL"),
        ({"webhook_public_key": "-----BEGIN PUBLIC KEY-----"}, "webhook_public_key: expected the verification key"),
        ({"webhook_public_key": key_of(rsa.generate_private_key(65537, 2048))}, "webhook_public_key: expected"),
        ({"webhook_public_key": key_of(ed25519.Ed25519PrivateKey.generate())}, "webhook_public_key: expected"),
        ({"webhook_public_key": key_of(NOBODYS_CURVE, 20)}, "webhook_public_key: expected"),
        ({"webhook_public_key": "AAAA"}, "webhook_public_key: expected the verification key"),
        ({"webhook_tolerance": 0}, "webhook_tolerance: expected from 1"),
        ({"call_timeout": 0}, "call_timeout: expected from"),
        ({"concurrency": 0}, "concurrency: expected 1 or more"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    """When they are made, naming the option, and no secret."""
    given: dict[str, Any] = {"api_key": Secret("SG.secret")} | options
    with pytest.raises(InvalidInputError, match=message) as raised:
        SendGridOptions(**given)
    assert "secret" not in str(raised.value)


def test_a_region_has_its_place() -> None:
    """A place that is set goes before it; a stroke at its end makes no difference."""
    key = Secret("SG.key")
    assert SendGridOptions(api_key=key).place == "https://api.sendgrid.com"
    assert SendGridOptions(api_key=key, region="eu").place == "https://api.eu.sendgrid.com"
    assert SendGridOptions(api_key=key, region="eu", base_url="http://mail:3000/").place == "http://mail:3000"


async def test_a_good_key_opens(make: Make, colour: Colour) -> None:
    """It may send mails."""
    await make().ping()


async def test_a_key_that_is_not_known(make: Make, colour: Colour) -> None:
    """It is told at the start, not with the first mail."""
    with pytest.raises(AuthenticationError, match="SendGrid answered 401"):
        await make(api_key="SG.other").ping()


async def test_a_key_that_may_not_send(make: Make, sendgrid_server: SendGridServer, colour: Colour) -> None:
    """What it lacks is named."""
    sendgrid_server.scopes = ["stats.read"]
    with pytest.raises(PermissionDeniedError, match=r"give it the scope mail\.send"):
        await make().ping()


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_gateway_without_that_question_is_no_obstacle(
    make: Make, sendgrid_server: SendGridServer, colour: Colour, status: int
) -> None:
    """Some stand-ins take mails and nothing else."""
    sendgrid_server.scopes_fault = status
    await make().ping()


async def test_nobody_is_there(make: Make, colour: Colour) -> None:
    """An unreachable service is told at the start."""
    with pytest.raises(ConnectionFailedError):
        await make(base_url=f"http://127.0.0.1:{free_port()}").ping()
