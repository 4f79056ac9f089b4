"""Signed links that we serve ourselves.

A link is `<public_url>/<key>?expires=...&signature=...`. The signature is HMAC-SHA256 (RFC 2104) over everything the
link allows, method included, and not over the host, so that a site may be reached by several names.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

import msgspec

from pilotis.modules.file.types import Link, Method, SignedUpload

_VERSION = 1
_LONGEST_NUMBER = 15
_NAMES = {"as": "download_as", "expires": "expires", "max": "max_size", "type": "content_type"}


class Links:
    """Makes links under `public_url` and recognises them. Whoever has the secret can make them too."""

    def __init__(self, secret: bytes, public_url: str) -> None:
        from urllib.parse import unquote, urlsplit

        self._secret = secret
        self._public_url = public_url.rstrip("/")
        self.base = unquote(urlsplit(self._public_url).path)
        """The path of `public_url`, decoded, without a slash at its end."""

    def sign(self, link: Link) -> SignedUpload:
        """Return the request that `link` allows."""
        headers = {} if link.content_type is None else {"Content-Type": link.content_type}
        return SignedUpload(url=self._url(link), method=link.method, headers=headers)

    def verify(self, link: Link, signature: str) -> bool:
        """Tell whether the signature was made here, for this very link. Takes the same time for all wrong ones."""
        return hmac.compare_digest(self._signature(link).encode(), signature.encode(errors="replace"))

    def _url(self, link: Link) -> str:
        from urllib.parse import quote, urlencode

        url = f"{self._public_url}/{quote(link.key)}"
        if link.expires is None:
            return url
        said = {name: getattr(link, field) for name, field in _NAMES.items()}
        query = {name: value for name, value in said.items() if value is not None}
        return f"{url}?{urlencode({**query, 'signature': self._signature(link)})}"

    def _signature(self, link: Link) -> str:
        # A JSON array, so that no two different links have the same text.
        facts = [_VERSION, link.method, link.key, link.expires, link.download_as, link.content_type, link.max_size]
        digest = hmac.digest(self._secret, msgspec.json.encode(facts), "sha256")
        return urlsafe_b64encode(digest).decode().rstrip("=")


def read_link(method: Method, key: str, query: str) -> tuple[Link, str] | None:
    """Return what a requested link claims to allow, and its signature; None where it is none of ours."""
    from urllib.parse import parse_qsl

    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=len(_NAMES) + 1
        )
    except ValueError:
        return None
    said = dict(pairs)
    signature = said.pop("signature", "")
    if not signature or len(said) + 1 != len(pairs) or not said.keys() <= _NAMES.keys():
        return None
    expires, size = _number(said.get("expires")), _number(said.get("max"))
    if expires is None or (size is None) != ("max" not in said):
        return None
    link = Link(
        method=method, key=key, expires=expires,
        download_as=said.get("as"), content_type=said.get("type"), max_size=size,
    )  # fmt: skip
    return link, signature


def _number(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        return None
    return int(text)
