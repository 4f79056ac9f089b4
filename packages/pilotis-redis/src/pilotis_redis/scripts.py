"""Lua that lives in files beside the Python that calls it."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import msgspec


class Script(msgspec.Struct, frozen=True):
    """A script for `RedisLink.script`. The server knows it by its digest, once it was sent."""

    source: str
    digest: str

    @classmethod
    def load(cls, package: str, *names: str) -> Script:
        """Read `lua/<name>.lua` of a package. Several make one script: what stands first may be used by the last."""
        place = files(package).joinpath("lua")
        source = "".join(place.joinpath(f"{name}.lua").read_text("utf-8") for name in names)
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
