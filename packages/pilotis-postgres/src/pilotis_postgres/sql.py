"""SQL that lives in files beside the Python that sends it."""

from __future__ import annotations

import re
from importlib.resources import files

from pilotis.errors import InvalidInputError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}(\.[A-Za-z_][A-Za-z0-9_]{0,47})?", re.ASCII)


def load(package: str, name: str, **names: str) -> str:
    """Read `sql/<name>.sql` of a package, without its comments, and put table names where it has `{name}`.

    Such a name must have passed `check_name`.
    """
    source = files(package).joinpath("sql", f"{name}.sql").read_text("utf-8")
    text = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith("--"))
    for place, value in names.items():
        text = text.replace(f"{{{place}}}", value)
    return text.strip()


def check_name(name: str, at: str) -> str:
    """Return `name` if it can name a table: letters, digits and `_`, up to 48, with a schema before it or not.

    Such names need no quotes, and PostgreSQL reads them in lower case. Raises `InvalidInputError` naming `at`.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{at}: expected the name of a table, such as pilotis_locks or ops.locks, of letters, digits and _, "
            f"got {name!r}"
        )
    return name
