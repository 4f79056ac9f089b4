"""Mails by TLS, as SendGrid takes them: whole, and to nobody whom the system does not trust."""

from __future__ import annotations

import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pilotis.errors import ConnectionFailedError
from pilotis.providers import Attachment, OutgoingMessage, Receipt
from pilotis_notification_sendgrid import SendGridNotifications
from pilotis_testing import Colour
from pilotis_testing.sendgrid import SendGridServer

Make = Callable[..., SendGridNotifications]
Message = Callable[..., OutgoingMessage]

LARGE = bytes(range(256)) * 12_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that vouches for itself, with its key beside it."""
    if shutil.which("openssl") is None:
        pytest.fail("openssl is not on this machine. Install it: apt-get install openssl", pytrace=False)
    made = tmp_path_factory.mktemp("tls") / "mail.crt"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2", "-subj", "/CN=mail")
    files = ("-out", str(made), "-keyout", str(made.with_suffix(".key")))
    named = ("-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(["openssl", "req", "-x509", *curve, *files, *named], capture_output=True, check=True)
    return made


@pytest.fixture
def sendgrid_server(certificate: Path) -> Iterator[SendGridServer]:
    """A server that speaks TLS."""
    server = SendGridServer()
    server.speak_tls(certificate, certificate.with_suffix(".key"))
    with server.running():
        yield server


async def test_a_large_mail_goes_by_tls(
    *,
    make: Make,
    message: Message,
    sendgrid_server: SendGridServer,
    certificate: Path,
    colour: Colour,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In as many pieces as it takes, and the answer comes back."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    file = Attachment("a.bin", LARGE, "application/octet-stream")
    [receipt] = await make().send([message(attachments=(file,))])
    [mail] = sendgrid_server.sent
    assert receipt == Receipt(external_id=mail.message_id)
    assert b64decode(mail.body["attachments"][0]["content"]) == LARGE


async def test_nobody_is_trusted_without_a_reason(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """A certificate that nobody vouches for gets neither the mail nor the key."""
    [error] = await make().send([message()])
    assert isinstance(error, ConnectionFailedError)
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert [] == sendgrid_server.requests
