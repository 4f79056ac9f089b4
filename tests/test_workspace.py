"""The house rules that a machine can check."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
MEMBERS = [*PACKAGES, *sorted(path.parent for path in ROOT.glob("examples/storefront/pyproject.toml"))]
SOURCES = sorted(path for member in MEMBERS for path in (member / "src").rglob("*.py"))
SDKS = ["boto3", "cachebox", "jinja2", "psycopg", "pymemcache", "redis", "rich", "sendgrid", "typer"]
TEXT = ("*.py", "*.pyi", "*.toml", "*.md", "*.yaml", "*.yml", "*.sh", "*.cfg", "run")
PLACES = ("packages", "examples", "tests", "typing_tests", "tools", "docs", "benchmarks", "templates", ".ci")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def metadata(member: Path) -> dict[str, Any]:
    return tomllib.loads((member / "pyproject.toml").read_text())["project"]


def import_name(package: Path) -> str:
    (marker,) = (package / "src").glob("*/__init__.py")
    return marker.parent.name


def entry_points(member: Path) -> Iterator[EntryPoint]:
    project = metadata(member)
    groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    for group, entries in groups.items():
        yield from (EntryPoint(name, value, group) for name, value in entries.items())


each_package = pytest.mark.parametrize("package", PACKAGES, ids=name_of)
each_member = pytest.mark.parametrize("member", MEMBERS, ids=name_of)


@each_member
def test_members_share_version_and_python_floor(member: Path) -> None:
    """All members are released together, for the same Pythons."""
    core = metadata(ROOT / "packages" / "pilotis-core")
    project = metadata(member)
    assert (core["version"], core["requires-python"]) == (project["version"], project["requires-python"])


@each_package
def test_packages_share_licence_and_furniture(package: Path) -> None:
    """Every package ships licence, README and type information, and has tests."""
    core = metadata(ROOT / "packages" / "pilotis-core")
    project = metadata(package)
    for key in ("license", "license-files", "authors", "classifiers"):
        assert core[key] == project[key], key
    assert (package / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (package / "README.md").read_text().startswith(f"# {package.name}\n")
    assert (package / "src" / import_name(package) / "py.typed").is_file()
    assert list((package / "tests").glob("test_*.py"))


@each_member
def test_ranges_between_members_contain_the_present_version(member: Path) -> None:
    """uv never compares these ranges with the sources it takes instead, so a released package might not install."""
    project = metadata(member)
    extras = project.get("optional-dependencies", {}).values()
    names = {package.name for package in PACKAGES}
    for text in [*project.get("dependencies", []), *(line for lines in extras for line in lines)]:
        requirement = Requirement(text)
        assert requirement.specifier, f"{text} has no lower bound"
        if requirement.name in names:
            assert requirement.specifier.contains(project["version"]), text


@each_member
def test_entry_points_resolve(member: Path) -> None:
    """Every command, provider and plugin that is declared can be loaded."""
    for entry in entry_points(member):
        assert entry.load() is not None


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_and_functions_are_short(path: Path) -> None:
    """A module has at most 400 lines, a function at most 50 besides its docstring."""
    source = path.read_text()
    assert len(source.splitlines()) <= 400
    long = {f"{node.name}: {lines}" for node, lines in function_lengths(ast.parse(source)) if lines > 50}
    assert not long


def function_lengths(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = (ast.get_docstring(node, clean=False) or "").splitlines()
            yield node, (node.end_lineno or node.lineno) - node.lineno + 1 - len(docstring)


@pytest.mark.parametrize("face", ["pilotis", "pilotis.providers"])
def test_faces_give_the_names_they_list(face: str) -> None:
    """Every name of `__all__` is there, once. (Ruff sees to the order.)"""
    module = importlib.import_module(face)
    assert len(set(module.__all__)) == len(module.__all__)
    assert [] == [name for name in module.__all__ if not hasattr(module, name)]


def test_users_find_everything_in_one_place() -> None:
    """`dir(pilotis)` is its `__all__`, every error is in it, and `import *` brings it all."""
    pilotis = importlib.import_module("pilotis")
    errors = importlib.import_module("pilotis.errors")
    assert pilotis.__all__ == sorted(dir(pilotis), key=pilotis.__all__.index)
    mine = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert mine <= set(pilotis.__all__)


def light_modules() -> Iterator[str]:
    yield "pilotis"
    for package in PACKAGES:
        groups = metadata(package).get("entry-points", {})
        yield from (value for group in groups if group != "pytest11" for value in groups[group].values())


@pytest.mark.parametrize("module", sorted(set(light_modules())))
def test_importing_is_light(module: str) -> None:
    """Neither `import pilotis` nor discovering a provider loads an SDK, a template engine or the command line."""
    program = f"import sys, {module}; print(*sorted(set({SDKS}) & set(sys.modules)))"
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stderr, outcome.stdout.strip()) == (0, "", "")


BANNED = [
    *("Condition", "Event", "Lock", "Queue", "Semaphore", "TaskGroup", "create_task", "ensure_future"),
    *("gather", "sleep", "timeout", "to_thread", "wait_for"),
]


@pytest.mark.parametrize("primitive", BANNED)
def test_the_primitives_of_one_colour_are_banned(primitive: str) -> None:
    """Library code that reaches for asyncio's own primitives is refused by the linter, which says what to use."""
    snippet = f"import asyncio\n\nwhatever = asyncio.{primitive}\n"
    assert "TID251" in ruff(snippet, "packages/pilotis-core/src/pilotis/modules/cache/snippet.py")
    assert "TID251" not in ruff(snippet, "packages/pilotis-core/tests/snippet.py")


def ruff(snippet: str, path: str) -> str:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--output-format=concise",
        f"--stdin-filename={path}",
        "-",
    ]
    return subprocess.run(command, cwd=ROOT, input=snippet, capture_output=True, text=True, check=False).stdout


def test_the_loop_lends_no_threads() -> None:
    """`loop.run_in_executor`, which the linter cannot see, is used in the bridge alone."""
    users = [name_of(path) for path in SOURCES if "run_in_executor" in path.read_text() and "bridge" not in path.parts]
    assert users == []


def texts() -> Iterator[Path]:
    for pattern in TEXT:
        yield from ROOT.glob(pattern)
        for place in PLACES:
            yield from (path for path in (ROOT / place).rglob(pattern) if "_build" not in path.parts)


def test_no_file_names_one_machine_or_one_registry() -> None:
    """Paths of one machine and the hosts of registries, public ones too, stay out of the repository."""
    machine = r"(?<![\w.}/-])/(?:root|home|Users|opt|work)/\w"
    registry = r"\b(?:pypi|pythonhosted|npmjs|ghcr|docker|quay)\.(?:org|io|com)\b"
    pattern = re.compile(f"{machine}|{registry}")
    found = {name_of(path): match.group() for path in texts() if (match := pattern.search(path.read_text()))}
    assert found == {}
