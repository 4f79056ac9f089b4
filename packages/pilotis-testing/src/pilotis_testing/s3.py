"""S3 for tests: moto's server in a process of its own, behind a proxy that checks what moto does not."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import uuid4

from pilotis_testing.clock import ManualClock
from pilotis_testing.s3_checks import REGION, Keys
from pilotis_testing.s3_proxy import S3Proxy, Seen
from pilotis_testing.s3_troubles import Trouble
from pilotis_testing.servers import Server, running

__all__ = [
    "PAGE",
    "REGION",
    "Keys",
    "MotoServer",
    "S3Clock",
    "S3Proxy",
    "S3Space",
    "Seen",
    "Trouble",
    "space",
    "standing",
]

KEY = "AKIAPILOTISTESTS0000"
SECRET = "pilotis+tests/secret"
PAGE = 50
"""How many keys a page of a listing has here, so that tests turn pages without thousands of files."""


class MotoServer(Server):
    """moto's server: what S3 stores, and what it answers, without its checks."""

    program = sys.executable
    package = "python3"
    variable = "PATH"

    def command(self) -> list[str]:
        program = "; ".join([
            f"import os, logging; os.environ['MOTO_S3_DEFAULT_MAX_KEYS'] = '{PAGE}'",
            "logging.getLogger('werkzeug').setLevel(logging.ERROR)",
            f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{self.port}'])",
        ])  # fmt: skip
        return [sys.executable, "-c", program]


class S3Space(NamedTuple):
    """A bucket of the test's own, and how to reach it."""

    proxy: S3Proxy
    bucket: str
    key: str
    secret: str

    @property
    def options(self) -> dict[str, Any]:
        """The options of a file provider on S3."""
        return {
            "bucket": self.bucket,
            "endpoint_url": self.proxy.url,
            "region": REGION,
            "access_key_id": self.key,
            "secret_access_key": self.secret,
        }

    @property
    def url(self) -> str:
        """The same, as a URL for settings."""
        options = self.options
        return f"s3://{options.pop('bucket')}?{urlencode(options)}"

    def client(self, **config: Any) -> Any:
        """Return a client of boto3's, to look behind the provider's back. Who asks for it closes it."""
        return client_of(self.proxy.url, **config)


class S3Clock(ManualClock):
    """A manual clock that takes links along: `advance` has the proxy judge them later by what it moves on by."""

    def __init__(self, proxy: S3Proxy) -> None:
        super().__init__()
        self._proxy = proxy

    def advance(self, seconds: float) -> None:
        self._proxy.links_ahead += seconds
        super().advance(seconds)


def client_of(endpoint: str, *, key: str = KEY, secret: str = SECRET, **config: Any) -> Any:
    """Return a client of boto3's for an endpoint of this machine."""
    from boto3.session import Session  # pyright: ignore[reportMissingTypeStubs]
    from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

    session: Any = Session(aws_access_key_id=key, aws_secret_access_key=secret, region_name=REGION)
    return session.client(
        "s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}, signature_version="s3v4", **config)
    )


def _make_bucket(server: int, bucket: str) -> None:
    """Make a bucket behind the proxy, without a client, which would take longer than most tests."""
    connection = HTTPConnection("127.0.0.1", server, timeout=30)
    place = f"<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
    connection.request("PUT", f"/{bucket}", place)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


@contextmanager
def standing(directory: Path) -> Generator[S3Proxy]:
    """Run moto's server and the proxy before it for the length of a block."""
    server = MotoServer(directory)
    with running(server), S3Proxy(server.port) as proxy:
        proxy.known[KEY] = Keys(SECRET)
        yield proxy


@contextmanager
def space(proxy: S3Proxy) -> Generator[S3Space]:
    """Lend a fresh bucket for the length of a block, and leave the proxy as it was before."""
    proxy.forget()
    bucket = f"tests-{uuid4().hex}"
    _make_bucket(proxy.server, bucket)
    try:
        yield S3Space(proxy, bucket, KEY, SECRET)
    finally:
        proxy.forget()
