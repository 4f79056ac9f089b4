"""The pages tell of everything that there is, and of nothing else."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pilotis
import pytest
from pilotis import (
    Backoff,
    Cache,
    ConfigurationError,
    NotificationFailedError,
    OperationError,
    PermanentError,
    PilotisError,
    UsageError,
    WorkflowError,
    providers,
)
from pilotis.cli.program import program
from pilotis.discovery import INTERFACES, Installed, installed, resolve
from pilotis.modules.base import Portable
from pilotis.modules.cache.figures import FIGURES as CACHE_FIGURES
from pilotis.modules.event.figures import FIGURES as LANE_FIGURES
from pilotis.settings import Settings
from pilotis.settings.layout import PORTABLE
from pilotis.settings.model import LedgerSettings, NearSettings, OutboxSettings, PortableSettings
from pilotis.settings.sources import APP_KEYS, RESERVED
from typer.main import get_command

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {str(page.relative_to(DOCS).with_suffix("")): page.read_text() for page in sorted(DOCS.rglob("*.md"))}
SETTINGS, REFERENCE, ERRORS = PAGES["settings-reference"], PAGES["reference"], PAGES["errors"]

FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
CODE = {
    word
    for page in PAGES.values()
    for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", page))
    for word in re.findall(r"[\w-]+", span)
}
"""Every word in the code spans of the pages, those in blocks left out."""


def section(page: str, heading: str) -> str:
    """Return what stands between a heading and the next one of any level."""
    _, found, rest = page.partition(f"# {heading}\n")
    assert found, f"there is no heading {heading!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the rows of tables that begin with a name in code."""
    lines = re.findall(r"^\| (`.*) \|$", text, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def names(text: str) -> list[str]:
    return [cells[0].strip("`") for cells in rows(text)]


# Names


@pytest.mark.parametrize("face", [pilotis, providers], ids=lambda face: face.__name__)
def test_every_public_name_occurs(face: Any) -> None:
    """In code, on some page."""
    assert [] == sorted(set(face.__all__) - CODE)


@pytest.mark.parametrize(
    ("face", "begin", "end"),
    [
        (pilotis, "## From `pilotis`\n", "## From `pilotis.providers`"),
        (providers, "## From `pilotis.providers`\n", "## Cap"),
    ],
    ids=["pilotis", "pilotis.providers"],
)
def test_the_reference_has_one_line_for_each_name(face: Any, begin: str, end: str) -> None:
    """Neither more nor less, and each says something."""
    part = REFERENCE.partition(begin)[2].partition(end)[0]
    assert sorted(face.__all__) == sorted(names(part))
    assert [] == [cells[0] for cells in rows(part) if not cells[1].endswith(".")]


def capabilities() -> list[type[enum.Flag]]:
    return [getattr(providers, name) for name in providers.__all__ if name.endswith("Capability")]


@pytest.mark.parametrize("kind", capabilities(), ids=lambda kind: kind.__name__)
def test_the_reference_has_every_capability(kind: type[enum.Flag]) -> None:
    """Each flag with all of its members, in their order."""
    assert list(kind.__members__) == names(section(REFERENCE, f"`{kind.__name__}`"))


def test_every_command_occurs() -> None:
    """With the name of its group, or alone on the page that is on commands."""
    top: Any = get_command(program)
    groups: dict[str, Any] = top.commands
    inner = {name for group in groups.values() for name in getattr(group, "commands", {})}
    assert [] == [name for name in groups if f"`pilotis {name}" not in "".join(PAGES.values())]
    assert [] == sorted(inner - CODE)


def called() -> set[str]:
    """Return what the blocks of code on the page of the cache call, or decorate with."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGES["cache"], flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"[\w)]\.(\w+)\(", "".join(blocks)))


def test_the_page_of_the_cache_calls_every_verb() -> None:
    """In code that runs; of the twins at least one."""
    own = {name for name in dir(Cache) if not name.startswith("_") and callable(getattr(Cache, name))}
    verbs = {name for name in own - set(dir(Portable)) if name[0] != "a" or name[1:] not in own} - {"after_fork"}
    assert {"add", "cached", "stats"} <= verbs
    assert [] == sorted(verbs - called())


# Errors


TREE = section(ERRORS, "Errors").partition("```\n")[2].partition("```")[0]


def all_errors() -> list[type[PilotisError]]:
    named = [getattr(pilotis, name) for name in pilotis.__all__]
    return [kind for kind in named if isinstance(kind, type) and issubclass(kind, PilotisError)]


def drawn() -> dict[str, tuple[str | None, list[str]]]:
    """Return each error in the tree with the one that it hangs on, and the classes of Python's own beside it."""
    found: dict[str, tuple[str | None, list[str]]] = {}
    above: list[str] = []
    for stem, name, rest in re.findall(r"^([│├└─ ]*)(\w+)(.*)$", TREE, flags=re.MULTILINE):
        above = [*above[: len(stem) // 4], name]
        found[name] = (above[-2] if len(above) > 1 else None, re.findall(r"\((\w+)\)", rest))
    return found


def test_the_tree_has_every_error() -> None:
    """And no other one."""
    assert {kind.__name__ for kind in all_errors()} == set(drawn())


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_the_tree_is_that_of_the_code(kind: type[PilotisError]) -> None:
    """Every error hangs on its base, beside the class of Python's own that it is as well."""
    parent = None if kind is PilotisError else kind.__bases__[0].__name__
    assert (parent, [base.__name__ for base in kind.__bases__[1:]]) == drawn()[kind.__name__]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_the_page_tells_what_every_error_means(kind: type[PilotisError]) -> None:
    """With whether it is retryable, where that is a question."""
    told = [
        cells[2]
        for cells in rows(section(ERRORS, "What each means, and what to do"))
        if f"`{kind.__name__}`" == cells[0]
    ]
    if kind in IN_PROSE:
        assert [] == told
        assert re.search(rf"`{kind.__name__}`", section(ERRORS, IN_PROSE[kind]))
    elif kind is NotificationFailedError:
        assert ["where a provider's error was"] == told
    elif issubclass(kind, OperationError) and kind is not WorkflowError:
        assert ["yes" if kind.retryable else "no"] == told
    else:
        assert [""] == told


IN_PROSE: dict[type[PilotisError], str] = {
    PilotisError: "Errors",
    ConfigurationError: "Four kinds",
    UsageError: "Four kinds",
    OperationError: "Four kinds",
    PermanentError: "Errors that you raise",
}


# Settings


def shown(value: object) -> str:
    """Return a default as the page writes it: in TOML, and `none` where TOML has no word."""
    match value:
        case None:
            return "none"
        case Backoff():
            fields = msgspec.structs.asdict(value)
            return f"`{{{', '.join(f'{name} = {number:g}' for name, number in fields.items())}}}`"
        case bool():
            return f"`{str(value).lower()}`"
        case str():
            return f'`"{value}"`'
        case _:
            return f"`{value!r}`"


def defaults(struct: type[msgspec.Struct], *, without: type[msgspec.Struct] | None = None) -> dict[str, str]:
    inherited = {field.name for field in msgspec.structs.fields(without)} if without else set[str]()
    fields = [field for field in msgspec.structs.fields(struct) if field.name not in inherited]
    return {field.encode_name: "required" if field.required else shown(default_of(field)) for field in fields}


def default_of(field: Any) -> object:
    return field.default_factory() if field.default is msgspec.NODEFAULT else field.default


SECTIONS: dict[str, type[msgspec.Struct]] = {
    **{f"`[{module}]`": struct for module, struct in PORTABLE.items()},
    "`[cache.near]`": NearSettings,
    "`[event.outbox]`": OutboxSettings,
}


def table(heading: str) -> dict[str, str]:
    return {cells[0].strip("`"): cells[1] for cells in rows(section(SETTINGS, heading))}


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_has_every_setting_with_its_default(heading: str) -> None:
    """Those of each module in its section, and those of all modules once."""
    assert defaults(SECTIONS[heading], without=PortableSettings) == table(heading)
    assert defaults(PortableSettings) == table("In every module")


def test_the_ledger_has_no_settings_of_its_own() -> None:
    """The page says so."""
    assert {} == defaults(LedgerSettings, without=PortableSettings)


def test_the_page_has_every_setting_of_the_app() -> None:
    """What stands beside the modules; what the app finds out by itself is none of them."""
    assert {name: text for name, text in defaults(Settings).items() if name in APP_KEYS} == table("The app")


def ours(source: Installed) -> bool:
    return (ROOT / "packages" / source.distribution).is_dir()


OURS = [(module, name) for module in INTERFACES for name, source in installed(module).items() if ours(source)]
"""The providers of this repository, by module and name; others may be installed beside them."""

FIRST_NAMES = {resolve(*provider): provider[1] for provider in reversed(OURS)}
"""A provider with several names, one for each scheme of a URL, is described once."""

each_provider = pytest.mark.parametrize(("module", "name"), OURS, ids=["-".join(provider) for provider in OURS])


MEANING_THE_SAME = {"sender"}
"""A sender in `[notification]` is that of all providers; one in `[notification.channels]` is the provider's own."""


@each_provider
def test_no_option_is_hidden_behind_a_setting(module: str, name: str) -> None:
    """Both stand side by side in the settings, where a portable one takes the value: nobody else may have its name."""
    portable = PORTABLE.get(module)
    settings: set[str] = set() if portable is None else set(portable.__struct_fields__) - MEANING_THE_SAME
    assert set() == settings & set(resolve(module, name).Options.__struct_fields__)


@each_provider
def test_the_page_has_every_option_with_its_default(module: str, name: str) -> None:
    """Of each provider that comes with Pilotis."""
    provider = resolve(module, name)
    assert defaults(provider.Options) == table(f"`{FIRST_NAMES[provider]}` {module}")


def test_the_page_has_every_variable_that_is_no_setting() -> None:
    """And the keys of a backoff."""
    assert set(RESERVED) <= CODE
    assert [field.name for field in msgspec.structs.fields(Backoff)] == names(
        section(SETTINGS, "Durations and backoffs")
    )


# Logs


def test_the_page_on_telemetry_has_every_logger() -> None:
    """By the names that the code gives them."""
    sources = [path.read_text() for path in ROOT.glob("packages/*/src/**/*.py") if "pilotis_testing" not in path.parts]
    found = {name for source in sources for name in re.findall(r'getLogger\("([\w.]+)"\)', source)}
    assert found
    assert [] == sorted(name for name in found if f"`{name}`" not in PAGES["telemetry"])


def test_the_page_on_telemetry_has_every_figure() -> None:
    """By the names under which they are told."""
    names = [figure.name for figure in (*CACHE_FIGURES.values(), *(figure for figure, _ in LANE_FIGURES))]
    assert [] == [name for name in names if f"`{name}`" not in PAGES["telemetry"]]


# Pages


def listed() -> Iterator[str]:
    for name, page in PAGES.items():
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
            entries = [line for line in block.splitlines() if line and not line.startswith(":")]
            yield from (str(PurePosixPath(name).parent / entry) for entry in entries)


def test_every_page_is_in_one_table_of_contents() -> None:
    """And every entry is a page."""
    assert sorted(set(PAGES) - {"index"}) == sorted(listed())


PROVIDER_PACKAGES = sorted(
    path.parent.name
    for path in ROOT.glob("packages/*/pyproject.toml")
    if re.search(
        rf'^\[project\.entry-points\."pilotis\.({"|".join(INTERFACES)})"\]', path.read_text(), flags=re.MULTILINE
    )
)


@pytest.mark.parametrize("package", PROVIDER_PACKAGES)
def test_every_provider_has_a_readme_with_the_usual_headings(package: str) -> None:
    """In the same order, so that two of them can be compared."""
    readme = (ROOT / "packages" / package / "README.md").read_text()
    headings = ["Install", "Configure", "Capabilities", "Guarantees", "Considerations"]
    assert headings == re.findall(r"^## (.*)$", readme, flags=re.MULTILINE)
    assert f"# {package}\n" == readme.splitlines(keepends=True)[0]


@each_provider
def test_the_readme_of_a_provider_has_its_options_and_capabilities(module: str, name: str) -> None:
    """All that it declares."""
    readme = (ROOT / "packages" / installed(module)[name].distribution / "README.md").read_text()
    provider = resolve(module, name)
    assert [] == [option for option in defaults(provider.Options) if option not in readme]
    declared = [str(flag.name) for flag in provider.capabilities]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType]
    assert [] == [flag for flag in declared if f"`{flag}`" not in readme]
