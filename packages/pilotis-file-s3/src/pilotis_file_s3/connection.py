"""The client of boto3's: made when it is first needed, one for each process, shared by its threads."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Mapping
from functools import cache, partial
from typing import Any, cast

from botocore.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
    ClientError,
    ConnectTimeoutError,
    HTTPClientError,
    NoCredentialsError,
)
from pilotis.providers import reset_after_fork, run_blocking

from pilotis_file_s3.errors import is_expired, told
from pilotis_file_s3.options import S3FilesOptions
from pilotis_file_s3.parts import Part


class Connection:
    """Requests about one bucket, in both colours."""

    def __init__(self, options: S3FilesOptions, lent: Any = None) -> None:
        """Use the client that is lent, which is not closed here, or make one when it is needed."""
        self._options = options
        self._lent = lent
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Make a client of its own: connections are not for two processes."""
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The client. The first use reads boto3's descriptions of S3, which takes a tenth of a second."""
        if self._lent is not None:
            return self._lent
        with self._lock:
            if self._client is None:
                self._client = make_client(self._options)
            return self._client

    async def ask(self, operation: str, **parameters: Any) -> Any:
        """Send a request about the bucket, and return the answer, as boto3 does. The caller may be cancelled."""
        return await run_blocking(partial(self.ask_now, operation, **parameters))

    def ask_now(self, operation: str, **parameters: Any) -> Any:
        """Do the same on this thread. Where credentials have expired, it is sent again with new ones, once."""
        client = self.client
        try:
            return self._send(client, operation, parameters)
        except ClientError as error:
            if not (is_expired(error) and self._renew(client)):
                raise
        if isinstance(body := parameters.get("Body"), Part):
            body.seek(0)
        return self._send(self.client, operation, parameters)

    def _send(self, client: Any, operation: str, parameters: Mapping[str, Any]) -> Any:
        try:
            return getattr(client, operation)(Bucket=self._options.bucket, **parameters)
        except (ClientError, HTTPClientError, ConnectTimeoutError) as error:
            explained = told(error, self._options)
            if explained is error:
                raise
            raise explained from error

    def _renew(self, client: Any) -> bool:
        """Have another client take the place of one whose credentials have expired, if it can have other ones.

        boto3 renews those of which it knows when they end. Clocks, and who rotates a profile, know better.
        """
        if self._lent is not None or (self._options.access_key_id is not None and self._options.role_arn is None):
            return False
        with self._lock:
            if self._client is client:  # the first of those that failed with it
                self._client = None
        return True

    def close(self) -> None:
        """Close our own client. The next use makes another one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()


def make_client(options: S3FilesOptions) -> Any:
    """Return a client as the options say, whose every time-out, limit and way of signing is set."""
    from boto3.session import Session  # pyright: ignore[reportMissingTypeStubs]
    from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

    config = Config(
        signature_version="s3v4",
        # The SHA-256 of every body is signed, over TLS too: so each server checks what it takes.
        s3={"addressing_style": _addressing(options), "payload_signing_enabled": True},
        connect_timeout=options.connect_timeout,
        read_timeout=options.timeout,
        max_pool_connections=options.max_connections,
        tcp_keepalive=True,
        retries={"mode": "standard", "total_max_attempts": options.attempts},
        # What boto3 adds by itself since 1.36 breaks other servers; we send digests that all of them know.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session: Any = Session(botocore_session=_session(options))
    client = session.client("s3", region_name=_region(options), endpoint_url=options.endpoint_url, config=config)
    client.meta.events.register("before-sign.s3.DeleteObjects", _add_md5)
    return client


def _addressing(options: S3FilesOptions) -> str:
    """Return "path" or "virtual": what boto3 calls "auto" makes links to a host that is not that of the region.

    A bucket with dots in its name is in the path, as certificates are for one name before the dot.
    """
    if options.addressing != "auto":
        return options.addressing
    return "path" if options.endpoint_url or "." in options.bucket else "virtual"


def _add_md5(request: Any, **_: object) -> None:
    """Some servers want this digest of what is to be deleted, and know no other one."""
    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()


def _region(options: S3FilesOptions) -> str | None:
    return options.region or ("us-east-1" if options.endpoint_url else None)


def _session(options: S3FilesOptions) -> Any:
    session = _plain_session(options)
    return session if options.role_arn is None else _session_of_role(session, options)


def _new_session(options: S3FilesOptions) -> Any:
    from botocore.session import Session  # pyright: ignore[reportMissingTypeStubs]

    session: Any = Session(profile=options.profile)
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


@cache
def _loader(path: str | None) -> Any:
    """What reads boto3's descriptions of services: one for all, as it keeps what it has read."""
    from botocore import loaders  # pyright: ignore[reportMissingTypeStubs]

    return cast("Any", loaders).create_loader(path)


def _plain_session(options: S3FilesOptions) -> Any:
    session = _new_session(options)
    if options.access_key_id is not None:
        token = None if options.session_token is None else str(options.session_token)
        session.set_credentials(str(options.access_key_id), str(options.secret_access_key), token)
    return session


def _session_of_role(source: Any, options: S3FilesOptions) -> Any:
    """Return a session that assumes a role with the credentials of another one, again and again."""
    from botocore import credentials  # pyright: ignore[reportMissingTypeStubs]

    own = source.get_credentials()
    if own is None:
        raise NoCredentialsError
    create = partial(source.create_client, region_name=_region(options))
    fetcher: Any = credentials.AssumeRoleCredentialFetcher(create, own, options.role_arn)

    class Role(credentials.CredentialProvider):
        METHOD = CANONICAL_NAME = "pilotis-role"

        def load(self) -> Any:
            return credentials.DeferredRefreshableCredentials(fetcher.fetch_credentials, self.METHOD)

    session = _new_session(options)
    session.get_component("credential_provider").providers.insert(0, Role())
    return session
