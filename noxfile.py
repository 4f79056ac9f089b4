"""Every check of the project: `nox --list` names them, plain `nox` runs the usual ones."""

import hashlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests", "docs"]

ROOT = Path(__file__).parent
PYTHONS = ["3.11", "3.12", "3.13"]
ALL_PROCESSORS = "--numprocesses=auto"
NO_DOWNLOADS = {"UV_PYTHON_DOWNLOADS": "never"}
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
MEMBERS = [*(f"packages/{package}" for package in PACKAGES), "examples/storefront"]
WHEELS = ROOT / ".nox" / "wheels"
per_package = nox.parametrize("package", PACKAGES, ids=PACKAGES)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, who may import whom, undeclared dependencies, and the pins."""
    everything(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-logo")
    for member in MEMBERS:
        session.run("deptry", f"{member}/src", *deptry_options(member))
    session.run("python", "tools/pin.py", "--check")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Pyright, strict, in .venv, where editors look too; or the paths given."""
    session.run("uv", "sync", "--quiet", "--all-packages", "--all-extras", external=True, env=NO_DOWNLOADS)
    session.run(".venv/bin/pyright", *session.posargs, external=True)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests, or the paths given: `nox -s tests -- packages/pilotis-core`."""
    everything(session, "test", "lint")
    session.run("pytest", *(session.posargs or [ALL_PROCESSORS]))


@nox.session
@per_package
def isolated(session: nox.Session, package: str) -> None:
    """Each package with only what it declares."""
    changed = (f"--reinstall-package={sibling}" for sibling in PACKAGES)  # uv sees no change below src/
    sync(session, f"--package={package}", "--group=test", "--no-editable", *changed)
    test_package(session, package)


@nox.session(reuse_venv=False)
@per_package
def wheel(session: nox.Session, package: str) -> None:
    """The built artefacts, each resolved against its siblings of the same build."""
    session.install("--no-sources", f"--find-links={built_wheels(session)}", package, "--group=test")
    test_package(session, package)


@nox.session(reuse_venv=False)
@per_package
def minimums(session: nox.Session, package: str) -> None:
    """Each package with the oldest versions it declares."""
    with (
        TemporaryDirectory() as elsewhere,
        session.chdir(elsewhere),
    ):  # uv applies the pins wherever it finds them above
        group = f"--group={ROOT}/pyproject.toml:test"
        session.install("--resolution=lowest-direct", f"{ROOT}/packages/{package}", group)
    test_package(session, package)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, built with warnings as errors, and every code block in it run."""
    everything(session, "docs", "test")
    session.run("sphinx-build", "--nitpicky", "--fail-on-warning", "--keep-going", "docs", "docs/_build/html")
    session.run("pytest", "README.md", "docs", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """All benchmarks at small sizes, to see that they work; for figures run one: `python benchmarks/cache_speed.py`."""
    everything(session, "bench")
    for script in session.posargs or benchmarks():
        session.run("python", script, env={"PILOTIS_BENCH": "quick"})


@nox.session
def campaign(session: nox.Session) -> None:
    """The load and fault tests at their full sizes; `tests` runs the same code small."""
    everything(session, "test")
    session.run("pytest", "-m", "campaign", "--timeout=3600", *session.posargs, env={"PILOTIS_CAMPAIGN": "full"})


def benchmarks() -> list[str]:
    """Return what can be run in `benchmarks/`; the rest is what they have in common."""
    return sorted(str(path) for path in Path("benchmarks").glob("*.py") if "__main__" in path.read_text())


def everything(session: nox.Session, *groups: str) -> None:
    """Install all packages with all extras, and the dependency groups named."""
    sync(session, "--all-packages", "--all-extras", *(f"--group={group}" for group in groups))


def sync(session: nox.Session, *options: str) -> None:
    """Make the session's environment hold exactly what `options` select, at the pinned versions."""
    place = {"UV_PROJECT_ENVIRONMENT": session.virtualenv.location, **NO_DOWNLOADS}
    session.run_install("uv", "sync", "--quiet", "--no-default-groups", *options, external=True, env=place)


def test_package(session: nox.Session, package: str) -> None:
    """Run the tests of a package, but for those that take long: `tests` runs them once, with everything installed."""
    session.run("pytest", ALL_PROCESSORS, "-m", "not slow", f"packages/{package}/tests", *session.posargs)


def deptry_options(member: str) -> list[str]:
    """Where the declarations are, what import names they stand for, and that the meta package imports none of them."""
    names = "pilotis=pilotis|pilotis_meta,pilotis-core=pilotis"
    names += ",opentelemetry-api=opentelemetry,opentelemetry-sdk=opentelemetry"
    options = ["--config", f"{member}/pyproject.toml", "--package-module-name-map", names]
    return [*options, "--ignore", "DEP002"] if member == "packages/pilotis" else options


def built_wheels(session: nox.Session) -> Path:
    """Build all packages once, and again only when a source has changed."""
    folder = WHEELS / fingerprint(ROOT / "packages")
    if not folder.is_dir():
        shutil.rmtree(WHEELS, ignore_errors=True)
        fresh = session.create_tmp()
        session.run("uv", "build", "--quiet", "--all-packages", "--no-sources", f"--out-dir={fresh}", external=True)
        shutil.move(fresh, folder)
    return folder


def fingerprint(root: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
