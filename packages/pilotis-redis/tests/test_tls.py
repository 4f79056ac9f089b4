"""Redis over TLS, on the wire: who is trusted, who is not, and what callers see of it, in both colours."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from pilotis.errors import ConnectionFailedError, InvalidInputError, OperationTimeoutError
from pilotis_redis import Eviction, RedisLink, RedisOptions, startup
from pilotis_redis.faults import classify
from pilotis_testing import Colour
from pilotis_testing.colours import together
from pilotis_testing.servers import RedisServer, running

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2")


class Certificate(NamedTuple):
    """A certificate and its key."""

    file: Path
    key: Path


class Authority:
    """Somebody who signs certificates, with the openssl of the machine."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self.own = self._made(name, "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign")

    def issue(self, name: str, place: str) -> Certificate:
        """Return a certificate for a place such as `IP:127.0.0.1`."""
        signed = ("-CA", str(self.own.file), "-CAkey", str(self.own.key))
        return self._made(
            name, *signed, "-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName={place}"
        )

    def _made(self, name: str, *options: str) -> Certificate:
        made = Certificate(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        openssl("req", "-x509", *CURVE, "-subj", f"/CN={name}", "-out", made.file, "-keyout", made.key, *options)
        return made


def openssl(*arguments: str | Path) -> None:
    if shutil.which("openssl") is None:
        pytest.fail("openssl is not on this machine. Install it: apt-get install openssl", pytrace=False)
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class TlsServer(RedisServer):
    """A Redis that speaks TLS alone, and asks its clients for certificates where it is told to."""

    def __init__(self, directory: Path, authority: Authority, *options: str) -> None:
        certificate = authority.issue("server", "IP:127.0.0.1")
        files = ("--tls-cert-file", certificate.file, "--tls-key-file", certificate.key)
        super().__init__(directory, *map(str, files), "--tls-ca-cert-file", str(authority.own.file), *options)

    @property
    def url(self) -> str:
        return f"rediss://{self.address}/0"

    def command(self) -> list[str]:
        return [*super().command(), "--port", "0", "--tls-port", str(self.port)]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom the servers of these tests have their certificates from."""
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[TlsServer]:
    """A Redis that lets everybody in who speaks TLS."""
    server = TlsServer(tmp_path_factory.mktemp("tls"), authority, "--tls-auth-clients", "no")
    with running(server):
        yield server


@asynccontextmanager
async def linked(url: str, **options: Any) -> AsyncGenerator[RedisLink]:
    """Yield a link that does not try for long."""
    link = RedisLink(RedisOptions(url=url, reconnects=0, **options))
    try:
        yield link
    finally:
        await link.close()


async def refused(link: RedisLink) -> str:
    """Assert that opening fails as that of a server which cannot be reached, and return the words."""
    with pytest.raises((redis.RedisError, OSError)) as caught:
        await startup.check(link, Eviction.WELCOME)
    assert classify(caught.value) is ConnectionFailedError
    return str(caught.value)


async def test_a_server_with_a_good_certificate(server: TlsServer, authority: Authority, colour: Colour) -> None:
    """Commands, blocking reads and messages all go over TLS: the server hears nothing else."""
    async with linked(server.url, tls_ca=authority.own.file) as link:
        await startup.check(link, Eviction.WELCOME)
        assert sorted(await together(*[lambda: link.execute("INCR", "n")] * 20)) == list(range(1, 21))
        assert await link.pipeline([("SET", "k", b"\x00\xff"), ("GET", "k")]) == [True, b"\x00\xff"]
        assert await link.execute_waiting("BLPOP", "nothing", 0.01) is None
        async with link.listening("news") as heard:
            assert await link.execute("PUBLISH", "news", "x") == 1
            assert await heard.wait(10)
        await link.execute("FLUSHDB")


async def test_a_certificate_of_somebody_else_is_refused(server: TlsServer, tmp_path: Path, colour: Colour) -> None:
    """Of an authority that is not trusted; the system's do not know ours either."""
    other = Authority(tmp_path, "other")
    for trusted in ({"tls_ca": other.own.file}, {}):
        async with linked(server.url, **trusted) as link:
            assert "certificate verify failed" in await refused(link)


async def test_a_certificate_for_another_place_is_refused(
    server: TlsServer, authority: Authority, colour: Colour
) -> None:
    """The name in the URL must be in it."""
    url = f"rediss://localhost:{server.port}/0"
    async with linked(url, tls_ca=authority.own.file) as link:
        assert "certificate is not valid for 'localhost'" in await refused(link)


async def test_who_does_not_look_at_certificates_gets_in(server: TlsServer, colour: Colour) -> None:
    """`tls_verify = false` takes any."""
    async with linked(f"rediss://localhost:{server.port}/0", tls_verify=False) as link:
        assert await link.execute("PING") is True


async def test_tls_alone_is_spoken_there(server: TlsServer, colour: Colour) -> None:
    """Who does not is cut off."""
    async with linked(server.url.replace("rediss", "redis")) as link:
        await refused(link)


async def test_no_tls_is_spoken_there(redis_url: str, authority: Authority, colour: Colour) -> None:
    """A server that does not understand may hang up, or wait for more until the time for connecting is over."""
    url = redis_url.replace("redis", "rediss", 1)
    async with linked(url, tls_ca=authority.own.file, connect_timeout=0.3, timeout=0.3) as link:
        with pytest.raises((redis.RedisError, OSError)) as caught:
            await link.execute("PING")
        assert classify(caught.value) in {ConnectionFailedError, OperationTimeoutError}


async def test_a_server_that_asks_for_certificates(authority: Authority, tmp_path: Path, colour: Colour) -> None:
    """Ours is shown; without one, or with somebody else's, nobody is let in."""
    mine = authority.issue("client", "DNS:client")
    theirs = Authority(tmp_path, "other").issue("stranger", "DNS:client")
    server = TlsServer(tmp_path, authority, "--tls-auth-clients", "yes")
    with running(server):
        async with linked(server.url, tls_ca=authority.own.file, tls_cert=mine.file, tls_key=mine.key) as link:
            assert await link.execute("PING") is True
        for shown in ({}, {"tls_cert": theirs.file, "tls_key": theirs.key}):
            async with linked(server.url, tls_ca=authority.own.file, **shown) as link:
                await refused(link)


@pytest.mark.parametrize("name", ["tls_ca", "tls_cert", "tls_key"])
def test_a_file_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    """Before anything is connected to."""
    wrong: dict[str, Any] = {name: tmp_path / "nowhere.pem"}
    with pytest.raises(InvalidInputError, match=rf"^{name}: expected a file.*nowhere\.pem"):
        RedisOptions(url="rediss://localhost", **wrong)


def test_a_key_belongs_to_a_certificate(authority: Authority) -> None:
    """One without the other is forgotten."""
    with pytest.raises(InvalidInputError, match=r"^tls_cert: expected the certificate"):
        RedisOptions(url="rediss://localhost", tls_key=authority.own.key)
