"""Real servers: started, ill-treated, ended."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from pilotis_testing.clock import until
from pilotis_testing.servers import (
    MemcachedServer,
    RedisServer,
    Server,
    empty_memcached,
    free_port,
    running,
)


def ask(server: Server, question: bytes, timeout: float = 5) -> bytes:
    """Send a line on a new connection and return what comes back first."""
    with socket.create_connection(("127.0.0.1", server.port), timeout) as connection:
        connection.sendall(question + b"\r\n")
        return connection.recv(1000).strip()


def test_a_redis_answers_until_it_is_stopped(own_redis: RedisServer) -> None:
    """At the address that it tells; stopping twice does nothing."""
    assert own_redis.url == f"redis://127.0.0.1:{own_redis.port}/0"
    assert ask(own_redis, b"PING") == b"+PONG"
    own_redis.stop()
    own_redis.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(own_redis, b"PING")


def test_a_restarted_redis_is_empty_and_where_it_was(own_redis: RedisServer) -> None:
    """Another process, on the same port."""
    port, pid = own_redis.port, own_redis.pid
    ask(own_redis, b"SET k v")
    own_redis.restart()
    assert own_redis.port == port
    assert own_redis.pid != pid
    assert ask(own_redis, b"DBSIZE") == b":0"


def test_a_redis_that_was_started_has_read_what_it_kept(own_redis: RedisServer) -> None:
    """However long that took: nobody is refused because it loads."""
    own_redis.options = ("--appendonly", "yes", "--appendfsync", "no", "--key-load-delay", "100")
    own_redis.restart()
    ask(own_redis, b"EVAL \"for number = 1, 3000 do redis.call('SET', 'k' .. number, number) end\" 0")
    own_redis.restart()
    assert ask(own_redis, b"DBSIZE") == b":3000"


def test_a_paused_redis_says_nothing_until_it_is_resumed(own_redis: RedisServer) -> None:
    """It takes connections, and does not answer."""
    own_redis.pause()
    with pytest.raises(TimeoutError):
        ask(own_redis, b"PING", 0.05)
    own_redis.resume()
    assert ask(own_redis, b"PING") == b"+PONG"
    own_redis.pause()  # and can be stopped in this state, too


def test_a_killed_redis_is_gone_at_once(own_redis: RedisServer) -> None:
    """As after a crash, and may be started again."""
    pid = own_redis.pid
    own_redis.kill()
    until(lambda: not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z", 5)
    with pytest.raises(AssertionError, match="redis-server is not running"):
        own_redis.kill()
    own_redis.start()
    assert ask(own_redis, b"PING") == b"+PONG"


def test_a_memcached_of_the_run_is_empty(memcached_address: str) -> None:
    """Whatever the test before left in it: nothing of that is found."""
    assert b"STORED\r\n" == tell(memcached_address, b"set k 0 0 1\r\nv\r\n")
    empty_memcached(memcached_address)
    assert b"END\r\n" == tell(memcached_address, b"get k\r\n")


def tell(address: str, command: bytes) -> bytes:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(command)
        return connection.recv(100)


def test_a_memcached_of_ones_own(own_memcached: MemcachedServer, memcached_server: MemcachedServer) -> None:
    """Beside that of the run."""
    assert own_memcached.port != memcached_server.port
    assert ask(own_memcached, b"version").startswith(b"VERSION")


def test_a_missing_server_is_a_failure_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a skip: the name of the package, and of the variable."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match=r"apt-get install redis-server\), or set PILOTIS_TEST_REDIS_URL"):
        RedisServer(tmp_path)


def test_a_server_ends_with_its_block(tmp_path: Path) -> None:
    """Also where the block raises."""
    server = MemcachedServer(tmp_path)
    with pytest.raises(ZeroDivisionError), running(server):
        raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        ask(server, b"version")


def test_a_used_server_is_refused(pytester: pytest.Pytester, own_memcached: MemcachedServer) -> None:
    """Nobody's data are removed because a variable names the wrong server."""
    with socket.create_connection(("127.0.0.1", own_memcached.port), 5) as connection:
        connection.sendall(b"set k 0 0 1\r\nv\r\n")
        connection.recv(100)
    pytester.makepyfile("def test_it(memcached_address): pass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOTIS_TEST_MEMCACHED", own_memcached.address)
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*PILOTIS_TEST_MEMCACHED: expected an empty database*1 entries*"])


def test_free_ports_are_free() -> None:
    """A server may listen there."""
    with socket.create_server(("127.0.0.1", free_port())):
        pass
