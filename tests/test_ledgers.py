"""Ledgers that outlive the process: one key is one message, whoever dies when."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pilotis import ConfigurationError, ConnectionFailedError, Content, Notifier, Pilotis
from pilotis.cli.program import program
from pilotis.clock import SYSTEM_CLOCK
from pilotis.providers import Clock, Context, LedgerProvider, OutgoingMessage, Receipt
from pilotis.settings.model import NotificationSettings
from pilotis.settings.secrets import Secret
from pilotis_notification_sendgrid import SendGridNotifications, SendGridOptions
from pilotis_store_postgres import PostgresLedger, PostgresLedgerOptions
from pilotis_store_sqlite import SqliteLedger, SqliteLedgerOptions
from pilotis_testing import Colour, ManualClock
from pilotis_testing.chaos import FULL, eventually, size
from pilotis_testing.clock import until
from pilotis_testing.processes import started
from pilotis_testing.sendgrid import SendGridServer
from typer.testing import CliRunner

PATIENCE = 60
LEASE = 60.0
ORDER: dict[str, Any] = {
    "to": "ada@example.com",
    "channel": "email",
    "content": Content(subject="Order 42", text="Thank you"),
    "idempotency_key": "order-42-placed",
}

FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
Make = Callable[..., Notifier]

_processes = multiprocessing.get_context("fork")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of each ledger, one after the other."""
    return f"sqlite:///{tmp_path}/shop.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


def ledger_at(url: str) -> LedgerProvider:
    if url.startswith("sqlite:"):
        return SqliteLedger(SqliteLedgerOptions(url=url, timeout=PATIENCE))
    return PostgresLedger(PostgresLedgerOptions(url=url))


def dying_ledger(url: str) -> LedgerProvider:
    """Return a ledger that takes its process along before it writes anything but what is new."""
    ledger: Any = ledger_at(url)

    def die(entries: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    ledger.replace = die
    return ledger


class Dying(SendGridNotifications):
    """Takes its process along before it sends anything."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[Receipt | Exception]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []


@pytest.fixture
def make(url: str, sendgrid_server: SendGridServer) -> Iterator[Make]:
    """Make notifiers on the test server and the ledger. One that is made in another process is closed there."""
    made: list[Notifier] = []

    def notifier(
        clock: Clock = SYSTEM_CLOCK,
        kind: type[SendGridNotifications] = SendGridNotifications,
        role: Any = "emit",
        on_unknown: Any = "resend",
        ledger: Callable[[str], LedgerProvider] = ledger_at,
    ) -> Notifier:
        key = Secret(sendgrid_server.key)
        options = SendGridOptions(
            api_key=key, sender="shop@example.com", base_url=sendgrid_server.url, call_timeout=PATIENCE
        )
        context = Context(name="shop", role=role, clock=clock)
        settings = NotificationSettings(timeout=LEASE - 1, lease=LEASE, on_unknown=on_unknown)
        made.append(Notifier(kind(options), ledger=ledger(url), context=context, settings=settings))
        return made[-1]

    parent = os.getpid()
    yield notifier
    assert os.getpid() == parent
    for own in made:
        own.close()
        own.context.runtime.stop()


# One key


@FORKS
def test_ten_processes_with_one_key_send_one_message(make: Make, sendgrid_server: SendGridServer) -> None:
    """All of them are told the same notification; one of them has sent it."""
    told = _send_in_ten_processes(make, SYSTEM_CLOCK)
    assert 1 == len(sendgrid_server.sent)
    assert 1 == len({id for id, _ in told})
    assert {status for _, status in told} <= {"pending", "sending", "sent"}
    [kept] = make().find()
    assert ("sent", 1) == (kept.status, kept.attempts)


@FORKS
@pytest.mark.parametrize("moment", ["once it is recorded", "before the mail is handed over"])
def test_ten_processes_take_over_once_from_one_that_died(
    make: Make, clock: ManualClock, sendgrid_server: SendGridServer, moment: str
) -> None:
    """When its lease is over: one of them sends, and all know the notification of the dead."""
    assert 0 == _die(make, clock, sendgrid_server, moment)
    [left] = make(clock).find()
    clock.advance(LEASE)
    told = _send_in_ten_processes(make, clock)
    assert 1 == len(sendgrid_server.sent)
    assert {left.id} == {id for id, _ in told}
    assert {status for _, status in told} <= {"pending", "sending", "sent"}
    assert "sent" == make(clock).get(left.id).status


def _send_in_ten_processes(make: Make, clock: Clock) -> list[tuple[str, str]]:
    """Return what each of them was told: an id and a status."""
    ready, answers = _processes.Barrier(10), _processes.Queue()
    processes = [started(_send_at_once, make, clock, ready, answers) for _ in range(10)]
    told = [answers.get(timeout=PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)
    return told


def _send_at_once(make: Make, clock: Clock, ready: Any, answers: Any) -> None:
    notifier = make(clock)
    notifier.open()
    ready.wait(PATIENCE)
    sent = notifier.send(**ORDER)
    answers.put((sent.id, sent.status))
    notifier.close()


# A sender that dies

MOMENTS = ["once it is recorded", "before the mail is handed over", "while its answer is awaited"]


@FORKS
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_sender_leaves_the_outcome_unknown(
    make: Make, clock: ManualClock, sendgrid_server: SendGridServer, moment: str
) -> None:
    """Once its lease is over, and not before; `hold` leaves it at that, until somebody asks for more."""
    accepted = _die(make, clock, sendgrid_server, moment)
    notifier = make(clock, role="all", on_unknown="hold")
    [left] = notifier.find()
    assert (left.status, left.attempts) == (("pending", 0) if moment == MOMENTS[0] else ("sending", 1))
    assert left.id == notifier.send(**ORDER).id
    clock.advance(LEASE)
    assert [] == notifier.recover()
    assert "unknown" == notifier.send(**ORDER).status
    assert accepted == len(sendgrid_server.sent)
    assert ("sent", left.attempts + 1) == ((again := notifier.resend(left.id)).status, again.attempts)
    assert accepted + 1 == len(sendgrid_server.sent)


@FORKS
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_unknown_outcome_is_sent_again_by_itself(
    make: Make, clock: ManualClock, sendgrid_server: SendGridServer, moment: str
) -> None:
    """With `resend`, by any process that is open: never lost, and at most once too often."""
    accepted = _die(make, clock, sendgrid_server, moment)
    notifier = make(clock, role="all", on_unknown="resend")
    notifier.open()
    assert accepted == len(sendgrid_server.sent)
    clock.wait_for_waiters()
    clock.advance(LEASE)
    until(lambda: "sent" == notifier.find()[0].status, PATIENCE)
    assert accepted + 1 == len(sendgrid_server.sent)
    assert "sent" == notifier.send(**ORDER).status
    assert accepted + 1 == len(sendgrid_server.sent)


def _die(make: Make, clock: ManualClock, server: SendGridServer, moment: str) -> int:
    """Have a process die over the order; return how many mails were accepted of it."""
    if moment == "once it is recorded":
        dying = started(lambda: make(clock, ledger=dying_ledger).send(**ORDER))
        dying.join(PATIENCE)
    elif moment == "before the mail is handed over":
        dying = started(lambda: make(clock, Dying).send(**ORDER))
        dying.join(PATIENCE)
    else:
        server.fall_silent()
        dying = started(lambda: make(clock).send(**ORDER))
        until(lambda: bool(server.sent), PATIENCE)
        dying.kill()
        dying.join(PATIENCE)
    assert -signal.SIGKILL == dying.exitcode
    return len(server.sent)


@FORKS
@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.timeout(600 if FULL else 120)
@pytest.mark.parametrize("on_unknown", ["hold", "resend"])
def test_senders_that_are_killed_at_random(make: Make, sendgrid_server: SendGridServer, on_unknown: str) -> None:
    """Three processes send the same orders and are killed: what is held is never repeated, all else is sent."""
    orders, kills = size(60, 1000), size(8, 100)
    clock, dice = ManualClock(), random.Random(5)
    senders = [started(_send_orders, make, clock, orders) for _ in range(3)]
    for kill in range(kills):
        eventually(lambda: len(sendgrid_server.sent) > kill * (orders - kills) // kills)  # noqa: B023
        victim = dice.randrange(len(senders))
        senders[victim].kill()
        senders[victim].join(PATIENCE)
        senders[victim] = started(_send_orders, make, clock, orders)
    for sender in senders:
        sender.join(PATIENCE)
    clock.advance(LEASE)
    notifier = make(clock, on_unknown=on_unknown)
    recovered = {known.id for known in notifier.recover()}
    kept = notifier.find()
    times = Counter(mail.personalization["custom_args"]["pilotis_id"] for mail in sendgrid_server.sent)
    assert orders == len(kept)
    assert {"sent"} | ({"unknown"} if on_unknown == "hold" else set()) >= {known.status for known in kept}
    assert all(times[known.id] == 1 for known in kept if known.status == "sent" and known.id not in recovered)
    assert all(times[known.id] <= 1 + (known.id in recovered) for known in kept)
    assert sum(times.values()) - orders <= len(recovered)


def _send_orders(make: Make, clock: ManualClock, orders: int) -> None:
    notifier = make(clock)
    for number in range(orders):
        order: dict[str, Any] = ORDER | {"idempotency_key": f"order-{number}"}
        notifier.send(**order)
    notifier.close()


# Behind an app


def test_an_app_keeps_its_ledger(url: str) -> None:
    """Named by its URL alone; a second app on it knows the key."""
    settings: dict[str, Any] = {"name": "shop", "notification": {"provider": "local", "ledger": url}}
    with Pilotis(settings) as app:
        first = app.notification.send(**ORDER)
    with Pilotis(settings) as app:
        assert first == app.notification.send(**ORDER)
        assert [] == app.notification.outbox


async def test_a_deployment_makes_the_table(url: str, colour: Colour) -> None:
    """Before anything is opened, with a sentence for what was made."""
    app = Pilotis({"name": "shop", "notification": {"provider": "local", "ledger": url}})
    notifier = colour.voice(app.notification)
    [made] = await notifier.migrate()
    assert made.startswith("made the table pilotis_ledger ")
    assert [] == await notifier.migrate()
    await colour.voice(app).close()


def test_a_folder_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    """With the path of the file."""
    settings = {"notification": {"provider": "local", "ledger": f"sqlite:///{tmp_path}/nowhere/shop.db"}}
    with pytest.raises(ConnectionFailedError, match=r"nowhere/shop\.db"), Pilotis(settings):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "sqlite:///:memory:"}, r"notification\.ledger: url: expected a file"),
        ({"url": "sqlite:///a.db", "retention": 0}, r"notification\.ledger: retention: expected from 1"),
        ({"url": "sqlite:///a.db", "timout": 1}, r"notification\.ledger\.timout: .*timeout"),
        (
            {"url": "postgresql://shop:hunter2@db/shop", "table": "a b"},
            r"notification\.ledger: table: expected the name",
        ),
    ],
)
def test_bad_options_are_told_with_their_place(options: dict[str, Any], message: str) -> None:
    """Before anything is opened, and without a secret."""
    with pytest.raises(ConfigurationError, match=message) as raised:
        Pilotis({"name": "shop", "notification": {"provider": "local", "ledger": options}}).notification  # noqa: B018
    assert "hunter2" not in str(raised.value)


def test_a_deployment_makes_the_table_from_the_command_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line for what was made, once; a program is told the same in a document."""
    monkeypatch.chdir(tmp_path)
    settings = ['name = "shop"', "[notification]", 'provider = "local"', f'ledger = "{url}"']
    (tmp_path / "pilotis.toml").write_text("\n".join(settings))
    run = [CliRunner().invoke(program, ["notifications", "migrate", *more]) for more in ([], [], ["--json"])]
    assert [0, 0, 0] == [ended.exit_code for ended in run]
    assert run[0].stdout.startswith("made the table pilotis_ledger ")
    assert ("Nothing has to be made.\n", '{"changes":[]}\n') == (run[1].stdout, run[2].stdout)
    with Pilotis.load() as app:
        assert "sent" == app.notification.send(**ORDER).status
