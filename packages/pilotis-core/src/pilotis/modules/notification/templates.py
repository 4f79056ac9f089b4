"""Contents made from a directory of Jinja2 files."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pilotis.errors import ConfigurationError, InvalidInputError, NotFoundError, TemplateError
from pilotis.modules.notification.model import Content

if TYPE_CHECKING:
    from jinja2 import Environment

_PARTS = {"subject": ".subject.txt", "text": ".txt", "html": ".html"}
_NAME = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")


class Templates:
    """The templates of one directory. May be used from any thread.

    `order-placed` is made of the files `order-placed.subject.txt`, `order-placed.txt` and `order-placed.html`, of
    which some may be missing. A channel's own stand in the directory of its name and go before the others; a
    template is taken from one of the two places as a whole. Variables in html files are escaped; a variable that
    is not there is an error. Changed files are read again.
    """

    def __init__(self, directory: Path) -> None:
        """Raises `ConfigurationError` if the directory does not exist, or Jinja2 is not installed."""
        try:
            import jinja2  # noqa: F401  # pyright: ignore[reportUnusedImport]
        except ImportError as error:
            raise ConfigurationError(
                "templates need Jinja2. Install it with: pip install 'pilotis-core[templates]'",
                path="notification.templates",
            ) from error
        if not directory.is_dir():
            raise ConfigurationError(f"there is no directory {str(directory)!r}", path="notification.templates")
        self._root = directory.resolve()
        self._environments: dict[str, Environment] = {}

    def render(self, name: str, channel: str, data: Mapping[str, Any]) -> Content:
        """Return the content that the template `name` makes of `data`. Blocks: it reads files.

        Raises `NotFoundError` for a template that is not there, and `TemplateError` for one that is broken or that
        misses a variable.
        """
        files = self._files(name, channel)
        environment = self._environment(channel)
        parts = {part: self._render(environment, file, data) for part, file in files.items()}
        if "subject" in parts:
            parts["subject"] = parts["subject"].strip()
        return Content(**parts)

    def names(self, channel: str) -> list[str]:
        """Return the templates that the channel can use, sorted."""
        names = {name for base in self._bases(channel) for name in _names_in(self._root / base)}
        return sorted(name for name in names if not name.startswith(f"{channel}/"))

    def _files(self, name: str, channel: str) -> dict[str, str]:
        """Return the file of each part, relative to the root."""
        if not _NAME.fullmatch(name):
            raise InvalidInputError(
                "template: expected the name of a template in the directory: letters, digits and . _ - /, "
                "each part beginning with a letter or digit"
            )
        for base in self._bases(channel):
            files = {part: f"{base}{name}{suffix}" for part, suffix in _PARTS.items()}
            present = {part: file for part, file in files.items() if self._holds(file)}
            if present:
                return present
        raise NotFoundError(self._explain_missing(name, channel))

    def _bases(self, channel: str) -> list[str]:
        return [f"{channel}/", ""] if _NAME.fullmatch(channel) else [""]

    def _holds(self, file: str) -> bool:
        path = (self._root / file).resolve()
        return path.is_file() and path.is_relative_to(self._root)

    def _explain_missing(self, name: str, channel: str) -> str:
        names = self.names(channel)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"there is no template {name!r} for channel {channel!r} (there are: {', '.join(names) or 'none'}).{hint}"

    def _environment(self, channel: str) -> Environment:
        if channel not in self._environments:
            self._environments[channel] = self._new_environment(channel)
        return self._environments[channel]

    def _new_environment(self, channel: str) -> Environment:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

        own = [self._root / channel] if _NAME.fullmatch(channel) else []
        return Environment(
            loader=FileSystemLoader([*own, self._root]),
            autoescape=select_autoescape(["html"], default_for_string=False),
            undefined=StrictUndefined,
        )

    def _render(self, environment: Environment, file: str, data: Mapping[str, Any]) -> str:
        from jinja2 import TemplateNotFound, TemplateSyntaxError

        try:
            return environment.get_template(file).render(data)
        except TemplateSyntaxError as error:
            broken = error.name or file
            raise TemplateError(f"{broken}, line {error.lineno}: {error.message}", broken, error.lineno) from error
        except TemplateNotFound as error:
            raise self._failure(file, error, f"there is no template file {error.name!r}") from error
        except Exception as error:
            raise self._failure(file, error, _reason(error)) from error

    def _failure(self, file: str, error: Exception, reason: str) -> TemplateError:
        """Name the innermost template and its line: Jinja2 puts them into the traceback."""
        place, line = self._place(error.__traceback__) or (file, None)
        at = place if line is None else f"{place}, line {line}"
        return TemplateError(f"{at}: {reason}", place, line)

    def _place(self, traceback: TracebackType | None) -> tuple[str, int] | None:
        place = None
        while traceback is not None:
            path = Path(traceback.tb_frame.f_code.co_filename)
            if path.is_relative_to(self._root):
                place = path.relative_to(self._root).as_posix(), traceback.tb_lineno
            traceback = traceback.tb_next
        return place


def _reason(error: Exception) -> str:
    from jinja2 import UndefinedError

    if isinstance(error, UndefinedError):
        return f"a variable is missing: {error.message}"
    return f"{type(error).__name__}: {error}"


def _names_in(directory: Path) -> list[str]:
    """Return the templates below a directory, by their relative paths without the endings."""
    files = [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]
    return [_without_ending(file) for file in files if file.endswith(tuple(_PARTS.values()))]


def _without_ending(file: str) -> str:
    return next(file.removesuffix(ending) for ending in _PARTS.values() if file.endswith(ending))
