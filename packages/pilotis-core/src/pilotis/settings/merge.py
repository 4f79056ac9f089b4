"""One layer of settings over another.

Tables are merged key by key. Where a provider stands, whoever names one says which options it has: the options of
the other one go, and the portable settings stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pilotis.settings.convert import join, struct_names
from pilotis.settings.layout import DEFAULT_PROVIDER, section_at, tables_in

Table = dict[str, Any]


def merge(base: Mapping[str, Any], over: Mapping[str, Any], path: str = "") -> Table:
    """Return `base` with `over` laid over it. Neither is changed."""
    return {**base, **{key: _merged(base.get(key), value, join(path, key)) for key, value in over.items()}}


def section_table(value: object) -> object:
    """Return what stands for a provider as a table: a URL, a provider's name, or a provider object.

    What can stand for none is returned as it is, for the reader to refuse.
    """
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    if isinstance(value, str):
        return {"url" if "://" in value else "provider": value}
    plain = value is None or isinstance(value, list | bool | int | float | bytes)
    return cast("object", value if plain else {"provider": value})


def scheme(url: str) -> str:
    """Return the scheme of a URL, which is the name of a provider."""
    return str(url).partition("://")[0]


def _merged(base: object, over: object, path: str) -> object:
    if section_at(path):
        return _merged_section(section_table(base), over, path)
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return merge(cast("Table", base), cast("Table", over), path)
    return over


def _merged_section(base: object, over: object, path: str) -> object:
    table = section_table(over)
    if not (isinstance(base, dict) and isinstance(table, dict)):
        return table
    below, above = cast("Table", base), cast("Table", table)
    if not isinstance(over, Mapping) or _names_another(below, above, path):
        below = {key: value for key, value in below.items() if key in _portable_keys(path)}
    return merge(below, above, path)


def _names_another(below: Table, above: Table, path: str) -> bool:
    return "provider" in above and above["provider"] != _provider_of(below, path)


def _provider_of(table: Table, path: str) -> object:
    url = table.get("url")
    if "provider" in table:
        return table["provider"]
    return scheme(url) if isinstance(url, str) and "://" in url else DEFAULT_PROVIDER.get(path.partition(".")[0])


def _portable_keys(path: str) -> set[str]:
    section = section_at(path)
    return {*struct_names(section), *tables_in(path)} if section else set()
