"""A real PostgreSQL, and a pooler before it. Needs psycopg, which every provider on PostgreSQL brings along."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from mirakuru import TCPExecutor

from pilotis_testing.clock import until
from pilotis_testing.servers import POLL_SECONDS, START_SECONDS, Server

VARIABLE = "PILOTIS_TEST_POSTGRES_URL"
USER = "postgres"
GUARDED = "guarded"
"""A role that must show a password; `with_password` makes it. Everybody else is trusted."""

_DEBIAN = Path("/usr/lib/postgresql")
_TRUST = f"""
host all {GUARDED} 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 32MB
fsync = off
full_page_writes = off
max_wal_size = 256MB
log_min_messages = fatal
jit = off
"""

_END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_RESET = """
DO $$
DECLARE each name;
BEGIN
    FOR each IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', each);
    END LOOP;
    CREATE SCHEMA public;
    GRANT ALL ON SCHEMA public TO public;
    EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
END $$;
"""
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def programs() -> str:
    """Return where PostgreSQL's programs can be found, as `PATH` has it: Debian keeps them out of it."""
    versions = sorted(_DEBIAN.glob("*/bin"), key=lambda place: int(place.parent.name), reverse=True)
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, versions), "/usr/sbin"])


class _Unprivileged(Server):
    """A server that refuses to run as root: then it runs as the user `postgres`, in a directory of that user's."""

    def __init__(self, *options: str) -> None:
        super().__init__(_own_directory(self.program), *options)

    def find(self) -> str | None:
        return shutil.which(self.program, path=programs())

    def start(self) -> None:
        self._executor = TCPExecutor(
            [*as_user(), *self.command(), *self.options],
            "127.0.0.1",
            self.port,
            timeout=START_SECONDS,
            sleep=POLL_SECONDS,
            cwd=str(self.directory),
            stop_signal=signal.SIGINT,
        )
        self._executor.start()

    def remove(self) -> None:
        """End it, and remove its files."""
        if self._executor is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class PostgresServer(_Unprivileged):
    """A PostgreSQL that does not mind losing everything in a power cut."""

    program = "postgres"
    package = "postgresql"
    variable = VARIABLE

    def __init__(self, *options: str, template: Path | None = None) -> None:
        """Get ready to run in a directory of its own: a copy of the `template` cluster, or a new cluster."""
        super().__init__(*options)
        self.data = self.directory / "data"
        if template is None:
            make_cluster(self.data)
        else:
            subprocess.run(["cp", "--archive", str(template), str(self.data)], check=True)

    @property
    def url(self) -> str:
        """Of its first database."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://{USER}@{self.address}/{database}"

    def command(self) -> list[str]:
        return [str(self.find()), "-D", str(self.data), "-p", str(self.port)]

    def start(self) -> None:
        super().start()
        until(self._answers, START_SECONDS)

    def kill(self) -> None:
        """End it as a crash does, with all that it started."""
        _send(self.pid, signal.SIGSTOP)  # so that it tells nobody that others have died
        everybody = self._family()
        for pid in everybody:
            _send(pid, signal.SIGKILL)
        super().kill()
        until(lambda: not any(_is_there(pid) for pid in everybody))
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def pause(self) -> None:
        """Stop it from answering: the server and each process of its connections."""
        super().pause()
        for pid in self._family():
            _send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._family():
            _send(pid, signal.SIGCONT)
        super().resume()

    def _family(self) -> list[int]:
        return _children(self.pid)

    def _answers(self) -> bool:
        import psycopg

        try:
            tell(self.url, "SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


class PgBouncer(_Unprivileged):
    """A pooler before a PostgreSQL: its connections are lent for a transaction, or for a session."""

    program = "pgbouncer"
    package = "pgbouncer"
    variable = VARIABLE

    def __init__(self, target: str, mode: str = "transaction") -> None:
        """Get ready to pool connections to the database with the URL `target`."""
        from psycopg.conninfo import conninfo_to_dict

        super().__init__()
        facts = conninfo_to_dict(target)
        self.database = str(facts["dbname"])
        place = " ".join(
            f"{name}={facts[name]}" for name in ("host", "port", "dbname", "user", "password") if name in facts
        )
        self.file = self.directory / "pgbouncer.ini"
        self.file.write_text(
            f"[databases]\n{self.database} = {place}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = {mode}\ndefault_pool_size = 20\nmax_client_conn = 200\n"
        )
        self.file.chmod(0o644)

    @property
    def url(self) -> str:
        """Of the pooled database."""
        return f"postgresql://{USER}@{self.address}/{self.database}"

    def command(self) -> list[str]:
        return [str(self.find()), "--quiet", str(self.file)]

    def stop(self) -> None:
        """End it at once: it would wait for its clients."""
        if self._executor is not None:
            self.resume()
            self.kill()


@contextlib.contextmanager
def running_postgres(*options: str, template: Path | None = None) -> Generator[PostgresServer]:
    """Run a PostgreSQL for the length of a block, with options such as `-c`, `wal_level=logical`."""
    server = PostgresServer(*options, template=template)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextlib.contextmanager
def running_pgbouncer(target: str, mode: str = "transaction") -> Generator[PgBouncer]:
    """Run a pooler for the length of a block."""
    pooler = PgBouncer(target, mode)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.remove()


def make_cluster(place: Path) -> None:
    """Make the files of a new PostgreSQL in `place`, whose parent must belong to whom it runs as."""
    initdb = shutil.which("initdb", path=programs())
    assert initdb is not None, "initdb is not on this machine"
    words = ("--no-sync", "--auth=trust", f"--username={USER}", "--no-locale", "--encoding=UTF8")
    subprocess.run(
        [*as_user(), initdb, "-D", str(place), *words], check=True, stdout=subprocess.DEVNULL, cwd=place.parent
    )
    (place / "pg_hba.conf").write_text(_TRUST)
    with (place / "postgresql.conf").open("a") as settings:
        settings.write(_SETTINGS)


@contextlib.contextmanager
def cluster() -> Generator[Path]:
    """Make a cluster to copy, for the length of a block: making one takes seconds, copying it a fraction of one."""
    place = _own_directory("cluster")
    try:
        make_cluster(place / "data")
        yield place / "data"
    finally:
        shutil.rmtree(place)


def as_user() -> Sequence[str]:
    """Return what a command line begins with so that it does not run as root."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--")


class Database:
    """A database of a run: made with it, removed with it, and emptied for each test."""

    def __init__(self, server: str, purpose: str = "test") -> None:
        self._server = server
        self.name = f"pilotis_{purpose}_{os.getpid()}"

    @cached_property
    def url(self) -> str:
        """Where it is."""
        from psycopg.conninfo import conninfo_to_dict

        facts = conninfo_to_dict(self._server)
        user = (
            f"{facts['user']}{':' + str(facts['password']) if 'password' in facts else ''}@" if "user" in facts else ""
        )
        return f"postgresql://{user}{facts.get('host', '127.0.0.1')}:{facts.get('port', 5432)}/{self.name}"

    def make(self) -> None:
        """Make it anew."""
        self.remove()
        tell(self._server, f"CREATE DATABASE {self.name}")

    def remove(self) -> None:
        """Remove it, and end the connections that it has."""
        tell(self._server, f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")

    def empty(self) -> None:
        """Remove everything in it, and end the connections that it has, with the locks that they hold."""
        self.reset(_RESET)

    def reset(self, statements: str) -> None:
        """End the connections that it has, with the locks that they hold, and run some statements."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(_END_OTHERS)
            until(lambda: connection.execute(_OTHERS).fetchone() == (0,))
            connection.execute(statements.encode())


def tell(url: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own, and return its rows."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters or None)
        return [] if cursor.description is None else cursor.fetchall()


def with_password(url: str, password: str) -> str:
    """Make a role that must show a password, and return the URL with it."""
    import psycopg
    from psycopg.sql import SQL, Identifier, Literal

    role = Identifier(GUARDED)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("DROP ROLE IF EXISTS {}").format(role))
        connection.execute(SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(role, Literal(password)))
    return url.replace(f"//{USER}@", f"//{GUARDED}:{password}@")


def _own_directory(name: str) -> Path:
    """Make a directory that belongs to whom servers run as. Not below pytest's, which lets nobody else in."""
    place = Path(tempfile.mkdtemp(prefix=f"pilotis-{name}-"))
    if os.geteuid() == 0:
        try:
            shutil.chown(place, USER, USER)
        except LookupError:
            pytest.fail(f"there is no user {USER!r}, as whom root has servers run: install postgresql", pytrace=False)
    return place


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def waiting_for(url: str, count: int, seconds: float = 30.0) -> None:
    """Wait until so many connections to a database wait for a lock; fail after `seconds`."""
    question = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    deadline = time.monotonic() + seconds
    while tell(url, question) != [(count,)]:
        if time.monotonic() > deadline:
            raise AssertionError(f"expected {count} that wait for a lock, got {tell(url, question)}")
        time.sleep(0.005)
